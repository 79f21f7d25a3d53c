"""Learned parts: shapes from shapes, known values, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import KEY, images, made_up, outputs_shape, shape, variables_shape

from kdjax.errors import UserError
from kdjax.models import heads

LOGITS = shape(2, 7)


def exit_of(*stage):
    return heads.exit_branch(shape(*stage), LOGITS, remaining=1)


def evaluated(model, x, variables=None):
    variables = made_up(model, x) if variables is None else variables
    return jax.jit(functools.partial(model.apply, key=KEY, train=False))(variables, x)[0]


@pytest.mark.parametrize(
    ('built', 'read', 'said'),
    [
        (lambda s: heads.linear(s, features=5), (2, 3), (2, 5)),
        (lambda s: heads.linear(s, features=5, bias=False), (2, 4, 3), (2, 4, 5)),
        (lambda s: heads.linear_like(s, shape(9, 6)), (2, 3), (2, 6)),
        (lambda s: heads.conv1x1(s, channels=5), (2, 4, 4, 3), (2, 4, 4, 5)),
        (lambda s: heads.conv1x1_like(s, shape(2, 4, 4, 6)), (2, 4, 4, 3), (2, 4, 4, 6)),
        (lambda s: heads.conv1x1_like(s, shape(2, 2, 1, 6)), (2, 4, 4, 3), (2, 2, 1, 6)),
        (lambda s: heads.regressor_like(s, shape(2, 7, 7, 6)), (2, 8, 8, 3), (2, 7, 7, 6)),
        (lambda s: heads.regressor_like(s, shape(2, 8, 8, 6)), (2, 8, 8, 3), (2, 8, 8, 6)),
        (lambda s: heads.mlp_projector(s, features=5), (2, 3), (2, 5)),
        (lambda s: heads.mlp_projector(s, features=5, hidden=(8, 9), norm='batch'), (2, 4, 3), (2, 4, 5)),
        (lambda s: heads.embedding(s), (2, 4, 4, 3), (2, 128)),
    ],
)
def test_projectors_fit_what_they_read(built, read, said):
    example = shape(*read)
    assert outputs_shape(built(example), example, train=True).prediction.shape == said


def test_a_larger_student_map_is_averaged_before_its_convolution():
    x = images(2, 4, 4, 3)
    model = heads.conv1x1_like(shape(2, 4, 4, 3), shape(2, 2, 2, 5))
    variables = made_up(model, x)
    layer = jax.tree.map(np.asarray, variables['params']['layer'])
    pooled = np.asarray(x).reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    expected = pooled @ layer['kernel'][0, 0] + layer['bias']
    np.testing.assert_allclose(evaluated(model, x, variables).prediction, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('built', 'message'),
    [
        (lambda: heads.conv1x1(shape(2, 3), channels=4), r'a feature map .* is needed, not \(2, 3\)'),
        (lambda: heads.conv1x1_like(shape(2, 4, 4, 3), shape(2, 8, 8, 3)), '4x4 does not pool to 8x8'),
        (lambda: heads.conv1x1_like(shape(2, 7, 7, 3), shape(2, 4, 4, 3)), '7x7 does not pool to 4x4'),
        (lambda: heads.regressor_like(shape(2, 4, 4, 3), shape(2, 8, 8, 3)), 'read an earlier stage'),
        (lambda: heads.mlp_projector(shape(2, 3), features=4, norm='layer'), "unknown norm 'layer'"),
        (lambda: exit_of(2, 3), r'an exit reads a feature map .* not \(2, 3\)'),
        (lambda: exit_of(2, 15, 8), '15 tokens form no square grid'),
        (lambda: exit_of(2, 225, 8), 'a grid of 15x15 tokens does not merge 1 times'),
        (lambda: exit_of(2, 16, 6), '4 heads do not divide a width of 6'),
        (lambda: heads.discriminator(shape(2, 10), shape(2, 9)), 'student has 10 classes, teacher 9'),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(built, message):
    with pytest.raises(UserError, match=message):
        built()


@pytest.mark.parametrize(
    ('stage', 'remaining', 'blocks', 'width'),
    [
        ((2, 32, 32, 16), 3, 3, 64),
        ((2, 8, 8, 16), 2, 2, 64),
        ((2, 2, 2, 16), 3, 1, 64),
        ((2, 2, 2, 96), 1, 1, 96),
    ],
)
def test_a_map_is_halved_once_for_each_remaining_stage_while_it_can_be(stage, remaining, blocks, width):
    model = heads.exit_branch(shape(*stage), LOGITS, shape(2, 64), remaining=remaining)
    said = outputs_shape(model, shape(*stage), train=True)
    assert said.prediction.shape == (2, 7)
    assert said.taps['pooled'].shape == (2, width)
    params = variables_shape(model, shape(*stage))['params']
    assert len(params['blocks']) == blocks
    channels = [params['blocks'][str(i)]['down']['kernel'].shape[-1] for i in range(blocks)]
    assert channels == [stage[-1] * 2**i for i in range(blocks)]


def test_the_exit_of_a_last_stage_is_a_pointwise_convolution():
    stage = shape(2, 2, 2, 16)
    model = heads.exit_branch(stage, LOGITS, remaining=0, features=24)
    params = variables_shape(model, stage)['params']
    assert params['blocks']['0']['conv']['kernel'].shape == (1, 1, 16, 24)
    assert params['classifier']['kernel'].shape == (24, 7)


@pytest.mark.parametrize(
    ('tokens', 'remaining', 'merges', 'blocks'),
    [(16, 3, 0, 3), (17, 1, 0, 1), (49, 0, 0, 1), (64, 2, 0, 2), (196, 2, 1, 2), (785, 1, 2, 1)],
)
def test_tokens_are_merged_to_seven_by_seven_and_pass_a_block_per_remaining_stage(
    tokens, remaining, merges, blocks
):
    stage = shape(2, tokens, 8)
    model = heads.exit_branch(stage, LOGITS, remaining=remaining)
    said = outputs_shape(model, stage, train=True)
    assert (said.prediction.shape, said.taps['pooled'].shape) == ((2, 7), (2, 8))
    params = variables_shape(model, stage)['params']
    assert len(params['blocks']) == blocks
    assert len(params.get('merging', {})) == merges
    assert 'bias' not in params['blocks']['0']['attention']['qkv']


@pytest.mark.parametrize(('classes', 'widths'), [(10, [8, 8, 2]), (1000, [125, 15, 2])])
def test_the_discriminator_narrows_by_eight_down_to_a_floor(classes, widths):
    logits = shape(2, classes)
    model = heads.discriminator(logits, logits)
    said = outputs_shape(model, (logits, logits))
    assert said.prediction.shape == (4, 2)
    assert [said.taps[name].shape for name in ('of_student', 'of_teacher')] == [(2, 2), (2, 2)]
    params = variables_shape(model, (logits, logits))['params']['layers']
    assert [params[str(i)]['kernel'].shape[-1] for i in range(3)] == widths


def test_embeddings_are_unit_vectors_with_finite_gradients_at_zero():
    x = images(3, 2, 2, 2)
    model = heads.embedding(shape(*x.shape), features=4)
    norms = jnp.linalg.norm(evaluated(model, x).prediction, axis=-1)
    np.testing.assert_allclose(norms, 1.0, rtol=1e-5)

    variables = jax.tree.map(jnp.zeros_like, made_up(model, x))
    slope = jax.grad(lambda v: jnp.sum(model.apply(v, x, key=KEY, train=True)[0].prediction))(variables)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slope))
