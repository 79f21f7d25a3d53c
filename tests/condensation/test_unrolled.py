"""Gradients through training: against finite differences, against float64, and what the short cuts leave out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.condensation.unrolled import FINITE, agreement, check_finite, finite_steps, unrolled
from kdjax.errors import UserError
from kdjax.run.diverged import Diverged, check

KEY = jax.random.key(0)


def network(dtype=jnp.float64, inputs=8, hidden=16, outputs=3):
    rng = np.random.default_rng(0)
    shapes = {'a': (inputs, hidden), 'b': (hidden, outputs)}
    return {n: jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), dtype) for n, s in shapes.items()}


def problem(dtype=jnp.float64, examples=12):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(examples, 8)), dtype)
    away = np.random.default_rng(2)
    far = {n: p + jnp.asarray(0.3 * away.normal(size=p.shape), dtype) for n, p in network(dtype).items()}
    return {'x': x, 'y': jnp.asarray(np.eye(3)[np.arange(examples) % 3], dtype)}, far


def loss(params, data, *, step, key):
    """Cross-entropy of an 8-16-3 tanh network on all but one of the examples, another one at each step."""
    out = jnp.tanh(data['x'] @ params['a']) @ params['b']
    kept = (jnp.arange(len(out), dtype=jnp.int32) != step % len(out)).astype(out.dtype)
    return -jnp.sum(kept * jnp.sum(data['y'] * jax.nn.log_softmax(out), -1)) / (len(out) - 1)


def distance(data, rate, start, target, **options):
    end, losses = unrolled(loss, start, data, rate, key=KEY, **options)
    return sum(jnp.sum(jnp.square(end[n] - target[n])) for n in end), losses


@functools.cache
def slopes(dtype, rate, steps, estimator='exact', last=None, segment=None):
    """(gradient in the data and the rate, inner losses)."""
    with jax.enable_x64(True):
        data, target = problem(dtype)
        target = {n: t.astype(dtype) for n, t in target.items()}
        options = {'steps': steps, 'estimator': estimator, 'last': last, 'segment': segment}
        found = jax.jit(
            jax.grad(functools.partial(distance, start=network(dtype), target=target, **options), (0, 1), has_aux=True)
        )(data, jnp.asarray(rate, dtype))
        return jax.tree.map(np.asarray, found)


def test_the_exact_gradient_is_that_of_finite_differences():
    """In float64, along a random direction of the data and in the rate, to 1e-6; seven steps: segments and a rest."""
    gradient, _ = slopes('float64', 0.5, 7)
    with jax.enable_x64(True):
        (data, target), step = problem(), 1e-5
        direction = jnp.asarray(np.random.default_rng(3).normal(size=data['x'].shape))
        value = jax.jit(lambda x, rate: distance({**data, 'x': x}, rate, network(), target, steps=7)[0])
        along = (value(data['x'] + step * direction, 0.5) - value(data['x'] - step * direction, 0.5)) / (2 * step)
        in_rate = (value(data['x'], 0.5 + step) - value(data['x'], 0.5 - step)) / (2 * step)
        direction, along, in_rate = (np.asarray(a) for a in (direction, along, in_rate))
    np.testing.assert_allclose(np.sum(gradient[0]['x'] * direction), along, rtol=1e-6)
    np.testing.assert_allclose(gradient[1], in_rate, rtol=1e-6)


def test_float32_agrees_with_float64():
    (single, losses), (double, exact) = (slopes(dtype, 0.5, 7) for dtype in ('float32', 'float64'))
    np.testing.assert_allclose(losses, exact, rtol=1e-5)
    np.testing.assert_allclose(single[0]['x'], double[0]['x'], rtol=1e-3, atol=1e-5)


def test_segments_change_nothing():
    for segment in (1, 7, 20):
        (some, losses), (usual, expected) = slopes('float64', 0.5, 7, segment=segment), slopes('float64', 0.5, 7)
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
        np.testing.assert_allclose(some[0]['x'], usual[0]['x'], rtol=1e-10, atol=1e-14)


def test_held_weights_lose_direction_and_gain_length_as_rate_and_steps_grow():
    """TESLA's gradient against the exact one: almost equal for two small steps, another direction for many large."""
    found = {}
    for rate, steps in ((0.05, 2), (0.2, 10), (1.0, 30)):
        held, exact = (slopes('float64', rate, steps, e)[0][0]['x'] for e in ('held', 'exact'))
        found[steps] = {n: float(v) for n, v in agreement({'x': held}, {'x': exact}).items()}
    assert found[2]['cosine'] > 0.995 and abs(found[2]['norm_ratio'] - 1) < 0.1
    assert found[2]['cosine'] > found[10]['cosine'] > found[30]['cosine']
    assert found[30]['cosine'] < 0.8


def test_held_is_the_formula_of_tesla_with_its_factor_two():
    """2 [rate (target - start) + rate^2 G] . sum d g_i / d x, theta_i constant; TESLA's code returns half of it."""
    rate, steps = 0.2, 5
    got = slopes('float64', rate, steps, 'held')[0][0]['x']
    with jax.enable_x64(True):
        data, target = problem()
        start = theta = network()
        path = []
        for i in range(steps):
            gradient = jax.grad(loss)(theta, data, step=i, key=KEY)
            path.append((theta, gradient))
            theta = jax.tree.map(lambda p, g: p - rate * g, theta, gradient)
        sums = jax.tree.map(lambda *g: sum(g), *[g for _, g in path])
        lead = jax.tree.map(lambda t, s, g: 2 * (rate * (t - s) + rate**2 * g), target, start, sums)
        pulled = 0
        for i, (at, _) in enumerate(path):
            _, back = jax.vjp(lambda x, at=at, i=i: jax.grad(loss)(at, {**data, 'x': x}, step=i, key=KEY), data['x'])
            pulled = pulled + back(lead)[0]
    np.testing.assert_allclose(got, pulled, rtol=1e-9, atol=1e-13)


def test_truncation_is_exact_from_where_it_begins():
    """All steps: the exact gradient. Fewer: that of training which starts there."""
    whole, exact = slopes('float64', 0.5, 7, 'truncated', 7)[0], slopes('float64', 0.5, 7)[0]
    np.testing.assert_allclose(whole[0]['x'], exact[0]['x'], rtol=1e-10)
    one = slopes('float64', 0.5, 7, 'truncated', 1)[0][0]['x']
    held = slopes('float64', 0.5, 7, 'held')[0][0]['x']
    assert not np.allclose(one, exact[0]['x'], rtol=0.01)
    assert not np.allclose(one, held, rtol=0.01)


def test_memory_grows_like_the_square_root_of_the_steps():
    """Of the compiled gradient: 16 times the steps need less than six times the memory, and without segments more."""

    def temporary(steps, segment=None):
        data, target = jax.eval_shape(lambda: problem(jnp.float32, 4))
        of = functools.partial(distance, steps=steps, segment=segment)
        shapes = data, jax.ShapeDtypeStruct((), jnp.float32), target, target
        return jax.jit(jax.grad(of, has_aux=True)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    few, many, flat = temporary(16), temporary(256), temporary(256, segment=256)
    assert many < 6 * few
    assert flat > 2 * many


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'steps': 0}, 'steps=0 of inner training'),
        ({'steps': 3, 'segment': 0}, 'segment=0 of inner training'),
        ({'steps': 3, 'estimator': 'tesla'}, "unknown estimator 'tesla'"),
        ({'steps': 3, 'estimator': 'truncated', 'last': 4}, 'last=4 of 3 inner steps'),
    ],
)
def test_what_cannot_be_unrolled(options, message):
    data, _ = problem(jnp.float32)
    with pytest.raises(UserError, match=message):
        unrolled(loss, network(jnp.float32), data, 0.1, key=KEY, **options)


def test_a_gradient_that_is_not_finite_names_the_inner_step():
    with pytest.raises(UserError, match='inner training diverged at its step 2: lower its rate'):
        check_finite([1.0, 2.0, np.inf, np.nan], {})
    with pytest.raises(UserError, match='gradient through 2 inner steps is not finite'):
        check_finite([1.0, 2.0], {'x': np.array([np.nan])})
    check_finite([1.0, 2.0], {'x': np.array([1.0])})


def test_a_run_that_diverges_inside_names_the_inner_step():
    logged = {'synthetic/mtt': [1.0, np.nan], 'synthetic/gradient_norm': [1.0, np.nan]}
    finite = {f'synthetic/mtt/{FINITE}': [4.0, float(finite_steps(jnp.asarray([1.0, 2.0, np.inf, 1.0])))]}
    metrics = {name: np.asarray(values) for name, values in {**logged, **finite}.items()}
    with pytest.raises(Diverged, match=r"step 11: 'synthetic/mtt' is nan.*inner training diverged at its step 2"):
        check(metrics, 10, state={}, batch_at=lambda step: {})
    metrics['synthetic/mtt'] = np.asarray([1.0, 0.5])
    with pytest.raises(Diverged, match=r"'synthetic/gradient_norm' is nan.*the gradient through 2 inner steps"):
        check(metrics, 10, state={}, batch_at=lambda step: {})
