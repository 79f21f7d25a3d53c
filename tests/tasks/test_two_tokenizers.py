"""The task of two tokenizers: what both sides read is one text, and a teacher that is the student teaches nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.data.aligned_text import load_aligned
from kdjax.data.tokenizers import ByteTokenizer
from kdjax.errors import UserError
from kdjax.objectives import hard_labels
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.two_tokenizers import TwoTokenizers, prepare

LINES = [f'def line_{i % 7}(value, other):\n    return value * {i} + other  # of {i % 11}\n' for i in range(300)]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv('KDJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
    file = tmp_path_factory.mktemp('text') / 'source.py'
    file.write_text(''.join(LINES))
    yield TwoTokenizers(
        corpus=f'file:{file}', limit_bytes=20_000, teacher_tokenizer='bpe:280', row=24, teacher_row=24, rows=64,
        evaluation_rows=16, student='llama-8-1', teacher='llama-16-1', batch=16, steps=60, teacher_steps=60,
        evaluations=1,
    )  # fmt: skip
    patch.undo()


def prepared(task):
    train = task.data['train']
    return train, prepare(train.take(np.arange(len(train))), key=jax.random.key(0), train=True)


def test_a_chunk_is_the_same_bytes_on_both_sides(tiny):
    _, batch = prepared(tiny)
    sides = ('', ByteTokenizer()), ('teacher_', tiny.teacher_data.tokenizer)
    rows = len(batch['compared'])
    assert rows == 64 and batch['compared'].mean() > 0.2
    for row in range(rows):
        for number in np.flatnonzero(batch['compared'][row]):
            read = [t.decode(np.asarray(batch[f'{s}label'])[row][batch[f'{s}chunk'][row] == number]) for s, t in sides]
            assert read[0] == read[1] != b''
    for side, tokenizer in sides:
        ends = np.asarray(batch[f'{side}label']) == tokenizer.eos
        assert not (ends & np.asarray(batch[f'{side}where'])).any()
        assert not (ends & (batch[f'{side}chunk'] >= 0)).any()


@pytest.mark.parametrize('debiased', [True, False])
def test_one_model_under_one_tokenizer_teaches_itself_nothing(tiny, debiased):
    """Identical sides have no loss and no gradient; permuting what the words of the student mean changes nothing."""
    _, batch = prepared(tiny)
    loss = tiny.alm(temperature=50.0, debiased=debiased).terms[0]
    label, where, chunk, compared = (batch[name] for name in ('label', 'where', 'chunk', 'compared'))
    begins = loss.options['begins'] and (loss.options['begins'][0],) * 2
    options = {**loss.options, 'begins': begins}
    logits = jax.random.normal(jax.random.key(1), (*label.shape, 257))
    teacher = (logits, label, where, chunk)

    def value(z):
        return jnp.sum(loss.loss(z, label, where, chunk, *teacher, compared, **options))

    assert float(value(logits)) == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(jax.grad(value)(logits), 0, atol=1e-5)
    assert float(value(0.5 * logits)) > 0.1


def test_alm_of_the_chunks_is_the_loss_of_their_sums(tiny):
    _, batch = prepared(tiny)
    loss = tiny.alm(temperature=100.0, debiased=False).terms[0]
    sides, keys = [], jax.random.split(jax.random.key(2))
    for side, size, key in (('', 257, keys[0]), ('teacher_', 280, keys[1])):
        label, where, chunk = (batch[f'{side}{name}'] for name in ('label', 'where', 'chunk'))
        sides.append((jax.random.normal(key, (*label.shape, size)), label, where, chunk))
    found = loss.loss(*sides[0], *sides[1], batch['compared'], **loss.options)
    row = int(np.argmax(np.asarray(batch['compared']).sum(1)))
    sums = [
        jax.nn.log_softmax(z[row])[np.arange(z.shape[1]), y[row]][np.asarray(c[row]) == 3].sum() for z, y, _, c in sides
    ]
    expected = 100 * losses.alm(sums[0][None], sums[1][None], temperature=100.0)[0]
    assert float(found[row, 3]) == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope='module')
def measured(tiny, tmp_path_factory):
    """Metrics of an arm."""
    executor = Executor(Store(tmp_path_factory.mktemp('store')), module='kdjax.tasks.two_tokenizers')
    arms = {
        'sft': lambda: tiny.arm(hard_labels()),
        'kept': lambda: tiny.arm(tiny.alm() + tiny.uld(), tiny.cached_teacher()),
        'live': lambda: tiny.arm(tiny.alm() + tiny.uld(), tiny.live_teacher()),
    }
    return functools.cache(
        lambda name: executor.run(dataclasses.replace(arms[name](), name=f'arm/{name}'), 0).info['metrics']['test']
    )


def test_an_arm_is_measured_in_bits_of_bytes(measured):
    """Every term can be minimised."""
    kept = measured('kept')
    assert kept['bits_per_byte'] == pytest.approx(kept['nll'] / np.log(2))
    assert kept['bits_per_byte'] < 7
    assert kept['teacher_bits'] > 0


@pytest.mark.slow
def test_the_cached_teacher_is_the_live_one_and_the_teachers_bits_are_those_of_all_arms(measured):
    found = {name: measured(name) for name in ('sft', 'kept', 'live')}
    assert found['sft']['bits_per_byte'] < 7
    assert found['kept']['bits_per_byte'] == pytest.approx(found['live']['bits_per_byte'], abs=0.02)
    assert len({metrics['teacher_bits'] for metrics in found.values()}) == 1
    assert found['kept']['gap'] < found['sft']['gap'] + 1


def test_too_little_text_is_said(tiny):
    with pytest.raises(UserError, match=r"10000 texts of 24 bytes: split 'train'"):
        load_aligned(
            tiny.corpus, student=ByteTokenizer(), teacher=ByteTokenizer(), length=24, teacher_length=24, text_bytes=24,
            rows=10_000, evaluation_rows=4,
        )  # fmt: skip
