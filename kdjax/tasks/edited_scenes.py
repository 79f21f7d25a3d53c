"""Task `edited scenes`: pictures of a class that become another, where the right result of every edit is known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.metrics.feature_sets import as_features
from kdjax.tasks.exact_measures import measure
from kdjax.tasks.exact_scenes import ExactScenes, Said
from kdjax.tasks.worlds import World, styled_digits
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class EditedScenes(ExactScenes):
    """Digits of `worlds.styled_digits`. A particle of class b begins as a sample of class a, in any style.

    a = b + 1 + (particle mod 9), mod 10. The right edit of x is x - centre_a + centre_b: another class, the same style,
    the same noise. Beside the metrics of `exact_measures`:

        to_source, to_ideal    root mean square distance of a pixel from what it was, and from the right edit
        style_kept             the share of edits whose nearest mode has the style of the source
    """

    particles: int = 18
    strength: float = 2.0

    @functools.cached_property
    def world(self) -> World:
        return styled_digits(deviation=self.deviation, strength=self.strength)

    def beginning(self) -> Callable[..., jax.Array]:
        law, count, shape = self.world.law(), self.particles, self.world.shape

        def sources(labels: jax.Array, key: jax.Array) -> jax.Array:
            particle = jnp.arange(len(labels)) % count
            return law.sample(source_class(labels, particle), key=key).reshape(-1, *shape)

        return sources

    def prepared(self):
        return _both_classes

    def addresses(self) -> dict[str, Any]:
        return {**super().addresses(), 'source': 'student.source', 'source_condition': 'batch.source_label'}

    def evaluated(self) -> Said:
        return _said

    def measure(self) -> Callable[..., dict[str, float]]:
        return functools.partial(measure_edits, self.world)


def source_class(label, particle):
    """The class that a particle is edited from."""
    return (label + 1 + particle % 9) % 10


def measure_edits(world: World, said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
    """Metrics of edits, see `EditedScenes`."""
    made, source = (as_features(said[n].reshape(len(said[n]), -1), called='pictures') for n in ('picture', 'source'))
    label, before = np.asarray(said['condition']), np.asarray(said['source_label'])
    centres = np.stack([world.means[world.of(c)[0]] for c in range(world.classes)])
    ideal = source - centres[before] + centres[label]
    return {
        **measure(world, said, reference),
        'to_source': _apart(made, source),
        'to_ideal': _apart(made, ideal),
        'style_kept': float(np.mean(_style(world, made, label) == _style(world, source, before))),
    }


def _style(world: World, pictures: np.ndarray, label: np.ndarray) -> np.ndarray:
    squares = np.square(pictures[:, None] - world.means[None]).sum(-1)
    return world.kind[np.where(world.weights[label] > 0, squares, np.inf).argmin(1)]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).mean(1)).mean())


def _both_classes(batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
    del key, train
    source = source_class(batch['label'], batch['particle'])
    return {**batch, 'condition': batch['label'], 'source_label': source}


def _said(view: View) -> dict[str, jax.Array]:
    said = {'picture': view['student'], 'source': view['student.source']}
    return said | {n: view[f'batch.{n}'] for n in ('condition', 'particle', 'source_label')}
