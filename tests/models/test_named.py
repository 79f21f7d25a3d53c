"""Names of models, and what is refused."""

import re

import pytest
from model_cases import shape, variables_shape

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
def test_every_example_is_a_model(spec):
    assert named(spec, classes=3, image_shape=IMAGE).name.startswith(spec)


@pytest.mark.parametrize(('side', 'depth'), [(4, 1), (8, 2), (15, 2), (16, 3), (28, 3), (64, 3)])
def test_the_last_norm_of_a_convnet_of_no_named_depth_sees_four_places_a_side(side, depth):
    options = {'classes': 3, 'image_shape': (side, side, 1), 'norm': 'instance'}
    assert named('convnet-4', **options).name == named(f'convnet-4-{depth}', **options).name


def test_options_of_a_transformer():
    model = named('vit-32-3-p4-h8-token', classes=3, image_shape=IMAGE)
    assert model.name == vit(32, 3, classes=3, image_shape=IMAGE, patch=4, heads=8, pooling='token').name
    assert variables_shape(model, shape(2, *IMAGE))['params']['position'].shape == (1, 5, 32)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('resent8', "unknown model 'resent8'; did you mean 'resnet8'?"),
        ('wrn-16', "unknown model 'wrn-16'; did you mean 'wrn-16-"),
        ('transformer', 'grammar: mlp-WIDTH-WIDTH..., resnetDEPTH'),
        ('resnet9', 'resnet of depth 9: the depth is 6n + 2, e.g. 8 or 14'),
        ('resnet2', 'resnet of depth 2: the depth is 6n + 2, e.g. 8 or 14'),
        ('wrn-18-2', 'wrn of depth 18: the depth is 6n + 4, e.g. 16 or 22'),
        ('wrn-16-0', 'wrn-16-0: the widening factor is at least 1'),
        ('mlp-0', 'an MLP needs at least one hidden width, all of them positive; got (0,)'),
        ('vit-30-4', 'vit-30-4-p2-h4: width, depth, patch and heads are positive, and heads divides width'),
        ('vit-32-4-p3', 'vit-32-4-p3-h4: patch 3 does not divide the image 8x8'),
    ],
)
def test_refused_specifications(spec, message):
    with pytest.raises(UserError, match=re.escape(message)):
        named(spec, classes=3, image_shape=IMAGE)


@pytest.mark.parametrize('spec', ['resnet8', 'wrn-10-1'])
def test_residual_networks_need_a_norm(spec):
    with pytest.raises(UserError, match=r"unknown norm 'none'; .*known: batch, group"):
        named(spec, classes=3, image_shape=IMAGE, norm='none')


def test_an_unknown_norm_is_refused():
    with pytest.raises(UserError, match=r"unknown norm 'bach'; did you mean 'batch'\?"):
        named('mlp-8', classes=3, image_shape=IMAGE, norm='bach')
