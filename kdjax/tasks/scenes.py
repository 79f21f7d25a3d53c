"""Scenes: a renderer's parameters as a model, and what is measured on scenes from cameras that they never saw."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UserError
from kdjax.metrics import accuracy
from kdjax.metrics.diversity import distance_within_classes
from kdjax.metrics.frechet import frechet_distance
from kdjax.models.model import Model, Outputs
from kdjax.renderers import (
    Orbit,
    Renderer,
    Warp,
    footprints,
    on_canvas,
    particles,
    render_each,
    view_noise,
    whole,
)
from kdjax.renderers.noise import canvas_points, cube_points
from kdjax.renderers.renderer import Params
from kdjax.streams import stream


def scenes(renderer: Renderer, *, classes: int, count: int, distance: float, field_of_view: float) -> Model:
    """Several particles of each class as one model: inputs `(label, particle, azimuth, elevation)`, all `[batch]`.

    The prediction is 2 image - 1 `[batch, height, width, channels]`, where an image in 0..1 has -1..1. Every array of
    the parameters is `[classes, count, ...]`; a row of a batch is one view of one particle, and the others get no
    gradient from it. Flat renderers show the whole canvas to every camera.
    taps: `image`, what was rendered; `noise`, of the same shape: standard normal noise that belongs to the particle,
        the same at every step, which its views share as they share surface (`renderers.view_noise`); a constant.
    stats: `noise`, the key of that noise for each particle, drawn once.

    Raises UserError on no classes or particles.
    """
    if classes < 1 or count < 1:
        raise UserError(f'scenes of {classes} classes with {count} particles each: both are at least 1')

    def init(key, example):
        del example
        drawn = particles(renderer, classes * count, stream(key, 'scenes'))
        keys = jax.random.key_data(jax.random.split(stream(key, 'noise'), (classes, count)))
        params = jax.tree.map(lambda x: x.reshape(classes, count, *x.shape[1:]), drawn)
        return {'params': params, 'stats': {'noise': keys}}

    def apply(variables, inputs, *, key, train):
        del train
        label, particle, azimuth, elevation = inputs
        one = jax.tree.map(lambda x: x[label, particle], variables['params'])
        keys = jax.random.wrap_key_data(variables['stats']['noise'][label, particle])
        cameras = _cameras(renderer, azimuth, elevation, distance, field_of_view)
        image = render_each(renderer, one, cameras, key=key)
        noise = jax.vmap(lambda p, c, k: object_noise(renderer, p, c, key=k))(one, cameras, keys)
        return Outputs(2 * image - 1, {'image': image, 'noise': noise}), variables

    return Model(init, apply, f'scenes({renderer}, classes={classes}, count={count})')


def object_noise(renderer: Renderer, params: Params, camera: Orbit | Warp, *, key: jax.Array, cells: int = 20):
    """Standard normal noise of a view `[height, width, channels]`: that of the object's points, and behind it another.

    A key is an object's noise. Solids have cells^3 points in their cube, of which a view has those within 1.5 cells of
    the depth that it sees; a canvas has four points a pixel, twice as many in a row.
    """
    shape = renderer.height, renderer.width, renderer.channels
    front, behind = jax.random.split(key)
    if not isinstance(camera, Orbit):
        points = canvas_points(2 * shape[0], 2 * shape[1])
        pixel = on_canvas(points, camera, *shape[:2])
    else:
        points = cube_points(cells)
        traced = renderer.trace(jax.lax.stop_gradient(params), camera, key=key)  # type: ignore[attr-defined]
        pixel = footprints(points, camera, *shape[:2], depth=traced.depth, tolerance=3 / cells)
    noise = jax.random.normal(front, (len(points), shape[2]))
    return view_noise(noise, pixel, jax.random.normal(behind, shape))


def _cameras(renderer: Renderer, azimuth, elevation, distance: float, field_of_view: float) -> Orbit | Warp:
    if is_flat(renderer):
        return jax.vmap(lambda _: whole(azimuth.dtype))(azimuth)
    return Orbit(azimuth, elevation, jnp.full_like(azimuth, distance), jnp.full_like(azimuth, field_of_view))


def is_flat(renderer: Renderer) -> bool:
    """Whether its cameras are views of a canvas: it cannot say how deep anything lies."""
    return not hasattr(renderer, 'trace')


def measure_scenes(said: Mapping[str, np.ndarray], *, views: int) -> dict[str, float]:
    """Metrics of rendered scenes, all from a fixed classifier of (class, view) pairs.

    said: `label`, `view`, `particle` `[examples]`; `judged` `[examples, classes * views]`, its logits of rendered
    images; `features` and `real_features` `[examples, width]` of rendered and real images of the same labels and views.

    class_accuracy, view_accuracy: how often the class (the view) asked for is the likeliest, the other summed out.
    frechet: distance of all features to those of real images. view_consistency: over scenes, the share of views in
    which the classifier sees the class that it sees most often in that scene; 1 is one solid from everywhere.
    diversity: mean distance within a class between the mean features of its particles; NaN for one particle.
    real_class_accuracy: of the classifier on real images, where `real_judged` is given.
    """
    by_class, by_view = marginals(said['judged'], views)
    measured = {
        'class_accuracy': accuracy(by_class, said['label']),
        'view_accuracy': accuracy(by_view, said['view']),
        'frechet': frechet_distance(said['real_features'], said['features']),
        'view_consistency': view_consistency(by_class.argmax(-1), said['label'], said['particle']),
        'diversity': particle_diversity(said['features'], said['label'], said['particle']),
    }
    if 'real_judged' in said:
        measured['real_class_accuracy'] = accuracy(marginals(said['real_judged'], views)[0], said['label'])
    return measured


def marginals(logits: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of classes `[examples, classes]` and of views `[examples, views]` from those of both."""
    joint = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    pairs = np.exp(joint - np.log(np.exp(joint).sum(-1, keepdims=True))).reshape(len(logits), -1, views)
    return tuple(np.log(np.maximum(pairs.sum(axis), 1e-300)) for axis in (2, 1))


def view_consistency(seen: np.ndarray, label: np.ndarray, particle: np.ndarray) -> float:
    """Mean over scenes (a label and a particle) of the share of views that agree with the most frequent one."""
    shares = []
    for scene in sorted(set(zip(label.tolist(), particle.tolist(), strict=True))):
        classes = seen[(label == scene[0]) & (particle == scene[1])]
        shares.append(np.bincount(classes).max() / len(classes))
    return float(np.mean(shares))


def particle_diversity(features: np.ndarray, label: np.ndarray, particle: np.ndarray) -> float:
    """Mean distance within a class between the mean features of particles."""
    found = sorted(set(zip(label.tolist(), particle.tolist(), strict=True)))
    means = np.stack([features[(label == c) & (particle == p)].mean(0) for c, p in found])
    return distance_within_classes(means, np.asarray([c for c, _ in found]))


def costed_on(cost: Any, told: Any) -> Callable[[], dict[str, float]]:
    """A task's count (`functools.partial` of `tasks.cost.cost`), where all but the student see what the prior sees.

    told: the shapes of a denoising network's inputs for one example.
    """
    players, bound, *rest = cost.args
    others = {n: p if n == 'student' else dataclasses.replace(p, model=_on(p.model, told)) for n, p in players.items()}
    teachers = {n: dataclasses.replace(b, models=tuple(_on(m, told) for m in b.models)) for n, b in bound.items()}
    return functools.partial(cost.func, others, teachers, *rest, **cost.keywords)


def _on(model: Model, shapes: Any) -> Model:
    """A model that computes on zeros of these shapes whatever it is given: to count what it costs."""

    def init(key: jax.Array, example: Any) -> Any:
        del example
        return model.init(key, shapes)

    def apply(variables: Any, inputs: Any, *, key: jax.Array, train: bool) -> Any:
        del inputs
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return model.apply(variables, zeros, key=key, train=train)

    return dataclasses.replace(model, init=init, apply=apply)
