"""Objectives read from a line of text: what they compute, and what is said of those that cannot be read."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import total
from kdjax.tasks.objective_text import read_objective
from kdjax.view import View

B, T, D, V = 2, 3, 4, 7
NO_CAPS = (None, None)


def view(seed=0, words=(V, V)):
    draw = [jax.random.normal(key, shape) for key, shape in zip(
        jax.random.split(jax.random.key(seed), 4), [(B, T, D), (words[0], D), (B, T, D), (words[1], D)], strict=True
    )]  # fmt: skip
    said = {
        'student': Outputs(None, {'hidden': draw[0], 'head': draw[1]}),
        'teacher': Outputs(None, {'hidden': draw[2], 'head': draw[3]}),
    }
    batch = {
        'label': jnp.arange(B * T, dtype=jnp.int32).reshape(B, T) % V,
        'where': jnp.array([[True, True, False], [True, False, True]]),
    }
    return View({name: (lambda _, out=out: out) for name, out in said.items()}, batch, 0)


def logits(of):
    return (of[f'{who}.hidden'] @ of[f'{who}.head'].T for who in ('student', 'teacher'))


def value(text, of=None, **options):
    of = of or view()
    return float(total(read_objective(text).objective(**{'softcaps': NO_CAPS, **options})(of)))


def mean(values):
    return float(values[view()['batch.where']].mean())


@pytest.mark.parametrize(
    ('text', 'loss'),
    [
        ('kl_forward', lambda s, t, y: losses.kl_forward(s, t)),
        ('kl_reverse', lambda s, t, y: losses.kl_reverse(s, t)),
        ('labels', lambda s, t, y: losses.cross_entropy(s, y)),
        ('jsd:beta=0.1', lambda s, t, y: losses.generalized_jsd(s, t, beta=0.1)),
        ('kl_forward:temperature=2,t_squared=true', lambda s, t, y: 4 * losses.kl_forward(s, t, temperature=2.0)),
        ('kl_forward:temperature=2', lambda s, t, y: losses.kl_forward(s, t, temperature=2.0)),
        (
            ' kl_reverse:weight=0.25 + labels:0.5',
            lambda s, t, y: 0.25 * losses.kl_reverse(s, t) + 0.5 * losses.cross_entropy(s, y),
        ),
        (
            'kl_forward+kl_reverse:weight=3+labels',
            lambda s, t, y: losses.kl_forward(s, t) + 3 * losses.kl_reverse(s, t) + losses.cross_entropy(s, y),
        ),
    ],
)
def test_an_objective_is_the_sum_that_its_text_says(text, loss):
    of = view()
    assert value(text) == pytest.approx(mean(loss(*logits(of), of['batch.label'])), rel=1e-5)


def test_soft_caps_are_those_of_the_models():
    student, teacher = logits(view())
    expected = losses.kl_forward(2 * jnp.tanh(student / 2), 3 * jnp.tanh(teacher / 3))
    assert value('kl_forward', softcaps=(2.0, 3.0)) == pytest.approx(mean(expected), rel=1e-5)


def test_of_two_vocabularies_the_common_words_are_compared_and_labels_are_of_all():
    of = view(words=(V + 2, V))

    def cut(ours, theirs):
        return ours[:V], theirs

    student, teacher = logits(of)
    expected = losses.kl_forward(student[..., :V], teacher) + 0.5 * losses.cross_entropy(student, of['batch.label'])
    assert value('kl_forward+labels:0.5', of, cut=cut) == pytest.approx(mean(expected), rel=1e-5)


def test_labels_alone_ask_no_teacher():
    assert not read_objective('labels:2').divergences
    assert 'teacher' not in str(read_objective('labels').objective(softcaps=NO_CAPS).addresses)


def test_terms_are_called_what_was_written():
    names = [term.name for term in read_objective('jsd:beta=0.5,weight=2+kl_reverse+labels').objective(
        softcaps=NO_CAPS).terms]  # fmt: skip
    assert names == ['jsd:beta=0.5+labels', 'kl_reverse']


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('kl', "unknown divergence of the objective 'kl' 'kl'"),
        ('', "known: jsd, kl_forward, kl_reverse, labels, skew_kl, skew_kl_reverse, total_variation"),
        ('kl_forward:beta=0.5', "unknown parameter of 'kl_forward' in the objective 'kl_forward:beta=0.5' 'beta'"),
        ('jsd:beta=1.5', "objective 'jsd:beta=1.5': beta is 1.5"),
        ('jsd:beta=0', "objective 'jsd:beta=0': beta is 0.0: this close to 0 or 1"),
        ('skew_kl:alpha=-1', "objective 'skew_kl:alpha=-1': alpha is -1.0"),
        ('jsd:convention=theirs', 'convention'),
        ('kl_forward:temperature=0', "objective 'kl_forward:temperature=0': temperature is 0: it has to be positive"),
        ('kl_forward:temperature=hot', "temperature is 'hot', which is no number"),
        ('kl_forward:temperature=nan', 'temperature is nan: it has to be positive'),
        ('kl_forward:t_squared=1', 't_squared=1: give true or false'),
        ('kl_forward+labels:-1', 'labels is -1: it has to be positive'),
        ('kl_forward:weight', "'weight' is not weight=VALUE, once"),
        ('jsd:beta=0.1,beta=0.2', "'beta=0.2' is not beta=VALUE, once"),
        ('labels+labels', 'labels stand there twice'),
        ('kl_forward+kl_forward:weight=2', "'kl_forward' stands twice in one objective"),
    ],
)
def test_what_cannot_be_read_is_named(text, said):
    with pytest.raises(UserError, match=re.escape(said)):
        read_objective(text)


def test_gradients_reach_the_student_alone():
    of = view()

    def loss(*arrays):
        taps = [{'hidden': arrays[i], 'head': arrays[i + 1]} for i in (0, 2)]
        outputs = {name: Outputs(None, t) for name, t in zip(('student', 'teacher'), taps, strict=True)}
        nodes = {name: (lambda _, out=out: out) for name, out in outputs.items()}
        objective = read_objective('skew_kl:alpha=0.1+labels:0.1').objective(softcaps=NO_CAPS)
        return total(objective(View(nodes, of.batch, 0)))

    arrays = [of[f'{who}.{tap}'] for who in ('student', 'teacher') for tap in ('hidden', 'head')]
    sizes = [float(jnp.abs(g).max()) for g in jax.grad(loss, argnums=(0, 1, 2, 3))(*arrays)]
    assert np.all(np.array(sizes[:2]) > 0) and sizes[2:] == [0, 0]
