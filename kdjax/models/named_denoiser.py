"""Diffusion networks by name: what a configuration or a command line says."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp

from kdjax.errors import UserError, unknown
from kdjax.models.dit import dit
from kdjax.models.model import Model
from kdjax.models.point_denoiser import point_denoiser
from kdjax.models.unet import unet

GRAMMAR = 'unet-WIDTH-WIDTH...[-pPATCH], dit-WIDTH-DEPTH[-pPATCH][-hHEADS], points-WIDTH-DEPTH'
EXAMPLES = ('unet-32-64', 'unet-16-32-p2', 'dit-128-4', 'dit-64-2-p2-h2', 'points-128-3')

_UNET = re.compile(r'unet((?:-\d+)+)(?:-p(\d+))?')
_DIT = re.compile(r'dit-(\d+)-(\d+)(?:-p(\d+))?(?:-h(\d+))?')
_POINTS = re.compile(r'points-(\d+)-(\d+)')


def named_denoiser(
    spec: str, *, classes: int, shape: tuple[int, ...], times: int = 1, dtype: Any = jnp.float32
) -> Model:
    """The diffusion network that a specification names, for examples of this shape: `(H, W, C)`, or `(dims,)`.

    spec: `unet-32-64-p2` (widths, patch), `dit-128-4-p4-h4` (width, depth, patch, heads), `points-128-3` (width,
        depth). classes, times: see `models.unet.unet`.
    Raises UserError for an unknown specification, with the nearest known one and the grammar, and for points of a
    network for images or the other way round.
    """
    options: dict[str, Any] = {'classes': classes, 'times': times, 'dtype': dtype}
    found = _POINTS.fullmatch(spec)
    if (len(shape) == 1) != bool(found) and (found or _UNET.fullmatch(spec) or _DIT.fullmatch(spec)):
        kinds = "'points-...' is for points (dims,), 'unet-...' and 'dit-...' for images (H, W, C)"
        raise UserError(f"model '{spec}' on examples of shape {tuple(shape)}: {kinds}")
    if found:
        return point_denoiser(int(found[1]), int(found[2]), dims=shape[0], **options)
    options['image_shape'] = tuple(shape)
    if found := _UNET.fullmatch(spec):
        return unet([int(width) for width in found[1].split('-')[1:]], patch=_number(found[2]), **options)
    if found := _DIT.fullmatch(spec):
        patch, heads = _number(found[3]), int(found[4] or 4)
        return dit(int(found[1]), int(found[2]), patch=patch, heads=heads, **options)
    raise UserError(f'{unknown("diffusion network", spec, EXAMPLES)}; grammar: {GRAMMAR}')


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
