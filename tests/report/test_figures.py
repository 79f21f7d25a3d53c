import re

import pytest
from made_up import record

from kdjax.report import figures

CLAIM = record()['claims'][0]
CURVES = {'kd': ([1, 2], [[0.1, 0.2], [0.2, 0.3]]), 'labels': ([1, 2], [])}


def test_figures_have_no_colour_of_their_own_and_no_fixed_size():
    for figure in (
        figures.paired_differences(CLAIM),
        figures.learning_curve('accuracy', CURVES),
        figures.reliability('kd', 1, record()['arms']['kd']['calibration']),
    ):
        assert not re.findall(r'(?<!url\()#[0-9a-f]{6}\b', figure)
        assert 'var(--ink)' in figure or 'var(--arm-' in figure
        assert re.match(r'<svg viewBox="0 0 \d+ \d+" role="img" aria-label="[^"]+">', figure)
        assert 'http' not in figure


def test_names_inside_a_figure_are_its_own():
    first, second = figures.learning_curve('accuracy', CURVES), figures.learning_curve('nll', CURVES)
    names = [set(re.findall(r'\bid="([^"]+)"', f)) for f in (first, second)]
    assert names[0] and not names[0] & names[1]
    for figure, own in zip((first, second), names, strict=True):
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', figure)) <= own


@pytest.mark.parametrize(
    'change',
    [
        {'low': None, 'high': None},
        {'differences': [0.0] * 5, 'mean': 0.0, 'low': 0.0, 'high': 0.0},
        {'differences': [None, 0.1], 'mean': None, 'low': None, 'high': None},
        {'margin': -0.5, 'sign': '<'},
    ],
)
def test_odd_claims_are_drawn(change):
    assert figures.paired_differences(CLAIM | change).count('<path') > 3


def test_curves_that_diverged_are_left_out():
    whole = figures.learning_curve('loss', {'kd': ([1, 2, 3], [[1.0, 0.5, 0.2], [1.0, 0.4, 0.1]])})
    broken = figures.learning_curve('loss', {'kd': ([1, 2, 3], [[None] * 3, [1.0, None, 0.1]])})
    assert 'var(--arm-0)' in whole
    assert 'var(--arm-0)' not in broken


def test_a_strip_needs_an_interval():
    assert 'class="strip' in (figures.strip(CLAIM) or '')
    assert figures.strip(CLAIM | {'low': None}) is None


def test_swatches_tell_arms_apart_by_colour_and_dashes():
    assert len({figures.swatch(i) for i in range(24)}) == 24
    assert 'dasharray' not in figures.swatch(0)
    assert 'dasharray' in figures.swatch(1)
