"""The loop: compiled once, the same numbers however it is cut, bit for bit after a resume."""

import dataclasses
import gc
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kinds import ADAM, cached_table
from tiny import counting, dataset, mlp

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.data.batches import batch_indices
from kdjax.data.dataset import ArraySource
from kdjax.errors import UserError
from kdjax.objectives import hard_labels, kl, term
from kdjax.run.checkpoints import Checkpoints
from kdjax.run.diverged import Diverged, first_bad_leaf
from kdjax.run.fit import Events, fit, predict
from kdjax.run.folder import Folder
from kdjax.run.identity import state_digest
from kdjax.run.program import Program

SOURCE = dataset()['train']


def ran(program, *, steps=7, seed=0, frozen=None, source=SOURCE, **given):
    return fit(
        program,
        source,
        batch=4,
        steps=steps,
        seed=seed,
        frozen=frozen or {},
        events=given.pop('events', Events()),
        **given,
    )


@pytest.fixture(scope='module')
def plain():
    return Program(supervised(mlp(), hard_labels(), ADAM), chunk=4)


def test_one_trace_of_the_step_whatever_the_seeds_and_the_steps():
    """Python calls the model once for the step and once for `evaluate`."""
    calls = []
    program = Program(supervised(counting(mlp(), calls, 'apply'), hard_labels(), ADAM), chunk=4)
    for seed in range(3):
        for steps in (1, 4, 7):
            ran(program, steps=steps, seed=seed)
    assert calls == ['apply']
    for seed in range(3):
        state = ran(program, seed=seed).state
        predict(program, state, {}, SOURCE, seed=seed)
    assert len(calls) == 2


def test_one_trace_in_fifty_steps_and_none_after_a_resume(tmp_path):
    calls = []
    program = Program(supervised(counting(mlp(), calls, 'apply'), hard_labels(), ADAM), chunk=50)
    checkpoints = Checkpoints(tmp_path)
    ran(program, steps=50, events=Events(log_every=7, save_every=20, on_save=checkpoints.save))
    assert calls == ['apply']
    ran(program, steps=60, resume=lambda fresh: checkpoints.restore(40, fresh)[1])
    assert calls == ['apply']


@pytest.mark.slow
@pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])
def test_as_many_arrays_live_after_a_hundred_steps_as_after_ten(asynchronous, tmp_path, plain):
    """With a row and a checkpoint every ten; what a save copied is gone once it is written."""
    checkpoints, live = Checkpoints(tmp_path, asynchronous=asynchronous), []

    def count(step, row):
        checkpoints.wait()
        gc.collect()
        live.append(len(jax.live_arrays()))

    ran(plain, steps=100, events=Events(log_every=10, on_log=count, save_every=10, on_save=checkpoints.save))
    assert len(live) == 10 and set(live[1:]) == {live[1]}, live


def test_the_state_of_a_chunk_is_donated_to_the_next(plain):
    given = []

    class Keeping(Program):
        def run(self, state, *args):
            given.append(state)
            return super().run(state, *args)

    ran(Keeping(plain_algorithm(), chunk=4), steps=20, events=Events(save_every=4, on_save=lambda step, state: None))
    assert len(given) > 4
    assert all(leaf.is_deleted() for state in given for leaf in jax.tree.leaves(state))


def test_a_rerun_is_bit_identical_and_another_seed_is_not(plain):
    first, again = (state_digest(ran(Program(plain_algorithm(), chunk=4)).state) for _ in range(2))
    assert first == again == state_digest(ran(plain).state)
    assert first != state_digest(ran(plain, seed=1).state)


def plain_algorithm():
    return supervised(mlp(), hard_labels(), ADAM)


@pytest.mark.parametrize('chunk', [1, 3, 50])
def test_the_loop_is_the_steps_one_by_one(chunk):
    algorithm = plain_algorithm()
    looped = ran(Program(algorithm, chunk=chunk)).state
    key = jax.random.key(0)
    rows = batch_indices(24, batch=4, seed=0, first_step=0, steps=7)
    state, step = jax.jit(algorithm.init)(key, {}, SOURCE.take(rows[0])), jax.jit(algorithm.step)
    for row in rows:
        state, _ = step(state, {}, SOURCE.take(row), key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), looped, state)


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """A split that is not in memory."""

    kept: ArraySource
    arrays: None = None

    def __len__(self) -> int:
        return len(self.kept)

    def take(self, indices):
        return self.kept.take(indices)


def test_data_on_disk_gives_the_bits_of_data_in_memory(plain):
    """Up to the program: the same steps on the same batches."""
    from_disk = ran(Program(plain_algorithm(), chunk=4), source=OnDisk(SOURCE)).state
    memory = ran(plain).state
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), from_disk, memory)


def test_all_arms_of_a_seed_see_the_same_data_in_the_same_order():
    seen = {'plain': [], 'kd': []}

    def spy(name):
        def prepare(batch, *, key, train):
            if train:
                jax.debug.callback(
                    lambda index: seen[name].append(index.tolist()), batch['index'], ordered=True
                )
            return dict(batch)

        return prepare

    cached = {'teacher': teachers.cached()}
    ran(Program(supervised(mlp(), hard_labels(), ADAM, prepare=spy('plain'))))
    ran(
        Program(supervised(mlp(4), hard_labels() + kl(), ADAM, teachers=cached, prepare=spy('kd')), chunk=2),
        frozen=cached_table(),
    )
    jax.effects_barrier()
    assert seen['plain'][-7:] == seen['kd'][-7:]
    assert len({tuple(row) for row in seen['plain'][-7:]}) > 1


class TestEvents:
    def test_each_falls_at_its_period_and_at_the_end(self, plain):
        seen: dict[str, list[int]] = {'log': [], 'evaluate': [], 'save': []}
        events = Events(
            log_every=2,
            on_log=lambda step, row: seen['log'].append(step),
            evaluate_every=3,
            on_evaluate=lambda step, state: seen['evaluate'].append((step, int(state['step']))),
            save_every=5,
            on_save=lambda step, state: seen['save'].append((step, int(state['step']))),
        )
        ran(plain, events=events)
        assert seen == {'log': [2, 4, 6, 7], 'evaluate': [(3, 3), (6, 6), (7, 7)], 'save': [(5, 5), (7, 7)]}

    def test_they_do_not_change_the_numbers(self, plain):
        """Where the device stops makes no difference to a single bit."""
        often = Events(log_every=1, on_log=lambda s, r: None, save_every=3, on_save=lambda s, state: None)
        assert state_digest(ran(plain, events=often).state) == state_digest(ran(plain).state)

    def test_a_row_is_the_mean_of_every_step_since_the_last(self, plain):
        every, whole = [], []
        ran(plain, events=Events(log_every=1, on_log=lambda s, row: every.append(row['student/loss'])))
        ran(plain, events=Events(log_every=7, on_log=lambda s, row: whole.append(row['student/loss'])))
        assert len(every) == 7
        assert whole == [pytest.approx(np.mean(every), rel=1e-6)]


def test_predictions_cover_a_split_in_order_without_the_padding(plain):
    state = ran(plain).state
    said = predict(plain, state, {}, SOURCE, seed=0)
    assert said['student'].shape == (24, 3)
    np.testing.assert_array_equal(said['label'], SOURCE['label'])
    direct = (
        mlp()
        .apply(state['variables']['student'], jnp.asarray(SOURCE['image']), key=None, train=False)[0]
        .prediction
    )
    np.testing.assert_allclose(said['student'], direct, rtol=1e-4, atol=1e-5)


class TestDiverged:
    def explosive(self, at: int):
        """A term that is NaN from a step on."""

        def fragile(student, *, scale=1.0):
            return jnp.sum(student, axis=-1)

        def schedule(step):
            return jnp.where(step >= at, jnp.float32(jnp.nan), jnp.float32(1))

        return Program(supervised(mlp(), hard_labels() + schedule * term(fragile, 'student'), ADAM), chunk=4)

    def test_the_message_names_step_term_and_leaf(self):
        burst = term(lambda logits: jnp.sum(jnp.exp(1e3 * logits), axis=-1), 'student', name='burst')
        with pytest.raises(Diverged) as error:
            ran(Program(supervised(mlp(), hard_labels() + burst, ADAM), chunk=4))
        message = str(error.value)
        assert message.startswith(
            "step 0: 'student/burst' is inf; first bad leaf: optimizer/student/0/mu/student/a[0, 0]"
        )
        assert 'lower the learning rate' in message

    def test_a_nan_in_the_data_names_batch_and_image(self):
        image = SOURCE['image'].copy()
        image[17, 1, 0, 0] = np.nan
        source = ArraySource({'image': image, 'label': SOURCE['label']})
        rows = batch_indices(24, batch=4, seed=0, first_step=0, steps=7)
        step, place = np.argwhere(rows == 17)[0]
        with pytest.raises(Diverged) as error:
            ran(Program(plain_algorithm(), chunk=4), source=source)
        assert (
            f"step {step}: 'student/hard_labels' is nan; first bad leaf: batch/image[{place}, 1, 0, 0]"
            in str(error.value)
        )
        assert 'repair the data' in str(error.value)

    def test_nothing_of_the_bad_step_is_logged_or_saved(self):
        logged, saved = [], []
        events = Events(
            log_every=1,
            on_log=lambda step, row: logged.append(step),
            save_every=1,
            on_save=lambda step, state: saved.append(first_bad_leaf(state)),
        )
        with pytest.raises(Diverged, match="step 5: 'student/loss' is nan"):
            ran(self.explosive(5), events=events)
        assert logged == [1, 2, 3, 4, 5]
        assert saved == [None] * 5

    def test_a_step_that_ends_infinite_is_not_saved_though_its_loss_was_finite(self):
        saved = []
        program = Program(
            supervised(mlp(), hard_labels(), optax.chain(optax.sgd(1e30), optax.scale(1e30))), chunk=4
        )
        with pytest.raises(
            Diverged, match='the state after step 0 is not finite; first bad leaf: variables/student/params/a'
        ):
            ran(program, steps=1, events=Events(save_every=1, on_save=lambda step, state: saved.append(step)))
        assert saved == []

    def test_first_bad_leaf_looks_into_every_float_type(self):
        assert first_bad_leaf({'a': np.zeros(2), 'b': np.arange(3)}) is None
        assert first_bad_leaf({'a': jnp.array([0, jnp.inf], jnp.bfloat16)}) == 'a[1]'
        assert first_bad_leaf({'x': {'y': np.array([[1, np.nan]])}}) == 'x/y[0, 1]'


class TestFolder:
    def test_another_configuration_is_refused_with_the_difference(self, tmp_path):
        Folder(tmp_path / 'run', config={'steps': 7, 'seed': 0}, made_of={'code': 'a'})
        with pytest.raises(UserError) as error:
            Folder(tmp_path / 'run', config={'steps': 9, 'seed': 0}, made_of={'code': 'a'})
        assert 'belongs to another run (steps: 7 there, 9 now): choose another --out' in str(error.value)
        with pytest.raises(UserError, match="code: 'a' there, 'b' now"):
            Folder(tmp_path / 'run', config={'steps': 7, 'seed': 0}, made_of={'code': 'b'})

    def test_a_place_that_cannot_be_made_says_so(self, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(UserError, match=r'cannot be made .* choose another with --out'):
            Folder(tmp_path / 'file' / 'run', config={}, made_of={})

    def test_what_may_differ_is_noted(self, tmp_path):
        for device in ('1 x cpu', '8 x cpu'):
            folder = Folder(tmp_path / 'run', config={}, made_of={'device': device}, may_differ=('device',))
        (said,) = [json.loads(line) for line in (folder.path / 'events.jsonl').read_text().splitlines()]
        assert (said['event'], said['line']) == ('changed', "device: '1 x cpu' there, '8 x cpu' now")

    def test_rows_beyond_the_checkpoint_are_forgotten_and_one_that_was_cut_off(self, tmp_path):
        folder = Folder(tmp_path / 'run', config={}, made_of={})
        rows = folder.path / 'metrics.jsonl'
        rows.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n')
        folder.forget_after(4)
        assert rows.read_text() == '{"step": 2}\n{"step": 4}\n'
        rows.write_text('{"step": 2}\n{"ste')
        folder.forget_after(4)
        assert rows.read_text() == '{"step": 2}\n'
