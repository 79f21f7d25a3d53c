"""Generation as in transformers: what can be drawn, and greedy texts of a padded batch, learned positions included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import their_library

from kdjax.decoding import GREEDY, LanguageModel, Sampling, generate, log_distribution, pad_prompts, speculate
from kdjax.models.checkpoints import read_checkpoint

torch = pytest.importorskip('torch')
transformers = their_library.transformers()
pytestmark = pytest.mark.filterwarnings('ignore')

LLAMA = {
    'vocab_size': 67, 'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2, 'max_position_embeddings': 64, 'tie_word_embeddings': False,
}  # fmt: skip
GPT2 = {'vocab_size': 67, 'n_embd': 32, 'n_layer': 2, 'n_head': 4, 'n_positions': 48}
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]


def their_model(kind):
    config = transformers.LlamaConfig(**LLAMA) if kind == 'llama' else transformers.GPT2Config(**GPT2)
    model = (transformers.LlamaForCausalLM if kind == 'llama' else transformers.GPT2LMHeadModel)(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.ndim == 1))
    return model.eval()


@pytest.mark.parametrize('kind', ['llama', 'gpt2'])
def test_greedy_texts_of_a_padded_batch(kind, tmp_path):
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path / kind)
    model, variables, info = read_checkpoint(tmp_path / kind)
    ours, prompts = LanguageModel(model, info.config), pad_prompts(PROMPTS)
    given, mask = (torch.tensor(np.array(x)).long() for x in (prompts.tokens, prompts.given))
    with torch.no_grad():
        said = theirs.generate(
            given, attention_mask=mask, do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0
        )
    options = {'key': jax.random.key(0), 'max_new': 12, 'sampling': GREEDY}
    np.testing.assert_array_equal(generate(ours, variables, prompts, **options).tokens, said[:, 5:])
    ahead = speculate(ours, variables, ours, variables, prompts, drafts=3, **options)
    np.testing.assert_array_equal(ahead.tokens, said[:, 5:])


@pytest.mark.parametrize('options', [{'top_k': 9}, {'top_p': 0.8}, {'top_k': 9, 'top_p': 0.6}])
def test_what_can_be_drawn(options):
    logits = np.random.default_rng(0).normal(size=(5, 67)).astype(np.float32) * 2
    kinds = {'top_k': transformers.TopKLogitsWarper, 'top_p': transformers.TopPLogitsWarper}
    scores = transformers.TemperatureLogitsWarper(0.7)(None, torch.tensor(logits))
    for name, value in options.items():
        scores = kinds[name](value)(None, scores)
    theirs = torch.log_softmax(scores, dim=-1).numpy()
    np.testing.assert_allclose(
        np.exp(log_distribution(jnp.asarray(logits), Sampling(0.7, **options))), np.exp(theirs), atol=1e-6
    )
