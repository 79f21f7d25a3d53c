import math

import pytest

from kdjax.report import numbers


@pytest.mark.parametrize(
    'metric, values, said',
    [
        ('accuracy', [0.9, 0.9, 0.9], '90.00 ± 0.00 %'),
        ('peer/accuracy', [0.90, 0.91, 0.92], '91.0 ± 2.5 %'),
        ('nll', [0.30, 0.31, 0.32], '0.310 ± 0.025'),
        ('nll', [0.5], '0.500'),
        ('nll', [0.5, None], '1 of 2 diverged'),
        ('nll', [], '–'),
    ],
)
def test_means_show_as_many_digits_as_their_interval(metric, values, said):
    assert numbers.summary(metric, values).replace(numbers.SPACE, ' ') == said


@pytest.mark.parametrize(
    'metric, interval, said',
    [
        ('accuracy', (0.0187, 0.004, 0.0334), ('+1.9 pp', '[+0.4, +3.3]')),
        ('nll', (-0.0513, -0.0606, -0.0421), ('−0.0513', '[−0.0606, −0.0421]')),
        ('nll', (0.25, None, None), ('+0.25', '[–, –]')),
    ],
)
def test_differences_carry_their_sign(metric, interval, said):
    assert tuple(s.replace(numbers.SPACE, ' ') for s in numbers.difference(metric, *interval)) == said


@pytest.mark.parametrize(
    'said, expected',
    [
        (numbers.quantity(12345.0), '12.3 k'),
        (numbers.quantity(2.5e9, 'FLOP'), '2.50 GFLOP'),
        (numbers.quantity(None), '–'),
        (numbers.size(4096.0), '4.00 KiB'),
        (numbers.duration(0.25), '250 ms'),
        (numbers.duration(83.4), '83.4 s'),
        (numbers.duration(125), '2 min 05 s'),
        (numbers.duration(7800), '2 h 10 min'),
        (numbers.significant(1.5e-7), '1.50 × 10⁻⁷'),
        (numbers.decimal(-0.001, 1), '0.0'),
        (numbers.decimal(math.inf, 1), '–'),
        (numbers.label('peer/kl_to_teacher'), 'peer: KL to teacher'),
        (numbers.counted(1, 'seed'), '1 seed'),
    ],
)
def test_quantities_are_readable(said, expected):
    assert said.replace(numbers.SPACE, ' ') == expected
