"""`sprites`: textured solids seen from around, made by code: class, view and camera of every image are known.

Three shapes in two textures, each in three colours of unequal frequency, are six classes with three modes each. The
half in front (x > 0) is light and the half behind dark, so that every side looks different.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.data.assemble import from_splits
from kdjax.data.dataset import SPLITS, ArraySource, ImageDataset, Origin
from kdjax.errors import UserError

SHAPES = ('box', 'ball', 'ring')
TEXTURES = ('striped', 'chequered')
CLASS_NAMES = tuple(f'{texture} {shape}' for shape in SHAPES for texture in TEXTURES)
COLOURS = ((0.9, 0.25, 0.2), (0.2, 0.45, 0.95), (0.95, 0.8, 0.15))
COLOUR_WEIGHTS = (0.5, 0.3, 0.2)
DISTANCE, FIELD_OF_VIEW = 3.0, np.radians(38.0).item()
ELEVATIONS = (0.15, 0.55)
BACKGROUND = 0.5
STEPS, CHUNK = 20, 16


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Sprites(ImageDataset):
    """Images of solids. A batch also has `view` and `colour` int32, `azimuth` and `elevation` float32 radians.

    views: bins of the azimuth; bin v is around 2 pi v / views, and fills `spread` of what it could.
    """

    views: int
    spread: float


@functools.cache
def sprites(
    *, size: int = 16, views: int = 4, spread: float = 0.6, examples: int = 4096, evaluation_examples: int = 768,
    seed: int = 0,
) -> Sprites:  # fmt: skip
    """Draw solids and cameras, and render them: uint8 images `[size, size, 3]` on grey.

    The camera is that of `renderers.orbit` at distance 3 with a field of view of 38 degrees. Kept in memory, one copy
    for all who ask alike. Raises `UserError` on sizes below 4, views below 1, or fewer images than classes and views.
    """
    cells = len(CLASS_NAMES) * views
    if size < 4 or views < 1 or not 0 <= spread <= 1 or min(examples, evaluation_examples) < max(cells, 1):
        raise UserError(
            f'sprites of size={size}, views={views}, spread={spread}, examples={examples}, '
            f'evaluation_examples={evaluation_examples}: size is at least 4, views at least 1, spread in 0..1, and '
            f'every split has an image of each of the {len(CLASS_NAMES)} classes from each view'
        )
    counts = dict(zip(SPLITS, (examples, evaluation_examples, evaluation_examples), strict=True))
    draw = np.random.default_rng(seed)
    columns = {split: _drawn(count, views, spread, draw) for split, count in counts.items()}
    images = {split: _images(column, size) for split, column in columns.items()}
    made = from_splits(
        'sprites', {split: (images[split], columns[split]['label']) for split in SPLITS},
        class_names=CLASS_NAMES, flip_ok=False, crop_padding=0,
        origin=Origin('rendered by this code', 'none', f'{sum(counts.values())} x {size}x{size}x3'),
    )  # fmt: skip
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    kept = ('label', 'view', 'colour', 'azimuth', 'elevation')
    digest = hashlib.sha256(made.identity.encode())
    for column in columns.values():
        for name in kept:
            digest.update(column[name].tobytes())
    sources = {s: ArraySource({'image': images[s]} | {name: columns[s][name] for name in kept}) for s in SPLITS}
    fields |= {'splits': sources, 'identity': digest.hexdigest(), 'views': views, 'spread': spread}
    return Sprites(**fields)


def view_azimuth(view: np.ndarray, shift: np.ndarray, *, views: int, spread: float) -> np.ndarray:
    """Radians of a camera in this bin; `shift` in -1..1 is its place within."""
    return (2 * np.pi / views * (view + 0.5 * spread * shift)).astype(np.float32)


def _drawn(count: int, views: int, spread: float, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Every class in turn, and every view of each in turn; all else at random."""
    place = np.arange(count)
    view = (place // len(CLASS_NAMES) % views).astype(np.int32)
    return {
        'label': (place % len(CLASS_NAMES)).astype(np.int32),
        'view': view,
        'colour': draw.choice(len(COLOURS), count, p=COLOUR_WEIGHTS).astype(np.int32),
        'azimuth': view_azimuth(view, draw.uniform(-1, 1, count), views=views, spread=spread),
        'elevation': draw.uniform(*ELEVATIONS, count).astype(np.float32),
        'scale': draw.uniform(0.85, 1.15, (count, 3)).astype(np.float32),
    }


def _images(columns: dict[str, np.ndarray], size: int) -> np.ndarray:
    """uint8 `[examples, size, size, 3]`, each shape by its own program."""
    images = np.empty((len(columns['label']), size, size, 3), np.uint8)
    for number, shape in enumerate(SHAPES):
        rows = np.flatnonzero(columns['label'] // len(TEXTURES) == number)
        padded = np.resize(rows, -(-len(rows) // CHUNK) * CHUNK).reshape(-1, CHUNK)
        palette = np.asarray(COLOURS, np.float32)[columns['colour'][padded]]
        striped = columns['label'][padded] % len(TEXTURES) == 0
        seen = _program(shape, size)(
            columns['azimuth'][padded], columns['elevation'][padded], columns['scale'][padded], palette, striped
        )
        images[rows] = np.asarray(seen).reshape(-1, size, size, 3)[: len(rows)]
    return images


@functools.cache
def _program(shape: str, size: int) -> Callable[..., jax.Array]:
    @jax.jit
    def images(*columns: jax.Array) -> jax.Array:
        return jax.lax.map(lambda chunk: jax.vmap(functools.partial(_image, shape, size))(*chunk), columns)

    return images


def _image(shape: str, size: int, azimuth: Array, elevation: Array, scale: Array, colour: Array, striped: Array):
    """Sphere tracing of four rays a pixel."""
    origin, direction = rays(azimuth, elevation, 2 * size)

    def onward(_, gone):
        return gone + distance(shape, origin[None] + gone[:, None] * direction, scale)

    gone = jax.lax.fori_loop(0, STEPS, onward, jnp.full(len(direction), DISTANCE - 1.4))
    point = origin[None] + gone[:, None] * direction
    hit = distance(shape, point, scale) < 0.02
    seen = jnp.where(hit[:, None], _painted(point, colour, striped), BACKGROUND)
    four = seen.reshape(size, 2, size, 2, 3)
    return jnp.round(255 * jnp.mean(four, axis=(1, 3))).astype(jnp.uint8)


def rays(azimuth: Array, elevation: Array, side: int) -> tuple[Array, Array]:
    """The camera and unit directions `[side * side, 3]`, as `renderers.Orbit.rays`."""
    (ca, sa), (ce, se) = ((jnp.cos(a), jnp.sin(a)) for a in (azimuth, elevation))
    axes = jnp.stack(
        [jnp.stack([-sa, ca, 0 * sa]), jnp.stack([se * ca, se * sa, -ce]), -jnp.stack([ce * ca, ce * sa, se])]
    )
    edge = np.tan(FIELD_OF_VIEW / 2).item() * ((2 * jnp.arange(side, dtype=jnp.float32) + 1) / side - 1)
    across, down = jnp.meshgrid(edge, edge)
    local = jnp.stack([across, down, jnp.ones_like(down)], -1).reshape(-1, 3)
    unit = local / jnp.sqrt(jnp.sum(local**2, axis=-1, keepdims=True))
    return -DISTANCE * axes[2], unit @ axes


def distance(shape: str, point: Float[Array, 'points 3'], scale: Float[Array, ' 3']) -> Float[Array, ' points']:
    """A lower bound of the distance to a solid, negative inside.

    box: half sides 0.6, 0.45, 0.5 times `scale`. ball: an ellipsoid of radii 0.75, 0.6, 0.65 times `scale`. ring: a
    torus around the x axis, radii 0.55 and 0.2 times the first of `scale`.
    """
    if shape == 'box':
        beyond = jnp.abs(point) - (jnp.asarray([0.6, 0.45, 0.5]) * scale)[None]
        return _length(jnp.maximum(beyond, 0)) + jnp.minimum(jnp.max(beyond, axis=-1), 0)
    if shape == 'ball':
        radii = jnp.asarray([0.75, 0.6, 0.65]) * scale
        return (_length(point / radii[None]) - 1) * jnp.min(radii)
    around = _length(point[:, 1:]) - 0.55 * scale[0]
    return jnp.sqrt(around**2 + point[:, 0] ** 2) - 0.2 * scale[0]


def _painted(point: Array, colour: Array, striped: Array) -> Array:
    """Bands along z, or checks in y and z, half way to white; the half behind darker."""
    bands = jnp.floor(4 * point[:, 2])
    checks = jnp.floor(2.5 * point[:, 1]) + jnp.floor(2.5 * point[:, 2]) + jnp.floor(2.5 * point[:, 0])
    light = jnp.where(striped, bands, checks) % 2 == 0
    paint = jnp.where(light[:, None], 0.5 + 0.5 * colour[None], 0.85 * colour[None])
    return paint * jnp.where(point[:, :1] > 0, 1.0, 0.4)


def _length(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(x**2, axis=-1))
