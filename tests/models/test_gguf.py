"""GGUF files: values of every kind of block, llama's order of rows, and damaged files."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf_writer import gguf
from model_cases import KEY

from kdjax.errors import UserError
from kdjax.models.checkpoints import gguf_config, load, read_gguf, write_checkpoint
from kdjax.models.checkpoints.gguf_file import GGUF
from kdjax.models.checkpoints.renaming import by_path
from kdjax.models.decoder import DecoderConfig, decoder

CONFIG = DecoderConfig(vocabulary=32, width=64, depth=2, heads=4, kv_heads=2, hidden=32, context=128, rope_theta=1e5)
METADATA = {
    'general.architecture': 'llama',
    'llama.block_count': 2,
    'llama.context_length': 128,
    'llama.embedding_length': 64,
    'llama.feed_forward_length': 32,
    'llama.attention.head_count': 4,
    'llama.attention.head_count_kv': 2,
    'llama.rope.freq_base': 1e5,
    'llama.attention.layer_norm_rms_epsilon': 1e-5,
    'tokenizer.ggml.tokens': [f'token {i} é' for i in range(32)],
}
NAMES = {
    'embedding/table': 'token_embd',
    'norm/scale': 'output_norm',
    'head/table': 'output',
    'norm1/scale': 'attn_norm',
    'norm2/scale': 'ffn_norm',
    'attention/q/kernel': 'attn_q',
    'attention/k/kernel': 'attn_k',
    'attention/v/kernel': 'attn_v',
    'attention/out/kernel': 'attn_output',
    'mlp/gate/kernel': 'ffn_gate',
    'mlp/up/kernel': 'ffn_up',
    'mlp/down/kernel': 'ffn_down',
}


@functools.cache
def variables_of(config):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(decoder(config).init, KEY, None)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), shapes)


def stored(config=CONFIG, kind='F32'):
    """The tensors as llama.cpp has them: rows of queries and keys so that RoPE turns neighbours."""
    tensors = {}
    for path, leaf in by_path(variables_of(config)['params']).items():
        block, _, rest = path.removeprefix('blocks/').partition('/') if path.startswith('blocks/') else ('', '', path)
        array = np.asarray(leaf) if rest.endswith(('table', 'scale')) else np.asarray(leaf).T
        if rest in ('attention/q/kernel', 'attention/k/kernel'):
            rows = np.arange(len(array)).reshape(-1, 2, config.head_width // 2)
            array = array[np.stack([rows[:, 0], rows[:, 1]], axis=-1).reshape(-1)]
        name = f'blk.{block}.{NAMES[rest]}' if block else NAMES[rest]
        tensors[f'{name}.weight'] = (array, kind if array.ndim > 1 else 'F32')
    return tensors


def placed(folder, content):
    path = folder / 'model.gguf'
    path.write_bytes(content)
    return path


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('version', [2, 3])
def test_a_llama_is_read_into_the_order_of_its_hugging_face_checkpoint(tied, version, tmp_path):
    config = dataclasses.replace(CONFIG, tied=tied)
    model, variables, metadata = read_gguf(placed(tmp_path, gguf(METADATA, stored(config), version)))
    assert model.name == decoder(config).name
    assert gguf_config(metadata, tied=tied) == config
    assert metadata['tokenizer.ggml.tokens'][7] == 'token 7 é'
    jax.tree.map(np.testing.assert_array_equal, variables, variables_of(config))


def test_a_path_is_loaded_by_its_kind(tmp_path):
    folder = write_checkpoint(CONFIG, variables_of(CONFIG), tmp_path / 'folder')
    file = placed(tmp_path, gguf(METADATA, stored()))
    (_, first, of_folder), (_, second, of_file) = load(folder), load(file)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert of_folder.config == of_file.config == CONFIG
    assert (of_file.architecture, of_file.files) == ('llama', (file,))
    assert of_file.settings['tokenizer.ggml.tokens'][3] == 'token 3 é'


@pytest.mark.parametrize(
    ('kind', 'error'), [('F16', 5e-4), ('BF16', 8e-3), ('Q8_0', 5e-3), ('Q4_1', 0.08), ('Q4_0', 0.08)]
)
def test_stored_values_are_those_written_but_for_rounding(kind, error, tmp_path):
    file = GGUF(placed(tmp_path, gguf(METADATA, stored(kind=kind))))
    for name, (array, _) in stored().items():
        got = file.read(name)
        assert got.dtype == np.float32
        assert np.abs(got - array).max() <= (error * np.abs(array).max() if array.ndim > 1 else 0)


def test_weights_in_sixteen_bits(tmp_path):
    _, variables, _ = read_gguf(placed(tmp_path, gguf(METADATA, stored())), dtype='bfloat16')
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('bfloat16')}


@pytest.mark.parametrize('kind', ['Q4_0', 'Q4_1', 'Q8_0', 'BF16'])
@pytest.mark.filterwarnings('ignore')
def test_blocks_mean_what_they_mean_to_the_package_gguf(kind, tmp_path):
    theirs = pytest.importorskip('gguf')
    path = placed(tmp_path, gguf(METADATA, stored(kind=kind)))
    ours = GGUF(path)
    for tensor in theirs.GGUFReader(path).tensors:
        got = theirs.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.read(tensor.name), got.reshape(ours.tensors[tensor.name].shape))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'general.architecture': 'gemma2'}, "unknown architecture of a GGUF file 'gemma2'; known: llama"),
        ({'llama.rope.scaling.type': 'yarn'}, r'scales RoPE \(yarn\), which is not read'),
        ({'llama.embedding_length': None}, "no 'llama.embedding_length' in its metadata"),
        ({'llama.feed_forward_length': 64}, r'ffn_\w+.weight has the shape .*, its metadata say .*: fetch it again'),
        ({'llama.block_count': 1}, r'also holds blk.1.attn_k.weight, .* \(9 in all\), unlike a llama of the size'),
        ({'llama.block_count': 3}, r'lacks blk.2.attn_k.weight, .* \(9 in all\)'),
    ],
)
def test_metadata_that_do_not_fit(changes, message, tmp_path):
    metadata = {key: value for key, value in (METADATA | changes).items() if value is not None}
    with pytest.raises(UserError, match=message):
        read_gguf(placed(tmp_path, gguf(metadata, stored())))


@pytest.mark.parametrize(
    ('damaged', 'message'),
    [
        (lambda content: content[:-1000], 'is truncated: it ends before the tensor .*: fetch it again'),
        (lambda content: content[:200], r'is truncated or damaged \(the file ends at byte 200, inside its header\)'),
        (lambda content: b'', 'model.gguf. is truncated or damaged'),
        (lambda content: b'PK\x03\x04' + content[4:], "is no GGUF file: its first bytes are not 'GGUF'"),
        (lambda content: content[:4] + b'\x01' + content[5:], 'is GGUF of version 1; 2 and 3 are read'),
        (lambda content: content[:16] + b'\xff' * 8 + content[24:], 'is truncated or damaged'),
        (lambda content: content[:24] + b'\xff' * 8 + content[32:], 'is truncated or damaged'),
    ],
)
def test_files_that_are_damaged_or_foreign(damaged, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_gguf(placed(tmp_path, damaged(gguf(METADATA, stored()))))


def test_other_kinds_of_blocks_are_refused_by_name(tmp_path):
    content = gguf(METADATA, stored(kind='BF16'))
    at = content.index(b'token_embd.weight') + len(b'token_embd.weight') + 4 + 2 * 8
    assert content[at] == 30
    with pytest.raises(UserError, match=r'token_embd.weight is stored as ggml type 12; F32, F16, Q4_0'):
        read_gguf(placed(tmp_path, content[:at] + b'\x0c' + content[at + 1 :]))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match='is no file: a GGUF checkpoint is one file'):
        read_gguf(tmp_path)
