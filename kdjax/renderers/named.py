"""Renderers by name: what a configuration or a command line says."""

from __future__ import annotations

import re
from collections.abc import Callable

from kdjax.errors import UserError, unknown
from kdjax.renderers.fields import FourierDensity, Voxels
from kdjax.renderers.fourier import FourierField
from kdjax.renderers.pixels import Pixels
from kdjax.renderers.renderer import Renderer
from kdjax.renderers.splats_2d import Splats2D
from kdjax.renderers.splats_3d import Splats3D
from kdjax.renderers.strokes import Strokes
from kdjax.renderers.volume import Volume

GRAMMAR = 'pixels, fourier[-WIDTH], splats2d[-COUNT], strokes[-COUNT], splats3d[-COUNT], voxels[-SIZE], nerf[-WIDTH]'
KINDS: dict[str, Callable[[int, int, int | None], Renderer]] = {
    'pixels': lambda h, w, n: Pixels(h, w, form='sigmoid'),
    'fourier': lambda h, w, n: FourierField(h, w, hidden=n or 32),
    'splats2d': lambda h, w, n: Splats2D(h, w, count=n or 48),
    'strokes': lambda h, w, n: Strokes(h, w, count=n or 16, background=0.5),
    'splats3d': lambda h, w, n: Splats3D(h, w, count=n or 48),
    'voxels': lambda h, w, n: Volume(h, w, field=Voxels(n or 12), samples=24),
    'nerf': lambda h, w, n: Volume(h, w, field=FourierDensity(hidden=n or 32), samples=24),
}


def named_renderer(spec: str, *, height: int, width: int) -> Renderer:
    """The renderer of images in 0..1 that a specification names, on a background of 0.5.

    Raises UserError for an unknown one, with the nearest known and the grammar.
    """
    found = re.fullmatch(r'([a-z0-9]+?)(?:-([1-9]\d*))?', spec)
    if found is None or found[1] not in KINDS or (found[1] == 'pixels' and found[2]):
        raise UserError(f'{unknown("renderer", spec, KINDS)}; grammar: {GRAMMAR}')
    return KINDS[found[1]](height, width, int(found[2]) if found[2] else None)
