"""What is done about NaN: halt, skip with the state bitwise as it was, or roll back to a new order of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kinds import ADAM
from one_run import SOURCE, Seen, rows, rows_digest, train
from tiny import batch, mlp

from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.data.batches import batch_indices
from kdjax.objectives import hard_labels
from kdjax.run.course import Course
from kdjax.run.diverged import Diverged
from kdjax.run.identity import state_digest
from kdjax.run.skipping import finite, skipping


def nan_at(*steps):
    def weight(step):
        return jnp.where(jnp.isin(step, jnp.array(steps)), jnp.float32(jnp.nan), jnp.float32(1))

    return supervised(mlp(), weight * hard_labels(), ADAM)


def overflowing(at):
    """The loss of this step is finite and its update is not."""

    def step(state, frozen, batch, key):
        moved, metrics = plain.step(state, frozen, batch, key)
        scale = jnp.where(state['step'] == at, jnp.float32(jnp.inf), jnp.float32(1))
        return moved | {'variables': jax.tree.map(lambda p: p * scale, moved['variables'])}, metrics

    plain = supervised(mlp(), hard_labels(), ADAM)
    return type(plain)(plain.init, step, plain.evaluate)


class TestSkip:
    @pytest.mark.parametrize('algorithm', [nan_at(0), overflowing(0)], ids=['metrics', 'state'])
    def test_the_state_is_bitwise_what_it_was_and_only_the_step_moves(self, algorithm):
        example, key = jax.tree.map(jnp.asarray, batch()), jax.random.key(0)
        first = algorithm.init(key, {}, example)
        state, metrics = jax.jit(skipping(algorithm).step)(first, {}, example, key)
        assert int(state.pop('step')) == int(first.pop('step')) + 1
        assert state_digest(state) == state_digest(first)
        assert metrics['skipped'] == 1 and metrics['student/loss'] == 0

    def test_it_skips_however_the_step_is_executed(self):
        example, key = jax.tree.map(jnp.asarray, batch()), jax.random.key(0)
        algorithm = executed(skipping(nan_at(0)), Execution(accumulate=2))
        _, metrics = jax.jit(algorithm.step)(algorithm.init(key, {}, example), {}, example, key)
        assert metrics['skipped'] == 1

    def test_a_finite_step_is_the_step(self):
        example, key = jax.tree.map(jnp.asarray, batch()), jax.random.key(0)
        algorithm = nan_at(7)
        first = algorithm.init(key, {}, example)
        state, metrics = jax.jit(skipping(algorithm).step)(first, {}, example, key)
        plain, said = jax.jit(algorithm.step)(first, {}, example, key)
        assert state_digest(state) == state_digest(plain)
        assert metrics == said | {'skipped': 0}

    def test_rows_are_means_of_the_steps_that_counted_and_tell_the_share_skipped(self, tmp_path):
        train(tmp_path, algorithm=skipping(nan_at(4, 9, 10, 11)))
        told = {row['step']: row for row in rows(tmp_path)}
        assert {s: row['skipped'] for s, row in told.items() if row['skipped']} == {6: pytest.approx(1 / 3), 12: 1}
        assert set(told[12]) == {'step', 'skipped'}, 'a row of skipped steps has no means'
        assert all(np.isfinite(list(row.values())).all() for row in told.values())

    def test_ten_in_a_row_end_the_run_and_nine_do_not(self):
        def settled(*skipped):
            course = Course()
            course.add(100, {'skipped': np.array(skipped, np.float32)})
            course.settle({}, lambda step: {})

        settled(*[1] * 9, 0, *[1] * 9)
        with pytest.raises(Diverged) as error:
            settled(0, *[1] * 10, 0)
        assert str(error.value).startswith('step 110: 10 steps in a row were skipped because they were not finite')
        assert 'lower the learning rate' in str(error.value)

    def test_the_count_goes_on_after_a_resume(self, tmp_path):
        program = Seen(skipping(nan_at(*range(5, 15))), chunk=4)
        assert train(tmp_path, program=program, stop_at=12).stopped
        with pytest.raises(Diverged, match='step 14: 10 steps in a row'):
            train(tmp_path, program=program)

    def test_finite_sees_every_float_and_no_integer(self):
        assert finite({'a': jnp.zeros(2), 'b': jnp.arange(3)}) and finite({})
        assert not finite({'a': jnp.array([0, jnp.inf], jnp.bfloat16)})


MEAN = int(batch_indices(24, batch=4, seed=0, first_step=12, steps=1)[0, 0])
"""The example that step 12 sees first."""


def nan_for_the_first_of_step_12():
    """NaN at step 12 if its batch begins with the example that it begins with in the first order."""
    plain = supervised(mlp(), hard_labels(), ADAM)

    def step(state, frozen, batch, key):
        moved, metrics = plain.step(state, frozen, batch, key)
        bad = (state['step'] == 12) & (batch['index'][0] == MEAN)
        return moved, metrics | {'student/loss': jnp.where(bad, jnp.float32(jnp.nan), metrics['student/loss'])}

    return type(plain)(plain.init, step, plain.evaluate)


@pytest.fixture(scope='module')
def program():
    return Seen(nan_for_the_first_of_step_12(), chunk=4)


class TestRollback:
    def test_it_goes_back_to_the_last_checkpoint_and_on_in_another_order(self, program, tmp_path):
        ran = train(tmp_path, program=program, save_every=5, rollbacks=3)
        (line,) = [line for line in ran.lines if 'Back to step' in line]
        assert line.startswith("step 12: 'student/loss' is nan") and line.endswith(
            'Back to step 10, with the data in order 1'
        )
        usual = batch_indices(24, batch=4, seed=0, first_step=0, steps=20).tolist()
        other = batch_indices(24, batch=4, seed=_seed_of(1), first_step=10, steps=10).tolist()
        assert ran.batches[:12] == usual[:12]
        assert ran.batches[-10:] == other != usual[10:]
        assert [row['step'] for row in rows(tmp_path)] == [3, 6, 9, 12, 15, 18, 20]

    @pytest.mark.parametrize('cuts', [(2,), (11,), (14,), (11, 12, 14, 16)])
    def test_wherever_it_is_cut_the_run_is_the_same(self, program, cuts, tmp_path):
        """It goes back to a step that the schedule names, not to one that an interruption happened to save."""
        whole = train(tmp_path / 'whole', program=program, save_every=5, rollbacks=3)
        for cut in cuts:
            assert train(tmp_path / 'cut', program=program, save_every=5, stop_at=cut, rollbacks=3).stopped
        again = train(tmp_path / 'cut', program=program, save_every=5, rollbacks=3)
        assert again.digest == whole.digest
        assert rows_digest(tmp_path / 'cut') == rows_digest(tmp_path / 'whole')

    def test_without_a_checkpoint_it_starts_over(self, program, tmp_path):
        ran = train(tmp_path, program=program, rollbacks=1)
        assert 'Back to step 0, with the data in order 1' in ' '.join(ran.lines)
        assert int(ran.state['step']) == 20
        assert ran.batches[-20:] == batch_indices(24, batch=4, seed=_seed_of(1), first_step=0, steps=20).tolist()

    def test_after_as_many_as_are_allowed_it_halts(self, tmp_path):
        with pytest.raises(Diverged, match="step 8: 'student/loss' is nan"):
            train(tmp_path, algorithm=nan_at(8), save_every=5, rollbacks=3)
        told = [line for line in (tmp_path / 'events.jsonl').read_text().splitlines() if 'Back to step 5' in line]
        assert len(told) == 3


def _seed_of(order):
    course = Course()
    course.order = order
    return course.seed(0)


def test_orders_are_all_different_and_the_first_is_that_of_the_seed():
    seeds = {_seed_of(order) for order in range(5)}
    assert len(seeds) == 5 and _seed_of(0) == 0
    assert len(SOURCE) == 24
