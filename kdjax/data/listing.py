"""What `kdjax data list` shows: every data set, whether it is here, and how it gets here."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from kdjax.data import assets, corpora, digits, fashion_mnist, mnist5k, photo_crops, tfds

OWN_TEXT = {
    'file': 'name a text file, or a folder of them',
    'jsonl': 'write {"prompt", "response"}, {"messages"} or {"text"}, one a line',
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set. here: it can be loaded now; how: what to do where it cannot."""

    name: str
    here: bool
    source: str
    size: str
    licence: str
    how: str


def available(folder: str | Path | None = None) -> list[Row]:
    """All data sets, in the order a newcomer meets them. `folder` is where `load` would be told to look."""
    where = None if folder is None else Path(folder)
    rows = [
        _row(
            'digits',
            importlib.util.find_spec('sklearn') is not None,
            digits.ORIGIN,
            'pip install scikit-learn',
        ),
        _row(
            'mnist5k',
            mnist5k.find(where) is not None,
            mnist5k.ORIGIN,
            mnist5k.REMEDY,
        ),
        _row(
            'fashion_mnist', fashion_mnist.find(where) is not None, fashion_mnist.ORIGIN, fashion_mnist.REMEDY
        ),
        _row('photo_crops', photo_crops.find(where) is not None, photo_crops.ORIGIN, photo_crops.REMEDY),
    ]
    prepared = tfds.prepared(where)
    rows += [
        Row(f'tfds:{name}', True, 'TFDS, on this disk', '', 'see its TFDS page', '') for name in prepared
    ]
    if not prepared:
        how = '`tfds build NAME --file_format=array_record`, then folder= or TFDS_DATA_DIR'
        rows.append(
            Row('tfds:NAME', False, 'any TFDS image classification data set', '', 'see its TFDS page', how)
        )
    how = 'write train.npz, validation.npz and test.npz, each with image and label, into a folder'
    rows.append(Row('npz:FOLDER', False, 'your own images', '', 'yours', how))
    rows += [_row(name, True, origin(), '') for name, (_, origin, _) in corpora.FROZEN.items()]
    rows += [Row(f'{kind}:PATH', False, 'your own text', '', 'yours', how) for kind, how in OWN_TEXT.items()]
    fetched = [(name, assets.here(name), asset) for name, asset in assets.ASSETS.items()]
    return rows + [_row(name, here, asset.origin, f'kdjax data fetch {name}') for name, here, asset in fetched]


def _row(name: str, here: bool, origin, how: str) -> Row:
    return Row(name, here, origin.source, origin.size, origin.licence, '' if here else how)
