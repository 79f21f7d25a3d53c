"""`load('digits')`: from the name of a data set to its splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdjax.data import altered, digits, fashion_mnist, mnist5k, npz, photo_crops, tfds
from kdjax.data.dataset import ImageDataset
from kdjax.errors import UserError, unknown

NAMED: dict[str, Callable[..., ImageDataset]] = {
    'digits': digits.load,
    'mnist5k': mnist5k.load,
    'fashion_mnist': fashion_mnist.load,
    'photo_crops': photo_crops.load,
}
PREFIXED: dict[str, Callable[..., ImageDataset]] = {'npz': npz.load, 'tfds': tfds.load}
KNOWN = (*NAMED, 'npz:FOLDER', 'tfds:NAME', 'mirrored:NAME', 'mislabelled:SHARE:NAME')


def load(spec: str, *, train_examples: int | None = None, folder: str | Path | None = None) -> ImageDataset:
    """Load a data set by its specification.

    spec: `digits`, `mnist5k`, `fashion_mnist`, `photo_crops`, `npz:FOLDER`, or `tfds:NAME[:config/version]`, e.g.
      `tfds:cifar10` and `tfds:cifar10_corrupted:brightness_1/1.0.0`; `mirrored:NAME` or `mislabelled:0.1:NAME` of one
      of these, see `kdjax.data.altered`.
    train_examples: keep a fixed stratified subset of the train split; smaller subsets lie inside larger ones.
    folder: where to look, in place of the environment (`KDJAX_DATA`; `TFDS_DATA_DIR` for TFDS).
    Raises `UserError` for an unknown name, and for data that cannot be trained on (see `kdjax.data.checks`).
    """
    where = None if folder is None else Path(folder).expanduser()
    kind, colon, rest = spec.partition(':')
    if colon and kind in ('mirrored', 'mislabelled'):
        return _altered(kind, rest, spec, train_examples=train_examples, folder=folder)
    if colon and kind in PREFIXED:
        if not rest:
            raise UserError(f"data set '{spec}' lacks what follows the colon: npz:FOLDER or tfds:NAME")
        if kind == 'npz':
            return npz.load(Path(where or '', rest).expanduser(), train_examples=train_examples)
        return tfds.load(rest, train_examples=train_examples, folder=where)
    if spec not in NAMED:
        raise unknown('data set', spec, KNOWN)
    if spec == 'digits':
        return digits.load(train_examples=train_examples)
    return NAMED[spec](train_examples=train_examples, folder=where)


def _altered(kind: str, rest: str, spec: str, **where: Any) -> ImageDataset:
    if kind == 'mirrored':
        return altered.mirrored(load(rest, **where).in_memory())
    share, _, name = rest.partition(':')
    if not share.replace('.', '', 1).isdigit():
        raise UserError(
            f"data set '{spec}': the share of wrong labels stands before the name, as in mislabelled:0.1:digits"
        )
    return altered.mislabelled(load(name, **where).in_memory(), float(share))
