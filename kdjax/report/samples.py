"""What generators made: samples of every arm beside the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kdjax.report import figures
from kdjax.report.images import data_uri, grid
from kdjax.report.layout import section
from kdjax.report.markup import Safe, tag
from kdjax.stage import Artifact

TEACHER = 'teacher'


def samples(kept: Artifact, split: str, arms: Iterable[str]) -> Safe:
    """Samples of every arm: points over the teacher's, or pictures, one row for each label.

    arms: all of the record, in the order that gives them their colours.
    """
    arrays, seed = kept.arrays, kept.info.get('seed')
    places = {arm: i for i, arm in enumerate(arms)}
    panels = [
        (arm, f'{arm}{_which(name)}', np.asarray(x))
        for arm in sorted(arrays['arms'], key=places.__getitem__)
        for name, x in sorted(arrays['arms'][arm].items())
    ]
    first = panels[0][2]
    taught = np.asarray(arrays[TEACHER]) if TEACHER in arrays else first[:0]
    if first.ndim == 2:
        whole = taught if len(taught) else first
        reach = 1.25 * float(np.abs(whole[np.isfinite(whole).all(axis=1)]).max(initial=1e-6))
        drawn = [
            _figure(title, figures.points(x, taught, places[arm], reach=reach, about=f'Samples of {title}'))
            for arm, title, x in panels
        ]
    else:
        label = np.unique(np.asarray(arrays['label']), return_inverse=True)[1]
        shown = [*([(TEACHER, TEACHER, taught)] if len(taught) else []), *panels]
        drawn = [_figure(title, _grid(grid(x, label), f'Samples of {title}')) for _, title, x in shown]
    told = f'Of the {split} split, seed {seed}.'
    if 'teacher' in kept.info:
        place = 'In grey' if first.ndim == 2 else 'First'
        told += (
            f' {place}: {kept.info["teacher"]}, from the noise that every arm that learns has too; '
            'samplers begin from noise of their own.'
        )
    return section('Samples', tag('div', drawn, class_='figures small'), note=told, key='samples')


def _which(name: str) -> str:
    """`sample_4` -> `, 4 steps`."""
    _, _, rest = name.partition('_')
    return '' if not rest else f', {rest} steps' if rest.isdigit() else f', {rest}'


def _figure(title: str, drawn: Safe) -> Safe:
    return tag('figure', tag('figcaption', tag('span', title, class_='title')), drawn)


def _grid(pixels: np.ndarray, alt: str) -> Safe:
    height, width = pixels.shape[:2]
    return tag('img', src=data_uri(pixels), alt=alt, class_='grid pixels', width=width, height=height)
