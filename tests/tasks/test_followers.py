"""What evaluation says of followers and judges, and games whose terms are written by `Terms`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.generators import Langevin, Terms, simulated
from kdjax.algorithms.generators.terms import HEAD
from kdjax.diffusion import Denoiser, Karras
from kdjax.models.model import Outputs, from_functions
from kdjax.objectives import learned
from kdjax.tasks.followers import follower_health, mean_gap

SCHEDULE = Karras(0.002, 80.0)
KEY = jax.random.key(0)


def said_of(classes, fake_deviation, rows=1200):
    """Samples N(class, 0.5^2) in the plane, noised at sigma = 0.6; a follower may believe in another deviation."""
    rng = np.random.default_rng(0)
    label = np.arange(rows) % classes
    sample = label[:, None] + 0.5 * rng.standard_normal((rows, 2))
    again = sample + 0.6 * rng.standard_normal((rows, 2))

    def data(deviation):
        return label[:, None] + deviation**2 / (deviation**2 + 0.36) * (again - label[:, None])

    time = np.full(rows, float(SCHEDULE.time_of_sigma(0.6)), np.float32)
    return {
        'sample': sample, 'label': label, 'again': again, 'again_time': time, 'fake': data(fake_deviation),
        'real': data(1.5), 'discriminator_gap': np.linspace(0, 1, rows),
    }  # fmt: skip


@pytest.mark.parametrize('classes', [1, 3])
def test_a_follower_is_measured_against_samples_of_its_class(classes):
    exact, wrong = (follower_health(said_of(classes, d), SCHEDULE, conditional=True) for d in (0.5, 1.5))
    assert exact['direction_cosine'] > 0.9 > 0.1 > abs(wrong['direction_cosine'])
    assert exact['fake_error'] < 0.5 * wrong['fake_error']
    assert exact['gap_to_teacher'] == pytest.approx(wrong['fake_error'], rel=1e-6)  # the wrong one is the teacher
    assert mean_gap(said_of(classes, 0.5)) == {'discriminator_gap': pytest.approx(0.5)}


def test_without_followers_nothing_is_said():
    assert (
        follower_health({'sample': np.zeros((3, 2)), 'label': np.zeros(3)}, SCHEDULE, conditional=True)
        == mean_gap({})
        == {}
    )


def network():
    """x_t w + c, and its features."""

    def apply(params, inputs):
        x, _, _ = inputs
        return Outputs(x @ params['w'] + params['c'][None], {'bottleneck': jnp.tanh(x @ params['w'])})

    def init(key, example):
        return {'w': 0.3 * jax.random.normal(key, (2, 2)), 'c': jnp.zeros(2)}

    return from_functions(init, apply, name='line')


def denoiser(function, name):
    return Denoiser(lambda *inputs: function(inputs).prediction, SCHEDULE, 'edm', sigma_data=0.5, name=name)


def prepared(batch, *, key, train):
    rows = jnp.ones(len(batch['data']))
    noise = jax.random.normal(key, batch['data'].shape)
    return {**batch, 'noise': noise, 'prior': 80.0 * noise, 'start': rows, 'label': rows.astype(jnp.int32)}


BATCH = {'data': jnp.arange(12.0).reshape(6, 2), 'index': jnp.arange(6)}


def moved(lead, follow, rates=(0.1, 0.1)):
    """Which nodes a step changes, and what it logs."""
    reads = ('batch.prior', 'batch.start', 'batch.label')
    players = {
        'fake': Player(network(), follow, optax.sgd(rates[0]), reads),
        'student': Player(network(), lead, optax.sgd(rates[1]), reads),
    }
    exact = teachers.closed_form(lambda inputs: Outputs(0.1 * inputs[0]))
    algorithm = play(players, teachers={'teacher': exact}, prepare=prepared, turns='in_order')
    state = algorithm.init(KEY, {}, BATCH)
    after, metrics = jax.jit(algorithm.step)(state, {}, BATCH, KEY)
    changed = {
        node: not all(jax.tree.leaves(jax.tree.map(np.array_equal, variables, state['variables'][node])))
        for node, variables in after['variables'].items()
    }
    return changed, metrics


def test_no_term_of_the_generator_trains_the_head_or_the_follower():
    terms = Terms(denoiser)
    lead = terms.divergence_matching() + terms.persuasion()
    changed, _ = moved(lead, learned(HEAD) + terms.denoising())
    assert changed == {'fake': True, 'head': False, 'student': True}
    assert terms.calls(lead) == {'teacher': 1, 'fake': 3}
    assert terms.calls(terms.denoising() + terms.discrimination()) == {'fake': 9}


def test_samples_of_few_steps_and_of_chains_are_made_by_the_generator_itself():
    def made(student, prior, condition, *, key):
        return simulated(lambda *inputs: student(inputs).prediction, prior, condition, SCHEDULE, (1.0, 0.5), key=key)

    terms = Terms(denoiser, ('student()', 'batch.prior', 'batch.label'), made, making=(4, 2))
    lead = terms.distribution_matching() + terms.em_distillation(langevin=Langevin(2, 0.1, 1e-6))
    changed, metrics = moved(lead, terms.denoising(), rates=(0.0, 0.1))
    assert changed == {'fake': False, 'student': True}
    assert all(np.isfinite(value) for value in metrics.values())
    assert terms.calls(lead, own=True, langevin=8) == {'teacher': 9, 'fake': 9, 'student': 24}
