"""Tokenizers: lossless, the same from every file, and the ids that the real models were trained with."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kdjax.data import assets, byte_level
from kdjax.data.tokenizers import END_OF_TEXT, BPETokenizer, ByteTokenizer, Tokenizer
from kdjax.errors import UserError

TEXTS = [
    'def f(x):\n    return x ** 2  # naïve\n',
    "It's 2024, isn't it? 東京 🙂 ‘Ωμέγα’",
    '\t \r\n\n  a   b',
    'x' * 300,
    '',
]


@pytest.fixture(scope='module')
def trained():
    return BPETokenizer.train([*TEXTS, 'the cat sat on the mat, the end of the text ' * 5], 300)


def gguf_metadata(tokenizer, pre='smollm', **more):
    """What a GGUF file of this tokenizer would hold."""
    described = json.loads(tokenizer.inner.to_str())
    vocabulary = described['model']['vocab']
    tokens = sorted(vocabulary, key=vocabulary.get)
    merges = [merge if isinstance(merge, str) else ' '.join(merge) for merge in described['model']['merges']]
    return {
        'tokenizer.ggml.model': 'gpt2',
        'tokenizer.ggml.pre': pre,
        'tokenizer.ggml.tokens': tokens,
        'tokenizer.ggml.merges': merges,
        'tokenizer.ggml.token_type': [3 if token == END_OF_TEXT else 1 for token in tokens],
        'tokenizer.ggml.eos_token_id': 0,
        **more,
    }


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_text_comes_back(kind, trained):
    tokenizer = ByteTokenizer() if kind == 'bytes' else trained
    assert isinstance(tokenizer, Tokenizer)
    for text, ids in zip(TEXTS, tokenizer.encode_many(TEXTS), strict=True):
        assert ids.dtype == np.int32
        assert ids.tolist() == tokenizer.encode(text).tolist() == tokenizer.encode(text.encode()).tolist()
        assert tokenizer.decode(ids) == text.encode()
        found, ends = tokenizer.offsets(text)
        assert found.tolist() == ids.tolist()
        assert ends.tolist() == np.cumsum([len(tokenizer.token_bytes[i]) for i in ids]).tolist()


def test_bytes_are_their_own_ids():
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(b'\xff\x00a').tolist() == [255, 0, 97]
    assert tokenizer.decode([255, 256, 97]) == b'\xffa'
    assert (tokenizer.size, tokenizer.eos, len(tokenizer.token_bytes)) == (257, 256, 257)


def test_the_alphabet_is_that_of_the_package():
    from tokenizers import pre_tokenizers

    letters = byte_level.alphabet()
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(letters.values()) == list(range(256))
    whole = bytes(range(0x20, 0x7F)).decode() + 'éß\t\n'
    (piece,) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(whole)
    assert bytes(letters[c] for c in piece[0]) == whole.encode()


def test_training_is_deterministic_also_in_another_process(trained):
    code = (
        'from kdjax.data.tokenizers import BPETokenizer\n'
        f'corpus = [*{TEXTS!r}, "the cat sat on the mat, the end of the text " * 5]\n'
        'print(BPETokenizer.train(corpus, 300).identity)'
    )
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == trained.identity
    assert trained.size == 300
    assert trained.eos == trained.encode(END_OF_TEXT).item()
    assert (trained.bos, trained.pad, trained.prefix) == (None, None, ())
    assert BPETokenizer.train(TEXTS, 299).identity != trained.identity


def test_digits_stay_apart(trained):
    assert len(trained.encode('2024')) == 4


def test_saved_and_read_it_is_the_same(trained, tmp_path):
    trained.save(tmp_path)
    for path in (tmp_path, tmp_path / 'tokenizer.json'):
        again = BPETokenizer.from_file(path)
        assert again.identity == trained.identity
        assert (again.eos, again.bos, again.token_bytes) == (trained.eos, trained.bos, trained.token_bytes)


def test_transformers_reads_what_was_saved(trained, tmp_path):
    transformers = pytest.importorskip('transformers')
    trained.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs(text)['input_ids'] == trained.encode(text).tolist()
    assert theirs.eos_token_id == trained.eos


def test_a_gguf_vocabulary_is_the_same_tokenizer(trained):
    again = BPETokenizer.from_gguf(gguf_metadata(trained))
    assert again.identity == trained.identity
    assert again.eos == trained.eos
    for text in [*TEXTS, f'a{END_OF_TEXT}b']:
        assert again.encode(text).tolist() == trained.encode(text).tolist()
    assert BPETokenizer.from_gguf(gguf_metadata(trained, 'gpt-2')).identity != trained.identity


def test_a_first_token_is_a_prefix(trained):
    metadata = gguf_metadata(trained, **{'tokenizer.ggml.bos_token_id': 0, 'tokenizer.ggml.add_bos_token': True})
    tokenizer = BPETokenizer.from_gguf(metadata)
    assert tokenizer.prefix == (0,)
    assert tokenizer.encode('the').tolist() == trained.encode('the').tolist()


def test_other_gguf_vocabularies_are_named(trained):
    with pytest.raises(UserError, match="vocabulary of kind 'llama': only byte-level BPE"):
        BPETokenizer.from_gguf({'tokenizer.ggml.model': 'llama'})
    with pytest.raises(UserError, match="unknown pre-tokenizer of a GGUF vocabulary 'smolm'; did you mean 'smollm'"):
        BPETokenizer.from_gguf(gguf_metadata(trained, 'smolm'))
    metadata = gguf_metadata(trained)
    with pytest.raises(UserError, match='the merges of this GGUF file do not fit its tokens: '):
        BPETokenizer.from_gguf(metadata | {'tokenizer.ggml.merges': ['nowhere found']})
    del metadata['tokenizer.ggml.merges']
    with pytest.raises(UserError, match=r"has no 'tokenizer\.ggml\.merges' in its metadata"):
        BPETokenizer.from_gguf(metadata)


def test_what_is_not_text_is_named(trained):
    with pytest.raises(UserError, match=r'byte 0xff at position 2 is not UTF-8 text: .* or use the byte tokenizer'):
        trained.encode(b'ab\xff')
    for tokenizer in (trained, ByteTokenizer()):
        with pytest.raises(UserError, match=r"'\\ud800' at position 1 is a lone surrogate"):
            tokenizer.encode('a\ud800')


def test_ids_of_another_tokenizer_are_named(trained):
    for tokenizer in (trained, ByteTokenizer()):
        with pytest.raises(UserError, match=rf'token id 300 at position 1 is not in 0..{tokenizer.size - 1}'):
            tokenizer.decode([1, 300])


def test_files_that_are_no_tokenizer_are_named(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer.json' does not exist"):
        BPETokenizer.from_file(tmp_path)
    (tmp_path / 'tokenizer.json').write_text('{"model": 3}')
    with pytest.raises(UserError, match=r"tokenizer.json' is not a tokenizer.json: "):
        BPETokenizer.from_file(tmp_path)
    (tmp_path / 'tokenizer_config.json').write_text('{')
    with pytest.raises(UserError, match=r"tokenizer_config.json' is not JSON: "):
        BPETokenizer.from_file(tmp_path)


def test_a_vocabulary_that_cannot_be_learned_is_named():
    with pytest.raises(UserError, match='size=257: it needs more than 257'):
        BPETokenizer.train(TEXTS, 257)
    with pytest.raises(UserError, match=r'the corpus gives 25[0-9] entries, not size=300: use more text'):
        BPETokenizer.train(['ab'], 300)


def test_smollm2_has_the_ids_it_was_trained_with():
    from kdjax.models.checkpoints.gguf_file import GGUF

    if not assets.here('smollm2-135m'):
        pytest.skip('`kdjax data fetch smollm2-135m` was not run here')
    tokenizer = BPETokenizer.from_gguf(GGUF(assets.path('smollm2-135m')).metadata)
    assert (tokenizer.size, tokenizer.eos, tokenizer.prefix) == (49152, 2, ())
    known = {
        'The capital of France is': [504, 3575, 282, 4649, 314],
        'Hello world! 123': [19556, 905, 17, 216, 33, 34, 35],
        'Café déjà vu.': [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
        '  multiple   spaces': [216, 2701, 256, 5600],
        '<|im_start|>user\n': [1, 4093, 198],
    }
    for text, ids in known.items():
        assert tokenizer.encode(text).tolist() == ids
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


def test_wordpiece_has_offsets_and_special_tokens():
    if not assets.here('minilm-l6'):
        pytest.skip('`kdjax data fetch minilm-l6` was not run here')
    tokenizer = BPETokenizer.from_file(assets.path('minilm-l6'))
    assert (tokenizer.size, tokenizer.bos, tokenizer.eos, tokenizer.pad) == (30522, 101, 102, 0)
    assert tokenizer.prefix == (101,)
    ids, ends = tokenizer.offsets('Éating  unbelievably')
    assert [tokenizer.token_bytes[i] for i in ids] == [b'eating', b'un', b'bel', b'ie', b'va', b'bly']
    assert ends.tolist() == [7, 11, 14, 16, 18, 21]
