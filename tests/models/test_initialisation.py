"""What a fresh network is: its name, its draws, and its taps where sides are odd."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import outputs_shape, shape, small, variables_shape

from kdjax.models import named


@pytest.mark.parametrize('spec', ['resnet8', 'vit-8-2'])
def test_every_weight_is_a_draw_of_its_own_from_the_key(spec):
    model, example = small(spec), shape(1, 8, 8, 1)
    init = jax.jit(lambda key: model.init(key, example))
    drawn = (init(jax.random.key(seed, impl='unsafe_rbg'))['params'] for seed in (3, 3, 4))
    first, same, other = ([np.asarray(leaf) for leaf in jax.tree.leaves(params)] for params in drawn)
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    weights = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1]
    assert all((a != b).any() for a, b in weights)
    for (a, _), (b, _) in itertools.combinations(weights, 2):
        assert a.shape != b.shape or (a != b).any()


@pytest.mark.parametrize('spec', ['mlp-8', 'resnet8', 'wrn-10-1', 'vit-8-2'])
def test_variables_are_nested_dicts_with_text_keys(spec):
    variables = variables_shape(small(spec), shape(1, 8, 8, 1))
    assert set(variables) == {'params', 'stats'}

    def plain(tree):
        if type(tree) is dict:
            return all(type(key) is str and plain(value) for key, value in tree.items())
        return type(tree) is jax.ShapeDtypeStruct

    assert plain(variables)


@pytest.mark.parametrize('side', [5, 7])
def test_maps_of_odd_sides_are_halved_rounding_up(side):
    taps = outputs_shape(small('resnet8', image_shape=(side, side, 1)), shape(2, side, side, 1)).taps
    assert [taps[f'stage{i}'].shape[1] for i in (1, 2, 3)] == [side, (side + 1) // 2, (side + 3) // 4]


def test_names_tell_apart_what_is_built_differently():
    options = {'classes': 3, 'image_shape': (8, 8, 1)}
    models = [
        named('resnet8', **options),
        named('resnet8', **{**options, 'classes': 4}),
        named('resnet8', **{**options, 'image_shape': (8, 8, 3)}),
        named('resnet8', norm='group', **options),
        named('resnet8', dtype=jnp.bfloat16, **options),
        named('resnet8x4', **options),
        named('vit-8-2', **options),
        named('vit-8-2-p4', **options),
        named('vit-8-2-h2', **options),
        named('vit-8-2-token', **options),
    ]
    assert len({model.name for model in models}) == len(models)
    assert models[0].name == named('resnet8', **options).name
