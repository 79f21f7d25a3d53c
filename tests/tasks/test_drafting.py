"""The drafting task in miniature: what is measured of a draft, and the texts that it may learn from."""

import dataclasses

import numpy as np
import pytest

from kdjax.algorithms.stored_texts import stored_texts
from kdjax.objectives import hard_labels
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.drafting import Drafting

TINY = Drafting(
    limit_bytes=40_000, row=20, rows=32, evaluation_rows=16, student='llama-8-1', teacher='llama-8-1', batch=8, steps=1,
    teacher_steps=30, pretraining_steps=2, prompt=6, drafts=3,
)  # fmt: skip


@pytest.fixture(scope='module')
def executor(tmp_path_factory):
    return Executor(Store(tmp_path_factory.mktemp('store')), module='kdjax.tasks.drafting')


def made(executor, stage, name):
    return executor.run(dataclasses.replace(stage, name=f'arm/{name}'), 0)


@pytest.fixture(scope='module')
def nothing(executor):
    """What the pre-trained draft and the target itself are good for."""
    idle = 0.0 * hard_labels()
    target = TINY.arm(idle, start=TINY.trained_teacher.variables)
    return made(executor, TINY.arm(idle), 'draft'), made(executor, target, 'target')


@pytest.mark.slow
def test_the_target_drafts_for_itself_without_a_miss(nothing):
    """15 bytes follow a prompt: three blocks of 4 and one of 3."""
    metrics = nothing[1].info['metrics']['test']
    assert metrics['overlap'] == pytest.approx(1, abs=1e-3)
    assert metrics['acceptance'] == pytest.approx(1, abs=0.02)
    assert metrics['block_length'] == pytest.approx(15 / 4, abs=0.05)


@pytest.mark.slow
def test_acceptance_is_a_sample_of_the_overlap(nothing):
    said, metrics = nothing[0].arrays['predictions']['test'], nothing[0].info['metrics']['test']
    tested = said['tested'].sum()
    assert abs(metrics['acceptance'] - metrics['overlap']) < 4 * 0.5 / tested**0.5
    assert 1 < metrics['block_length'] < nothing[1].info['metrics']['test']['block_length']
    assert said['where'].sum() == 16 * 15


def test_a_draft_learns_from_what_the_target_said(executor):
    """The stored texts begin as the rows of the data do, and are read in the row's place."""
    told = TINY.told()
    texts = told.inputs['texts'].of(executor.run(told.inputs['texts'].stage, 0).arrays)
    rows = TINY.data['train'].take(np.arange(32))
    assert np.array_equal(texts['tokens'][:, :6], rows['tokens'][:, :6])
    assert not np.array_equal(texts['tokens'][:, 6:], rows['tokens'][:, 6:])
    assert texts['counted'].sum() == 32 * 15
    stage = TINY.arm(hard_labels(), told, rollout=stored_texts('texts'))
    assert made(executor, stage, 'seq_kd').info['metrics']['test']['nll'] > 0


def test_noise_replaces_a_share_of_all_texts():
    noisy = dataclasses.replace(TINY, noise=0.25)
    assert noisy.data.identity != TINY.data.identity
    for split in ('train', 'test'):
        before, after = (task.teacher_data[split].take(np.arange(16)) for task in (TINY, noisy))
        assert np.mean(before['tokens'] != after['tokens']) == pytest.approx(0.25, abs=0.1)
        assert np.array_equal(before['segment'], after['segment'])
