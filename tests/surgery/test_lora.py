"""Adapters, and models of which a part is trained: the same function at the start, and nothing else moves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import batch, mlp, with_statistics

from kdjax import surgery
from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.errors import UserError
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.models.model import under
from kdjax.objectives import hard_labels, term
from kdjax.surgery.freezing import joined, paths, split

KEY = jax.random.key(0)
CONFIG = DecoderConfig(vocabulary=13, width=8, depth=1, heads=2, kv_heads=1, hidden=12, context=16)
STUDENT = decoder(CONFIG)
TOKENS = jax.random.randint(jax.random.key(1), (2, 6), 0, 13)
ATTENTION = r'attention/[qv]/kernel'


@pytest.fixture(scope='module')
def base():
    return jax.jit(STUDENT.init)(KEY, TOKENS)


def said(model, variables):
    return jax.jit(lambda v: model.apply(v, TOKENS, key=KEY, train=False)[0].prediction)(variables)


def drawn(variables):
    """Adapters that are not zero."""
    noise = jax.tree.map(lambda x: 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), variables['params'])
    return variables | {'params': noise}


class TestAdapters:
    @pytest.mark.parametrize('targets', [r'kernel$', ATTENTION])
    def test_the_same_function_at_the_start(self, base, targets):
        model = surgery.lora(STUDENT, rank=3, targets=targets)
        start = surgery.adapted(base, key=KEY, rank=3, targets=targets)
        np.testing.assert_array_equal(said(model, start), said(STUDENT, base))

    def test_merged_is_adapted(self, base):
        model = surgery.lora(STUDENT, rank=3, alpha=6.0)
        moved = drawn(surgery.adapted(base, key=KEY, rank=3))
        plain = jax.jit(lambda v: surgery.merged(v, alpha=6.0))(moved)
        np.testing.assert_allclose(said(model, moved), said(STUDENT, plain), atol=1e-6)
        assert np.max(np.abs(said(model, moved) - said(STUDENT, base))) > 1e-2
        assert jax.tree.structure(plain) == jax.tree.structure(base)

    def test_a_target_is_corrected_by_the_scaled_product_and_the_rest_is_not(self, base):
        moved = drawn(surgery.adapted(base, key=KEY, rank=3, targets=ATTENTION))
        before, after = (paths(v['params']) for v in (base, surgery.merged(moved, alpha=6.0)))
        for path, adapter in {p.rsplit('/', 1)[0]: None for p in paths(moved['params'])}.items():
            adapter = [paths(moved['params'])[f'{path}/{side}'] for side in 'ab']
            np.testing.assert_allclose(after.pop(path), before.pop(path) + 2 * adapter[0] @ adapter[1], atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, after, before)
        assert len(before) == len(paths(base['params'])) - 2

    def test_sizes(self, base):
        found = {p: a.shape for p, a in paths(surgery.adapted(base, key=KEY, rank=3)['params']).items()}
        assert found['blocks/0/attention/k/kernel/a'] == (8, 3)
        assert found['blocks/0/attention/k/kernel/b'] == (3, 4)
        assert len(found) == 2 * 7

    def test_computed_in_another_way_it_is_the_same(self, base):
        model = surgery.lora(STUDENT, rank=3)
        moved = drawn(surgery.adapted(base, key=KEY, rank=3))
        np.testing.assert_allclose(said(under(model, remat=True), moved), said(model, moved), atol=1e-6)
        half = said(under(model, dtype='bfloat16'), moved)
        np.testing.assert_allclose(half, said(model, moved), atol=0.1)

    def test_adapters_are_split_like_their_matrices(self):
        rules = surgery.lora(STUDENT, rank=2).rules
        assert (r'attention/[qkv]/kernel/b', (None, 'tensor')) in rules
        assert (r'attention/out/kernel/a', ('tensor', None)) in rules
        assert set(STUDENT.rules) <= set(rules)

    def test_statistics_of_the_model_inside_are_updated(self):
        model = with_statistics(mlp())
        image = jnp.asarray(batch()['image'])
        plain = model.init(KEY, image)
        adapted = surgery.adapted(plain, key=KEY, rank=1, targets='[ab]$')
        _, after = surgery.lora(model, rank=1).apply(adapted, image, key=KEY, train=True)
        _, wanted = model.apply(plain, image, key=KEY, train=True)
        jax.tree.map(np.testing.assert_array_equal, surgery.merged(after)['stats'], wanted['stats'])


class TestParts:
    def test_divided_is_whole(self, base):
        parts = surgery.divided(base, 'norm')
        assert all('norm' in path for path in paths(parts['params']))
        jax.tree.map(np.testing.assert_array_equal, surgery.whole(parts), base)
        np.testing.assert_array_equal(said(surgery.train_only(STUDENT, 'norm'), parts), said(STUDENT, base))

    def test_split_and_joined(self):
        tree = {'a': {'b': 1, 'c': 2}, 'd': {'b': 3}}
        found, rest = split(tree, 'b$')
        assert (found, rest) == ({'a': {'b': 1}, 'd': {'b': 3}}, {'a': {'c': 2}})
        assert joined(found, rest) == tree


def next_words(logits, tokens, *, where=None):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]


WRAPPED = {
    'lora': (surgery.lora(STUDENT, rank=2), lambda v: surgery.adapted(v, key=KEY, rank=2)),
    'norms': (surgery.train_only(STUDENT, 'norm'), lambda v: surgery.divided(v, 'norm')),
}


@pytest.mark.parametrize('kind', WRAPPED)
@pytest.mark.parametrize('parts', [1, 2])
def test_training_moves_the_trained_leaves_alone(base, kind, parts):
    """As a player of an unchanged algorithm; the optimizer knows of nothing else."""
    model, started = WRAPPED[kind]
    objective = term(next_words, 'student', 'batch.image')
    algorithm = supervised(model, objective, optax.adam(1e-2), start='start', held='held')
    algorithm = executed(algorithm, Execution(accumulate=parts))
    begun = started(base)
    frozen, data = {'start': begun, 'held': begun['held']}, {'image': TOKENS}
    state = jax.jit(algorithm.init)(KEY, frozen, data)
    trained = sum(x.size for x in jax.tree.leaves(begun['params']))
    assert sum(x.size for x in jax.tree.leaves(state['variables'])) == trained, 'held weights are in no state'
    moments = [x for x in jax.tree.leaves(state['optimizer']) if x.ndim]
    assert sum(x.size for x in moments) == 2 * trained < 2 * sum(x.size for x in jax.tree.leaves(base['params']))
    values = []
    step = jax.jit(algorithm.step)
    for _ in range(6):
        state, metrics = step(state, frozen, data, KEY)
        values.append(float(metrics['student/loss']))
    assert values[-1] < values[0] - 1e-3
    after = state['variables']['student']
    assert set(after) == {'params', 'stats'}
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after['params'], begun['params'])
    assert all(jax.tree.leaves(changed))


def test_the_gradient_of_adapters_is_that_of_the_matrices_they_correct(base):
    """dA = s dW B^T and dB = s A^T dW."""
    moved = drawn(surgery.adapted(base, key=KEY, rank=3, targets=ATTENTION))

    def loss(variables):
        return jnp.sum(next_words(STUDENT.apply(variables, TOKENS, key=KEY, train=True)[0].prediction, TOKENS))

    got = jax.jit(jax.grad(lambda p: loss(surgery.merged(moved | {'params': p}, alpha=6.0))))(moved['params'])
    whole = jax.jit(jax.grad(loss))(surgery.merged(moved, alpha=6.0))['params']
    for path, dw in paths(split(whole, ATTENTION)[0]).items():
        a, b = (paths(moved['params'])[f'{path}/{side}'] for side in 'ab')
        np.testing.assert_allclose(paths(got)[f'{path}/a'], 2 * dw @ b.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(paths(got)[f'{path}/b'], 2 * a.T @ dw, rtol=1e-4, atol=1e-4)


def test_a_student_of_images():
    """Whatever the model: nothing in it knows of adapters."""
    model, data = surgery.lora(mlp(), rank=2, targets='^a$'), jax.tree.map(jnp.asarray, batch())
    frozen = {'base': mlp().init(jax.random.key(5), data['image'])['params']}
    algorithm = supervised(model, hard_labels(), optax.sgd(0.1), held='base')
    state = jax.jit(algorithm.init)(KEY, frozen, data)
    first = algorithm.evaluate(state, frozen, data, KEY)['student']
    plain = mlp().apply({'params': frozen['base'], 'stats': {}}, data['image'], key=KEY, train=False)[0].prediction
    np.testing.assert_array_equal(first, plain)
    after, _ = jax.jit(algorithm.step)(state, frozen, data, KEY)
    assert not np.array_equal(algorithm.evaluate(after, frozen, data, KEY)['student'], plain)


def test_held_weights_are_split_like_those_of_the_model():
    model = surgery.lora(STUDENT, rank=2)
    rules = supervised(model, hard_labels(), optax.sgd(0.1), held='base').frozen_rules
    path = 'base/blocks/0/attention/q/kernel'
    assert [axes for pattern, axes in rules if re.search(pattern, path)] == [(None, 'tensor')]


def test_weights_that_nobody_trains_are_not_left_in_the_state():
    algorithm = supervised(surgery.lora(mlp(), rank=2, targets='^a$'), hard_labels(), optax.sgd(0.1))
    with pytest.raises(UserError, match="player 'student' holds weights that are not trained: put them into `frozen`"):
        algorithm.init(KEY, {}, batch())


REFUSED = {
    'no target': (
        lambda v: surgery.adapted(v, key=KEY, rank=2, targets='lstm'),
        "targets='lstm' finds no weight, among blocks/0/",
    ),
    'a vector': (
        lambda v: surgery.adapted(v, key=KEY, rank=2, targets='norm1/scale'),
        r"norm1/scale' has shape \(8,\): adapters correct matrices",
    ),
    'rank': (
        lambda v: surgery.adapted(v, key=KEY, rank=5, targets='attention/k/'),
        r"rank=5 for 'blocks/0/attention/k/kernel' of 8 x 4: choose one in 1..4",
    ),
    'nothing trained': (lambda v: surgery.divided(v, 'lstm'), "trains='lstm' finds no weight, among blocks/0/"),
    'all trained': (lambda v: surgery.divided(v, '.'), r"trains='.' finds every weight"),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(base, case):
    attempt, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        attempt(base)
