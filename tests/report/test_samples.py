"""Samples of generators on the page of an experiment, and the metrics that stand beside quality."""

import base64
import io
import re

import numpy as np
from made_up import record
from PIL import Image

from kdjax.report.detail import detail
from kdjax.report.samples import samples
from kdjax.report.site import _page
from kdjax.stage import Artifact


def points(*arms, teacher=True):
    rng = np.random.default_rng(0)
    drawn = {name: {'sample': rng.uniform(-1, 1, (9, 2))} for name in arms}
    arrays = {'arms': drawn, 'label': np.zeros(9, np.int32)} | (
        {'teacher': rng.uniform(-1, 1, (9, 2))} if teacher else {}
    )
    return Artifact(arrays, {'seed': 4} | ({'teacher': 'the exact score'} if teacher else {}))


def test_points_lie_over_those_of_the_teacher_and_none_is_drawn_outside():
    kept = points('dmd', 'sid')
    kept.arrays['arms']['sid']['sample'][:3] = [[1e9, 0], [np.nan, 0], [0, np.inf]]
    html = samples(kept, 'test', ['dmd', 'sid'])
    assert [len(re.findall('M', path)) for path in re.findall(r'<path d="([^"]*)"', html)] == [9, 9, 9, 6]
    assert 'In grey: the exact score, from the noise that every arm' in html and 'seed 4' in html
    places = np.array(re.findall(r'M([-\d.]+) ([-\d.]+)h0', html), float)
    assert places.min() >= 0 and places.max() <= 200


def test_up_is_up():
    kept = points('dmd', teacher=False)
    kept.arrays['arms']['dmd']['sample'] = np.array([[0.5, 1.0]])
    ((x, y),) = re.findall(r'M([-\d.]+) ([-\d.]+)h0', samples(kept, 'test', ['dmd', 'sid']))
    assert float(x) > 100 > float(y)


def test_pictures_stand_in_a_row_for_each_condition_the_teacher_first():
    label = np.array([8, 0, 8])
    made = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 2, 1), 50, np.uint8)
    arms = {'cfd': {'sample': made, 'sample_4': made}}
    kept = Artifact({'arms': arms, 'label': label, 'teacher': made}, {'seed': 0, 'teacher': 'the prior'})
    html = samples(kept, 'test', arms)
    assert re.findall(r'class="title">([^<]*)<', html) == ['teacher', 'cfd', 'cfd, 4 steps']
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.findall(r'base64,([^"]*)"', html)[1]))))
    assert pixels[::2, ::2].tolist() == [[50] + 7 * [0], [0, 100] + 6 * [0]]


def test_a_page_shows_what_was_kept_and_what_stands_beside_quality():
    made = record('logits/kd')
    for i, arm in enumerate(made['arms'].values()):
        arm['metrics'] |= {'fake_error': [0.1 + i] * 5, 'modes': [8.0] * 5}
        arm['curves']['fake_error'] = [[0.5] * 6] * 5
    page = _page('logits/kd', {}, made)
    html = detail(page, None, lambda shown: points('labels', 'kd') if shown is made else None)
    ids = re.findall(r'<section id="([^"]*)"', html)
    assert ids[:5] == ['claims', 'results', 'samples', 'coverage', 'health']
    results, healthy = (html[html.index(f'id="{a}"') : html.index(f'id="{b}"')] for a, b in (
        ('results', 'samples'), ('health', 'curves')
    ))  # fmt: skip
    assert 'error of the fake score' in healthy and 'of the samples, in units of the noise' in healthy
    assert 'error of the fake score</th>' not in results.partition('<details>')[0]
    assert 'Learning curves of error of the fake score' in html
    assert 'id="samples"' not in detail(page, None, lambda shown: None)
