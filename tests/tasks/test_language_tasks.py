"""The tasks on text, in miniature: teachers, caches and what is measured."""

import dataclasses

import jax
import numpy as np
import pytest

from kdjax.losses import kl_forward
from kdjax.objectives import fused, hard_labels, term
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.oracle_lm import OracleLM

TINY = OracleLM(
    tokens=5, order=1, row=8, rows=64, teacher_rows=128, evaluation_rows=16, student='llama-8-1', teacher='gpt2-8-1',
    batch=16, steps=20, teacher_steps=40, evaluations=1,
)  # fmt: skip


@pytest.fixture(scope='module')
def executor(tmp_path_factory):
    return Executor(Store(tmp_path_factory.mktemp('store')), module='kdjax.tasks.oracle_lm')


def made(executor, stage, name='arm/one'):
    return executor.run(dataclasses.replace(stage, name=name), 0)


def test_the_truth_teaches_itself(executor):
    """Learning from the oracle lowers the divergence from it; what is measured is finite and in range."""
    found = made(executor, TINY.arm(term(kl_forward, 'student', 'teacher'), TINY.oracle())).info
    metrics = found['metrics']['test']
    start = made(executor, TINY.arm(0.0 * hard_labels()), 'arm/start').info['metrics']['test']
    assert 0 < metrics['kl_truth'] < 0.8 * start['kl_truth']
    assert 0 < metrics['overlap'] <= 1 and 0 <= metrics['agreement'] <= 1
    assert metrics['kl'] > 0 and metrics['kl_reverse'] > 0
    assert metrics['perplexity'] == pytest.approx(np.exp(metrics['nll']))


def test_a_cached_teacher_says_what_the_live_one_says(executor):
    """bfloat16 hidden states move the student by little, and the fused loss reads them as the dense one does."""
    live = made(executor, TINY.arm(fused(), TINY.live_teacher()), 'arm/live').arrays['variables']['student']
    kept = made(executor, TINY.arm(fused(), TINY.cached_teacher()), 'arm/kept').arrays['variables']['student']
    dense = made(executor, TINY.arm(term(kl_forward, 'student', 'teacher'), TINY.live_teacher()), 'arm/dense')
    for a, b, c in zip(*(jax.tree.leaves(x) for x in (live, kept, dense.arrays['variables']['student'])), strict=True):
        np.testing.assert_allclose(a, b, atol=0.03)
        np.testing.assert_allclose(a, c, atol=2e-3)


def test_a_judge_costs_a_step_nothing():
    labels, taught = TINY.arm(hard_labels()).cost(), TINY.arm(fused(), TINY.live_teacher()).cost()
    assert labels['teacher_flops'] == 0 < taught['teacher_flops']
    assert TINY.arm(fused(), TINY.cached_teacher()).cost()['cache_bytes'] == 64 * 8 * 8 * 2 + 5 * 8 * 4
