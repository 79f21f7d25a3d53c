"""Checkpoints written and read again, and what is said of those that are damaged or do not fit.

That transformers agrees is tested in tests/parity.
"""

import dataclasses
import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import KEY, differs
from safetensors.numpy import load_file, save_file

from kdjax.errors import UserError
from kdjax.models.checkpoints import read_checkpoint, write_checkpoint
from kdjax.models.checkpoints.checkpoint import built
from kdjax.models.decoder import DecoderConfig, gpt2_config
from kdjax.models.encoder import EncoderConfig
from kdjax.models.rope import LlamaScaling

LLAMA = DecoderConfig(vocabulary=31, width=16, depth=2, heads=4, kv_heads=2, hidden=24, context=64)
CONFIGS = {
    'LlamaForCausalLM': dataclasses.replace(LLAMA, rope_scaling=LlamaScaling(8.0, 1.0, 4.0, 32), epsilon=1e-6),
    'Qwen2ForCausalLM': dataclasses.replace(LLAMA, qkv_bias=True, tied=False),
    'Qwen3ForCausalLM': dataclasses.replace(LLAMA, qk_norm=True, head_width=8, rope_theta=1e6),
    'GPT2LMHeadModel': dataclasses.replace(gpt2_config(31, 16, 2, 4, context=32), hidden=24),
    'BertModel': EncoderConfig(31, 16, 2, 4, 24, context=32, types=3, pooler=True),
    'BertForMaskedLM': EncoderConfig(31, 16, 2, 4, 24, context=32, masked_lm=True, epsilon=1e-6),
}


@functools.cache
def variables_of(config):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(built(config).init, KEY, None)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), shapes)


def written(folder, config=LLAMA, **options):
    return write_checkpoint(config, variables_of(config), folder / 'model', **options)


def edited(folder, **changes):
    """config.json with other settings; None takes one away."""
    file = folder / 'config.json'
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


def stored(folder, change):
    """The weights, changed."""
    weights = load_file(folder / 'model.safetensors')
    change(weights)
    save_file(weights, folder / 'model.safetensors')


@pytest.mark.parametrize('architecture', CONFIGS)
@pytest.mark.parametrize('shard_bytes', [10**9, 4000])
def test_what_is_written_is_read_again_bit_for_bit(architecture, shard_bytes, tmp_path):
    config = CONFIGS[architecture]
    folder = written(tmp_path, config, shard_bytes=shard_bytes)
    model, variables, info = read_checkpoint(folder)
    assert differs(variables, variables_of(config)) == []
    assert (info.config, info.architecture, model.name) == (config, architecture, built(config).name)
    files = sorted(path.name for path in folder.iterdir())
    assert (files == ['config.json', 'model.safetensors']) == (shard_bytes == 10**9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['model']


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_sixteen_bits_on_disk_and_in_memory(dtype, tmp_path):
    folder = written(tmp_path, dtype=dtype)
    rounded = jax.tree.map(lambda leaf: leaf.astype(dtype), variables_of(LLAMA))
    _, wide, info = read_checkpoint(folder)
    _, narrow, _ = read_checkpoint(folder, dtype=dtype)
    assert differs(narrow, rounded) == []
    assert differs(wide, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), rounded)) == []
    assert info.settings['torch_dtype'] == dtype
    model, _, _ = read_checkpoint(folder)
    out = model.apply(narrow, jnp.zeros((1, 3), jnp.int32), key=KEY, train=False)[0]
    assert out.prediction.dtype == jnp.float32


def test_the_identity_is_that_of_the_files_and_not_of_the_folder(tmp_path):
    (tmp_path / 'other').mkdir()
    first, second = written(tmp_path), written(tmp_path / 'other')
    identity = read_checkpoint(first)[2].identity
    assert read_checkpoint(second)[2].identity == identity
    stored(second, lambda weights: weights['model.norm.weight'].__setitem__(0, 7.0))
    assert read_checkpoint(second)[2].identity != identity


def test_further_settings_and_files_go_along(tmp_path):
    def beside(folder):
        (folder / 'tokenizer.json').write_text('{}')

    folder = written(tmp_path, settings={'eos_token_id': 5}, beside=beside)
    assert read_checkpoint(folder)[2].settings['eos_token_id'] == 5
    assert (folder / 'tokenizer.json').exists()


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    def beside(folder):
        raise RuntimeError('disk full')

    with pytest.raises(RuntimeError, match='disk full'):
        written(tmp_path, beside=beside)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_not_written_to(tmp_path):
    folder = written(tmp_path)
    with pytest.raises(UserError, match='is already there: write to another folder, or remove it'):
        written(tmp_path)
    assert read_checkpoint(folder)[2].config == LLAMA


def test_what_public_architectures_lack_is_not_written(tmp_path):
    for change in ({'logit_cap': 30.0}, {'norm': 'layer'}, {'qkv_bias': True, 'mlp_bias': True}):
        with pytest.raises(UserError, match='has the form of none of LlamaForCausalLM, Qwen2ForCausalLM'):
            write_checkpoint(dataclasses.replace(LLAMA, **change), {'params': {}, 'stats': {}}, tmp_path / 'model')


def test_the_variables_of_another_config_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r'blocks/0/mlp/down/kernel has the shape \(24, 16\), the config says \(32,'):
        write_checkpoint(dataclasses.replace(LLAMA, hidden=32), variables_of(LLAMA), tmp_path / 'model')


def test_names_without_prefix_and_in_old_spelling_are_read(tmp_path):
    def old(weights):
        for name in list(weights):
            plain = name.removeprefix('transformer.').removeprefix('bert.')
            plain = plain.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')
            weights[plain] = weights.pop(name)

    for architecture in ('GPT2LMHeadModel', 'BertForMaskedLM'):
        (tmp_path / architecture).mkdir()
        config = CONFIGS[architecture]
        folder = written(tmp_path / architecture, config)
        stored(folder, old)
        assert differs(read_checkpoint(folder)[1], variables_of(config)) == []


def test_tensors_that_carry_nothing_are_skipped(tmp_path):
    def more(weights):
        weights['model.layers.0.self_attn.rotary_emb.inv_freq'] = np.ones(2, np.float32)
        weights['lm_head.weight'] = weights['model.embed_tokens.weight']

    folder = written(tmp_path)
    stored(folder, more)
    assert differs(read_checkpoint(folder)[1], variables_of(LLAMA)) == []


@pytest.mark.parametrize(
    ('settings', 'theta', 'scaling'),
    [
        ({'rope_theta': 5.0}, 5.0, None),
        ({'rope_theta': None, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 6.0}}, 6.0, None),
        (
            {
                'rope_theta': 5.0,
                'rope_scaling': {
                    'rope_type': 'llama3', 'factor': 2, 'low_freq_factor': 1, 'high_freq_factor': 4,
                    'original_max_position_embeddings': 16,
                },
            },
            5.0,
            LlamaScaling(2.0, 1.0, 4.0, 16),
        ),
    ],
)  # fmt: skip
def test_rope_in_the_words_of_transformers_4_and_5(settings, theta, scaling, tmp_path):
    folder = written(tmp_path)
    edited(folder, **settings)
    config = read_checkpoint(folder)[2].config
    assert (config.rope_theta, config.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'architectures': ['LLamaForCausalLM']}, "unknown architecture in '.*config.json' 'LLamaForCausalLM'; did"),
        ({'architectures': None}, r"unknown architecture in '.*config.json' '\(none\)'"),
        ({'hidden_act': 'relu'}, "hidden_act is 'relu', and kdjax has 'silu' only"),
        ({'rope_scaling': {'rope_type': 'yarn', 'factor': 2.0}}, "RoPE of type 'yarn'; kdjax has 'default'"),
        ({'hidden_size': None}, "config.json has no 'hidden_size'"),
        ({'quantization_config': {'bits': 4}}, 'is quantised: use the checkpoint that it was made from'),
        (
            {'intermediate_size': 32},
            r'model.layers.0.mlp.gate_proj.weight has the shape \(24, 16\), config.json says \(32, 16\): use the',
        ),
        ({'vocab_size': 40}, r'model.embed_tokens.weight has the shape \(31, 16\), config.json says \(40, 16\)'),
        ({'num_hidden_layers': 3}, r'model.layers.2.input_layernorm.weight, .* and 6 more are missing'),
        ({'num_hidden_layers': 1}, r'model.layers.1.input_layernorm.weight, .* too many for config.json'),
        ({'tie_word_embeddings': False}, 'lm_head.weight is missing for its config.json: fetch'),
        ({'num_key_value_heads': 3}, 'kv_heads=3 does not divide heads=4'),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(changes, message, tmp_path):
    folder = written(tmp_path)
    edited(folder, **changes)
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder)


def truncate(folder):
    file = folder / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:-100])


def foreign(folder):
    (folder / 'model.safetensors').write_bytes(b'PK\x03\x04 something else entirely, of some length')


def integers(folder):
    stored(folder, lambda weights: weights.update({'model.norm.weight': np.ones(16, np.int8)}))


def only_a_pickle(folder):
    (folder / 'model.safetensors').unlink()
    (folder / 'pytorch_model.bin').write_bytes(pickle.dumps({}))


def no_weights(folder):
    (folder / 'model.safetensors').unlink()


def no_config(folder):
    (folder / 'config.json').unlink()


def half_a_config(folder):
    (folder / 'config.json').write_text('{"architectures": [')


def lost_shard(folder):
    index = {'weight_map': {'model.norm.weight': 'model-00001-of-00002.safetensors'}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


def shard_elsewhere(folder):
    index = {'weight_map': {'model.norm.weight': '../model.safetensors'}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


def no_index(folder):
    (folder / 'model.safetensors.index.json').write_text('[]')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (truncate, 'model.safetensors. is truncated, or no safetensors file .*: fetch it again'),
        (foreign, 'model.safetensors. is truncated, or no safetensors file'),
        (integers, 'model.norm.weight is I8, not one of F32, BF16, F16, F64'),
        (only_a_pickle, 'pytorch_model.bin, a pickle, which can execute any code when it is read: convert it'),
        (no_weights, 'has no model.safetensors and no model.safetensors.index.json'),
        (no_config, 'config.json. does not exist: a checkpoint is a folder with config.json'),
        (half_a_config, 'config.json. is not JSON'),
        (lost_shard, 'lacks model-00001-of-00002.safetensors, which model.safetensors.index.json names'),
        (shard_elsewhere, "names '../model.safetensors', no file of its own folder: do not trust it"),
        (no_index, 'is no index of safetensors files'),
    ],
)
def test_files_that_are_damaged_or_foreign(damage, message, tmp_path):
    folder = written(tmp_path)
    damage(folder)
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder)


def test_no_folder_and_no_such_dtype(tmp_path):
    with pytest.raises(UserError, match='is no folder: a checkpoint is a folder'):
        read_checkpoint(tmp_path / 'nowhere')
    with pytest.raises(UserError, match="unknown dtype of a checkpoint 'float8'"):
        read_checkpoint(tmp_path, dtype='float8')
    with pytest.raises(UserError, match="unknown dtype of a checkpoint 'int8'"):
        written(tmp_path, dtype='int8')
