"""The contract of every loss: see `registered_losses` for what enters, `loss_identities` for what each must reproduce."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_identities import IDENTITIES
from registered_losses import EXAMPLES, NOT_LOSSES, REGISTER

from kdjax import losses

every_loss = pytest.mark.parametrize('entry', REGISTER, ids=lambda entry: entry.label)
SEED = 20


@functools.cache
def inputs(entry_index):
    return REGISTER[entry_index].inputs(np.random.default_rng(SEED))


def arguments(entry):
    return inputs(REGISTER.index(entry))


def arrays(args, dtype=jnp.float32):
    """Floating arguments in `dtype`, integers as int32."""
    return tuple(jnp.asarray(a, dtype if np.issubdtype(a.dtype, np.floating) else jnp.int32) for a in args)


@functools.cache
def compiled(entry_index, **more):
    entry = REGISTER[entry_index]
    return jax.jit(functools.partial(entry.loss, **entry.options, **more))


def call(entry, args, **more):
    return compiled(REGISTER.index(entry), **more)(*args)


def split(entry, args):
    """The differentiable arguments, and a function of them."""

    def rejoin(free):
        free = dict(zip(entry.differentiated, free, strict=True))
        return [free.get(i, a) for i, a in enumerate(args)]

    return tuple(args[i] for i in entry.differentiated), rejoin


def weighted_sum(entry, args, where=None, weights=None):
    """The loss summed with fixed unequal weights, as a function of its differentiable arguments."""
    free, rejoin = split(entry, args)

    def total(free):
        values = entry.loss(*rejoin(free), **entry.options, where=where)
        fixed = jnp.arange(1, len(values) + 1, dtype=values.dtype) if weights is None else weights
        return jnp.sum(fixed * values)

    return total, free


def rows_of(entry, args, index):
    """The same arguments with some examples only."""
    return tuple(a if i in entry.shared else a[index] for i, a in enumerate(args))


def test_every_public_loss_is_registered_and_has_an_identity():
    registered = {entry.name for entry in REGISTER}
    assert registered == set(losses.__all__) - NOT_LOSSES
    assert registered == set(IDENTITIES)


@every_loss
def test_value_is_that_of_the_published_formula(entry):
    args = arguments(entry)
    expected = entry.reference(*args, **entry.options)
    with jax.enable_x64(True):
        values = call(entry, arrays(args, jnp.float64))
        assert values.dtype == jnp.float64
    assert values.shape == (EXAMPLES,)
    np.testing.assert_allclose(np.mean(values) if entry.coupled else values, expected, rtol=1e-7, atol=1e-12)
    single = call(entry, arrays(args))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, values, rtol=1e-4, atol=1e-5)


@every_loss
def test_stated_value_where_student_is_teacher(entry):
    args, expected = entry.at_same(arguments(entry))
    np.testing.assert_allclose(
        np.mean(call(entry, arrays(args))) if entry.coupled else call(entry, arrays(args)),
        np.mean(expected) if entry.coupled else expected,
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


@every_loss
def test_batched_is_single_under_vmap(entry):
    """vmap over examples of a batch of one; over whole batches where the batch is coupled."""
    args = arrays(arguments(entry))
    if entry.coupled:
        args = tuple(jnp.stack([a, a[::-1] + 0 * a]) for a in args)
        expected = jnp.stack([call(entry, [a[i] for a in args]) for i in range(2)])
    else:
        args = tuple(a if i in entry.shared else a[:, None] for i, a in enumerate(args))
        expected = call(entry, arrays(arguments(entry)))[:, None]
    axes = tuple(None if i in entry.shared else 0 for i in range(len(args)))
    batched = jax.jit(jax.vmap(functools.partial(entry.loss, **entry.options), in_axes=axes))
    np.testing.assert_allclose(batched(*args), expected, rtol=1e-5, atol=1e-6)


@every_loss
def test_where_is_indexing(entry):
    """Masked rows hold NaN, infinity and impossible labels: values and gradients are those of the other rows alone."""
    where = np.array([True, False, True, False] + [True] * (EXAMPLES - 4))
    with jax.enable_x64(True):
        clean = arrays(arguments(entry), jnp.float64)
        dirty = []
        for i, a in enumerate(clean):
            bad = jnp.array([0, -1, 0, 99]) if a.dtype == jnp.int32 else jnp.array([0, jnp.nan, 0, jnp.inf])
            if i in entry.shared:
                dirty.append(a)
                continue
            shape = (-1,) + (1,) * (a.ndim - 1)
            dirty.append(jnp.where(where.reshape(shape), a, bad.astype(a.dtype).reshape(shape)))
        few = rows_of(entry, clean, np.flatnonzero(where))
        total, free = weighted_sum(entry, dirty, where=jnp.asarray(where))
        total_few, free_few = weighted_sum(entry, few, weights=jnp.arange(1.0, EXAMPLES + 1)[where])
        values = call_masked(entry, dirty, where)
        np.testing.assert_allclose(values[where], entry.loss(*few, **entry.options), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(values[~where], 0.0)
        gradients, gradients_few = jax.jit(jax.grad(total))(free), jax.jit(jax.grad(total_few))(free_few)
        for i, got, wanted in zip(entry.differentiated, gradients, gradients_few, strict=True):
            if i in entry.shared:
                np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-10)
                continue
            np.testing.assert_allclose(got[where], wanted, rtol=1e-7, atol=1e-10)
            np.testing.assert_array_equal(got[~where], 0.0)


def call_masked(entry, args, where):
    return jax.jit(functools.partial(entry.loss, **entry.options))(*args, where=jnp.asarray(where))


@every_loss
def test_all_masked_is_zero_and_finite(entry):
    args = arrays(arguments(entry))
    total, free = weighted_sum(entry, args, where=jnp.zeros(EXAMPLES, bool))
    value, gradients = jax.jit(jax.value_and_grad(total))(free)
    assert value == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize('entry', [e for e in REGISTER if e.class_axes], ids=lambda entry: entry.label)
def test_axis_is_moveaxis(entry):
    args = arrays(arguments(entry))
    moved = [jnp.moveaxis(a, *entry.class_axes[i]) if i in entry.class_axes else a for i, a in enumerate(args)]
    to = entry.class_axes[0][1]
    np.testing.assert_allclose(call(entry, moved, axis=to), call(entry, args), rtol=1e-6, atol=1e-6)


@every_loss
def test_gradients_are_finite_differences(entry):
    """Central differences along the coordinates, in float64."""
    step = 1e-5
    with jax.enable_x64(True):
        total, free = weighted_sum(entry, arrays(arguments(entry), jnp.float64))
        flat, unflatten = jax.flatten_util.ravel_pytree(free)
        gradient = jax.jit(jax.grad(lambda x: total(unflatten(x))))(flat)
        of_flat = jax.jit(lambda x: total(unflatten(x)))
        steps = np.asarray(flat) + step * np.concatenate([np.eye(len(flat)), -np.eye(len(flat))])
        up, down = np.split(np.array([of_flat(jnp.asarray(x)) for x in steps]), 2)
    np.testing.assert_allclose(gradient, (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


@every_loss
def test_extreme_inputs_keep_values_and_gradients_finite(entry):
    cases = [arrays(args) for args in entry.extremes(arguments(entry))]
    differentiate = None
    for number, args in enumerate(cases):
        free, _ = split(entry, args)
        rest = [a for i, a in enumerate(args) if i not in entry.differentiated]
        if differentiate is None:
            differentiate = jax.jit(jax.value_and_grad(lambda free, rest: summed(entry, free, rest)))
        value, gradients = differentiate(free, rest)
        assert np.isfinite(value), f'case {number}'
        for gradient in gradients:
            assert np.isfinite(gradient).all(), f'case {number}'


def summed(entry, free, rest):
    """The loss of differentiable and other arguments, put back into their order."""
    free, rest = dict(zip(entry.differentiated, free, strict=True)), iter(rest)
    args = [free[i] if i in free else next(rest) for i in range(len(entry.differentiated) + len_rest(entry))]
    return jnp.sum(entry.loss(*args, **entry.options))


def len_rest(entry):
    return len(arguments(entry)) - len(entry.differentiated)


@every_loss
def test_bfloat16_in_float32_out(entry):
    """The arithmetic is that of float32 on the rounded inputs."""
    half = arrays(arguments(entry), jnp.bfloat16)
    values = call(entry, half)
    assert values.dtype == jnp.float32
    rounded = tuple(a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in half)
    np.testing.assert_allclose(values, call(entry, rounded), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', sorted(IDENTITIES))
def test_identity(name):
    with jax.enable_x64(True):
        for says, got, wanted, tolerance in IDENTITIES[name](np.random.default_rng(SEED)):
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=says)
