"""Networks that denoise: what goes in and out, taps, the null class, forward mode, other ways to compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import KEY, differs, made_up, shape, variables_shape

from kdjax.errors import UserError
from kdjax.models.count import parameters
from kdjax.models.model import under
from kdjax.models.named_denoiser import named_denoiser
from kdjax.models.time_embedding import fourier_features

SPECS = {'unet-8-16': (4, 4, 1), 'dit-16-3-h2': (8, 8, 1), 'points-16-3': (2,)}
CLASSES = 3


@functools.cache
def model_of(spec, *, times=1, classes=CLASSES):
    return named_denoiser(spec, classes=classes, shape=SPECS[spec], times=times)


def inputs_of(spec, batch=2, *, times=1, seed=0):
    rng = np.random.default_rng(seed)
    x, t, r = (jnp.asarray(rng.uniform(0, 1, size), jnp.float32) for size in ((batch, *SPECS[spec]), batch, batch))
    return x, (t, r) if times == 2 else t, jnp.arange(batch, dtype=jnp.int32) % CLASSES


def shapes_of(size, batch=2):
    return shape(batch, *size), shape(batch), jax.ShapeDtypeStruct((batch,), jnp.int32)


@functools.cache
def case(spec, times=1):
    """A model, arbitrary variables, and its compiled prediction."""
    model = model_of(spec, times=times)
    variables = made_up(model, inputs_of(spec, times=times))
    return model, variables, jax.jit(lambda *inputs: model.apply(variables, inputs, key=KEY, train=False)[0].prediction)


@pytest.mark.parametrize('spec', SPECS)
def test_a_fresh_network_says_zero(spec):
    model, inputs = model_of(spec), inputs_of(spec)

    last = jax.jit(lambda key: model.init(key, inputs)['params']['out'])(KEY)
    assert not any(leaf.any() for leaf in jax.tree.leaves(last))
    _, variables, _ = case(spec)
    silenced = {'params': variables['params'] | {'out': last}, 'stats': {}}
    said = jax.jit(lambda variables: model.apply(variables, inputs, key=KEY, train=True)[0].prediction)(silenced)
    assert said.shape == inputs[0].shape
    assert not said.any()


@pytest.mark.parametrize(
    ('spec', 'size', 'expected'),
    [
        ('unet-32-64', (28, 28, 1), {'down1': (14, 14, 32), 'bottleneck': (7, 7, 64), 'up2': (14, 14, 32)}),
        ('unet-32-64', (8, 8, 1), {'down2': (4, 4, 64), 'bottleneck': (4, 4, 64), 'up1': (4, 4, 64), 'pooled': (64,)}),
        ('dit-128-4', (28, 28, 1), {'block1': (49, 128), 'block4': (49, 128), 'pooled': (128,)}),
        ('points-64-3', (2,), {'hidden1': (64,), 'bottleneck': (64,), 'pooled': (64,)}),
    ],
)  # fmt: skip
def test_taps_have_these_shapes(spec, size, expected):
    model, inputs = named_denoiser(spec, classes=10, shape=size), shapes_of(size)
    apply = functools.partial(model.apply, key=KEY, train=True)
    said, _ = jax.eval_shape(apply, variables_shape(model, inputs), inputs)
    assert {name: said.taps[name].shape for name in expected} == {n: (2, *s) for n, s in expected.items()}
    assert said.prediction.shape == (2, *size)


@pytest.mark.parametrize(
    ('spec', 'size', 'count'),
    [
        ('unet-32-64', (28, 28, 1), 436_452),
        ('dit-128-4', (28, 28, 1), 1_265_296),
        ('points-128-3', (2,), 233_218),
    ],
)
def test_parameters_are_so_many(spec, size, count):
    model = named_denoiser(spec, classes=10, shape=size)
    assert parameters(variables_shape(model, shapes_of(size))) == count


@pytest.mark.parametrize('spec', SPECS)
def test_no_condition_is_the_null_class_and_classes_differ(spec):
    _, _, predict = case(spec)
    x, t, _ = inputs_of(spec)
    null = predict(x, t, jnp.full(2, CLASSES, jnp.int32))
    np.testing.assert_allclose(predict(x, t, None), null, rtol=1e-5, atol=1e-6)
    for label in range(CLASSES):
        assert np.abs(predict(x, t, jnp.full(2, label, jnp.int32)) - null).max() > 1e-3


def test_without_classes_the_condition_is_not_read():
    model, (x, t, condition) = model_of('points-16-3', classes=0), inputs_of('points-16-3')
    variables = made_up(model, (x, t, condition))
    predict = functools.partial(model.apply, variables, key=KEY, train=False)
    assert 'labels' not in variables['params']['conditioning']
    assert jnp.array_equal(predict((x, t, condition))[0].prediction, predict((x, t, None))[0].prediction)


@pytest.mark.parametrize('times', [1, 2])
@pytest.mark.parametrize('spec', SPECS)
def test_forward_mode_agrees_with_finite_differences_in_input_and_times(spec, times):
    _, _, predict = case(spec, times)
    x, t, condition = inputs_of(spec, times=times)
    along = jax.tree.map(lambda a: jnp.asarray(np.random.default_rng(3).standard_normal(a.shape), jnp.float32), (x, t))
    along = along[0], jax.tree.map(lambda a: 0.05 * a, along[1])  # the fastest feature turns by 0.01 in a step

    def at(step):
        moved = jax.tree.map(lambda a, d: a + step * d, (x, t), along)
        return predict(*moved, condition)

    _, found = jax.jvp(at, (jnp.float32(0),), (jnp.float32(1),))
    step = 2e-3
    expected = (at(jnp.float32(step)) - at(jnp.float32(-step))) / (2 * step)
    assert float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)) < 2e-2


@pytest.mark.parametrize('spec', [pytest.param(s, marks=pytest.mark.slow if 'unet' in s else ()) for s in SPECS])
def test_blocks_computed_again_change_no_number(spec):
    model, variables, _ = case(spec)
    inputs = inputs_of(spec)

    def loss(params, model):
        said, _ = model.apply({'params': params, 'stats': {}}, inputs, key=KEY, train=True)
        return jnp.sum(jnp.sin(said.prediction))

    plain, again = (
        jax.jit(jax.grad(functools.partial(loss, model=m)))(variables['params'])
        for m in (model, under(model, remat=True))
    )
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-5 * np.max(np.abs(q))), plain, again)


@pytest.mark.parametrize('spec', SPECS)
def test_bfloat16_activations_leave_variables_and_prediction_in_float32(spec):
    model, inputs = under(model_of(spec), dtype='bfloat16'), inputs_of(spec)
    apply = functools.partial(model.apply, key=KEY, train=True)
    said, _ = jax.eval_shape(apply, variables_shape(model, inputs), inputs)
    assert said.taps['bottleneck'].dtype == jnp.bfloat16
    assert {said.prediction.dtype, said.taps['pooled'].dtype} == {jnp.dtype('float32')}
    assert not differs(
        *(jax.tree.map(lambda s: np.zeros(s.shape), variables_shape(m, inputs)) for m in (model, model_of(spec)))
    )


def test_features_of_the_time_are_float32_and_by_hand():
    found = fourier_features(jnp.asarray([0.0, 0.5], jnp.bfloat16), 4, highest=10)
    expected = [[1, 1, 0, 0], [np.cos(0.5), np.cos(5), np.sin(0.5), np.sin(5)]]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('times', 'said'), [(1, r'times=1 was given 2: give it t alone'), (2, r'give it the pair \(t, r\)')]
)
def test_the_wrong_number_of_times_is_refused(times, said):
    x, t, condition = inputs_of('points-16-3', times=3 - times)
    with pytest.raises(UserError, match=said):
        model_of('points-16-3', times=times).init(KEY, (x, t, condition))
        case('points-16-3', times)[0].apply(case('points-16-3', times)[1], (x, t, condition), key=KEY, train=False)


@pytest.mark.parametrize(
    ('spec', 'size', 'said'),
    [
        ('unet-8-16-32-64-128', (8, 8, 1), '8x8 is not made of 16x16 squares'),
        ('unet-8-16-p3', (8, 8, 1), 'is not made of 6x6 squares'),
        ('unet-1', (8, 8, 1), 'the width 2 is even and at least 4'),
        ('dit-16-2-p3', (8, 8, 1), 'patch 3 does not divide the image 8x8'),
        ('dit-18-2-h4', (8, 8, 1), 'heads divides width'),
        ('points-0-2', (2,), 'width, depth and dims=2 are positive'),
        ('points-16-2', (8, 8, 1), r"'points-\.\.\.' is for points"),
        ('unet-8', (2,), 'for images'),
        ('unit-8', (8, 8, 1), r"unknown diffusion network 'unit-8'; .*grammar: unet-WIDTH"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(spec, size, said):
    with pytest.raises(UserError, match=said):
        named_denoiser(spec, classes=3, shape=size)


@pytest.mark.parametrize('options', [{'classes': -1}, {'times': 3}], ids=str)
def test_classes_and_times_are_checked(options):
    with pytest.raises(UserError, match=r'classes=.* is at least 0 .*, times=.* is 1 or 2'):
        named_denoiser('points-8-1', shape=(2,), **{'classes': 2} | options)
