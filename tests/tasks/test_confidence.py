"""Scales and temperatures found on held-out text are those that calibrate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import cross_entropy, recalibrated
from kdjax.objectives import hard_labels, term
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.confidence import best_temperature, calibration_scale, tempered, top_k_scale, with_scale
from kdjax.tasks.oracle_lm import OracleLM

TINY = OracleLM(
    tokens=6, order=1, row=8, rows=64, teacher_rows=64, evaluation_rows=16, student='llama-8-1', teacher='llama-8-1',
    batch=16, steps=20, teacher_steps=20, evaluations=1,
)  # fmt: skip


@pytest.mark.parametrize('scale', [0.1, 0.26, 0.62])
def test_the_scale_behind_the_outcomes_is_found(scale):
    """All tokens alike, right as often as the corrected probability says: that scale alone has no error."""
    probs = np.tile(np.float32([0.6, 0.2, 0.1, 0.05, 0.02]), (20_000, 1))
    right = float(np.exp(recalibrated(jnp.asarray(probs[:1]), scale))[0, 0])
    hit = np.arange(20_000) < right * 20_000
    assert calibration_scale(probs, hit) == pytest.approx(scale)


def test_the_scale_lies_in_its_range():
    probs = np.tile(np.float32([0.6, 0.2, 0.1]), (100, 1))
    assert calibration_scale(probs, np.zeros(100, bool)) == pytest.approx(1.0)
    assert calibration_scale(probs, np.ones(100, bool)) == pytest.approx(0.02)


@pytest.mark.parametrize('temperature', [0.5, 3.0])
def test_the_temperature_that_sharpened_the_logits_is_found(temperature):
    logits = jax.random.normal(jax.random.key(0), (50_000, 5)) * 2
    label = jax.random.categorical(jax.random.key(1), logits)
    assert best_temperature(np.asarray(temperature * logits), np.asarray(label)) == pytest.approx(temperature, rel=0.03)


@pytest.mark.slow
def test_a_tempered_arm_is_the_arm_with_other_confidence(tmp_path):
    executor = Executor(Store(tmp_path), module='kdjax.tasks.oracle_lm')
    arm = TINY.arm(hard_labels(), name='arm/labels')
    before = executor.run(arm, 0).info['metrics']
    after = executor.run(dataclasses.replace(tempered(TINY, arm), name='arm/tempered'), 0).info['metrics']
    assert after['validation']['nll'] <= before['validation']['nll'] + 1e-6
    for split in ('validation', 'test'):
        assert after[split]['accuracy'] == pytest.approx(before[split]['accuracy'])
        assert set(after[split]) == {'nll', 'perplexity', 'accuracy', 'ece'}


def test_an_objective_reads_the_scale_of_the_teacher(tmp_path):
    """As if it had been given as a number."""
    executor = Executor(Store(tmp_path), module='kdjax.tasks.oracle_lm')
    scale = top_k_scale(TINY, TINY.trained_teacher, k=3)
    found = float(scale.of(executor.run(scale.stage, 0).arrays))
    assert 0 < found <= 1

    def loss(student, label, scale):
        return scale * cross_entropy(student, label)

    objective = term(loss, 'student', 'batch.label', 'teacher.scale')
    taught = executor.run(TINY.arm(objective, with_scale(TINY.live_teacher(), scale), name='arm/taught'), 0)
    weighted = executor.run(TINY.arm(found * hard_labels(), name='arm/weighted'), 0)
    pairs = zip(*(jax.tree.leaves(made.arrays['variables']['student']) for made in (taught, weighted)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-4)
