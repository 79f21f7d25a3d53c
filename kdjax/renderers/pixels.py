"""The plainest renderer: parameters are pixels."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.errors import unknown
from kdjax.renderers.cameras import Warp, grid
from kdjax.renderers.renderer import Params

FORMS = ('identity', 'sigmoid')
EDGES = ('clamp', 'wrap')


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A canvas of pixels. params: `canvas` [canvas height, canvas width, channels].

    height, width: of the image; canvas: (height, width) of the canvas, the same if not given.
    form: 'identity', an image is the canvas and not bounded; 'sigmoid', it is the sigmoid of it, in (0, 1).
    edge: beyond the canvas its border goes on ('clamp'), or from the other side ('wrap', a panorama).
    scale: of the normal draws of `init`.

    A view is interpolated (bilinear, after the sigmoid); where the centres of pixels meet, it is the canvas itself.
    Noise must not be warped so: see `renderers.noise`.
    """

    height: int
    width: int
    channels: int = 3
    canvas: tuple[int, int] | None = None
    form: str = 'identity'
    edge: str = 'clamp'
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown('form of pixels', self.form, FORMS)
        if self.edge not in EDGES:
            raise unknown('edge', self.edge, EDGES)

    @property
    def span(self) -> tuple[float, float] | None:
        return (0.0, 1.0) if self.form == 'sigmoid' else None

    def init(self, key: jax.Array) -> Params:
        shape = (*(self.canvas or (self.height, self.width)), self.channels)
        return {'canvas': self.scale * jax.random.normal(key, shape)}

    def render(self, params: Params, camera: Warp, *, key: jax.Array) -> Float[Array, 'height width channels']:
        del key
        canvas = params['canvas']
        shown = jax.nn.sigmoid(canvas) if self.form == 'sigmoid' else canvas
        points = camera.to_canvas(grid(self.height, self.width, canvas.dtype))
        rows, columns = canvas.shape[:2]
        y = 0.5 * rows * (points[..., 1] + 1) - 0.5
        x = 0.5 * columns * (points[..., 0] + 1) - 0.5
        return _bilinear(shown, y, x, self.edge)


def _bilinear(canvas: Array, y: Array, x: Array, edge: str) -> Array:
    rows, columns = canvas.shape[:2]
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]

    def at(row: Array, column: Array) -> Array:
        return canvas[_within(row, rows, edge), _within(column, columns, edge)]

    upper = (1 - right) * at(top, left) + right * at(top, left + 1)
    lower = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1)
    return (1 - down) * upper + down * lower


def _within(place: Array, size: int, edge: str) -> Array:
    number = place.astype(jnp.int32)
    return number % size if edge == 'wrap' else jnp.clip(number, 0, size - 1)
