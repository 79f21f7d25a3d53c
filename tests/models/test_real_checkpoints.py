"""Public checkpoints do here what they are known to do. Skipped where they were not fetched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import assets
from kdjax.data.tokenizers import BPETokenizer
from kdjax.models.checkpoints import read_checkpoint, read_gguf
from kdjax.models.decoder import DecoderInputs

KEY = jax.random.key(0)


def fetched(name):
    if not assets.here(name):
        pytest.skip(f'not here: get it with `kdjax data fetch {name}`')
    return assets.path(name)


def applied(model, variables):
    return functools.partial(jax.jit(functools.partial(model.apply, key=KEY, train=False)), variables)


@functools.cache
def smollm2():
    model, variables, metadata = read_gguf(fetched('smollm2-135m'))
    return applied(model, variables), BPETokenizer.from_gguf(metadata)


def test_smollm2_knows_the_capital_of_france():
    apply, tokenizer = smollm2()
    ids = tokenizer.encode('The capital of France is')
    assert ids.tolist() == [504, 3575, 282, 4649, 314]
    chances = jax.nn.softmax(apply(jnp.asarray(ids)[None])[0].prediction[0, -1])
    assert tokenizer.decode([int(chances.argmax())]) == b' Paris'
    assert float(chances.max()) > 0.5


def test_smollm2_is_surprised_by_nonsense_more_than_by_prose():
    apply, tokenizer = smollm2()
    texts = ['The sun rises in the east and sets in the west.', 'West the in sets and east the in rises sun the.']
    nats = []
    for ids in (tokenizer.encode(text) for text in texts):
        rows = jnp.zeros((1, 16), jnp.int32).at[0, : len(ids)].set(ids)
        logs = jax.nn.log_softmax(apply(DecoderInputs(rows))[0].prediction[0])
        nats.append(-np.mean(np.asarray(logs)[np.arange(len(ids) - 1), ids[1:]]))
    assert nats[0] < 3.0 < nats[1]


def test_minilm_puts_meanings_where_they_are_known_to_lie():
    folder = fetched('minilm-l6')
    model, variables, info = read_checkpoint(folder)
    assert info.architecture == 'BertModel'
    tokenizer = BPETokenizer.from_file(folder)
    texts = ['eating food', 'having a meal', 'the stock market fell sharply']
    ids = [[tokenizer.bos, *tokenizer.encode(text), tokenizer.eos] for text in texts]
    width = max(map(len, ids))
    rows, mask = np.zeros((3, width), np.int32), np.zeros((3, width), bool)
    for row, (known, each) in enumerate(zip(mask, ids, strict=True)):
        known[: len(each)], rows[row, : len(each)] = True, each
    said = applied(model, variables)((jnp.asarray(rows), jnp.asarray(mask)))[0].taps['pooled']
    pooled = np.asarray(said) / np.linalg.norm(said, axis=-1, keepdims=True)
    transformers_says = [0.7323, 0.0836, 0.0179]
    cosines = [pooled[0] @ pooled[1], pooled[0] @ pooled[2], pooled[1] @ pooled[2]]
    assert cosines == pytest.approx(transformers_says, abs=1e-4)
