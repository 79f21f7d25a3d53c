"""The table of `kdjax verify`: what is claimed is in it."""

import io

import pytest
from rich.console import Console

from kdjax.cli.verifying import show, shown_metrics
from kdjax.experiment import claim


def record(*claims, **metrics):
    cost = {'student_flops': 1e9, 'teacher_flops': 0.0, 'seconds': 1.0}
    said = [
        {'text': c, 'metric': claim(c).metric, 'mean': 0.1, 'low': 0.05, 'high': 0.15, 'verdict': 'reproduced'}
        for c in claims
    ]
    arms = {'a': {'metrics': metrics, 'cost': cost}, 'b': {'metrics': metrics | {'brier': [0.2, 0.3]}, 'cost': cost}}
    return {'title': 'T', 'dataset': 'd', 'split': 'test', 'seeds': [0, 1], 'arms': arms, 'claims': said,
            'verdict': 'reproduced', 'seconds': 3.0}  # fmt: skip


ALL = {'accuracy': [0.5, 0.6], 'nll': [1.0, 1.1], 'ece': [0.1, 0.2], 'agreement': [0.7, 0.8], 'kl': [2.0, 3.0]}


@pytest.mark.parametrize(
    ('claims', 'wanted'),
    [
        (('a > b on accuracy',), ['accuracy', 'nll', 'ece', 'agreement']),
        (('a < b on kl', 'b > a on accuracy', 'a < b + 0.5 on kl'), ['kl', 'accuracy', 'nll', 'ece']),
        (('a > b on brier',), ['brier', 'accuracy', 'nll', 'ece']),
        (tuple(f'a > b on m{i}' for i in range(6)), [f'm{i}' for i in range(6)]),
    ],
)
def test_claimed_metrics_come_first_and_all(claims, wanted):
    assert shown_metrics(record(*claims, **ALL)) == wanted


def test_an_arm_without_a_claimed_metric_shows_a_dash():
    told = io.StringIO()
    show(record('b < a on brier', **ALL), Console(file=told, width=140))
    rows = {line.split()[1]: line for line in told.getvalue().splitlines() if line.startswith(('│ a  ', '│ b  '))}
    assert '–' in rows['a'] and '–' not in rows['b'] and '0.25 ±' in rows['b'].replace('\xa0', ' ')
