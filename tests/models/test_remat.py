"""Blocks that are computed again: what a backward pass keeps, in bytes, and that no number changes.

What is kept is read from the function that `jax.vjp` returns, a pytree of residuals: before any compiler, whatever the
backend makes of it.
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.extend.core import Literal
from model_cases import KEY, differs, images, made_up, shape, small, variables_shape

from kdjax.errors import UserError
from kdjax.models import from_functions, from_linen, named
from kdjax.models.model import under

IMAGE, BATCH = (8, 8, 3), 16
DEEP = {'vit-32-12': 20, 'resnet20': 5, 'wrn-16-2': 5, 'mlp-64-64-64-64': 2.5}
"""By what factor the bytes kept shrink at least."""


def loss(model, stats, x, params):
    said, after = model.apply({'params': params, 'stats': stats}, x, key=KEY, train=True)
    return jnp.sum(jnp.sin(said.prediction)), after['stats']


def nbytes(like) -> int:
    return math.prod(like.shape) * like.dtype.itemsize


def kept(model, x) -> int:
    """Bytes of the residuals of a training pass, parameters left out."""
    variables = variables_shape(model, x)

    def residuals(params, stats, x):
        return jax.vjp(lambda params: loss(model, stats, x, params)[0], params)[1]

    traced = jax.make_jaxpr(residuals)(variables['params'], variables['stats'], x).jaxpr
    found = {v for v in traced.outvars if not isinstance(v, Literal)} - {*traced.invars, *traced.constvars}
    return sum(nbytes(v.aval) for v in found)


def block_inputs(model, x) -> list[int]:
    """Bytes of what goes into each block."""
    said = jax.eval_shape(functools.partial(model.apply, key=KEY, train=True), variables_shape(model, x), x)[0]
    sizes = {name: nbytes(tap) for name, tap in said.taps.items()}
    family, _, _ = model.name.partition('-')
    if family == 'vit':
        return [sizes['block1']] * 12
    if family == 'mlp':
        return [nbytes(x), *(sizes[f'hidden{i}'] for i in (1, 2, 3))]
    blocks = 2 if family == 'wrn' else 3
    ends = [sizes[n] for n in ('stem', 'stage1', 'stage2', 'stage3')]
    return [size for a, b in itertools.pairwise(ends) for size in (a, *[b] * (blocks - 1))]


@pytest.mark.parametrize('spec', DEEP)
def test_a_backward_pass_keeps_what_goes_into_each_block_and_a_small_rest(spec):
    """The rest is the stem, the last norm and the head: less than four times what goes into the first block."""
    model, x = small(spec, image_shape=IMAGE), shape(BATCH, *IMAGE)
    inputs, found = block_inputs(model, x), kept(under(model, remat=True), x)
    assert sum(inputs) <= found < sum(inputs) + 4 * inputs[0]
    assert kept(model, x) > DEEP[spec] * found


def test_a_model_as_a_whole_keeps_its_inputs_alone():
    """What remat was before it knew of blocks, and what it is without them: all comes back at once."""
    model, x = small('vit-32-12', image_shape=IMAGE), shape(BATCH, *IMAGE)
    whole = under(dataclasses.replace(model, under=None), remat=True)
    assert kept(whole, x) < 0.01 * kept(under(model, remat=True), x)


@pytest.mark.parametrize('spec', ['vit-16-3', 'resnet8', 'wrn-10-2', 'mlp-16-16'])
def test_no_number_changes_and_statistics_move_once(spec):
    model, x = small(spec, image_shape=IMAGE), images(4, *IMAGE)
    variables = made_up(model, x)

    def found(model):
        step = functools.partial(loss, model, variables['stats'], x)
        return jax.jit(jax.value_and_grad(step, has_aux=True))(variables['params'])

    ((plain, stats), gradient), ((again, moved), other) = found(model), found(under(model, remat=True))
    assert float(again) == pytest.approx(float(plain), rel=1e-6)
    for a, b in ((moved, stats), (other, gradient)):
        jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-6 * np.max(np.abs(q))), a, b)
    assert not jax.tree.leaves(stats) or differs(stats, variables['stats'])


@pytest.mark.parametrize('spec', ['vit-16-2', 'resnet8', 'wrn-10-2', 'mlp-16-16'])
def test_variables_and_taps_and_the_name_stay(spec):
    model, x = small(spec, image_shape=IMAGE), images(2, *IMAGE)
    again = under(model, remat=True)
    assert again.name == model.name and again.rules == model.rules
    assert variables_shape(again, x) == variables_shape(model, x)
    variables = made_up(model, x)
    plain, other = (jax.jit(functools.partial(m.apply, key=KEY, train=False))(variables, x)[0] for m in (model, again))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), other, plain)


def dtypes(model, x):
    said = jax.eval_shape(functools.partial(model.apply, key=KEY, train=True), variables_shape(model, x), x)[0]
    return {tap.dtype.name for name, tap in said.taps.items() if name != 'pooled'}


@pytest.mark.parametrize('spec', ['vit-16-2', 'resnet8', 'wrn-10-2', 'mlp-16-16'])
def test_one_way_does_not_undo_another(spec):
    """What is not asked for stays as the model was built."""
    x = shape(BATCH, *IMAGE)
    half = named(spec, classes=3, image_shape=IMAGE, dtype=jnp.bfloat16)
    both = under(small(spec, image_shape=IMAGE), dtype='bfloat16', remat=True)
    for model in (under(half, remat=True), both, under(under(half, remat=True), dtype='bfloat16')):
        assert dtypes(model, x) == {'bfloat16'}
        assert kept(model, x) < kept(half, x)


def test_no_other_way_is_the_same_model():
    model = small('resnet8')
    assert under(model) is model


def dense(train: bool = True):
    return from_linen(linen.Sequential([linen.Dense(32), linen.relu, linen.BatchNorm(not train)]), name='dense')


def squares(key, example):
    return {'w': jax.random.normal(key, (3, 3))}


def test_models_of_others_are_computed_again_as_a_whole():
    x = shape(BATCH, 3)
    for model in (dense(), from_functions(squares, lambda params, x: jnp.exp(x @ params['w']), name='squares')):
        assert kept(under(model, remat=True), x) < kept(model, x)
        with pytest.raises(UserError, match=f"'{model.name}' has no version in bfloat16: leave the dtype at float32"):
            under(model, dtype='bfloat16', remat=True)
