"""Figures as inline SVG whose colours are CSS variables, so that one figure serves light and dark pages."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.report import numbers
from kdjax.report.markup import Safe
from kdjax.report.numbers import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, RULE, TINT = '#010101', '#020202', '#030303', '#040404'
ARMS = tuple(f'#0a0a{i:02x}' for i in range(8))
DASHES: tuple[tuple[int, tuple[float | int, ...]], ...] = (
    (0, ()),
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (7, 2, 1.5, 2)),
    (0, (10, 3)),
    (0, (1, 1)),
    (0, (4, 1, 4, 3)),
    (0, (3, 3)),
)
COLOURS = {INK: '--ink', MUTED: '--muted', RULE: '--rule', TINT: '--tint'} | {
    c: f'--arm-{i}' for i, c in enumerate(ARMS)
}
"""Placeholders that matplotlib writes, and the variables of site.css that replace them."""

STYLE: Any = {
    'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none', 'text.parse_math': False, 'axes.unicode_minus': True,
    'font.family': 'DejaVu Sans', 'font.size': 11.5, 'axes.edgecolor': MUTED, 'axes.labelcolor': MUTED,
    'axes.linewidth': 0.7, 'axes.spines.top': False, 'axes.spines.right': False, 'axes.facecolor': 'none',
    'axes.formatter.useoffset': False, 'xtick.color': MUTED, 'ytick.color': MUTED, 'text.color': INK,
    'xtick.labelsize': 11, 'ytick.labelsize': 11, 'axes.labelsize': 11.5, 'xtick.major.width': 0.7,
    'ytick.major.width': 0.7, 'xtick.major.size': 3, 'ytick.major.size': 3, 'figure.facecolor': 'none',
    'grid.color': RULE, 'grid.linewidth': 0.7, 'lines.linewidth': 1.6, 'lines.solid_capstyle': 'round',
}  # fmt: skip

Box = tuple[float, float, float, float]
Draw = Callable[['Axes'], None]


def svg(draw: Draw, *, size: tuple[int, int], box: Box, about: str) -> Safe:
    """Draw on one pair of axes and return an inline <svg>.

    size: in CSS pixels. box: left, bottom, width and height of the axes as shares of the figure. about: what
    a screen reader says. Equal drawings give equal text.
    """
    import matplotlib  # a second of every command, if it stood above
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        draw(figure.add_axes(box))
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None}
        )
    return _inline(buffer.getvalue(), size, about)


def _inline(text: str, size: tuple[int, int], about: str) -> Safe:
    """The drawing without the file around it: no doctype, comments or size, names unique on the page."""
    text = re.sub(r'<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>', '', text, flags=re.S)
    inside = text[text.index('>', text.index('<svg')) + 1 : text.rindex('</svg>')]
    mark = 'f' + hashlib.sha256((about + inside).encode()).hexdigest()[:8]
    inside = re.sub(r'\bid="', f'id="{mark}-', inside)
    inside = re.sub(r'(url\(#|href="#)', rf'\g<1>{mark}-', inside)
    inside = re.sub(
        r'#0[0-9a-f]{5}\b', lambda m: f'var({COLOURS[m[0]]})' if m[0] in COLOURS else m[0], inside
    )
    inside = re.sub(r"font: ([\d.]+px) '[^']*'", r'font-size: \1', inside)
    inside = re.sub(r'\s*\n\s*', '\n', inside)
    width, height = size
    return Safe(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(about)}">{inside}</svg>'
    )


def dashes(arm: int) -> tuple[int, tuple[float | int, ...]]:
    """The ninth arm has the colour of the first, but other dashes."""
    return DASHES[(arm + arm // len(ARMS)) % len(DASHES)]


def floats(values: Sequence[Number]) -> np.ndarray:
    """JSON's null as NaN."""
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _scale(metric: str) -> tuple[float, str]:
    return (100.0, ', percentage points') if numbers.is_share(metric) else (1.0, '')


def paired_differences(claim: Mapping[str, Any]) -> Safe:
    """One claim: a dot for each seed, the mean with its 95 % interval; the claimed side is shaded."""
    scale, unit = _scale(claim['metric'])
    dots = floats(claim['differences']) * scale
    mean, low, high = floats([claim['mean'], claim['low'], claim['high']]) * scale
    margin = float(claim.get('margin') or 0.0) * scale
    shown = np.array([0.0, margin, *dots, mean, low, high])
    shown = shown[np.isfinite(shown)]
    pad = 0.08 * (np.ptp(shown) or 1.0)
    limits = (shown.min() - pad, shown.max() + pad)
    less = (claim.get('sign') or ('<' if ' < ' in claim['text'] else '>')) == '<'

    def draw(axes: Axes) -> None:
        axes.set(
            xlim=limits,
            ylim=(-0.9, 1.7),
            yticks=[],
            xlabel=f'difference in {numbers.label(claim["metric"])}{unit}',
        )
        axes.spines['left'].set_visible(False)
        axes.axvspan(limits[0] if less else margin, margin if less else limits[1], color=TINT, lw=0)
        axes.axvline(0, color=INK, lw=1)
        if margin:
            axes.axvline(margin, color=INK, lw=0.9, ls=(0, (3, 2)))
        axes.plot(dots, np.ones_like(dots), 'o', ms=6.5, color=ARMS[0], alpha=0.7, mew=0, clip_on=False)
        axes.plot([low, high], [0, 0], color=INK, lw=2.2, clip_on=False)
        axes.plot([mean], [0], 'D', ms=6, color=INK, mew=0, clip_on=False)

    about = f'Difference of {claim["left"]} and {claim["right"]} in {claim["metric"]}, a dot for each seed'
    return svg(draw, size=(360, 112), box=(0.03, 0.42, 0.94, 0.56), about=about)


def learning_curve(
    metric: str, arms: Mapping[str, tuple[Sequence[Number], Sequence[Sequence[Number]]]]
) -> Safe:
    """The mean over seeds of every arm against the step, in a band from the lowest to the highest seed.

    arms: name -> (steps, one curve for each seed). Steps at which a seed has no number are left out;
    an arm without curves keeps its colour.
    """
    scale = 100.0 if numbers.is_share(metric) else 1.0

    def draw(axes: Axes) -> None:
        axes.grid(axis='y')
        axes.set_axisbelow(True)
        for i, (steps, curves) in enumerate(arms.values()):
            values = np.array([floats(c) for c in curves if len(c) == len(steps)]) * scale
            whole = np.isfinite(values).all(axis=0) & (values.ndim == 2)
            if not whole.any():
                continue
            x, values, colour = np.asarray(steps, np.float64)[whole], values[:, whole], ARMS[i % len(ARMS)]
            axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.16, lw=0)
            marker = 'o' if len(x) == 1 else None
            axes.plot(x, values.mean(axis=0), color=colour, ls=dashes(i), marker=marker, ms=5)
        axes.margins(x=0.02)
        axes.locator_params(axis='x', nbins=5)
        axes.locator_params(axis='y', nbins=5)
        axes.set_xlabel('step')

    about = f'Learning curves of {numbers.label(metric)} for {", ".join(arms)}'
    return svg(draw, size=(360, 236), box=(0.135, 0.2, 0.845, 0.77), about=about)


def reliability(arm: str, colour: int, calibration: Mapping[str, Sequence[Number]]) -> Safe:
    """Accuracy against confidence; the area of a dot is its share of the examples, the line the gap."""
    confidence, accuracy, count = (floats(calibration[k]) for k in ('confidence', 'accuracy', 'count'))
    some = np.isfinite(confidence) & np.isfinite(accuracy) & (np.nan_to_num(count) > 0)
    x, y, n = 100 * confidence[some], 100 * accuracy[some], count[some]
    area = 14 + 190 * n / max(float(n.sum()), 1.0)

    def draw(axes: Axes) -> None:
        axes.set(xlim=(0, 100), ylim=(0, 100), xlabel='confidence, %', ylabel='accuracy, %', aspect='equal')
        axes.set_xticks([0, 50, 100])
        axes.set_yticks([0, 50, 100])
        axes.plot([0, 100], [0, 100], color=MUTED, lw=0.9, ls=(0, (3, 2)))
        axes.vlines(x, x, y, color=ARMS[colour % len(ARMS)], lw=1.4, alpha=0.65)
        axes.scatter(x, y, s=area, color=ARMS[colour % len(ARMS)], alpha=0.8, lw=0, clip_on=False, zorder=3)

    return svg(draw, size=(200, 194), box=(0.235, 0.215, 0.725, 0.745), about=f'Reliability diagram of {arm}')


def swatch(arm: int) -> Safe:
    """A short line in the colour and dashes of an arm, for the legend."""
    _, lengths = dashes(arm)
    pattern = f' stroke-dasharray="{" ".join(f"{1.6 * d:g}" for d in lengths)}"' if lengths else ''
    return Safe(
        f'<svg class="swatch" viewBox="0 0 30 8" aria-hidden="true"><path d="M1 4H29" '
        f'style="stroke: var(--arm-{arm % len(ARMS)}); stroke-width: 2.6"{pattern}/></svg>'
    )


def points(made: np.ndarray, beneath: np.ndarray, colour: int, *, reach: float, about: str) -> Safe:
    """Points of the plane `[points, 2]` over others, both within `reach` of 0; what lies beyond is not drawn."""

    def path(values: np.ndarray, style: str) -> str:
        inside = values[(np.abs(values) <= reach).all(axis=1)]  # what is not finite is not inside
        places = 100 + 96 / reach * inside * np.array([1, -1])
        dots = ''.join(f'M{x:.1f} {y:.1f}h0' for x, y in places)
        return f'<path d="{dots}" style="fill: none; stroke-linecap: round; {style}"/>'

    over = f'stroke: var(--arm-{colour % len(ARMS)}); stroke-width: 2.6; stroke-opacity: .75'
    under = 'stroke: var(--muted); stroke-width: 2.2; stroke-opacity: .35'
    drawn = path(beneath, under) + path(made, over)
    return Safe(f'<svg viewBox="0 0 200 200" role="img" aria-label="{html.escape(about)}">{drawn}</svg>')


def strip(claim: Mapping[str, Any]) -> Safe | None:
    """A claim's interval as a line around zero, for a table row; None where there is no interval."""
    mean, low, high = claim['mean'], claim['low'], claim['high']
    if not (numbers.known(mean) and numbers.known(low) and numbers.known(high)):
        return None
    margin = float(claim.get('margin') or 0.0)
    reach = 1.1 * max(abs(low), abs(high), abs(margin), 1e-12)
    x, a, b = (f'{60 + 58 * v / reach:.1f}' for v in (mean, low, high))
    dashed = f'<path class="margin" d="M{60 + 58 * margin / reach:.1f} 1V17"/>' if margin else ''
    verdict = claim['verdict'] if claim['verdict'] in VERDICTS else ''
    return Safe(
        f'<svg class="strip {verdict}" viewBox="0 0 120 18" aria-hidden="true">'
        f'<path class="zero" d="M60 1V17"/>{dashed}'
        f'<path class="span" d="M{a} 9H{b}"/><circle cx="{x}" cy="9" r="3.4"/></svg>'
    )


VERDICTS = ('reproduced', 'inconclusive', 'contrary')
