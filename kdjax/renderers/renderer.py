"""What every renderer is, and what is the same for all: particles, many views, and checks of what came out."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.errors import UserError

Params = dict[str, Any]
"""What is optimised: a nested dict of float arrays."""

TOLERANCE = 1e-4
"""By which a value may leave the stated range: rounding of sums of weights."""


@runtime_checkable
class Renderer(Protocol):
    """A frozen dataclass of sizes with two pure functions, differentiable in the parameters.

    init(key) -> params, drawn at random.
    render(params, camera, *, key) -> image [height, width, channels]. The camera is a `Warp` for flat renderers and an
        `Orbit` for solid ones. The key is read only by those that sample (`Volume` with `jitter`).
    span: the range (low, high) of the values of an image, or None where they are not bounded.
    """

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def span(self) -> tuple[float, float] | None: ...
    def init(self, key: jax.Array) -> Params: ...
    def render(self, params: Params, camera: Any, *, key: jax.Array) -> jax.Array: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Traced:
    """A view of a solid.

    image: [height, width, channels]. opacity: [height, width], 0 where nothing is, 1 where nothing shines through.
    depth: [height, width], along the axis of the camera, of what is seen: the mean under the weights of compositing;
        infinite where the opacity is below 1e-3.
    """

    image: Any
    opacity: Any
    depth: Any


def particles(renderer: Renderer, count: int, key: jax.Array) -> Params:
    """`count` independent draws of the parameters: every array gets a first axis of that length.

    Raises UserError on fewer than one.
    """
    if count < 1:
        raise UserError(f'{count} particles of {renderer}: there must be at least 1')
    return jax.vmap(renderer.init)(jax.random.split(key, count))


def render_each(
    renderer: Renderer, params: Params, cameras: Any, *, key: jax.Array
) -> Float[Array, 'particles height width channels']:
    """Every particle with its own camera: all arrays of `params` and `cameras` have the particles as first axis.

    Raises UserError where there are none, where the numbers differ, and on images of another shape than promised.
    """
    many = _count(renderer, 'particles', params)
    if _count(renderer, 'cameras', cameras) != many:
        raise UserError(
            f'{many} particles but {_count(renderer, "cameras", cameras)} cameras: stack one camera for each particle'
        )
    keys = jax.random.split(key, many)
    images = jax.vmap(lambda p, c, k: renderer.render(p, c, key=k))(params, cameras, keys)
    return _shaped(renderer, images)


def render_views(
    renderer: Renderer, params: Params, cameras: Any, *, key: jax.Array
) -> Float[Array, 'views height width channels']:
    """One particle from several cameras, whose arrays have the views as first axis. Raises as `render_each`."""
    keys = jax.random.split(key, _count(renderer, 'cameras', cameras))
    images = jax.vmap(lambda c, k: renderer.render(params, c, key=k))(cameras, keys)
    return _shaped(renderer, images)


def check_images(renderer: Renderer, images: Any) -> np.ndarray:
    """Images `[..., height, width, channels]` on the host, as they are.

    Raises UserError on another shape, on values that are not finite and on values outside the stated range.
    """
    images = _shaped(renderer, np.asarray(images))
    if not np.isfinite(images).all():
        raise UserError(f'{renderer} rendered values that are not finite: lower the learning rate or clip its gradient')
    if renderer.span is not None and images.size:
        low, high = renderer.span
        least, most = float(images.min()), float(images.max())
        if least < low - TOLERANCE or most > high + TOLERANCE:
            raise UserError(
                f'{renderer} rendered values in {least:.4g} .. {most:.4g}, outside its range {low:g} .. {high:g}: '
                'clip its parameters, or state the range that it has'
            )
    return images


def check_seen(traced: Traced, place: str) -> None:
    """Raises UserError where a view holds nothing but background. `place` names the camera."""
    most = float(np.max(np.asarray(traced.opacity)))
    if not most >= 1e-3:
        raise UserError(f'{place} sees nothing (opacity at most {most:.2g}): turn it to the scene or move it away')


def _count(renderer: Renderer, what: str, tree: Any) -> int:
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or not all(all(length) and length for length in lengths):
        raise UserError(f'{what} of {renderer} have first axes {sorted(lengths)}: they must be one, and at least 1')
    return lengths.pop()[0]


def _shaped(renderer: Renderer, images: Any) -> Any:
    promised = renderer.height, renderer.width, renderer.channels
    if images.shape[-3:] != promised:
        raise UserError(f'{renderer} rendered images of shape {images.shape[-3:]}, it promises {promised}')
    return images


def logit(value: float) -> float:
    """The inverse of the sigmoid."""
    return float(np.log(value) - np.log1p(-value))


def positive(raw: jax.Array, low: float, high: float) -> jax.Array:
    """A number in [low, high] on a logarithmic scale, whatever `raw` is: low (high / low)^sigmoid(raw)."""
    return low * jnp.exp(np.log(high / low).item() * jax.nn.sigmoid(raw))
