"""Chunks of text under two tokenizers, and vocabularies that share tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax import losses
from kdjax.data.alignment import NONE, aligned, chunks, pieces, predicted
from kdjax.data.tokenizers import BPETokenizer, ByteTokenizer
from kdjax.data.vocabularies import match, starts
from kdjax.errors import UserError

BYTES = ByteTokenizer()
TEXT = 'aé the cat, 東京 and then some.'


@dataclasses.dataclass(frozen=True)
class Pairs(ByteTokenizer):
    """Bytes two by two, by an id of their own where both are the same letter; else the first alone."""

    size: int = 256 + 256 + 1
    eos: int | None = 512
    bos: int | None = 511
    prefix: tuple[int, ...] = (511,)

    @property
    def token_bytes(self):
        return (*(bytes([b]) for b in range(256)), *(bytes([b, b]) for b in range(255)), b'<s>', b'</s>')

    def offsets(self, text):
        ids, ends, i = [], [], 0
        raw = text if isinstance(text, bytes) else text.encode()
        while i < len(raw):
            twice = raw[i : i + 2] == raw[i : i + 1] * 2 and raw[i] < 255
            ids.append(256 + raw[i] if twice else raw[i])
            i += 2 if twice else 1
            ends.append(i)
        return np.array(ids, np.int32), np.array(ends, np.int64)


def test_chunks_end_where_both_are_cut():
    ours, theirs = chunks(np.array([1, 3, 4, 7, 9]), np.array([2, 3, 6, 7, 8, 9]))
    np.testing.assert_array_equal(ours, [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(theirs, [0, 0, 1, 1, 2, 2])


def test_a_beginning_an_end_and_what_was_cut_off():
    ours, theirs = chunks(np.array([0, 2, 2, 5, 6]), np.array([1, 2, 4]))
    np.testing.assert_array_equal(ours, [NONE, 0, 0, NONE, NONE])
    np.testing.assert_array_equal(theirs, [0, 0, NONE])


cuts = st.sets(st.integers(1, 30), max_size=20).map(lambda found: np.array(sorted({*found, 31}), np.int64))


@settings(max_examples=60, deadline=None)
@given(cuts, cuts)
def test_chunks_cover_the_same_bytes_and_could_not_be_shorter(first, second):
    sides = list(zip(chunks(first, second), (first, second), strict=True))
    last = [{int(i): int(ends[ids == i].max()) for i in np.unique(ids)} for ids, ends in sides]
    assert last[0] == last[1]
    assert sorted(last[0].values()) == sorted({*first.tolist()} & {*second.tolist()})
    for ids, _ in sides:
        assert ids.min() == 0
        assert np.all(np.isin(np.diff(ids), [0, 1]))


def test_one_tokenizer_makes_chunks_of_one_token():
    _, ends = BYTES.offsets(TEXT)
    ours, theirs = chunks(ends, ends)
    np.testing.assert_array_equal(ours, np.arange(len(TEXT.encode())))
    np.testing.assert_array_equal(ours, theirs)


def test_the_chunk_of_a_token_that_nothing_predicts_is_left_out_on_both_sides():
    ours, theirs = predicted(np.array([0, 0, 1, NONE], np.int32), np.array([NONE, 0, 1, 1], np.int32))
    np.testing.assert_array_equal(ours, [NONE, 0, NONE])
    np.testing.assert_array_equal(theirs, [NONE, 0, 0])
    began = np.array([NONE, 0, 1], np.int32)
    np.testing.assert_array_equal(predicted(began, began), [[0, 1]] * 2)


def test_columns():
    columns = aligned(['aab', 'bb ccc'], BYTES, Pairs(), length=8, teacher_length=6)
    np.testing.assert_array_equal(columns['tokens'][0], [97, 97, 98, 256, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(columns['teacher_tokens'][0], [511, 256 + 97, 98, 512, 0, 0, 0])
    np.testing.assert_array_equal(columns['chunk'][0], [NONE, 0, 1, *[NONE] * 5])
    np.testing.assert_array_equal(columns['teacher_chunk'][0], [NONE, 0, 1, *[NONE] * 3])
    np.testing.assert_array_equal(columns['compared'][0], [True, True, *[False] * 4])
    np.testing.assert_array_equal(columns['segment'][0], [1, 1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(columns['index'], [0, 1])
    assert {k: v.shape for k, v in columns.items()} == {
        'tokens': (2, 9), 'segment': (2, 9), 'counted': (2, 9), 'chunk': (2, 8),
        'teacher_tokens': (2, 7), 'teacher_segment': (2, 7), 'teacher_counted': (2, 7), 'teacher_chunk': (2, 6),
        'compared': (2, 6), 'index': (2,),
    }  # fmt: skip
    short = aligned(['bb ccc'], BYTES, Pairs(), length=3, teacher_length=6)
    np.testing.assert_array_equal(short['chunk'][0], [NONE, 0, NONE])
    np.testing.assert_array_equal(short['compared'][0], [True, False, False])


def test_likelihoods_of_chunks_are_those_of_the_text():
    """A model of pairs and the model of bytes that follows from it give each chunk the same probability: ALM is 0."""
    columns = aligned(['bb ccc', 'aab bcc'], BYTES, Pairs(), length=12, teacher_length=10)
    pair = jnp.log(jax.random.uniform(jax.random.key(0), (600,), minval=0.1, maxval=0.9))
    theirs = pair[columns['teacher_tokens'][:, 1:]]
    wanted = losses.chunk_log_probs(theirs, jnp.asarray(columns['teacher_chunk']), chunks=10)
    known = np.asarray(wanted)
    ours = np.full((2, 12), np.nan, np.float32)
    for row, ids in enumerate(columns['chunk']):
        for i, c in enumerate(ids):
            if c != NONE:
                ours[row, i] = known[row, c] / np.sum(ids == c)
    got = losses.chunk_log_probs(jnp.asarray(ours), jnp.asarray(columns['chunk']), chunks=10)
    assert columns['compared'].sum() > 6
    np.testing.assert_allclose(losses.alm(got, wanted, where=jnp.asarray(columns['compared'])), 0.0, atol=1e-6)


def test_a_public_kind_of_tokenizer():
    """Byte-pair encoding against bytes: every token is a chunk of its own, of its own bytes."""
    text = (TEXT + ' The cat and the dog and the bird saw the cat. ') * 20
    words = BPETokenizer.train([text], 285)
    columns = aligned(pieces(text, 60), BYTES, words, length=80, teacher_length=60)
    for ids, tokens, chunk in zip(*(columns[k] for k in ('teacher_chunk', 'teacher_tokens', 'chunk')), strict=True):
        last = ids.max()
        assert last == chunk.max() > 3
        np.testing.assert_array_equal(ids[ids >= 0], np.arange(last + 1))
        lengths = [len(words.token_bytes[t]) for t in tokens[1:][ids >= 0]]
        assert tokens[1:][ids >= 0][-1] == words.eos
        np.testing.assert_array_equal(np.bincount(chunk[chunk >= 0])[:-1], lengths[:-1])
    begins = starts(words)
    assert begins[words.eos] and begins[words.encode(' cat')[0]] and not begins[words.encode('cat')[0]]
    ours, theirs = match(BYTES, words)
    assert len(ours) == 257
    assert [words.token_bytes[i] for i in theirs[:256]] == [bytes([i]) for i in range(256)]


def test_pieces():
    found = pieces(TEXT * 9, 20)
    assert b''.join(found) == (TEXT * 9).encode()
    assert max(map(len, found)) <= 20
    for piece in found:
        piece.decode()
    assert found[0].endswith(b' ')
    assert pieces('é' * 30, 5) == ['éé'.encode()] * 15


def test_shared_tokens():
    ours, theirs = match(BYTES, Pairs())
    np.testing.assert_array_equal(ours, np.arange(257))
    np.testing.assert_array_equal(theirs, [*range(256), 512])
    back, forth = match(Pairs(), BYTES)
    np.testing.assert_array_equal(back, theirs)
    np.testing.assert_array_equal(forth, ours)
    ours, theirs = match(Pairs(), Pairs())
    np.testing.assert_array_equal(ours, np.arange(513))
    np.testing.assert_array_equal(ours, theirs)


def test_shared_tokens_give_a_divergence():
    """Two models of the same logits on the tokens that both have do not differ."""
    logits = jax.random.normal(jax.random.key(0), (3, 513))
    ours, theirs = match(Pairs(), BYTES)
    narrow = jnp.zeros((3, 257)).at[:, theirs].set(logits[:, ours])
    shared = losses.shared_vocabulary(logits, narrow, vocab='intersect', ids=(jnp.asarray(ours), jnp.asarray(theirs)))
    np.testing.assert_allclose(losses.kl_forward(*shared), 0.0, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Nothing(ByteTokenizer):
    eos: int | None = None
    token_bytes: tuple[bytes, ...] = (b'zz', b'yy')


@pytest.mark.parametrize(
    ('attempt', 'message'),
    [
        (lambda: chunks(np.array([1, 3, 2]), np.array([3])), "student's token 2 ends at byte 2, before token 1 at 3"),
        (lambda: aligned([], BYTES, BYTES, length=4, teacher_length=4), 'no texts to align: give at least one'),
        (lambda: aligned(['a', ''], BYTES, BYTES, length=4, teacher_length=4), 'text 1 is empty: leave it out'),
        (lambda: aligned(['a'], BYTES, BYTES, length=0, teacher_length=4), 'length=0 and teacher_length=4: both'),
        (lambda: pieces('abc', 3), 'pieces of size=3: at least 4'),
        (lambda: match(BYTES, Nothing()), 'vocabularies of 257 and 257 tokens share none: use a loss across'),
    ],
)
def test_refused(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()
