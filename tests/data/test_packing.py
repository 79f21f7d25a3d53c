"""Packing: nothing lost, nothing twice, documents apart; and the batches made of it, against a slow loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import ArraySource
from kdjax.data.packing import Tokens, pack
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError


def texts(*sizes, seed=0):
    """Documents with ids that occur once, so that every label says where it came from."""
    ids = np.random.default_rng(seed).permutation(sum(sizes)).astype(np.int32) + 1
    parts = np.split(ids, np.cumsum(sizes)[:-1])
    return [Tokens(part, np.arange(len(part)) > 0) for part in parts]


def instruction(prompt, response, first=1):
    ids = np.arange(first, first + prompt + response, dtype=np.int32)
    return Tokens(ids, np.arange(prompt + response) >= prompt, whole=True)


def slow(columns):
    """What `prepare_text` returns, one token at a time."""
    rows, width = columns['tokens'].shape
    names = ('tokens', 'label', 'segment', 'position')
    out = {name: np.zeros((rows, width - 1), np.int32) for name in names} | {'where': np.zeros((rows, width - 1), bool)}
    for row in range(rows):
        for t in range(width - 1):
            segment = columns['segment'][row, t]
            out['tokens'][row, t] = columns['tokens'][row, t]
            out['label'][row, t] = columns['tokens'][row, t + 1]
            out['segment'][row, t] = segment
            same = [u for u in range(t) if columns['segment'][row, u] == segment]
            out['position'][row, t] = len(same) if segment > 0 else 0
            together = segment > 0 and columns['segment'][row, t + 1] == segment
            out['where'][row, t] = together and columns['counted'][row, t + 1]
    return out


@pytest.mark.parametrize('mode', ['stream', 'best_fit'])
@pytest.mark.parametrize('length', [1, 7, 16, 200])
def test_every_token_but_the_first_of_a_document_is_one_label(mode, length):
    documents = texts(5, 40, 2, 1, 17, 8, 8, 33, 3)
    columns = pack(documents, length, mode=mode).columns
    assert columns['tokens'].shape[1] == length + 1
    batch = prepare_text({name: jnp.asarray(column) for name, column in columns.items()})
    labels, inputs = (np.asarray(batch[name])[np.asarray(batch['where'])] for name in ('label', 'tokens'))
    wanted = {int(after): int(before) for each in documents for before, after in itertools.pairwise(each.ids)}
    assert len(labels) == len(wanted)
    assert dict(zip(labels.tolist(), inputs.tolist(), strict=True)) == wanted


@pytest.mark.parametrize('mode', ['stream', 'best_fit'])
@pytest.mark.parametrize('seed', range(3))
def test_batches_agree_with_a_loop_under_jit(mode, seed):
    sizes = np.random.default_rng(seed).integers(1, 30, 12).tolist()
    columns = pack(texts(*sizes, seed=seed), 11, mode=mode).columns
    batch = jax.jit(prepare_text)({name: jnp.asarray(column) for name, column in columns.items()})
    for name, wanted in slow(columns).items():
        np.testing.assert_array_equal(batch[name], wanted, err_msg=name)
        assert batch[name].dtype == wanted.dtype
    assert batch.keys() == {'tokens', 'label', 'segment', 'position', 'where'}


def test_a_stream_pads_its_last_row_alone():
    columns = pack(texts(5, 40, 17, 8), 16, mode='stream', pad=9).columns
    padding = columns['segment'] == 0
    assert not padding[:-1].any()
    assert (columns['tokens'][padding] == 9).all()
    assert columns['segment'][0].tolist() == [1] * 5 + [2] * 12
    np.testing.assert_array_equal(columns['tokens'][:-1, -1], columns['tokens'][1:, 0])


def test_a_best_fit_cuts_only_what_is_longer_than_a_row():
    documents = texts(10, 7, 4, 3, 6, 5, 2, 30)
    columns = pack(documents, 9, mode='best_fit').columns
    found = {
        tuple(row[segments == n].tolist())
        for row, segments in zip(columns['tokens'], columns['segment'], strict=True)
        for n in range(1, segments.max() + 1)
    }
    assert {tuple(each.ids.tolist()) for each in documents[:-1]} <= found
    long = documents[-1].ids
    assert {tuple(long[i : i + 10].tolist()) for i in range(0, 29, 9)} <= found
    # 37 tokens in rows of 10 without a gap, and three full rows and a rest of 3 of the long one.
    assert len(columns['tokens']) == 7


def test_packing_is_a_function_of_the_documents():
    sizes = np.random.default_rng(0).integers(2, 60, 300).tolist()
    first, second = (pack(texts(*sizes), 64, mode='best_fit').columns for _ in range(2))
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name])
    assert len(first['tokens']) <= 1.05 * sum(sizes) / 65


def test_instructions_are_kept_whole_shortened_or_left_out():
    documents = [instruction(3, 4), instruction(6, 9, 100), instruction(8, 5, 200), instruction(9, 1, 300)]
    packed = pack(documents, 7, mode='best_fit')
    assert (packed.long_prompts, packed.shortened, packed.silent) == (2, 1, 0)
    labels = packed.columns['tokens'][packed.columns['counted']]
    assert sorted(labels.tolist()) == [4, 5, 6, 7, 106, 107]
    assert not (packed.columns['tokens'] >= 200).any()


def test_what_holds_nothing_to_predict_is_left_out_and_counted():
    silent = Tokens(np.arange(1, 5, dtype=np.int32), np.zeros(4, bool))
    packed = pack([*texts(6, 1), silent], 5)
    assert packed.silent == 2
    assert packed.columns['counted'].any(axis=1).all()


def test_rows_that_only_fill_up_a_batch_count_nothing():
    source = ArraySource(pack(texts(5, 40, 17, 8), 16).columns)
    batches = [prepare_text(batch) for batch in evaluation_batches(source, 3)]
    assert [int(batch['where'].sum()) for batch in batches][-1] > 0
    total = sum(int(batch['where'].sum()) for batch in batches)
    assert total == 5 + 40 + 17 + 8 - 4
    assert not np.asarray(batches[-1]['where'])[-1].any()


def test_columns_of_a_teacher_stay():
    columns = pack(texts(9, 9), 8).columns
    batch = {**columns, 'index': np.arange(len(columns['tokens'])), 'teacher_ids': np.zeros((3, 8, 2), np.int32)}
    prepared = prepare_text(batch)
    assert prepared['teacher_ids'].shape == (3, 8, 2)
    assert 'index' in prepared and 'counted' not in prepared


def test_all_tokens_masked_is_said():
    with pytest.raises(UserError, match='all tokens are masked in every row of length=4: of 2 documents 1 have'):
        pack([instruction(5, 2), Tokens(np.arange(3, dtype=np.int32), np.zeros(3, bool))], 4, mode='best_fit')


def test_what_cannot_be_packed_is_named():
    with pytest.raises(UserError, match="'stream' would part responses from their prompts: use 'best_fit'"):
        pack([instruction(2, 2)], 8, mode='stream')
    with pytest.raises(UserError, match="unknown packing 'best-fit'; did you mean 'best_fit'"):
        pack(texts(4), 8, mode='best-fit')
    with pytest.raises(UserError, match='length=0: a row needs at least one input'):
        pack(texts(4), 0)
