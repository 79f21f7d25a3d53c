"""Numbers as a reader wants them: percentages, digits that match the uncertainty, a real minus sign."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdjax.metrics.paired import Interval, mean_interval

Number = float | int | None
"""A number of a record: JSON has no difference between 1 and 1.0, and null stands for what is not finite."""

SPACE = '\N{NO-BREAK SPACE}'
NONE = '–'
RAISED = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
SHARES = frozenset({
    'accuracy', 'agreement', 'ece', 'error', 'top5', 'class_accuracy', 'precision', 'recall', 'coverage', 'in_modes',
})  # fmt: skip
"""Metrics in 0..1 that are shown as percentages."""

LABELS = {
    'accuracy': 'accuracy', 'nll': 'NLL', 'ece': 'ECE', 'brier': 'Brier score', 'aurc': 'AURC',
    'agreement': 'agreement', 'kl': 'KL to teacher', 'kl_to_teacher': 'KL to teacher',
    'frechet': 'Fréchet distance', 'kid': 'KID', 'mmd': 'MMD', 'vendi': 'Vendi score', 'nfe': 'NFE',
    'class_accuracy': 'class accuracy', 'class_nll': 'class NLL', 'in_modes': 'in modes',
    'fake_error': 'error of the fake score', 'gap_to_teacher': 'gap to the teacher', 'tangent_p95': 'tangent, 95 %',
    'kl_to_data': 'KL(samples to data)', 'kl_from_data': 'KL(data to samples)', 'within_class': 'distance within class',
    'stored_bytes': 'stored bytes',
}  # fmt: skip
BETTER = {
    'accuracy': '↑', 'agreement': '↑', 'top5': '↑', 'nll': '↓', 'ece': '↓', 'brier': '↓', 'aurc': '↓',
    'error': '↓', 'kl': '↓', 'kl_to_teacher': '↓', 'loss': '↓', 'frechet': '↓', 'kid': '↓', 'mmd': '↓',
    'class_accuracy': '↑', 'class_nll': '↓', 'precision': '↑', 'recall': '↑', 'coverage': '↑', 'in_modes': '↑',
    'fake_error': '↓', 'direction_cosine': '↑', 'direction_noise': '↓', 'vendi': '↑',
    'modes': '↑', 'weight_error': '↓', 'kl_to_data': '↓', 'kl_from_data': '↓', 'total_variation': '↓',
}  # fmt: skip


def base(metric: str) -> str:
    """`peer/accuracy` -> `accuracy`."""
    return metric.rpartition('/')[2]


def label(metric: str) -> str:
    """`peer/accuracy` -> `peer: accuracy`."""
    owner = metric.rpartition('/')[0]
    name = LABELS.get(base(metric), base(metric).replace('_', ' '))
    return f'{owner}: {name}' if owner else name


def is_share(metric: str) -> bool:
    return base(metric) in SHARES


def known(value: Number) -> bool:
    return value is not None and math.isfinite(value)


def decimal(value: Number, digits: int) -> str:
    """Fixed decimals with a minus sign; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f'{value:.{digits}f}'
    return text.replace('-', '−') if float(text) else text.replace('-', '')


def signed(value: Number, digits: int) -> str:
    text = decimal(value, digits)
    return text if text == NONE or text.startswith('−') else f'+{text}'


def significant(value: Number, digits: int = 3) -> str:
    """Three significant digits, without a power of ten where it can be avoided."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return '0'
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude <= 6:
        mantissa, _, power = f'{value:.{digits - 1}e}'.partition('e')
        return f'{mantissa.replace("-", "−")}{SPACE}×{SPACE}10{str(int(power)).translate(RAISED)}'
    return decimal(value, max(0, digits - 1 - magnitude))


def digits_for(width: float) -> int:
    """Decimals that show two digits of an uncertainty, between 1 and 5."""
    if not math.isfinite(width) or width <= 0:
        return 2
    return min(5, max(1, 1 - math.floor(math.log10(width))))


def interval(values: Sequence[Number]) -> Interval | None:
    """The mean with its 95 % interval; None if a value is missing."""
    return mean_interval(values) if values and all(map(known, values)) else None  # type: ignore[arg-type]


def summary(metric: str, values: Sequence[Number]) -> str:
    """`96.7 ± 0.4 %`: the mean over seeds and half of its 95 % interval."""
    found = interval(values)
    if found is None:
        missing = sum(not known(v) for v in values)
        return f'{missing} of {len(values)} diverged' if values else NONE
    scale, unit = (100.0, f'{SPACE}%') if is_share(metric) else (1.0, '')
    half = (found.high - found.mean) * scale
    if not math.isfinite(half):
        return (decimal(found.mean * scale, 2) if unit else significant(found.mean)) + unit
    digits = digits_for(half)
    return f'{decimal(found.mean * scale, digits)}{SPACE}±{SPACE}{decimal(half, digits)}{unit}'


def difference(metric: str, mean: Number, low: Number, high: Number) -> tuple[str, str]:
    """The mean and `[low, high]` of a paired difference, in percentage points where the metric is a share."""
    scale, unit = (100.0, f'{SPACE}pp') if is_share(metric) else (1.0, '')
    scaled = [v * scale if v is not None else None for v in (mean, low, high)]
    width = (scaled[2] - scaled[1]) / 2 if scaled[1] is not None and scaled[2] is not None else math.inf
    digits = digits_for(width)
    return signed(scaled[0], digits) + unit, f'[{signed(scaled[1], digits)}, {signed(scaled[2], digits)}]'


def one(metric: str, value: Number) -> str:
    """The value of one seed."""
    if is_share(metric):
        return decimal(None if value is None else 100 * value, 2)
    return significant(value, 4)


def quantity(value: Number, unit: str = '') -> str:
    """`12.3 k`, `4.56 GFLOP`: powers of a thousand."""
    if value is None or not math.isfinite(value):
        return NONE
    for power, prefix in ((1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if abs(value) >= power:
            return f'{significant(value / power)}{SPACE}{prefix}{unit}'
    return f'{significant(value)}{SPACE}{unit}' if unit else significant(value)


def size(value: Number) -> str:
    """Bytes in powers of 1024."""
    if value is None or not math.isfinite(value):
        return NONE
    for power, prefix in ((2**40, 'TiB'), (2**30, 'GiB'), (2**20, 'MiB'), (2**10, 'KiB')):
        if abs(value) >= power:
            return f'{significant(value / power)}{SPACE}{prefix}'
    return f'{significant(value)}{SPACE}B'


def duration(seconds: Number) -> str:
    """`850 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 1:
        return f'{significant(1000 * seconds)}{SPACE}ms'
    if seconds < 90:
        return f'{significant(seconds)}{SPACE}s'
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return f'{minutes}{SPACE}min{SPACE}{rest:02d}{SPACE}s'
    return f'{minutes // 60}{SPACE}h{SPACE}{minutes % 60:02d}{SPACE}min'


def counted(number: int, one: str, many: str | None = None) -> str:
    """`counted(1, 'seed')` -> `1 seed`."""
    return f'{number}{SPACE}{one if number == 1 else many or one + "s"}'
