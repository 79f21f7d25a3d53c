"""The same weights in transformers and here give the same outputs, whoever wrote the checkpoint."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import their_library

from kdjax.models.checkpoints import read_checkpoint, write_checkpoint
from kdjax.models.decoder import DecoderConfig, DecoderInputs, decoder, decoder_cache, gpt2_config
from kdjax.models.encoder import EncoderConfig, encoder

torch = pytest.importorskip('torch')
transformers = their_library.transformers()
pytestmark = pytest.mark.filterwarnings('ignore')

KEY = jax.random.key(0)
SIZES = {'vocab_size': 67, 'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 2, 'num_attention_heads': 4}
LLAMA = {**SIZES, 'num_key_value_heads': 2, 'max_position_embeddings': 64}
SCALED = {
    'rope_type': 'llama3', 'rope_theta': 500.0, 'factor': 4.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
    'original_max_position_embeddings': 16,
}  # fmt: skip
GPT2 = {'vocab_size': 67, 'n_embd': 32, 'n_layer': 2, 'n_head': 4, 'n_positions': 48}
BERT = {**SIZES, 'max_position_embeddings': 40}
THEIRS = {
    'llama': ('Llama', 'ForCausalLM', {**LLAMA, 'tie_word_embeddings': False}),
    'llama-tied': ('Llama', 'ForCausalLM', {**LLAMA, 'tie_word_embeddings': True, 'rope_parameters': SCALED}),
    'llama-biases': ('Llama', 'ForCausalLM', {**LLAMA, 'attention_bias': True, 'mlp_bias': True, 'head_dim': 16}),
    'mistral': ('Mistral', 'ForCausalLM', {**LLAMA, 'sliding_window': None}),
    'qwen2': ('Qwen2', 'ForCausalLM', {**LLAMA, 'tie_word_embeddings': True}),
    'qwen3': ('Qwen3', 'ForCausalLM', {**LLAMA, 'head_dim': 16, 'tie_word_embeddings': False}),
    'gpt2': ('GPT2', 'LMHeadModel', GPT2),
    'bert': ('Bert', 'Model', BERT),
    'bert-masked-lm': ('Bert', 'ForMaskedLM', BERT),
}
OURS = {
    'llama': DecoderConfig(67, 32, 2, 4, 40, kv_heads=2, tied=False, context=64, rope_theta=700.0),
    'llama-tied': DecoderConfig(67, 32, 2, 4, 40, kv_heads=1, head_width=16, epsilon=1e-3, mlp_bias=True, context=64),
    'qwen2': DecoderConfig(67, 32, 2, 4, 40, kv_heads=2, qkv_bias=True, context=64),
    'qwen3': DecoderConfig(67, 32, 2, 4, 40, kv_heads=2, head_width=16, qk_norm=True, tied=False, context=64),
    'gpt2': gpt2_config(67, 32, 2, 4, context=48),
    'bert': EncoderConfig(67, 32, 2, 4, 40, context=40, pooler=True),
    'bert-masked-lm': EncoderConfig(67, 32, 2, 4, 40, context=40, masked_lm=True),
}


def tokens(length=17):
    return np.random.default_rng(0).integers(0, 67, (3, length)).astype(np.int32)


@functools.cache
def rows():
    """Tokens, and which of them are no padding."""
    mask = np.ones((3, 17), np.int32)
    mask[1, 9:] = 0
    return tokens(), mask


def close(ours, theirs, where=slice(None)):
    ours, theirs = np.asarray(ours, np.float32)[where], theirs.detach().float().numpy()[where]
    assert theirs.std() > 0.01
    assert np.abs(ours - theirs).max() < 1e-4


def arbitrary(module):
    """Their initialisation leaves biases at 0 and scales at 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.ndim == 1))
    return module.eval()


def their_model(name):
    kind, head, sizes = THEIRS[name]
    config = getattr(transformers, f'{kind}Config')(**sizes)
    return arbitrary(getattr(transformers, f'{kind}{head}')(config))


def compare(ours, variables, theirs):
    """Predictions and every hidden state."""
    ids, mask = rows()
    with torch.no_grad():
        said = theirs(torch.tensor(ids).long(), attention_mask=torch.tensor(mask), output_hidden_states=True)
    is_encoder = theirs.config.model_type == 'bert'
    inputs = (jnp.asarray(ids), jnp.asarray(mask, bool) if is_encoder else jnp.asarray(mask))
    out = jax.jit(functools.partial(ours.apply, key=KEY, train=False))(variables, inputs)[0]
    real = mask.astype(bool)
    close(out.prediction, said.logits if hasattr(said, 'logits') else said.last_hidden_state, real)
    close(out.taps['embedded'], said.hidden_states[0], real)
    close(out.taps['block1'], said.hidden_states[1], real)
    close(out.taps['hidden'], said.hidden_states[2], real)
    if getattr(said, 'pooler_output', None) is not None:
        close(out.taps['pooler'], said.pooler_output)


@pytest.mark.parametrize('name', THEIRS)
def test_their_checkpoint_read_here(name, tmp_path):
    theirs = their_model(name)
    theirs.save_pretrained(tmp_path / 'theirs', max_shard_size='20KB' if name == 'qwen3' else '1GB')
    ours, variables, info = read_checkpoint(tmp_path / 'theirs')
    assert info.architecture == type(theirs).__name__
    assert len(info.files) == (2 if name != 'qwen3' else len(list((tmp_path / 'theirs').glob('*.safetensors'))) + 1)
    compare(ours, variables, theirs)


@pytest.mark.parametrize('name', OURS)
def test_our_checkpoint_read_there(name, tmp_path):
    config, sharded = OURS[name], name in ('llama', 'bert')
    model = decoder(config) if isinstance(config, DecoderConfig) else encoder(config)
    rng, example = np.random.default_rng(1), jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, KEY, example)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) * 0.15 + (leaf.ndim == 1), jnp.float32), shapes
    )
    folder = write_checkpoint(config, variables, tmp_path / 'ours', shard_bytes=20_000 if sharded else 10**9)
    assert (len(list(folder.glob('*.safetensors'))) > 1) == sharded
    architecture = json.loads((folder / 'config.json').read_text())['architectures'][0]
    theirs, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    compare(model, variables, theirs.eval())


def test_their_greedy_continuation_is_ours(tmp_path):
    theirs = their_model('qwen3')
    theirs.save_pretrained(tmp_path / 'theirs')
    model, variables, info = read_checkpoint(tmp_path / 'theirs')
    prompt = tokens(5)
    with torch.no_grad():
        said = theirs.generate(
            torch.tensor(prompt).long(), attention_mask=torch.ones(3, 5), max_new_tokens=6, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    apply = jax.jit(functools.partial(model.apply, key=KEY, train=False))
    out = apply(variables, DecoderInputs(jnp.asarray(prompt), cache=decoder_cache(info.config, 3, 11)))[0]
    got = [out.prediction[:, -1].argmax(axis=-1)]
    for _ in range(5):
        following = got[-1].astype(jnp.int32)[:, None]
        out = apply(variables, DecoderInputs(following, cache=out.taps['cache']))[0]
        got.append(out.prediction[:, -1].argmax(axis=-1))
    assert np.array_equal(np.stack(got, axis=1), said[:, 5:].numpy())
