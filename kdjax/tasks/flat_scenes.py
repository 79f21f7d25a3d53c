"""Flat scenes as a model: particles of a renderer, seen from views of a canvas, with noise that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs
from kdjax.renderers import Renderer, Warp, on_canvas, particles, render_each, view_noise
from kdjax.renderers.noise import canvas_points
from kdjax.streams import stream

Beginning = Callable[[jax.Array, jax.Array], jax.Array]
"""`(labels, key) -> pictures [particles, height, width, channels]`, for pixels alone."""


def flat_scenes(
    renderer: Renderer,
    cameras: Warp,
    canvas: tuple[int, int],
    *,
    classes: int,
    count: int,
    mean: float | int = 0.0,
    deviation: float | int = 1.0,
    beginning: Beginning | None = None,
) -> Model:
    """Several particles of each class as one model: inputs `(label, particle, view)`, all int32 `[batch]`.

    The prediction is (image - mean) / deviation `[batch, height, width, channels]`. Every array of the parameters is
    `[classes, count, ...]`; a row of a batch is one view of one particle.
    cameras: one for each view. canvas: (rows, columns) of points that carry noise.
    beginning: what the canvases of `Pixels` begin as, kept as `source`.
    taps, all constants and standard normal, of the shape of the prediction:
        noise: of the particle, for ever; views share it as they share the canvas.
        view_noise: of the particle and the view, for ever. step_noise: of the particle, drawn anew at every step.
        source: what the particle began as, where `beginning` is given.
    Raises UserError on no classes or particles.
    """
    if classes < 1 or count < 1:
        raise UserError(f'scenes of {classes} classes with {count} particles each: both are at least 1')
    size = renderer.height, renderer.width, renderer.channels
    points = canvas_points(*canvas)

    def init(key: jax.Array, example: Any) -> Any:
        del example
        drawn = particles(renderer, classes * count, stream(key, 'scenes'))
        stats = {'noise': jax.random.key_data(jax.random.split(stream(key, 'noise'), (classes, count)))}
        if beginning is not None:
            source = beginning(jnp.repeat(jnp.arange(classes), count), stream(key, 'source'))
            drawn, stats['source'] = {'canvas': source}, source.reshape(classes, count, *source.shape[1:])
        return {'params': jax.tree.map(lambda x: x.reshape(classes, count, *x.shape[1:]), drawn), 'stats': stats}

    def noise_of(camera: Warp, key: jax.Array) -> jax.Array:
        place = on_canvas(points, camera, *size[:2], wrap=True)
        return view_noise(jax.random.normal(key, (len(points), size[2])), place, jnp.zeros(size))

    def apply(variables: Any, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Any]:
        del train
        label, particle, view = inputs
        one = jax.tree.map(lambda x: x[label, particle], variables['params'])
        seen = jax.tree.map(lambda x: x[view], cameras)
        keys = jax.random.wrap_key_data(variables['stats']['noise'][label, particle])
        of_step = jax.vmap(lambda k: jax.random.fold_in(k, jax.random.bits(key, (), jnp.uint32)))(keys)
        of_view = jax.vmap(lambda k, v: jax.random.fold_in(k, v + 1))(keys, view)
        taps = {
            name: jax.vmap(noise_of)(seen, k)
            for name, k in (('noise', keys), ('view_noise', of_view), ('step_noise', of_step))
        }
        if 'source' in variables['stats']:
            taps['source'] = variables['stats']['source'][label, particle]
        image = render_each(renderer, one, seen, key=key)
        return Outputs((image - mean) / deviation, taps), variables

    return Model(init, apply, f'flat_scenes({renderer}, classes={classes}, count={count})')
