"""Games: networks as functions, several moves in a step, turns; against loops written out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import with_statistics

from kdjax import teachers
from kdjax.algorithms import Player, first_tokens, play, written
from kdjax.algorithms.algorithm import Execution
from kdjax.decoding import LanguageModel
from kdjax.errors import UserError
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.models.model import from_functions
from kdjax.objectives import Part, learned, term
from kdjax.streams import stream

KEY = jax.random.key(7)
WIDTH = 3
BATCH = {'index': jnp.arange(4, dtype=jnp.int32)}
RATE, FOLLOWER_RATE = 0.02, 0.01


def linear(name='linear'):
    return from_functions(
        lambda key, x: {'w': jax.random.normal(key, (x.shape[-1], WIDTH))}, lambda p, x: x @ p['w'], name=name
    )


def drawn(batch, *, key, train):
    """The generator's noise: what `prepare` makes anew at every move."""
    return {**batch, 'z': jax.random.normal(key, (len(batch['index']), WIDTH))}


def follows(x, follower, *, key):
    """A regression of the follower on noised samples, which are constants to it."""
    x = jax.lax.stop_gradient(x)
    noise = jax.random.normal(key, x.shape)
    return jnp.sum((follower(x + noise).prediction - x) ** 2, axis=-1)


def leads(x, teacher, follower):
    """Gradients reach x through both networks."""
    return jnp.sum((teacher(x).prediction - follower(x).prediction) * (x - follower(x).prediction), axis=-1)


TEACHER = linear()
FROZEN = {'teacher': {'params': {'w': 0.5 * jnp.eye(WIDTH)}, 'stats': {}}}


def game(*, moves=(3, 1), turns='together', average=False, accumulate=1, optimizers=None):
    fast, slow = optimizers or (optax.sgd(FOLLOWER_RATE, momentum=0.9), optax.sgd(RATE))
    players = {
        'follower': Player(
            linear(), term(follows, 'generator', 'follower()'), fast, reads=('batch.z',), moves=moves[0]
        ),
        'generator': Player(
            linear(), term(leads, 'generator', 'teacher()', 'follower()'), slow, reads=('batch.z',), moves=moves[1]
        ),
    }
    sources = {'teacher': teachers.live(TEACHER, reads='batch.z')}
    if average:
        sources['average'] = teachers.ema(linear(), of='generator', decay=0.5, reads='batch.z')
    execution = Execution(accumulate=accumulate)
    return play(players, teachers=sources, prepare=drawn, turns=turns, execution=execution)


def played(algorithm, steps, state=None):
    state = jax.jit(algorithm.init)(KEY, FROZEN, BATCH) if state is None else state
    step, log = jax.jit(algorithm.step), []
    for _ in range(steps):
        state, metrics = step(state, FROZEN, BATCH, KEY)
        log.append(metrics)
    return state, log


def same(a, b) -> bool:
    equal = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(jax.tree.leaves(equal))


def by_hand(steps, moves, turns):
    """The same game in a loop of NumPy-like lines; also the follower's mean loss in each step."""
    state = jax.jit(game().init)(KEY, FROZEN, BATCH)
    follower, generator = (state['variables'][n]['params']['w'] for n in ('follower', 'generator'))
    momentum, losses = jnp.zeros_like(follower), []
    teacher = FROZEN['teacher']['params']['w']
    for step in range(steps):
        frozen_generator, frozen_follower, seen = generator, follower, []
        for move in range(moves[0]):
            key = stream(KEY, 'move', move) if moves[0] > 1 else KEY
            x = jax.random.normal(stream(key, 'prepare', step), (4, WIDTH)) @ frozen_generator
            noise = jax.random.normal(stream(stream(key, 'follower/objective', step), 'follows'), x.shape)
            error = (x + noise) @ follower - x
            seen.append(jnp.mean(jnp.sum(error**2, axis=-1)))
            momentum = 0.9 * momentum + 2 / 4 * (x + noise).T @ error
            follower = follower - FOLLOWER_RATE * momentum
        if turns == 'in_order':
            frozen_follower = follower
        for move in range(moves[1]):
            key = stream(KEY, 'move', move) if moves[1] > 1 else KEY
            z = jax.random.normal(stream(key, 'prepare', step), (4, WIDTH))

            def loss(generator, z=z, f=frozen_follower):
                x = z @ generator
                return jnp.mean(jnp.sum((x @ teacher - x @ f) * (x - x @ f), axis=-1))

            generator = generator - RATE * jax.grad(loss)(generator)
        losses.append(sum(seen) / len(seen))
    return follower, generator, losses


@pytest.mark.parametrize(
    ('moves', 'turns'), [((3, 1), 'together'), ((3, 1), 'in_order'), ((1, 2), 'in_order')]
)
def test_a_game_is_the_loop_written_by_hand(moves, turns):
    state, log = played(game(moves=moves, turns=turns), 3)
    follower, generator, losses = by_hand(3, moves, turns)
    np.testing.assert_allclose(state['variables']['follower']['params']['w'], follower, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(state['variables']['generator']['params']['w'], generator, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose([m['follower/loss'] for m in log], losses, rtol=1e-6)
    assert state['step'] == 3


def test_a_step_with_moves_is_one_program():
    traced = jax.make_jaxpr(game(moves=(5, 1)).step)(
        game().init(KEY, FROZEN, BATCH), FROZEN, BATCH, KEY
    )
    scans = [e for e in traced.eqns if e.primitive.name == 'scan']
    assert [e.params['length'] for e in scans] == [5]


def test_a_game_goes_on_bit_for_bit():
    """All that a game knows is in its state: through host arrays and back, in a program compiled anew."""
    adam = optax.adam(0.05), optax.adam(0.01)
    algorithm = game(average=True, turns='in_order', optimizers=adam)
    half, _ = played(algorithm, 2)
    kept = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half)
    whole, log = played(algorithm, 2, half)
    resumed, rest = played(game(average=True, turns='in_order', optimizers=adam), 2, kept)
    assert same(whole, resumed)
    assert same(log, rest)


def test_an_average_moves_once_a_step_from_the_last_variables():
    algorithm = game(moves=(1, 3), average=True)
    first, _ = played(algorithm, 0)
    after, _ = played(algorithm, 1)
    start, end = (s['variables']['generator']['params']['w'] for s in (first, after))
    np.testing.assert_allclose(after['memory']['average']['params']['w'], 0.5 * start + 0.5 * end, rtol=1e-6)


def test_a_function_sends_gradients_to_its_inputs_and_none_to_its_variables():
    """The generator is moved through the follower, which its objective does not move."""

    def still(x, follower):
        return 0.0 * jnp.sum(x**2, axis=-1)

    players = {
        'follower': Player(linear(), term(still, 'generator', 'follower()'), optax.sgd(1.0), reads=('batch.z',)),
        'generator': Player(
            linear(),
            term(lambda x, f: jnp.sum(f(x).prediction, axis=-1), 'generator', 'follower()', name='pushed'),
            optax.sgd(1.0),
            reads=('batch.z',),
        ),
    }
    algorithm = play(players, prepare=drawn)
    first, _ = played(algorithm, 0)
    after, _ = played(algorithm, 1)
    assert same(first['variables']['follower'], after['variables']['follower'])
    z = jax.random.normal(stream(KEY, 'prepare', 0), (4, WIDTH))
    pulled = jnp.sum(first['variables']['follower']['params']['w'], axis=1)
    expected = jnp.mean(z, axis=0)[:, None] * pulled[None]
    moved = first['variables']['generator']['params']['w'] - after['variables']['generator']['params']['w']
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


def test_a_player_s_own_function_is_differentiated_in_its_variables():
    state, _ = played(game(), 1)
    first, _ = played(game(), 0)
    assert not same(state['variables']['follower'], first['variables']['follower'])


def test_a_learned_part_moves_with_its_player_at_every_move():
    """A critic that the follower's objective brings along, read and called."""
    part = Part('critic', lambda x: linear('critic'), ('follower',))
    rates = optax.sgd(0.1)

    def judged(said, critic, x):
        return jnp.sum((said - 1) ** 2 + (critic(x).prediction - 1) ** 2, axis=-1)

    def algorithm(moves):
        objective = learned(part) + term(judged, 'critic', 'critic()', 'batch.z')
        return play({'follower': Player(linear(), objective, rates, reads=('batch.z',), moves=moves)}, prepare=drawn)

    state = jax.jit(algorithm(4).init)(KEY, FROZEN, BATCH)
    after, _ = jax.jit(algorithm(4).step)(state, FROZEN, BATCH, KEY)
    expected = {n: v['params']['w'] for n, v in state['variables'].items()}
    for move in range(4):
        z = jax.random.normal(stream(stream(KEY, 'move', move), 'prepare', 0), (4, WIDTH))

        def loss(w, z=z):
            return jnp.mean(judged(z @ w['follower'] @ w['critic'], lambda x: Said(x @ w['critic']), z))

        expected = jax.tree.map(lambda w, g: w - 0.1 * g, expected, jax.grad(loss)(expected))
    for name, w in expected.items():
        np.testing.assert_allclose(after['variables'][name]['params']['w'], w, rtol=1e-5, atol=1e-6)


@dataclasses.dataclass
class Said:
    prediction: jax.Array


def test_accumulation_is_the_whole_batch_at_once_at_every_move():
    def quiet(x, follower):
        return jnp.sum((follower(x).prediction - 2 * x) ** 2, axis=-1)

    def algorithm(parts):
        follower = Player(linear(), term(quiet, 'batch.z', 'follower()'), optax.sgd(0.1), reads=('batch.z',), moves=3)
        return play({'follower': follower}, prepare=drawn, execution=Execution(accumulate=parts))

    (whole, log), (parts, logged) = played(algorithm(1), 2), played(algorithm(2), 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (whole, log), (parts, logged))


def test_every_move_term_and_player_draws_for_itself():
    def draws(x, *, key):
        return 0.0 * jnp.sum(x, axis=-1) + jax.random.normal(key, (len(x),))

    def player(moves):
        objective = term(draws, 'batch.z', name='one') + term(draws, 'batch.z', name='two')
        return Player(linear(), objective, optax.sgd(0.0), reads=('batch.z',), moves=moves)

    _, log = played(play({'a': player(1), 'b': player(1), 'c': player(2)}, prepare=drawn), 2)
    said = [float(m[f'{p}/{t}']) for m in log for p in 'abc' for t in ('one', 'two')]
    assert len(set(said)) == len(said)


def test_teachers_that_answer_about_any_inputs():
    x = jnp.ones((2, WIDTH))
    member = FROZEN['teacher']
    kinds = {
        'live': (teachers.live(TEACHER), FROZEN, {}),
        'ensemble': (teachers.ensemble({'teacher': TEACHER}), FROZEN, {}),
        'ema': (teachers.ema(TEACHER), {}, member),
        'closed_form': (teachers.closed_form(lambda x: TEACHER.apply(member, x, key=KEY, train=False)[0]), {}, {}),
    }
    for name, (teacher, frozen, memory) in kinds.items():
        said = teacher.function(memory, frozen, x, key=KEY).prediction
        expected = jax.nn.log_softmax(0.5 * x) if name == 'ensemble' else 0.5 * x
        np.testing.assert_allclose(said, expected, rtol=1e-6)


def test_a_key_changes_what_a_function_draws():
    def apply(variables, x, *, key, train):
        said, variables = TEACHER.apply(variables, x, key=key, train=train)
        return dataclasses.replace(said, prediction=said.prediction + jax.random.normal(key, x.shape)), variables

    noisy = dataclasses.replace(TEACHER, apply=apply)
    other = jax.random.key(1)

    def compared(x, teacher):
        usual, again, keyed = (teacher(x).prediction, teacher(x).prediction, teacher(x, key=other).prediction)
        return jnp.stack([usual - again, usual - keyed], axis=1).sum((0, 2))

    algorithm = play(
        {'student': Player(linear(), term(lambda x, t: compared(x, t)[:1], 'student', 'teacher()', name='same')
            + term(lambda x, t: compared(x, t)[1:], 'student', 'teacher()', name='other'),
            optax.sgd(0.0), reads=('batch.z',))},
        teachers={'teacher': teachers.live(noisy, reads='batch.z')}, prepare=drawn,
    )  # fmt: skip
    _, log = played(algorithm, 1)
    assert log[0]['student/same'] == 0.0
    assert abs(log[0]['student/other']) > 0.1


REFUSED = {
    'no moves': (lambda: game(moves=(0, 1)), r"player 'follower' has moves=0: at least 1; who stands still"),
    'unknown turns': (lambda: game(turns='by turns'), "unknown turns 'by turns'; known: in_order, together"),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        make()


def test_moves_of_a_rolled_out_batch_are_refused():
    words = DecoderConfig(3, 4, 1, 1, 4, context=4, tied=False)
    writer = LanguageModel(decoder(words), words)
    player = Player(writer.model, term(follows, 'a', 'a()'), optax.sgd(0.1), ('batch.tokens',), moves=2)
    with pytest.raises(UserError, match='moves=2 and the batch is rolled out, once a step: leave moves at 1'):
        play({'a': player}, rollout=written({'a': writer}, first_tokens(2)))


def test_a_called_network_with_statistics_is_refused():
    model = with_statistics(linear())
    player = Player(model, term(follows, 'batch.z', 'a()'), optax.sgd(0.1), reads=('batch.z',))
    algorithm = play({'a': player}, prepare=drawn)
    state = algorithm.init(KEY, {}, BATCH)
    with pytest.raises(UserError, match=r"'a\(\)' has statistics that a forward pass moves, and calls leave none"):
        algorithm.step(state, {}, BATCH, KEY)


def test_a_term_that_draws_needs_a_view_with_a_key():
    from kdjax.view import View

    with pytest.raises(UserError, match="term 'follows' draws, and this view has no key"):
        term(follows, 'batch.z', 'batch.z')(View({}, {'z': jnp.ones((2, 3))}, 0))
