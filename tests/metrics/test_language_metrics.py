"""Metrics of tokens against hand-computed values."""

import numpy as np
import pytest

from kdjax import metrics
from kdjax.errors import UserError
from kdjax.metrics.language import language


def said(rows=3, length=5, seed=0):
    rng = np.random.default_rng(seed)
    nll = rng.uniform(0, 4, (rows, length)).astype(np.float32)
    return {
        'nll': nll,
        'kl': rng.uniform(0, 1, nll.shape).astype(np.float32),
        'agree': rng.random(nll.shape) < 0.5,
        'hit': rng.random(nll.shape) < 0.5,
        'confidence': rng.uniform(0.1, 1, nll.shape).astype(np.float32),
        'where': rng.random(nll.shape) < 0.7,
    }


def test_four_tokens_by_hand():
    measured = language(
        {
            'nll': np.log(np.array([[2.0, 4.0, 8.0, 1e9]])),
            'kl': np.array([[0.1, 0.2, 0.3, 9.0]]),
            'agree': np.array([[True, True, False, False]]),
            'hit': np.array([[True, False, False, True]]),
            'confidence': np.array([[0.5, 0.5, 0.5, 0.9]]),
            'bytes': np.array([[1, 3, 2, 99]]),
            'where': np.array([[True, True, True, False]]),
        }
    )
    assert measured['nll'] == pytest.approx(2 * np.log(2))
    assert measured['perplexity'] == pytest.approx(4)
    assert measured['bits_per_byte'] == pytest.approx(1)  # 1 + 2 + 3 bits over 6 bytes
    assert measured['kl'] == pytest.approx(0.2)
    assert measured['agreement'] == pytest.approx(2 / 3)
    assert measured['accuracy'] == pytest.approx(1 / 3)
    assert measured['ece'] == pytest.approx(0.5 - 1 / 3)


def test_the_mean_is_over_tokens_whatever_rows_they_stand_in():
    values = said()
    flat = {name: array[values['where']][None] for name, array in values.items()}
    assert language(values) == pytest.approx(language(flat))


def test_what_does_not_count_is_never_read():
    values = said()
    spoilt = {n: np.where(values['where'], a, np.nan) if n != 'where' else a for n, a in values.items()}
    assert language(spoilt) == pytest.approx(language(values))


def test_tokens_are_measured_as_the_examples_of_a_classifier_are():
    rng = np.random.default_rng(1)
    logits, teacher, label = rng.normal(size=(40, 7)), rng.normal(size=(40, 7)), rng.integers(0, 7, 40)
    log_p, log_t = metrics.log_probabilities(logits), metrics.log_probabilities(teacher)
    measured = language(
        {
            'nll': -np.take_along_axis(log_p, label[:, None], 1)[:, 0],
            'kl': (np.exp(log_t) * (log_t - log_p)).sum(1),
            'agree': log_p.argmax(1) == log_t.argmax(1),
            'hit': log_p.argmax(1) == label,
            'confidence': np.exp(log_p.max(1)),
            'where': np.ones(40, bool),
        }
    )
    expected = metrics.classification(logits, label, teacher)
    for ours, theirs in (('nll', 'nll'), ('kl', 'kl_to_teacher'), ('ece', 'ece'), ('accuracy', 'accuracy')):
        assert measured[ours] == pytest.approx(expected[theirs])
    assert measured['agreement'] == pytest.approx(expected['agreement'])


def test_without_a_teacher_there_is_no_divergence():
    values = said()
    del values['kl'], values['agree']
    assert set(language(values)) == {'nll', 'perplexity', 'accuracy', 'ece'}


def test_no_token_is_an_error_that_says_so():
    with pytest.raises(UserError, match=r'no token counts among \[3, 5\]'):
        language(said() | {'where': np.zeros((3, 5), bool)})


def test_a_token_that_is_not_finite_is_named():
    values = said()
    values['kl'][values['where']] = np.nan
    with pytest.raises(UserError, match=r'kl is not finite at .* the model has diverged'):
        language(values)
