"""An image as a network of coordinates: a small MLP on random Fourier features."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.renderers.cameras import Warp, grid
from kdjax.renderers.renderer import Params


@dataclasses.dataclass(frozen=True)
class FourierField:
    """sigmoid(MLP([cos 2 pi B p, sin 2 pi B p])) at every pixel's point p of the canvas; values in (0, 1).

    params: `layers`, a list of {`kernel` [in, out], `bias` [out]}; SiLU between them, so the image is smooth in them.
    frequencies, scale, seed: B [frequencies, 2] is drawn once from N(0, scale^2) and not trained; larger scales give
        sharper images. hidden, depth: width and number of the hidden layers.

    Source: arXiv 2006.10739, equation 5 (points in [-1, 1] here, [0, 1] there: half the scale is the same).
    """

    height: int
    width: int
    channels: int = 3
    frequencies: int = 32
    scale: float = 1.0
    hidden: int = 32
    depth: int = 2
    seed: int = 0

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def init(self, key: jax.Array) -> Params:
        return {'layers': init_mlp(key, 2 * self.frequencies, self.hidden, self.depth, self.channels)}

    def render(self, params: Params, camera: Warp, *, key: jax.Array) -> Float[Array, 'height width channels']:
        del key
        dtype = params['layers'][0]['kernel'].dtype
        points = camera.to_canvas(grid(self.height, self.width, dtype))
        features = fourier_features(points, self.frequencies, self.scale, self.seed)
        return jax.nn.sigmoid(mlp(params['layers'], features))


def fourier_features(
    points: Float[Array, '*points axes'], frequencies: int, scale: float | int, seed: int
) -> Float[Array, '*points features']:
    """[cos 2 pi B p, sin 2 pi B p] with B from N(0, scale^2), the same for a seed everywhere."""
    drawn = scale * np.random.default_rng(seed).standard_normal((points.shape[-1], frequencies))
    phase = 2 * np.pi * (points @ jnp.asarray(drawn, points.dtype))
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)


def init_mlp(key: jax.Array, inputs: int, hidden: int, depth: int, outputs: int) -> list[dict[str, jax.Array]]:
    """He initialisation; the last layer is drawn smaller by ten, so that all outputs start near 0."""
    sizes = [inputs, *([hidden] * depth), outputs]
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        spread = (2 / a) ** 0.5 * (0.1 if i == depth else 1.0)
        kernel = spread * jax.random.normal(jax.random.fold_in(key, i), (a, b))
        layers.append({'kernel': kernel, 'bias': jnp.zeros(b)})
    return layers


def mlp(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """Linear layers with SiLU between them."""
    for i, layer in enumerate(layers):
        x = x if i == 0 else jax.nn.silu(x)
        x = x @ layer['kernel'] + layer['bias'].reshape((1,) * (x.ndim - 1) + (-1,))
    return x
