"""A language whose truth is known: its text has the frequencies that its table says."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.dataset import first_rows
from kdjax.data.markov import markov
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError

SMALL = {'vocabulary': 3, 'order': 2, 'length': 20, 'rows': 4000, 'evaluation_rows': 10}


def test_frequencies_are_the_probabilities():
    """Counts of each context within five standard errors of the binomial."""
    language = markov(**SMALL)
    tokens = language['train']['tokens']
    before, last, after = (tokens[:, i : i + 18].ravel() for i in range(3))
    for context in np.ndindex(3, 3):
        here = (before == context[0]) & (last == context[1])
        found = np.bincount(after[here], minlength=3) / here.sum()
        p = np.exp(language.log_probs[context])
        assert (np.abs(found - p) <= 5 * np.sqrt(p * (1 - p) / here.sum()) + 1e-6).all()


def test_the_truth_is_looked_up_where_enough_is_known():
    language = markov(**SMALL)
    tokens = jnp.asarray([[0, 1, 2, 1]])
    truth = np.asarray(language.truth(tokens))
    np.testing.assert_allclose(np.exp(truth).sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(truth[0, 0], -np.log(3), rtol=1e-6)
    wanted = [language.log_probs[context] for context in ((0, 1), (1, 2), (2, 1))]
    np.testing.assert_array_equal(truth[0, 1:], wanted)


def test_only_what_the_language_says_is_predicted():
    language = markov(**SMALL)
    batch = prepare_text(language['test'].take(np.arange(4)))
    where = np.asarray(batch['where'])
    assert not where[:, :1].any() and where[:, 1:].all()


def test_first_rows_are_those_of_the_whole_and_another_data_set():
    whole = markov(**SMALL)
    part = first_rows(whole, 7)
    np.testing.assert_array_equal(part['train']['tokens'], whole['train']['tokens'][:7])
    assert part['test'] is whole['test'] and part.identity != whole.identity
    with pytest.raises(UserError, match=r"4001 rows of the train split of 'markov-3-2': choose from 1 to 4000"):
        first_rows(whole, 4001)


@pytest.mark.parametrize('wrong', [{'length': 2}, {'rows': 0}, {'order': 0}])
def test_sizes_that_are_none(wrong):
    with pytest.raises(UserError, match='sizes are positive, and rows longer than the order'):
        markov(**(SMALL | wrong))
