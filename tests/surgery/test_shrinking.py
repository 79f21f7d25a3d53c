"""A decoder cut smaller: which parts are kept, and that what carries nothing can go without a trace."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.models.decoder import DecoderConfig, decoder, gpt2_config
from kdjax.surgery import kept_layers, shrink
from kdjax.surgery.freezing import paths
from kdjax.surgery.shrinking import read_sizes

LLAMA = DecoderConfig(31, 16, 4, 4, 24, kv_heads=2, head_width=4, tied=False, qkv_bias=True, qk_norm=True)
GPT2 = gpt2_config(31, 16, 4, 4, context=12)
TOKENS = np.arange(12, dtype=np.int32).reshape(2, 6)
KEY = jax.random.key(0)


def variables_of(config, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(decoder(config).init, KEY, None)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, jnp.float32), shapes)


def logits(config, variables):
    said = jax.jit(lambda v: decoder(config).apply(v, jnp.asarray(TOKENS), key=KEY, train=False)[0].prediction)
    return said(variables)


def edited(variables, change):
    """`change(path, array)` of every parameter."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(variables['params'])
    said = [change(jax.tree_util.keystr(path, simple=True, separator='/'), leaf) for path, leaf in leaves]
    return {'params': jax.tree.unflatten(tree, said), 'stats': {}}


@pytest.mark.parametrize(
    ('depth', 'layers', 'kept'),
    [(30, 10, (0, 3, 6, 10, 13, 16, 19, 23, 26, 29)), (12, 6, (0, 2, 4, 7, 9, 11)), (5, 5, (0, 1, 2, 3, 4)),
     (7, 1, (0,))],
)  # fmt: skip
def test_blocks_are_spread_evenly_with_the_first_and_the_last(depth, layers, kept):
    assert kept_layers(depth, layers) == kept


@pytest.mark.parametrize('config', [LLAMA, GPT2], ids=['llama', 'gpt2'])
def test_kept_blocks_are_the_same_arrays_under_new_numbers(config):
    variables = variables_of(config)
    smaller, cut = shrink(config, variables, layers=2)
    assert smaller == dataclasses.replace(config, depth=2)
    old, new = paths(variables['params']), paths(cut['params'])
    for path, leaf in new.items():
        origin = path.replace('blocks/1/', 'blocks/3/')
        np.testing.assert_array_equal(leaf, old[origin])


@pytest.mark.parametrize('config', [LLAMA, GPT2], ids=['llama', 'gpt2'])
@pytest.mark.parametrize('sizes', [{'width': 8}, {'hidden': 10}, {'heads': 2}, {'layers': 3, 'width': 8, 'heads': 2}])
def test_the_smaller_config_is_that_of_the_smaller_arrays(config, sizes):
    smaller, cut = shrink(config, variables_of(config), **sizes)
    expected = jax.eval_shape(decoder(smaller).init, KEY, None)
    assert jax.tree.map(jnp.shape, cut['params']) == jax.tree.map(jnp.shape, expected['params'])


def test_blocks_that_add_nothing_go_without_a_trace():
    config = dataclasses.replace(LLAMA, depth=3)
    variables = edited(
        variables_of(config),
        lambda path, leaf: leaf * 0 if path.startswith('blocks/1/') and ('out/' in path or 'down/' in path) else leaf,
    )
    np.testing.assert_allclose(logits(config, variables), logits(*shrink(config, variables, layers=2)), atol=1e-5)


@pytest.mark.parametrize('config', [LLAMA, GPT2], ids=['llama', 'gpt2'])
def test_hidden_units_that_say_nothing_go_first_and_without_a_trace(config):
    silent = np.arange(config.hidden) % 3 == 1

    def change(path, leaf):
        return jnp.where(silent[:, None], 0, leaf) if path.endswith('down/kernel') else leaf

    variables = edited(variables_of(config), change)
    kept = shrink(config, variables, hidden=int((~silent).sum()))
    np.testing.assert_allclose(logits(config, variables), logits(*kept), atol=1e-4)


def test_groups_of_heads_that_say_nothing_go_first_and_without_a_trace():
    def change(path, leaf):
        first = int(path.split('/')[1]) % 2 if path.startswith('blocks/') else 0
        group = np.arange(16) // 8 == first
        return jnp.where(group[:, None], 0, leaf) if path.endswith('out/kernel') else leaf

    variables = edited(variables_of(LLAMA), change)
    np.testing.assert_allclose(logits(LLAMA, variables), logits(*shrink(LLAMA, variables, heads=2)), atol=1e-5)


def test_features_that_nobody_writes_go_first_and_without_a_trace():
    silent = np.arange(16) % 2 == 0
    config = dataclasses.replace(LLAMA, epsilon=1e-12)

    def change(path, leaf):
        written = path.endswith(('embedding/table', 'out/kernel', 'down/kernel'))
        return jnp.where(silent[None], 0, leaf) if written else leaf

    variables = edited(variables_of(config), change)
    smaller, cut = shrink(config, variables, width=8)

    def norms(path, leaf):  # the mean square over half the features is twice as large
        return leaf * 2**0.5 if path.endswith(('norm1/scale', 'norm2/scale')) or path == 'norm/scale' else leaf

    np.testing.assert_allclose(logits(config, variables), logits(smaller, edited(cut, norms)), rtol=1e-3, atol=1e-3)


def test_what_is_kept_stays_in_its_order():
    variables = edited(
        variables_of(LLAMA), lambda path, leaf: leaf * jnp.arange(1.0, 25)[:, None] if 'down' in path else leaf
    )
    _, cut = shrink(LLAMA, variables, hidden=24)
    jax.tree.map(np.testing.assert_array_equal, cut['params'], variables['params'])


def test_sizes_are_read():
    assert read_sizes('layers=6, width=512') == {'layers': 6, 'width': 512}


@pytest.mark.parametrize(
    ('text', 'said'),
    [('layers', "'layers' in 'shrink:layers'"), ('depth=3', 'write layers=N, heads=N, hidden=N, width=N'),
     ('layers=2,layers=3', 'each once'), ('layers=-1', "'layers=-1'"), ('', "'' in 'shrink:'")],
)  # fmt: skip
def test_sizes_that_cannot_be_read_are_named(text, said):
    with pytest.raises(UserError, match=said):
        read_sizes(text)


@pytest.mark.parametrize(
    ('sizes', 'said'),
    [({'layers': 5}, 'layers=5: the decoder has 4, choose from 1 to that'),
     ({'width': 0}, 'width=0: the decoder has 16'),
     ({'heads': 3}, 'heads=3: 2 query heads share one of keys and values, choose a multiple of 2'),
     ({'kv_heads': 1}, "'kv_heads' of a decoder cannot be cut: layers, heads, hidden, width can")],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_named(sizes, said):
    with pytest.raises(UserError, match=said):
        shrink(LLAMA, variables_of(LLAMA), **sizes)
