"""Task `panoramas`: canvases that a prior of views teaches, whose views share noise as they share pixels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.players import Prepare
from kdjax.renderers import Pixels, Renderer, crop, stacked
from kdjax.streams import stream
from kdjax.tasks.exact_scenes import FREE, ExactScenes
from kdjax.tasks.worlds import World, panoramas


@dataclasses.dataclass(frozen=True)
class Panoramas(ExactScenes):
    """Periodic canvases of 8x32 pixels, seen through views of `width` columns that begin anywhere.

    The prior knows where a view begins, and that all its panoramas are possible. A step has two views of a particle.
    """

    particles: int = 48
    scale: float = 1.0
    width: int = 24

    @functools.cached_property
    def world(self) -> World:
        return panoramas(width=self.width, deviation=self.deviation)

    @property
    def labels(self) -> int:
        return 1

    @property
    def views(self) -> tuple[int, ...]:
        return 0, 8, 16, 24

    @property
    def views_a_step(self) -> int:
        return 2

    @property
    def canvas(self) -> tuple[int, int]:
        return self.world.shape[0], self.world.classes

    def renderer(self, spec: str) -> Renderer:
        assert spec == FREE, 'a panorama is made of pixels'
        height, width, channels = self.world.shape
        return Pixels(height, width, channels, canvas=self.canvas, edge='wrap', scale=0.1)

    def cameras(self) -> Any:
        """One for each column; its pixels are those of the canvas."""
        columns, share = self.canvas[1], self.width / self.canvas[1]
        return stacked([crop((2 * start / columns + share - 1, 0.0), (share, 1.0)) for start in range(columns)])

    def prepared(self) -> Prepare:
        return functools.partial(_any_view, self.world.classes)


def _any_view(views: int, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
    view = batch['view']
    if train:
        view = jax.random.randint(stream(key, 'view'), view.shape, 0, views, jnp.int32)
    return {**batch, 'view': view, 'condition': view}
