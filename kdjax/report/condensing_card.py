"""The evaluation card of one condensed set, and its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax.data.condensed import CondensedSet
from kdjax.report import condensing, numbers
from kdjax.report.images import scaled

FORMAT = 'kdjax condensation card 1'
PIXELS = 48
"""A side of an image in the picture is at least so long."""


def card(condensed: CondensedSet, record: Mapping[str, Any], *, file: str, seconds: float | None) -> dict[str, Any]:
    """JSON: what the set is, what it stores, its scores, and the record of all that was measured beside it.

    seconds: of the updates that learned the set; None where it was chosen. Of the record: as `kdjax.record` says.
    """
    name = condensed.provenance['method']
    (own,) = (row for row in condensing.rows(record) if row.method == name)
    return {
        'format': FORMAT,
        'file': file,
        'stored_bytes': condensed.stored_bytes,
        'seconds': seconds,
        'scores': {score: list(values) for score, values in own.scores.items()},
        'provenance': dict(condensed.provenance),
        'record': dict(record),
    }


def card_text(found: Mapping[str, Any]) -> str:
    """The card as markdown."""
    about, stored = found['provenance'], found['stored_bytes']
    spent, factor = found['seconds'], about.get('factor', 1)
    made = 'chosen, or made elsewhere' if spent is None else f'in {numbers.duration(spent)} of updates'
    tiles = f' Each image is a mosaic of {factor} x {factor} images.' if factor > 1 else ''
    return f"""# {about['method']}: {about['per_class']} images of each class of {about['dataset']}

`{found['file']}`, seed {about['seed']}, {made}. It stores {numbers.size(stored['total'])}, of which labels are
{numbers.size(stored['labels'])}.{tiles}

    with numpy.load('{found['file']}') as found:
        images = (found['image'] - found['mean']) / found['std']   # as networks read them, [N, H, W, C]
        labels = found['label']                                    # and 'soft_label' [N, classes], if it has its own
        made_of = json.loads(str(found['provenance']))

## What networks learn from it

{condensing.markdown(found['record'])}
ARS compares the set with random images with crops and without. Both scores take the student with soft labels; LRS
also the one with hard labels, against all real images at equal steps.
"""


def card_json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + '\n'


def grid(condensed: CondensedSet) -> np.ndarray:
    """All images as one, uint8 `[height, width]` or `[height, width, 3]`: a row for each class.

    Values beyond 0..1 are stretched, all images alike; small images are enlarged, pixel by pixel.
    """
    labels = condensed.label
    columns = int(np.bincount(labels).max())
    images = scaled(condensed.image)
    images = images.repeat(factor := max(1, -(-PIXELS // max(images.shape[1:3]))), axis=1).repeat(factor, axis=2)
    classes, (height, width, channels) = int(labels.max()) + 1, images.shape[1:]
    canvas = np.full((classes * (height + 2) - 2, columns * (width + 2) - 2, channels), 255, np.uint8)
    for c in range(classes):
        for i, place in enumerate(np.flatnonzero(labels == c)):
            canvas[c * (height + 2) :, i * (width + 2) :][:height, :width] = images[place]
    return canvas[..., 0] if channels == 1 else canvas
