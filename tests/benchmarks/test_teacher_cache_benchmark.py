"""The benchmark of teacher caches: what it says of estimates whose errors are known, and that it runs."""

import json
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def script(monkeypatch):
    """The script's names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / 'teacher_cache.py'))


@pytest.fixture
def of(script):
    return script['distributions'].made_up(200, vocabulary=6)


def full(of):
    return jax.nn.softmax(of.student) - jax.nn.softmax(of.teacher)


def relative(of, x):
    """Root mean square of a token's `x`, over that of the full gradient."""
    squares = (np.mean(np.sum(np.asarray(a) ** 2, axis=-1)) for a in (x, full(of)))
    return float(np.sqrt(np.divide(*squares)))


def test_the_full_gradient_has_no_error(script, of):
    measured = script['errors'](of, [full(of)] * 3, unbiased=False)
    assert measured == pytest.approx({'bias': 0, 'noise': 0, 'batch': 0}, abs=1e-6)


def test_a_bias_that_all_tokens_share_stays_in_a_batch(script, of):
    """With one feature that is 1 for all tokens, the embedding's gradient is the mean of the tokens' own."""
    of = type(of)(**vars(of) | {'features': jnp.ones((200, 1))})
    offset = 0.1 * jnp.ones((200, 6))
    measured = script['errors'](of, [full(of) + offset], unbiased=False)
    assert measured['bias'] == pytest.approx(relative(of, offset), rel=1e-4)
    assert measured['batch'] == pytest.approx(relative(of, offset), rel=1e-3)
    assert measured['noise'] == 0


def test_noise_is_no_bias_and_vanishes_in_a_batch(script, of):
    of = type(of)(**vars(of) | {'features': jnp.ones((200, 1))})
    noise = 0.1 * jax.random.normal(jax.random.key(7), (8, 200, 6))
    measured = script['errors'](of, [full(of) + e for e in noise], unbiased=True)
    size = relative(of, 0.1 * jnp.ones((200, 6)))
    assert measured['noise'] == pytest.approx(size, rel=0.05)
    assert measured['bias'] < 0.2 * size
    assert measured['batch'] == pytest.approx(size / script['BATCH'] ** 0.5, rel=0.05)


@pytest.mark.slow
def test_it_runs_and_leaves_a_table_and_a_chart(monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, 'argv', ['teacher_cache.py', '--smoke', '--out', str(tmp_path)])
    runpy.run_path(str(FOLDER / 'teacher_cache.py'), run_name='__main__')
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record['name'] == 'teacher_cache'
    assert record['met'] == {'made_up_48_hybrid_over_sampled': True}
    table = json.loads((tmp_path / 'teacher_cache_table.json').read_text())
    assert {row['name'] for row in table} >= {'top-k, tail bucket', 'sampled', 'hybrid', 'hidden states'}
    assert all(row['bytes'] <= 50 for row in table)
    assert (tmp_path / 'teacher_cache.svg').stat().st_size > 1000
