"""What is measured of tokens from hidden states, against the same from whole logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import metrics
from kdjax.models.model import Outputs
from kdjax.tasks import measuring
from kdjax.view import View

B, T = 3, 4


def view(words=(7, 7), seed=0, **fields):
    keys = jax.random.split(jax.random.key(seed), 4)
    taps = [
        {'hidden': jax.random.normal(a, (B, T, 5)), 'head': jax.random.normal(b, (n, 5))}
        for a, b, n in zip(keys[::2], keys[1::2], words, strict=True)
    ]
    nodes = {n: (lambda _, t=t: Outputs(None, t)) for n, t in zip(('student', 'teacher'), taps, strict=True)}
    label = jnp.asarray(np.random.default_rng(seed).integers(0, min(words), (B, T)), jnp.int32)
    where = jnp.asarray(np.random.default_rng(seed + 1).random((B, T)) < 0.7)
    return View(nodes, {'label': label, 'where': where, **fields}, 0)


def logits(of, who):
    return np.asarray(of[f'{who}.hidden'] @ of[f'{who}.head'].T)[np.asarray(of['batch.where'])]


@pytest.mark.parametrize('at_once', [1, 7 * 5, 10**6], ids=['one token', 'five tokens', 'all'])
def test_they_are_those_of_whole_logits(at_once, monkeypatch):
    monkeypatch.setattr(measuring, 'LOGITS_AT_ONCE', at_once)
    of = view()
    said = {name: np.asarray(values) for name, values in measuring.token_measures(of).items()}
    found = measuring.measured(said)
    student, teacher, label = logits(of, 'student'), logits(of, 'teacher'), of['batch.label'][of['batch.where']]
    expected = metrics.classification(student, label, teacher)
    for name, theirs in {'nll': 'nll', 'accuracy': 'accuracy', 'ece': 'ece', 'kl': 'kl_to_teacher'}.items():
        assert found[name] == pytest.approx(expected[theirs], rel=1e-5)
    assert found['agreement'] == pytest.approx(expected['agreement'])
    assert found['teacher_nll'] == pytest.approx(metrics.nll(teacher, label), rel=1e-5)
    assert found['teacher_ece'] == pytest.approx(metrics.ece(teacher, label), rel=1e-5)
    assert found['teacher_perplexity'] == pytest.approx(np.exp(found['teacher_nll']))


def test_a_student_that_is_its_teacher_agrees_everywhere():
    of = view()
    both = View({n: (lambda _: of.outputs('student')) for n in ('student', 'teacher')}, of.batch, 0)
    said = {name: np.asarray(values) for name, values in measuring.token_measures(both).items()}
    assert np.abs(said['kl']).max() < 1e-6 and said['agree'].all()
    np.testing.assert_array_equal(said['nll'], said['teacher_nll'])


def test_caps_bend_logits():
    of = view()
    said = measuring.token_measures(of, softcaps=(0.5, None))
    plain = measuring.token_measures(of)
    assert float(said['confidence'].max()) < np.exp(0.5) / (np.exp(0.5) + 6 * np.exp(-0.5))
    np.testing.assert_array_equal(said['teacher_nll'], plain['teacher_nll'])


def test_words_that_one_of_them_lacks_are_in_no_divergence():
    of = view(words=(9, 7))
    said = measuring.token_measures(of, vocab='pad')
    kept = np.asarray(of['batch.where'])
    student, teacher = logits(of, 'student'), logits(of, 'teacher')
    expected = metrics.kl_to_teacher(student[:, :7], teacher)
    assert np.asarray(said['kl'])[kept].mean() == pytest.approx(expected, rel=1e-5)
    nll = metrics.nll(student, of['batch.label'][of['batch.where']])
    assert np.asarray(said['nll'])[kept].mean() == pytest.approx(nll, rel=1e-5)


def test_a_teacher_in_its_own_ids():
    turned = jnp.array([3, 1, 2, 0, 6, 5, 4])
    of = view()
    theirs = {'hidden': of['teacher.hidden'], 'head': of['teacher.head'][jnp.argsort(turned)]}
    other = View(
        {'student': lambda _: of.outputs('student'), 'teacher': lambda _: Outputs(None, theirs)},
        {**of.batch, 'teacher_label': turned[of['batch.label']]}, 0,
    )  # fmt: skip
    said = measuring.token_measures(other, vocab='intersect', ids=(jnp.arange(7), turned))
    for name, values in measuring.token_measures(of).items():
        np.testing.assert_allclose(said[name], values, rtol=1e-5, atol=1e-6)
