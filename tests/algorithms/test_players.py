"""Players learn from their own objectives, and from nothing else."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import batch, counting, linear_like, mlp, with_statistics

from kdjax import losses, teachers
from kdjax.algorithms import Player, play, supervised
from kdjax.errors import UserError
from kdjax.models.model import Outputs, from_functions
from kdjax.objectives import hard_labels, hint, kl, term

KEY = jax.random.key(3)
BATCH = jax.tree.map(jnp.asarray, batch())
SGD = optax.sgd(0.5)
TEACHER = mlp(16)


@pytest.fixture(scope='module')
def frozen():
    return {'teacher': TEACHER.init(jax.random.key(9), BATCH['image'])}


def trained(algorithm, frozen, steps=1):
    """(first state, last state, metrics of every step)."""
    first = state = jax.jit(algorithm.init)(KEY, frozen, BATCH)
    step, log = jax.jit(algorithm.step), []
    for _ in range(steps):
        state, metrics = step(state, frozen, BATCH, KEY)
        log.append(metrics)
    return first, state, log


def same(a, b) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def close(a, b) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_a_supervised_step_decreases_the_loss():
    _, state, log = trained(supervised(mlp(), hard_labels(), SGD), {}, steps=20)
    measured = [float(m['student/loss']) for m in log]
    assert all(b < a for a, b in itertools.pairwise(measured))
    assert measured[-1] < 0.8 * measured[0]
    assert state['step'] == 20
    assert set(log[0]) == {'student/loss', 'student/hard_labels', 'student/gradient_norm'}


def test_one_step_of_sgd_is_the_gradient_of_the_objective():
    model = mlp()
    first, state, log = trained(supervised(model, hard_labels(), SGD), {})
    params = first['variables']['student']['params']

    def loss(params):
        logits = model.apply({'params': params, 'stats': {}}, BATCH['image'], key=KEY, train=True)[
            0
        ].prediction
        return jnp.mean(losses.cross_entropy(logits, BATCH['label']))

    value, gradient = jax.value_and_grad(loss)(params)
    close(state['variables']['student']['params'], jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient))
    np.testing.assert_allclose(log[0]['student/loss'], value, rtol=1e-6)
    np.testing.assert_allclose(log[0]['student/gradient_norm'], optax.tree.norm(gradient), rtol=1e-5)


def test_a_frozen_teacher_is_in_no_part_of_the_state(frozen):
    algorithm = supervised(mlp(), kl(), optax.adam(0.1), teachers={'teacher': teachers.live(TEACHER)})
    first, state, _ = trained(algorithm, frozen, steps=2)
    assert list(state['variables']) == ['student']
    assert state['memory'] == {'teacher': {}}
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert not shapes & {(4, 16), (16, 3)}, 'a leaf of the teacher is carried along'
    assert not same(first['variables'], state['variables'])


def test_a_teacher_that_nobody_reads_is_never_applied(frozen):
    calls = []
    live = {'teacher': teachers.live(counting(TEACHER, calls, 'teacher'))}
    trained(supervised(mlp(), hard_labels(), SGD, teachers=live), frozen)
    assert calls == []
    trained(supervised(mlp(), kl(), SGD, teachers=live), frozen)
    assert calls == ['teacher']


def test_a_step_traces_the_student_once(frozen):
    calls = []
    objective = hard_labels() + kl() + term(losses.mse_logits, 'student', 'teacher')
    algorithm = supervised(
        counting(mlp(), calls, 's'), objective, SGD, teachers={'teacher': teachers.live(TEACHER)}
    )
    trained(algorithm, frozen, steps=3)
    assert calls == ['s']


def test_learned_parts_are_in_the_state_and_trained(frozen):
    objective = hard_labels() + hint('student.hidden', 'teacher.hidden', projector=linear_like)
    algorithm = supervised(mlp(), objective, optax.adam(0.05), teachers={'teacher': teachers.live(TEACHER)})
    first, state, log = trained(algorithm, frozen, steps=15)
    part = state['variables']['hint_projector']['params']['w']
    assert part.shape == (8, 16), 'sizes come from the shapes of student and teacher'
    assert not same(part, first['variables']['hint_projector']['params']['w'])
    assert log[-1]['student/hint'] < log[0]['student/hint']
    (adam, *_) = state['optimizer']['student']
    assert set(adam.mu) == {'student', 'hint_projector'}


def test_the_student_is_trained_through_its_projector(frozen):
    objective = hint('student.hidden', 'teacher.hidden', projector=linear_like)
    algorithm = supervised(mlp(), objective, SGD, teachers={'teacher': teachers.live(TEACHER)})
    first, state, _ = trained(algorithm, frozen)
    before, after = (s['variables']['student']['params'] for s in (first, state))
    assert not same(before['a'], after['a'])
    assert same(before['b'], after['b']), 'the hint does not read the logits'


def test_a_player_s_objective_never_moves_its_peer():
    """The peer's own objective has no gradient, so nothing may move it."""
    still = 0.0 * hard_labels('peer')
    pair = {
        'student': Player(mlp(), hard_labels() + kl('student', 'peer'), SGD),
        'peer': Player(mlp(16), still, SGD),
    }
    first, state, _ = trained(play(pair), {}, steps=3)
    assert same(first['variables']['peer'], state['variables']['peer'])
    assert not same(first['variables']['student'], state['variables']['student'])


def test_all_players_move_from_the_variables_before_the_step():
    pair = {
        'student': Player(mlp(), hard_labels() + kl('student', 'peer'), SGD),
        'peer': Player(mlp(), hard_labels('peer') + kl('peer', 'student'), SGD),
    }
    first, both, _ = trained(play(pair), {})
    _, turned, _ = trained(play(dict(reversed(pair.items()))), {})
    close(both['variables'], turned['variables'])
    assert not same(first['variables']['peer'], both['variables']['peer'])


def test_mutual_learning_is_symmetric_under_exchange_of_names():
    """Start two players from a and b, then from b and a: the results change places."""

    def pair(student, peer):
        return play(
            {
                'student': Player(mlp(), hard_labels() + kl('student', 'peer'), SGD, start=student),
                'peer': Player(
                    mlp(), hard_labels('peer') + kl('peer', 'student', name='kl'), SGD, start=peer
                ),
            }
        )

    weights = {n: mlp().init(jax.random.key(i), BATCH['image']) for i, n in enumerate('ab')}
    _, ab, _ = trained(pair('a', 'b'), weights, steps=3)
    _, ba, _ = trained(pair('b', 'a'), weights, steps=3)
    close(ab['variables']['student'], ba['variables']['peer'])
    close(ab['variables']['peer'], ba['variables']['student'])
    assert not same(ab['variables']['student'], ab['variables']['peer'])


def judge_model():
    """A discriminator of logits: one score per example."""
    return from_functions(
        lambda key, x: {'w': jax.random.normal(key, (x.shape[-1], 1))}, lambda p, x: x @ p['w'], name='judge'
    )


def fooled(score):
    return jax.nn.softplus(-score)[:, 0]


def caught(score):
    return jax.nn.softplus(score)[:, 0]


def game(student_objective, judge_objective):
    return play(
        {
            'student': Player(mlp(), student_objective, SGD),
            'judge': Player(judge_model(), judge_objective, SGD, reads=('student',)),
        }
    )


def test_in_a_game_the_student_learns_through_the_discriminator_without_training_it():
    first, state, log = trained(game(term(fooled, 'judge'), 0.0 * term(caught, 'judge')), {}, steps=3)
    assert same(first['variables']['judge'], state['variables']['judge'])
    assert not same(first['variables']['student'], state['variables']['student'])
    assert log[-1]['student/fooled'] < log[0]['student/fooled']


def test_in_a_game_the_discriminator_does_not_train_the_student():
    first, state, log = trained(game(0.0 * hard_labels(), term(caught, 'judge')), {}, steps=3)
    assert same(first['variables']['student'], state['variables']['student'])
    assert log[-1]['judge/caught'] < log[0]['judge/caught']


def test_evaluate_returns_the_players_that_read_the_batch():
    algorithm = game(term(fooled, 'judge'), term(caught, 'judge'))
    state = jax.jit(algorithm.init)(KEY, {}, BATCH)
    said = algorithm.evaluate(state, {}, BATCH, KEY)
    assert list(said) == ['student']
    assert said['student'].shape == (6, 3)


def test_batch_statistics_of_the_student_move_and_those_of_the_teacher_do_not():
    student, teacher = with_statistics(mlp()), with_statistics(TEACHER)
    frozen = {'teacher': teacher.init(jax.random.key(9), BATCH['image'])}
    before = jax.tree.map(np.array, frozen)
    algorithm = supervised(student, hard_labels() + kl(), SGD, teachers={'teacher': teachers.live(teacher)})
    _, state, _ = trained(algorithm, frozen, steps=2)
    stats = state['variables']['student']['stats']
    assert stats['batches'] == 2
    np.testing.assert_allclose(stats['mean'], 0.75 * BATCH['image'].mean(0), rtol=1e-5)
    assert same(before, frozen)
    said = algorithm.evaluate(state, frozen, BATCH, KEY)['student']
    alone = algorithm.evaluate(state, frozen, jax.tree.map(lambda a: a[:1], BATCH), KEY)['student']
    close(said[:1], alone)


def test_a_player_starts_from_given_variables():
    weights = {'start': mlp().init(jax.random.key(5), BATCH['image'])}
    state = supervised(mlp(), hard_labels(), SGD, start='start').init(KEY, weights, BATCH)
    assert same(state['variables']['student'], weights['start'])


def test_the_same_draws_whatever_else_is_added(frozen):
    """A teacher, a peer or a projector beside the student change neither its start nor its augmentation."""

    def noisy(batch, *, key, train):
        noise = jax.random.normal(key, batch['image'].shape)
        return {**batch, 'image': batch['image'] + noise if train else batch['image']}

    def student(objective):
        return {'student': Player(mlp(), objective, SGD)}

    live = {'teacher': teachers.live(TEACHER)}
    part = 0.0 * hint('student.hidden', 'teacher.hidden', projector=linear_like)
    alone = play(student(hard_labels()), prepare=noisy)
    crowded = play(
        student(hard_labels() + part) | {'peer': Player(mlp(), hard_labels('peer'), SGD)},
        teachers=live,
        prepare=noisy,
    )
    first, state, log = trained(alone, {}, steps=3)
    first_, state_, log_ = trained(crowded, frozen, steps=3)
    assert same(first['variables']['student'], first_['variables']['student'])
    close(state['variables']['student'], state_['variables']['student'])
    np.testing.assert_allclose(log[-1]['student/hard_labels'], log_[-1]['student/hard_labels'], rtol=1e-5)


def test_augmentation_is_fresh_at_every_step():
    def noisy(batch, *, key, train):
        return {**batch, 'noise': jax.random.normal(key, (6,))}

    algorithm = play(
        {'student': Player(mlp(), 0.0 * hard_labels() + term(lambda n: n, 'batch.noise', name='noise'), SGD)},
        prepare=noisy,
    )
    _, _, log = trained(algorithm, {}, steps=3)
    assert len({float(m['student/noise']) for m in log}) == 3


def test_a_forward_pass_draws_by_name_and_step():
    base = mlp()

    def apply(variables, inputs, *, key, train):
        said, variables = base.apply(variables, inputs, key=key, train=train)
        return Outputs(said.prediction, {'noise': jax.random.normal(key, (len(inputs),))}), variables

    noisy = dataclasses.replace(base, apply=apply)

    def player(name):
        objective = hard_labels(name) + 0.0 * term(lambda noise: noise, f'{name}.noise', name='noise')
        return Player(noisy, objective, SGD)

    pair = play({'student': player('student'), 'peer': player('peer')})
    _, _, log = trained(pair, {}, steps=3)
    assert len({float(m[f'{name}/noise']) for m in log for name in ('student', 'peer')}) == 6


@pytest.mark.parametrize('name', ['batch', 'a.b'])
def test_a_player_cannot_have_the_name_of_an_address(name):
    with pytest.raises(UserError, match=f"'{name}' cannot name a player, teacher or part"):
        play({name: Player(mlp(), hard_labels(name), SGD)})


def test_a_player_and_a_teacher_of_one_name_are_refused():
    with pytest.raises(UserError, match="'student' cannot name"):
        supervised(mlp(), hard_labels(), SGD, teachers={'student': teachers.live(TEACHER)})


def test_a_tap_that_does_not_exist_lists_those_that_do(frozen):
    objective = hint('student.stage9', 'teacher.hidden', projector=linear_like)
    algorithm = supervised(mlp(), objective, SGD, teachers={'teacher': teachers.live(TEACHER)})
    with pytest.raises(UserError, match="unknown tap of 'student' 'stage9'; known: hidden"):
        algorithm.init(KEY, frozen, BATCH)


def test_a_term_called_loss_does_not_hide_the_loss():
    def loss(student):
        return jnp.sum(student**2, axis=-1)

    _, _, log = trained(supervised(mlp(), hard_labels() + 3.0 * term(loss, 'student'), SGD), {})
    assert log[0]['student/loss'] > log[0]['student/hard_labels']
