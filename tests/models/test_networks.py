"""The networks: taps and their shapes, published sizes, dtypes, normalisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import KEY, SIZES, images, made_up, outputs_shape, shape, small, variables_shape

from kdjax.errors import UserError
from kdjax.models import from_nnx, named
from kdjax.models.count import parameters
from kdjax.models.norms import BatchNorm, GroupNorm
from kdjax.models.vit import LayerNorm, vit

TOKENS = {8: 16, 28: 49, 32: 64}
CHANNELS = {'resnet8': (16, 16, 32, 64), 'resnet8x4': (32, 64, 128, 256), 'wrn-10-2': (16, 32, 64, 128)}


def evaluated(model, x):
    """The outputs of a model with arbitrary variables."""
    return jax.jit(functools.partial(model.apply, key=KEY, train=False))(made_up(model, x), x)[0]


def sizes(taps):
    return {name: tap.shape for name, tap in taps.items()}


@pytest.mark.parametrize('image_shape', SIZES, ids=str)
@pytest.mark.parametrize('norm', ['batch', 'group'])
@pytest.mark.parametrize('spec', CHANNELS)
def test_residual_networks_tap_the_stem_every_stage_and_the_average(spec, norm, image_shape):
    said = outputs_shape(small(spec, norm, image_shape), shape(2, *image_shape), train=True)
    side, channels = image_shape[0], CHANNELS[spec]
    sides = (side, side, side // 2, side // 4)
    names = ('stem', 'stage1', 'stage2', 'stage3')
    maps = {n: (2, s, s, c) for n, s, c in zip(names, sides, channels, strict=True)}
    assert sizes(said.taps) == {**maps, 'pooled': (2, channels[-1])}
    assert said.prediction.shape == (2, 3)


@pytest.mark.parametrize('image_shape', SIZES, ids=str)
def test_transformers_tap_every_block_and_four_stages(image_shape):
    said = outputs_shape(small('vit-16-6', image_shape=image_shape), shape(2, *image_shape), train=True)
    tokens = (2, TOKENS[image_shape[0]], 16)
    names = [f'block{i}' for i in range(1, 7)] + [f'stage{i}' for i in range(1, 5)]
    assert sizes(said.taps) == {**dict.fromkeys(names, tokens), 'pooled': (2, 16)}
    assert said.prediction.shape == (2, 3)


@pytest.mark.parametrize('image_shape', SIZES, ids=str)
@pytest.mark.parametrize('norm', ['batch', 'group', 'none'])
def test_mlp_taps_every_hidden_layer(norm, image_shape):
    said = outputs_shape(small('mlp-24-16', norm, image_shape), shape(2, *image_shape), train=True)
    assert sizes(said.taps) == {'hidden1': (2, 24), 'hidden2': (2, 16), 'pooled': (2, 16)}
    assert said.prediction.shape == (2, 3)


@pytest.mark.parametrize(
    ('spec', 'published'),
    [
        ('resnet20', 278_324),
        ('resnet56', 861_620),
        ('resnet8x4', 1_233_540),
        ('resnet32x4', 7_433_860),
        ('wrn-16-2', 703_284),
        ('wrn-40-2', 2_255_156),
    ],
)
def test_parameters_are_as_many_as_the_published_networks_have(spec, published):
    model = named(spec, classes=100, image_shape=(32, 32, 3))
    assert parameters(variables_shape(model, shape(1, 32, 32, 3))) == published


@pytest.mark.parametrize('spec', ['mlp-8', 'resnet8', 'wrn-10-1', 'vit-8-2'])
def test_bfloat16_activations_leave_parameters_statistics_and_logits_in_float32(spec):
    model, example = named(spec, classes=3, image_shape=(8, 8, 1), dtype=jnp.bfloat16), shape(2, 8, 8, 1)
    said = outputs_shape(model, example, train=True)
    assert {tap.dtype for name, tap in said.taps.items() if name != 'pooled'} == {jnp.dtype(jnp.bfloat16)}
    assert {said.prediction.dtype, said.taps['pooled'].dtype} == {jnp.dtype(jnp.float32)}
    kept = {leaf.dtype for leaf in jax.tree.leaves(variables_shape(model, example))}
    assert kept == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize('image_shape', SIZES, ids=str)
def test_a_class_token_comes_before_the_patches(image_shape):
    said = outputs_shape(small('vit-16-5-token', image_shape=image_shape), shape(2, *image_shape))
    assert said.taps['stage1'].shape == (2, TOKENS[image_shape[0]] + 1, 16)
    assert (said.taps['pooled'].shape, said.prediction.shape) == ((2, 16), (2, 3))


def test_transformer_stages_are_the_ends_of_its_quarters():
    said = evaluated(vit(8, 6, classes=3, image_shape=(4, 4, 1), heads=2), images(2, 4, 4, 1)).taps
    assert not jnp.array_equal(said['block1'], said['block2'])
    for stage, block in {1: 2, 2: 3, 3: 5, 4: 6}.items():
        assert jnp.array_equal(said[f'stage{stage}'], said[f'block{block}'])


def test_wide_resnet_taps_are_activated_and_its_last_map_is_pooled():
    said = evaluated(small('wrn-10-1', 'group', (4, 4, 1)), images(2, 4, 4, 1)).taps
    for name in ('stem', 'stage1', 'stage2', 'stage3'):
        assert jnp.min(said[name]) == 0.0 < jnp.max(said[name])
    np.testing.assert_allclose(said['stage3'].mean((1, 2)), said['pooled'], rtol=1e-5)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match=r"unknown pooling 'max'; .*known: mean, token"):
        vit(8, 1, classes=3, image_shape=(4, 4, 1), pooling='max')


class Normalised(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x, *, train, key):
        del key
        return self.layer(x) if isinstance(self.layer, LayerNorm) else self.layer(x, train=train)


def test_batch_norm_of_a_single_row_is_finite():
    model = from_nnx(lambda rngs: Normalised(BatchNorm(3, rngs=rngs)), name='norm')
    x = jnp.ones((1, 3))
    said, moved = model.apply(model.init(KEY, x), x, key=KEY, train=True)
    assert jnp.array_equal(said.prediction, jnp.zeros((1, 3)))
    np.testing.assert_allclose(moved['stats']['layer']['var'], 0.9, rtol=1e-6)


def test_batch_norm_of_a_constant_channel_far_from_zero_has_no_variance():
    model = from_nnx(lambda rngs: Normalised(BatchNorm(2, rngs=rngs)), name='norm')
    x = jnp.full((8, 2), 1000.1)
    said, _ = model.apply(model.init(KEY, x), x, key=KEY, train=True)
    assert jnp.max(jnp.abs(said.prediction)) < 0.1


def test_group_norm_normalises_each_example_over_groups_of_channels():
    model = from_nnx(lambda rngs: Normalised(GroupNorm(16, rngs=rngs)), name='norm')
    x = 3.0 * images(4, 2, 2, 16) + 5.0
    said, _ = model.apply(model.init(KEY, x), x, key=KEY, train=True)
    groups = np.asarray(x).reshape(4, 2, 2, 8, 2)
    centred = groups - groups.mean((1, 2, 4), keepdims=True)
    expected = (centred / np.sqrt(groups.var((1, 2, 4), keepdims=True) + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(said.prediction, expected, atol=1e-5)
