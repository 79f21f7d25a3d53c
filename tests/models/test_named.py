"""Names of models, and what is refused."""

import re

import jax
import jax.numpy as jnp
import pytest

from kdjax.errors import UserError
from kdjax.models import named
from kdjax.models.named import EXAMPLES
from kdjax.models.vit import vit

IMAGE = (8, 8, 1)


def test_a_name_says_all_that_a_model_is_built_from():
    assert named('resnet8x4', classes=3, image_shape=IMAGE).name == (
        "resnet8x4(classes=3, image_shape=(8, 8, 1), norm='batch')"
    )
    assert named('vit-64-4', classes=3, image_shape=IMAGE).name == (
        'vit-64-4-p2-h4(classes=3, image_shape=(8, 8, 1))'
    )


@pytest.mark.parametrize('spec', EXAMPLES)
def test_every_example_builds(spec):
    model = named(spec, classes=3, image_shape=IMAGE)
    images = jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert shapes['params']['classifier']['bias'].shape == (3,)


def test_options_of_a_transformer():
    model = named('vit-32-3-p4-h8-token', classes=3, image_shape=IMAGE)
    same = vit(32, 3, classes=3, image_shape=IMAGE, patch=4, heads=8, pooling='token')
    assert model.name == same.name
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32))
    assert shapes['params']['position'].shape == (1, 5, 32)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('resent8', "unknown model 'resent8'; did you mean 'resnet8'?"),
        ('wrn-16', "unknown model 'wrn-16'; did you mean 'wrn-16-"),
        ('resnet9', 'resnet of depth 9: the depth is 6n + 2, e.g. 8 or 14'),
        ('resnet2', 'resnet of depth 2: the depth is 6n + 2, e.g. 8 or 14'),
        ('wrn-18-2', 'wrn of depth 18: the depth is 6n + 4, e.g. 16 or 22'),
        ('wrn-16-0', 'wrn-16-0: the widening factor is at least 1'),
        ('mlp-0', 'an MLP needs at least one hidden width, all of them positive; got (0,)'),
        ('vit-30-4', 'vit-30-4-p2-h4: width, depth and heads are positive, and heads divides width'),
        ('vit-32-4-p3', 'vit-32-4-p3-h4: patch 3 does not divide the image 8x8'),
    ],
)
def test_refused_specifications(spec, message):
    with pytest.raises(UserError, match=re.escape(message)):
        named(spec, classes=3, image_shape=IMAGE)


def test_an_unknown_specification_shows_the_grammar():
    with pytest.raises(UserError, match=r'grammar: mlp-WIDTH-WIDTH\.\.\., resnetDEPTH'):
        named('transformer', classes=3, image_shape=IMAGE)


@pytest.mark.parametrize('spec', ['resnet8', 'wrn-10-1'])
def test_residual_networks_need_a_norm(spec):
    with pytest.raises(UserError, match=r"unknown norm 'none'; .*known: batch, group"):
        named(spec, classes=3, image_shape=IMAGE, norm='none')


def test_unknown_norm_and_pooling():
    with pytest.raises(UserError, match=r"unknown norm 'bach'; did you mean 'batch'\?"):
        named('mlp-8', classes=3, image_shape=IMAGE, norm='bach')
    with pytest.raises(UserError, match=r"unknown pooling 'max'"):
        vit(8, 1, classes=3, image_shape=IMAGE, pooling='max')
