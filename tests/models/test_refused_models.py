"""Specifications that name no model, and sizes that cannot be built."""

import pytest

from kdjax.errors import UserError
from kdjax.models import named
from kdjax.models.mlp import mlp

OPTIONS = {'classes': 3, 'image_shape': (8, 8, 1)}


MALFORMED = ('', 'mlp', 'mlp-', 'mlp-a', 'resnet', 'resnet8x', 'resnet8x2', 'Resnet8', 'resnet8 ', 'vit-8')


@pytest.mark.parametrize('spec', MALFORMED)
def test_a_malformed_specification_is_refused_with_the_grammar(spec):
    with pytest.raises(UserError, match=f"unknown model '{spec}'") as error:
        named(spec, **OPTIONS)
    for form in ('mlp-WIDTH', 'resnetDEPTH', 'wrn-DEPTH-', 'vit-WIDTH-DEPTH'):
        assert form in str(error.value)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('resnet12x4', r'resnet of depth 12: the depth is 6n \+ 2, e.g. 8 or 14'),
        ('wrn-4-2', r'wrn of depth 4: the depth is 6n \+ 4, e.g. 10 or 16'),
        ('mlp-8-0-8', r'all of them positive; got \(8, 0, 8\)'),
        ('vit-64-0', 'positive'),
        ('vit-0-4', 'positive'),
        ('vit-64-4-h0', 'vit-64-4-p2-h0: .*heads are positive'),
        ('vit-64-4-h5', 'heads divides width'),
        ('vit-64-4-p0', 'vit-64-4-p0-h4: .*patch.* positive'),
    ],
)
def test_an_impossible_size_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        named(spec, **OPTIONS)


def test_a_patch_must_tile_both_sides():
    with pytest.raises(UserError, match='patch 2 does not divide the image 8x7'):
        named('vit-8-1', classes=3, image_shape=(8, 7, 1))


def test_an_mlp_needs_a_hidden_layer():
    with pytest.raises(UserError, match='at least one hidden width'):
        mlp([], **OPTIONS)
