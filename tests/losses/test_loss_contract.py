"""The contract of every loss: what enters is in `registered_*.py`, its identities in `*_identities.py`.

Most of the time is compilation, so a loss has three programs for all tests: values and gradients in float64 with a mask
(everybody's, where nobody is masked), in float32 without one, and its other forms.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registered_condensation
import registered_fused
import registered_generators
import registered_language
import registered_losses
from condensation_identities import CONDENSATION_IDENTITIES
from fused_identities import fused_divergence
from generator_identities import GENERATOR_IDENTITIES
from language_identities import LANGUAGE_IDENTITIES
from loss_identities import IDENTITIES
from registered_losses import EXAMPLES

from kdjax import losses

REGISTER = [
    *registered_losses.REGISTER,
    *registered_language.LANGUAGE,
    *registered_fused.FUSED,
    *registered_generators.GENERATORS,
    *registered_condensation.CONDENSATION,
]
NOT_LOSSES = registered_losses.NOT_LOSSES | registered_language.NOT_LOSSES | registered_generators.NOT_LOSSES
IDENTITIES = IDENTITIES | LANGUAGE_IDENTITIES | GENERATOR_IDENTITIES | CONDENSATION_IDENTITIES
IDENTITIES = IDENTITIES | {'fused_divergence': fused_divergence}

every_loss = pytest.mark.parametrize('number', range(len(REGISTER)), ids=[entry.label for entry in REGISTER])
SEED = 20
EVERYBODY = np.ones(EXAMPLES, bool)


@functools.cache
def arguments(number):
    return REGISTER[number].inputs(np.random.default_rng(SEED))


def arrays(args, dtype=jnp.float32):
    """Floating arguments in `dtype`, integers as int32."""
    return tuple(np.asarray(a, dtype if np.issubdtype(a.dtype, np.floating) else np.int32) for a in args)


def over_batch(entry, values):
    """What has a published value: the mean of row contributions, or each example."""
    return np.mean(np.asarray(values)) if entry.coupled else np.asarray(values)


@functools.cache
def compiled(number):
    """(arguments, where, weights) -> (values, gradients of their weighted sum), jitted."""
    entry = REGISTER[number]

    def total(free, args, where, weights):
        free = dict(zip(entry.differentiated, free, strict=True))
        values = entry.loss(*[free.get(i, a) for i, a in enumerate(args)], **entry.options, where=where)
        return jnp.sum(weights.astype(values.dtype) * values), values

    def differentiate(args, where, weights):
        free = tuple(args[i] for i in entry.differentiated)
        (_, values), gradients = jax.value_and_grad(total, has_aux=True)(free, args, where, weights)
        return values, gradients

    return jax.jit(differentiate)


def evaluate(number, args, where=None, weights=None):
    """Values and gradients; the weights of the examples differ, so that no gradient cancels by symmetry."""
    weights = np.arange(1.0, EXAMPLES + 1) if weights is None else np.asarray(weights)
    return compiled(number)(tuple(args), where, weights)


@functools.cache
def forms(number):
    """Values under vmap (of examples, each a batch of one; of whole batches where the batch is coupled), in bfloat16,
    and with the classes along another axis."""
    entry, args = REGISTER[number], arrays(arguments(number))
    if entry.coupled:
        rows = [np.stack([a, a[::-1]]) for a in args]
    else:
        rows = [a if i in entry.shared else a[:, None] for i, a in enumerate(args)]
    loss = functools.partial(entry.loss, **entry.options)
    along = tuple(None if i in entry.shared else 0 for i in range(len(args)))
    given = {'vmap': rows, 'bfloat16': arrays(arguments(number), jnp.bfloat16)}
    calls = {'vmap': jax.vmap(loss, along), 'bfloat16': loss}
    if entry.class_axes:
        axes = entry.class_axes
        given['axis'] = [np.moveaxis(a, *axes[i]) if i in axes else a for i, a in enumerate(args)]
        calls['axis'] = functools.partial(loss, axis=axes[0][1])
    return jax.jit(lambda given: {name: calls[name](*args) for name, args in given.items()})(given)


def test_every_public_loss_is_registered_and_has_an_identity():
    registered = {entry.name for entry in REGISTER}
    assert registered == set(losses.__all__) - NOT_LOSSES
    assert registered == set(IDENTITIES)


@every_loss
def test_value_is_that_of_the_published_formula(number):
    entry, args = REGISTER[number], arguments(number)
    with jax.enable_x64(True):
        values, _ = evaluate(number, arrays(args, jnp.float64), EVERYBODY)
    single, _ = evaluate(number, arrays(args))
    assert (values.dtype, single.dtype) == (jnp.float64, jnp.float32)
    assert values.shape == single.shape == (EXAMPLES,)
    expected = entry.reference(*args, **entry.options)
    np.testing.assert_allclose(over_batch(entry, values), expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(single, values, rtol=1e-4, atol=1e-5)


@every_loss
def test_stated_value_where_student_is_teacher(number):
    entry = REGISTER[number]
    args, expected = entry.at_same(arguments(number))
    values, _ = evaluate(number, arrays(args))
    np.testing.assert_allclose(over_batch(entry, values), over_batch(entry, expected), rtol=1e-5, atol=1e-5)


@every_loss
def test_batched_is_single_under_vmap(number):
    entry, args = REGISTER[number], arrays(arguments(number))
    if entry.coupled:
        expected = np.stack([evaluate(number, batch)[0] for batch in (args, tuple(a[::-1] for a in args))])
    else:
        expected = np.asarray(evaluate(number, args)[0])[:, None]
    np.testing.assert_allclose(forms(number)['vmap'], expected, rtol=1e-5, atol=1e-6)


def spoiled(number, args, where):
    """The arguments with NaN, infinity and impossible labels in the masked examples."""

    def spoil(a):
        a = np.array(a)
        a[~where] = -1 if a.dtype == np.int32 else np.nan
        a[np.flatnonzero(~where)[-1]] = 99 if a.dtype == np.int32 else np.inf
        return a

    return [a if i in REGISTER[number].shared else spoil(a) for i, a in enumerate(args)]


def alone(number, args, where, weights):
    """Values and gradients of the chosen rows by themselves.

    Rows that do not matter to each other (the test of vmap holds that) are so in the whole batch, with weight 0 for the
    others; in a coupled loss they need a batch, and a program, of their own.
    """
    shared = REGISTER[number].shared
    if REGISTER[number].coupled:
        few = [a if i in shared else a[where] for i, a in enumerate(args)]
        return evaluate(number, few, np.ones(where.sum(), bool), weights[where])
    values, gradients = evaluate(number, args, EVERYBODY, np.where(where, weights, 0.0))
    pairs = zip(REGISTER[number].differentiated, gradients, strict=True)
    return values[where], [g if i in shared else g[where] for i, g in pairs]


@every_loss
def test_where_is_indexing(number):
    """Values and gradients are those of the other rows alone, whatever stands in the masked ones."""
    entry = REGISTER[number]
    where, weights = np.array([True, False, True, False]), np.arange(1.0, EXAMPLES + 1)
    with jax.enable_x64(True):
        clean = arrays(arguments(number), jnp.float64)
        found = evaluate(number, spoiled(number, clean, where), where, weights)
        values, gradients = jax.tree.map(np.asarray, found)
        values_few, gradients_few = alone(number, clean, where, weights)
    np.testing.assert_allclose(values[where], values_few, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(values[~where], 0.0)
    for i, got, wanted in zip(entry.differentiated, gradients, gradients_few, strict=True):
        rows = slice(None) if i in entry.shared else where
        np.testing.assert_allclose(got[rows], wanted, rtol=1e-7, atol=1e-10)
        if i not in entry.shared:
            np.testing.assert_array_equal(got[~where], 0.0)


@every_loss
def test_all_masked_is_zero_and_finite(number):
    nobody = np.zeros(EXAMPLES, bool)
    with jax.enable_x64(True):
        args = spoiled(number, arrays(arguments(number), jnp.float64), nobody)
        values, gradients = evaluate(number, args, nobody)
    np.testing.assert_array_equal(values, 0.0)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0.0)


WITH_AXIS = [i for i, entry in enumerate(REGISTER) if entry.class_axes]


@pytest.mark.parametrize('number', WITH_AXIS, ids=[REGISTER[i].label for i in WITH_AXIS])
def test_axis_is_moveaxis(number):
    values, _ = evaluate(number, arrays(arguments(number)))
    np.testing.assert_allclose(forms(number)['axis'], values, rtol=1e-6, atol=1e-6)


@every_loss
def test_gradients_are_finite_differences(number):
    """Central differences along every coordinate, in float64, with what has no gradient held where it is."""
    entry, step = REGISTER[number], 1e-5
    held = entry.held and entry.held(arguments(number))
    weights = np.arange(1.0, EXAMPLES + 1)
    with jax.enable_x64(True):
        args = arrays(arguments(number), jnp.float64)
        _, gradients = evaluate(number, args, EVERYBODY)
        for i, gradient in zip(entry.differentiated, gradients, strict=True):
            differences = np.zeros(args[i].shape)
            for place in np.ndindex(args[i].shape):
                sides = []
                for sign in (1, -1):
                    moved = np.array(args[i])
                    moved[place] += sign * step
                    around = [*args[:i], moved, *args[i + 1 :]]
                    values = held(*around) if held else evaluate(number, around, EVERYBODY)[0]
                    sides.append(weights @ np.asarray(values))
                differences[place] = (sides[0] - sides[1]) / (2 * step)
            np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-7)


@every_loss
def test_extreme_inputs_keep_values_and_gradients_finite(number):
    for case, args in enumerate(REGISTER[number].extremes(arguments(number))):
        values, gradients = evaluate(number, arrays(args))
        assert np.isfinite(values).all(), f'values of case {case}'
        for gradient in gradients:
            assert np.isfinite(gradient).all(), f'gradients of case {case}'


@every_loss
def test_bfloat16_in_float32_out(number):
    """The arithmetic is that of float32 on the rounded inputs."""
    values = forms(number)['bfloat16']
    assert values.dtype == jnp.float32
    half = arrays(arguments(number), jnp.bfloat16)
    rounded = [a.astype(np.float32) if a.dtype == jnp.bfloat16 else a for a in half]
    np.testing.assert_allclose(values, evaluate(number, rounded)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', sorted(IDENTITIES))
def test_identity(name):
    notes = []

    def both_sides():
        sides = []
        for says, got, wanted, tolerance in IDENTITIES[name](np.random.default_rng(SEED)):
            notes.append((says, tolerance))
            sides.append((got, wanted))
        return sides

    with jax.enable_x64(True):
        sides = jax.jit(both_sides)()
    for (got, wanted), (says, tolerance) in zip(sides, notes, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=says)
