"""Residual and transformer blocks against NumPy, in training and in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from model_cases import KEY, differs, images, made_up, shape, small, variables_shape

from kdjax.models.norms import norm_layer

EXAMPLE = shape(4, 8, 8, 1)


def apply(model, variables, x, *, train):
    forward = jax.jit(lambda variables, x: model.apply(variables, x, key=KEY, train=train))
    return forward(variables, x)


def convolution(x, kernel, stride=1):
    """Zero padding of size // 2 on all sides, one product per tap of the kernel."""
    size = kernel.shape[0]
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    ends = [n - size + 1 for n in padded.shape[1:3]]
    return sum(
        padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def normalised(x, params, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * params['scale'] + params['bias']


def running(params, stats):
    return lambda name, x: normalised(x, params[name], stats[name]['mean'], stats[name]['var'])


def of_batch(params, stats):
    del stats
    axes = (0, 1, 2)
    return lambda name, x: normalised(x, params[name], x.mean(axes), x.var(axes))


def relu(x):
    return np.maximum(x, 0)


@pytest.fixture(scope='module')
def resnet():
    """A ResNet, arbitrary variables, images, and what it says of them in evaluation and in training."""
    model = small('resnet8')
    variables, x = made_up(model, EXAMPLE), images(4, 8, 8, 1)
    modes = {train: apply(model, variables, x, train=train) for train in (False, True)}
    return variables, x, modes


@pytest.mark.parametrize(('train', 'statistics'), [(False, running), (True, of_batch)])
def test_a_residual_block_is_the_published_one(resnet, train, statistics):
    variables, _, modes = resnet
    taps = modes[train][0].taps
    params, stats = (jax.tree.map(np.asarray, variables[kind]['stage2']['0']) for kind in ('params', 'stats'))
    norm, x = statistics(params, stats), np.asarray(taps['stage1'])
    hidden = relu(norm('norm1', convolution(x, params['conv1']['kernel'], stride=2)))
    residual = norm('shortcut_norm', convolution(x, params['shortcut']['kernel'], stride=2))
    expected = relu(residual + norm('norm2', convolution(hidden, params['conv2']['kernel'])))
    np.testing.assert_allclose(taps['stage2'], expected, rtol=1e-4, atol=1e-5)


def test_an_unprojected_block_adds_its_input(resnet):
    variables, _, modes = resnet
    taps = modes[False][0].taps
    params, stats = (jax.tree.map(np.asarray, variables[kind]['stage1']['0']) for kind in ('params', 'stats'))
    assert 'shortcut' not in params
    norm, x = running(params, stats), np.asarray(taps['stem'])
    hidden = relu(norm('norm1', convolution(x, params['conv1']['kernel'])))
    expected = relu(x + norm('norm2', convolution(hidden, params['conv2']['kernel'])))
    np.testing.assert_allclose(taps['stage1'], expected, rtol=1e-4, atol=1e-5)


def test_logits_are_linear_in_the_average_of_the_last_stage(resnet):
    variables, _, modes = resnet
    said = modes[False][0]
    pooled = np.asarray(said.taps['stage3']).mean((1, 2))
    linear = variables['params']['classifier']
    np.testing.assert_allclose(said.taps['pooled'], pooled, rtol=1e-5)
    expected = pooled @ np.asarray(linear['kernel']) + np.asarray(linear['bias'])
    np.testing.assert_allclose(said.prediction, expected, rtol=1e-4, atol=1e-5)


def test_training_moves_running_statistics_a_tenth_towards_the_unbiased_ones_of_the_batch(resnet):
    variables, x, modes = resnet
    z = convolution(np.asarray(x), np.asarray(variables['params']['stem']['kernel'])).reshape(-1, 16)
    before, after = variables['stats']['stem_norm'], modes[True][1]['stats']['stem_norm']
    for name, batch in (('mean', z.mean(0)), ('var', z.var(0, ddof=1))):
        expected = 0.9 * np.asarray(before[name]) + 0.1 * batch
        np.testing.assert_allclose(after[name], expected, rtol=1e-5)


def test_training_changes_every_statistic_and_no_parameter(resnet):
    variables, _, modes = resnet
    after = modes[True][1]
    changed = differs(variables['stats'], after['stats'])
    assert len(changed) == len(jax.tree.leaves(variables['stats'])) == 2 * 9
    assert differs(variables['params'], after['params']) == []


@pytest.mark.parametrize('spec', ['mlp-8', 'resnet8', 'wrn-10-1', 'vit-8-1'])
def test_evaluation_returns_the_very_same_variables(spec):
    model, seen = small(spec), []
    variables = variables_shape(model, EXAMPLE)

    def predict(variables, x):
        said, after = model.apply(variables, x, key=KEY, train=False)
        assert jax.tree.structure(variables) == jax.tree.structure(after)
        leaves = zip(jax.tree.leaves(variables), jax.tree.leaves(after), strict=True)
        seen.append(all(a is b for a, b in leaves))
        return said

    jax.eval_shape(predict, variables, EXAMPLE)
    assert seen == [True]


def test_evaluation_does_not_look_at_the_batch(resnet):
    variables, x, modes = resnet
    alone = apply(small('resnet8'), variables, x[:1], train=False)[0]
    np.testing.assert_allclose(alone.prediction, modes[False][0].prediction[:1], rtol=1e-4, atol=1e-5)


def test_group_norm_has_no_statistics_and_one_mode():
    model = small('mlp-16', 'group')
    variables, x = made_up(model, EXAMPLE), images(4, 8, 8, 1)
    (trained, after), (evaluated, _) = (apply(model, variables, x, train=train) for train in (True, False))
    assert jax.tree.leaves(variables['stats']) == []
    assert differs(trained, evaluated) == []
    assert differs(variables, after) == []


def test_batch_norm_of_bfloat16_keeps_its_statistics_in_float32():
    layer = norm_layer('batch')(4, rngs=nnx.Rngs(KEY))
    y = layer((100.0 + images(64, 4)).astype(jnp.bfloat16), train=True)
    assert (y.dtype, layer.mean.dtype, layer.var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(layer.mean[...], 10.0, rtol=0.01)


def test_wide_residual_blocks_activate_before_they_convolve():
    model = small('wrn-10-1')
    variables, x = made_up(model, EXAMPLE), images(4, 8, 8, 1)
    said = apply(model, variables, x, train=False)[0]
    params, stats = (jax.tree.map(np.asarray, variables[kind]) for kind in ('params', 'stats'))
    first, second, third = ((params[f'stage{i}']['0'], stats[f'stage{i}']['0']) for i in (1, 2, 3))
    stem = convolution(np.asarray(x), params['stem']['kernel'])
    norm, kernels = running(*first), first[0]
    active = relu(norm('norm1', stem))
    hidden = relu(norm('norm2', convolution(active, kernels['conv1']['kernel'])))
    out = stem + convolution(hidden, kernels['conv2']['kernel'])
    np.testing.assert_allclose(said.taps['stem'], active, rtol=1e-4, atol=1e-5)
    norm, kernels = running(*second), second[0]
    active = relu(norm('norm1', out))
    np.testing.assert_allclose(said.taps['stage1'], active, rtol=1e-4, atol=1e-5)
    hidden = relu(norm('norm2', convolution(active, kernels['conv1']['kernel'], stride=2)))
    residual = convolution(active, kernels['shortcut']['kernel'], stride=2)
    out = residual + convolution(hidden, kernels['conv2']['kernel'])
    active = relu(running(*third)('norm1', out))
    np.testing.assert_allclose(said.taps['stage2'], active, rtol=1e-4, atol=1e-5)


def layer_normalised(x, params):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * params['scale'] + params['bias']


def dense(x, params):
    return x @ params['kernel'] + params['bias']


def attention(x, params, heads):
    """Softmax of q k / sqrt(d), one head at a time; its queries, keys and values lie side by side."""
    outputs = []
    for head in np.split(dense(x, params['qkv']), heads, -1):
        q, k, v = np.split(head, 3, -1)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        outputs.append(weights / weights.sum(-1, keepdims=True) @ v)
    return dense(np.concatenate(outputs, -1), params['out'])


def transformed(x, params, heads):
    x = x + attention(layer_normalised(x, params['norm1']), params['attention'], heads)
    hidden = dense(layer_normalised(x, params['norm2']), params['expand'])
    return x + dense(hidden * scipy.stats.norm.cdf(hidden), params['contract'])


@pytest.mark.parametrize('token', ['', '-token'])
def test_a_transformer_is_the_published_one(token):
    model = small(f'vit-8-2-h2{token}', image_shape=(4, 6, 3))
    x = images(2, 4, 6, 3)
    variables = made_up(model, x)
    said = apply(model, variables, x, train=True)[0]
    params = jax.tree.map(np.asarray, variables['params'])
    corners = [(i, j) for i in (0, 2) for j in (0, 2, 4)]
    patches = [np.asarray(x)[:, i : i + 2, j : j + 2].reshape(2, -1) for i, j in corners]
    z = dense(np.stack(patches, 1), params['embed'])
    if token:
        z = np.concatenate([np.broadcast_to(params['class_token'], (2, 1, 8)), z], 1)
    z = z + params['position']
    for i in ('0', '1'):
        z = transformed(z, params['blocks'][i], heads=2)
        np.testing.assert_allclose(said.taps[f'block{int(i) + 1}'], z, rtol=1e-4, atol=1e-5)
    z = layer_normalised(z, params['norm'])
    pooled = z[:, 0] if token else z.mean(1)
    np.testing.assert_allclose(said.taps['pooled'], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(said.prediction, dense(pooled, params['classifier']), rtol=1e-4, atol=1e-5)
