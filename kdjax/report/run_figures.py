"""Figures of a single run, drawn from its folder: what it minimised, and how well it did on the validation split."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STYLE: Any = {'svg.hashsalt': 'kdjax', 'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False}
Values = Sequence[float | int | None]
Series = Mapping[str, tuple[Values, Values]]


def draw(folder: pathlib.Path, curves: Mapping[str, Values]) -> list[pathlib.Path]:
    """Write figures/training.svg (the rows of metrics.jsonl) and figures/validation.svg (`curves`); returns them.

    A run that was finished already brings no new curves: then its old figure stays.
    """
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    names = sorted({name for row in rows for name in row} - {'step'})
    training = {n: ([r['step'] for r in rows if n in r], [r[n] for r in rows if n in r]) for n in names}
    validation = {n: (curves['step'], values) for n, values in curves.items() if n != 'step'}
    (folder / 'figures').mkdir(exist_ok=True)
    found: dict[str, Series] = {'training': training, 'validation': validation}
    return [_panels(folder / 'figures' / f'{name}.svg', series) for name, series in found.items() if series]


def _panels(path: pathlib.Path, series: Series) -> pathlib.Path:
    """One small panel for each series, over steps."""
    import matplotlib  # a second of every command, if it stood above
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(series), 2.6), layout='constrained')
        FigureCanvasSVG(figure)
        for i, (name, (steps, values)) in enumerate(series.items(), start=1):
            axes = figure.add_subplot(1, len(series), i)
            axes.plot(np.asarray(steps, float), np.asarray(values, float))
            axes.set_title(name, fontsize=10)
            axes.set_xlabel('step')
        figure.savefig(path, metadata={'Date': None})
    return path
