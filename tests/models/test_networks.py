"""The networks: taps and their shapes, published sizes, dtypes."""

import functools

import jax
import jax.numpy as jnp
import pytest

from kdjax.models import named
from kdjax.models.count import parameters
from kdjax.models.vit import vit

IMAGES = {'digits': (8, 8, 1), 'mnist': (28, 28, 1), 'cifar': (32, 32, 3)}
MAPS = {8: (8, 4, 2), 28: (28, 14, 7), 32: (32, 16, 8)}
TOKENS = {8: 16, 28: 49, 32: 64}


def shapes_of(model, image_shape):
    """Outputs and variables by shape; nothing is computed."""
    images = jax.ShapeDtypeStruct((5, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    before = jax.eval_shape(model.init, key, images)
    outputs, after = jax.eval_shape(functools.partial(train, model), before, images, key)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert jax.tree.leaves(after) == jax.tree.leaves(before)
    return outputs, before


def train(model, variables, images, key):
    return model.apply(variables, images, key=key, train=True)


def sizes(taps):
    return {name: tap.shape for name, tap in taps.items()}


@pytest.mark.parametrize('image_shape', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize(
    ('spec', 'stem', 'widths'),
    [('resnet8', 16, (16, 32, 64)), ('resnet8x4', 32, (64, 128, 256)), ('wrn-10-2', 16, (32, 64, 128))],
)
@pytest.mark.parametrize('norm', ['batch', 'group'])
def test_residual_networks_tap_every_stage(spec, stem, widths, norm, image_shape):
    outputs, variables = shapes_of(named(spec, classes=7, image_shape=image_shape, norm=norm), image_shape)
    side = image_shape[0]
    maps = {f'stage{i + 1}': (5, m, m, widths[i]) for i, m in enumerate(MAPS[side])}
    assert outputs.prediction.shape == (5, 7)
    assert sizes(outputs.taps) == {'stem': (5, side, side, stem), **maps, 'pooled': (5, widths[-1])}
    assert bool(jax.tree.leaves(variables['stats'])) == (norm == 'batch')


@pytest.mark.parametrize('image_shape', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize('token', ['', '-token'])
def test_transformers_tap_blocks_and_quarters(token, image_shape):
    outputs, variables = shapes_of(named(f'vit-32-6{token}', classes=7, image_shape=image_shape), image_shape)
    tokens = (5, TOKENS[image_shape[0]] + bool(token), 32)
    names = [f'block{i}' for i in range(1, 7)] + [f'stage{i}' for i in range(1, 5)]
    assert sizes(outputs.taps) == {**dict.fromkeys(names, tokens), 'pooled': (5, 32)}
    assert outputs.prediction.shape == (5, 7)
    assert variables['stats'] == {}


def test_transformer_stages_are_the_ends_of_its_quarters():
    model = vit(8, 6, classes=3, image_shape=(4, 4, 1), heads=2)
    images = jax.random.normal(jax.random.key(2), (2, 4, 4, 1))

    @jax.jit
    def taps(key):
        return model.apply(model.init(key, images), images, key=key, train=False)[0].taps

    said = taps(jax.random.key(0))
    assert not jnp.array_equal(said['block1'], said['block2'])
    for stage, block in {1: 2, 2: 3, 3: 5, 4: 6}.items():
        assert jnp.array_equal(said[f'stage{stage}'], said[f'block{block}'])


@pytest.mark.parametrize('image_shape', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize('norm', ['batch', 'group', 'none'])
def test_mlp_taps_every_hidden_layer(norm, image_shape):
    outputs, _ = shapes_of(named('mlp-24-16', classes=7, image_shape=image_shape, norm=norm), image_shape)
    assert sizes(outputs.taps) == {'hidden1': (5, 24), 'hidden2': (5, 16), 'pooled': (5, 16)}
    assert outputs.prediction.shape == (5, 7)


@pytest.mark.parametrize(
    ('spec', 'published'),
    [
        ('resnet20', 278_324),
        ('resnet32', 472_756),
        ('resnet56', 861_620),
        ('resnet110', 1_736_564),
        ('resnet8x4', 1_233_540),
        ('resnet32x4', 7_433_860),
        ('wrn-16-1', 180_916),
        ('wrn-16-2', 703_284),
        ('wrn-40-1', 569_780),
        ('wrn-40-2', 2_255_156),
    ],
)
def test_parameter_counts_are_those_of_the_literature(spec, published):
    model = named(spec, classes=100, image_shape=(32, 32, 3))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert parameters(jax.eval_shape(model.init, jax.random.key(0), images)) == published


@pytest.mark.parametrize('spec', ['mlp-16', 'resnet8', 'wrn-10-1', 'vit-16-2'])
def test_activations_may_be_bfloat16_and_the_rest_stays_float32(spec):
    model = named(spec, classes=3, image_shape=(8, 8, 1), dtype=jnp.bfloat16)
    outputs, variables = shapes_of(model, (8, 8, 1))
    inner = {tap.dtype for name, tap in outputs.taps.items() if name != 'pooled'}
    assert inner == {jnp.dtype(jnp.bfloat16)}
    assert outputs.prediction.dtype == outputs.taps['pooled'].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert "dtype='bfloat16'" in model.name


def test_wide_resnet_taps_are_activated_and_its_last_map_is_what_is_pooled():
    model = named('wrn-10-1', classes=3, image_shape=(4, 4, 1), norm='group')
    images = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))

    @jax.jit
    def taps(key):
        return model.apply(model.init(key, images), images, key=key, train=False)[0].taps

    said = taps(jax.random.key(0))
    for name in ('stem', 'stage1', 'stage2', 'stage3'):
        assert jnp.min(said[name]) == 0.0 < jnp.max(said[name])
    assert jnp.allclose(jnp.mean(said['stage3'], (1, 2)), said['pooled'], atol=1e-6)
