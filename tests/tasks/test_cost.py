"""What a game costs is counted from who reads whom, how often they move, and what they say they call."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest
from tiny import mlp

from kdjax.algorithms import Player
from kdjax.errors import UserError
from kdjax.models.count import forward_flops
from kdjax.objectives import hard_labels, kl, term
from kdjax.tasks.cost import check_calls, cost
from kdjax.tasks.task import Bound
from kdjax.teachers import cached

EXAMPLE = jax.ShapeDtypeStruct((2, 2, 2, 1), jnp.float32)
SEEN = 10
STUDENT, PEER, TEACHER = mlp(8), mlp(16), mlp(32)
BOUND = {'teacher': Bound(cached(), {}, (TEACHER,), cache_bytes=7), 'judge': Bound(cached(), {}, (mlp(64),))}
F = {name: forward_flops(model, EXAMPLE) for name, model in (('s', STUDENT), ('p', PEER), ('t', TEACHER))}
SGD = optax.sgd(0.1)


def called(*reads):
    return term(lambda *given: given[0], *reads)


def pair(student, peer, **peer_options):
    return {'student': Player(STUDENT, student, SGD), 'peer': Player(PEER, peer, SGD, **peer_options)}


def counted(players, **options):
    return cost(players, BOUND, EXAMPLE, SEEN, **options)


def test_players_that_move_once_share_their_passes():
    found = counted(pair(kl() + kl('student', 'peer', name='b'), kl('peer', 'student') + kl('peer', name='b')))
    assert found['student_flops'] == SEEN * 3 * (F['s'] + F['p'])
    assert found['teacher_flops'] == SEEN * F['t'] and found['teacher_queries'] == SEEN
    assert found['forward_flops'] == F['s'] and found['cache_bytes'] == 7


def test_every_move_costs_its_own_passes():
    """A peer that moves five times makes the student's prediction and the teacher's anew each time."""
    found = counted(pair(kl(), kl('peer', 'student') + kl('peer', name='b'), moves=5))
    assert found['student_flops'] == SEEN * (3 * F['s'] + 5 * F['s'] + 5 * 3 * F['p'])
    assert found['teacher_flops'] == SEEN * (1 + 5) * F['t']


def test_in_order_a_later_player_reads_new_variables():
    players = pair(hard_labels(), kl('peer', 'student'))
    extra = counted(players, turns='in_order')['student_flops'] - counted(players)['student_flops']
    assert extra == SEEN * F['s']
    turned = dict(reversed(players.items()))
    assert counted(turned, turns='in_order') == counted(turned)


def test_calls_are_counted_as_they_are_stated():
    """DMD2: the fake score follows five times, the generator asks both scores once."""
    players = pair(called('student', 'teacher()', 'peer()'), called('student', 'peer()'), moves=5, calls={'peer': 3})
    players['student'] = dataclasses.replace(players['student'], calls={'peer': 1, 'teacher': 1})
    check_calls(players, BOUND)
    found = counted(players)
    assert found['student_flops'] == SEEN * ((3 + 5) * F['s'] + (5 * 3 + 1) * F['p'])
    assert found['teacher_flops'] == SEEN * F['t'] and found['teacher_queries'] == SEEN


def test_calls_that_nobody_states_are_refused():
    players = pair(called('student', 'peer()'), hard_labels('peer'))
    with pytest.raises(UserError, match=r"player 'student' calls 'peer\(\)' and does not say how often: give"):
        check_calls(players, BOUND)


def test_calls_of_nobody_are_refused():
    players = pair(hard_labels(), hard_labels('peer'), calls={'pear': 1})
    with pytest.raises(UserError, match="unknown network that player 'peer' calls 'pear'; did you mean 'peer'"):
        check_calls(players, BOUND)
