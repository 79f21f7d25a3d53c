"""A checkpoint is whole or it is none; what goes wrong in a save is told, survived, and never taken for the latest."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import opened, same, saved, state_at

from kdjax.errors import UserError
from kdjax.run import checkpoints as module
from kdjax.run import manifest
from kdjax.run.checkpoints import TEMPORARY, Policy
from kdjax.run.diverged import check_state

MODES = pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])


@MODES
def test_a_state_comes_back_bit_for_bit_with_what_lay_beside_it(asynchronous, tmp_path):
    there = saved(tmp_path, 3, 5, asynchronous=asynchronous)
    assert (there.steps(), there.latest()) == ([3, 5], 5)
    step, state = opened(tmp_path).restore(None, state_at(0))
    assert step == 5 and same(state, state_at(5))
    step, state = opened(tmp_path).restore(3, jax.eval_shape(lambda: state_at(0)))
    assert step == 3 and same(state, state_at(3))
    np.testing.assert_array_equal(there.beside(5)['seen'], np.arange(5))


def test_nothing_there_is_none(tmp_path):
    there = opened(tmp_path / 'new')
    assert there.restore(None, state_at(0)) is None
    assert (there.steps(), there.latest()) == ([], None)
    with pytest.raises(UserError, match=r'no checkpoint of step 7 in .*new: --resume takes one of none'):
        there.restore(7, state_at(0))


class TestDonation:
    def test_the_state_may_be_donated_as_soon_as_save_returns(self, tmp_path):
        """A million numbers, overwritten in place while the background writes."""
        there = opened(tmp_path, keep=9)
        double = jax.jit(lambda s: jax.tree.map(lambda a: a * 2, s), donate_argnums=0)
        state = {'step': jnp.int32(1), 'a': jnp.ones((1000, 1000))}
        for step in range(1, 5):
            there.save(step, state)
            for _ in range(3):
                state = double(state)
        there.wait()
        for step in range(1, 5):
            _, kept = there.restore(step, state)
            assert np.unique(kept['a']).tolist() == [8.0 ** (step - 1)]

    @MODES
    def test_buffers_are_still_donated_after_a_save_and_a_check(self, asynchronous, tmp_path):
        there = opened(tmp_path, asynchronous=asynchronous)
        double = jax.jit(lambda s: jax.tree.map(lambda a: a * 2, s), donate_argnums=0)
        state = double({'step': jnp.int32(1), 'a': jnp.ones((100, 100))})
        check_state(state, 1)
        there.save(1, state)
        double(state)
        assert state['a'].is_deleted()
        there.wait()


class TestPolicy:
    def test_the_newest_are_kept_and_the_permanent_for_ever(self, tmp_path):
        assert saved(tmp_path, 2, 4, 5, 6, 8, 10, 11, keep=2, keep_every=5).steps() == [5, 8, 10, 11]

    def test_which_ones_go(self):
        assert Policy(keep=2).superfluous([1, 2, 3, 4]) == [1, 2]
        assert Policy(keep=1, keep_every=2).superfluous([1, 2, 3, 4]) == [1]
        assert Policy(keep=3).superfluous([1, 2]) == []

    @pytest.mark.parametrize(
        ('given', 'message'),
        [
            ({'keep': 0}, 'keep=0: at least one checkpoint has to be kept, and two to survive a damaged one'),
            ({'save_every': -1}, 'save_every=-1: give 0 for never, or a positive number'),
            ({'save_seconds': -1.0}, 'save_seconds=-1.0: give 0 for never'),
            ({'keep_every': -5}, 'keep_every=-5: give 0 for never'),
        ],
    )
    def test_bad_numbers(self, given, message):
        with pytest.raises(UserError) as error:
            Policy(**given)
        assert message in str(error.value)

    def test_what_lies_beyond_a_step_can_be_forgotten(self, tmp_path):
        there = saved(tmp_path, 1, 2, 3, 4, keep=9, keep_every=2)
        there.forget_after(2)
        assert there.steps() == [1, 2]


def failing(*args, **kwargs):
    raise OSError('the disk is on fire')


def half_written(self, directory, *args, **kwargs):
    directory.mkdir(parents=True)
    (directory / 'half').write_bytes(b'0' * 100)
    raise OSError('the disk is on fire')


POINTS = {
    'before the temporary folder': ('kdjax.run.checkpoints.Checkpoints._prepare', failing),
    'in the middle of the write': ('orbax.checkpoint.AsyncCheckpointer.save', half_written),
    'in the background': ('orbax.checkpoint.AsyncCheckpointer.wait_until_finished', failing),
    'before the commit': ('kdjax.run.manifest.write', failing),
    'after the commit': ('kdjax.run.checkpoints.Checkpoints._remove', failing),
}
COMMITTED = {'after the commit'}


@MODES
@pytest.mark.parametrize('point', POINTS)
class TestFaults:
    def test_a_failed_save_is_told_and_never_the_latest_and_the_next_one_is_made(
        self, point, asynchronous, tmp_path, monkeypatch
    ):
        lines = []
        there = opened(tmp_path, lines, asynchronous=asynchronous, keep=1)
        there.save(1, state_at(1))
        there.wait()
        with monkeypatch.context() as broken:
            broken.setattr(*POINTS[point])
            there.save(2, state_at(2))
            there._join()
        latest = 2 if point in COMMITTED else 1
        assert there.latest() == latest
        assert len(lines) == 1 and 'the disk is on fire' in lines[0]
        if point not in COMMITTED:
            assert lines[0].startswith('step 2 was not saved (OSError: ') and 'the latest stays step 1' in lines[0]
        step, state = there.restore(None, state_at(0))
        assert step == latest and same(state, state_at(latest))
        there.save(3, state_at(3))
        there.wait()
        assert there.latest() == 3 and len(lines) == 1
        assert same(there.restore(None, state_at(0))[1], state_at(3))
        assert not (tmp_path / TEMPORARY).exists()

    def test_a_death_there_leaves_a_committed_latest_and_one_temporary_folder_at_most(
        self, point, asynchronous, tmp_path, monkeypatch
    ):
        """A death is an exception that nobody may catch, so that no one cleans up after it."""

        class Death(BaseException):
            pass

        name, fault = POINTS[point]

        def dying(*args, **kwargs):
            try:
                fault(*args, **kwargs)
            except OSError as error:
                raise Death from error

        there = saved(tmp_path, 1, asynchronous=asynchronous, keep=1)
        monkeypatch.setattr(module.threading, 'excepthook', lambda died: None)
        with monkeypatch.context() as broken:
            broken.setattr(name, dying)
            try:
                there.save(2, state_at(2))
                there._join()
            except Death:
                pass
        folders = sorted(p.name for p in tmp_path.iterdir())
        assert len([f for f in folders if not f.isdecimal()]) <= 1
        after = opened(tmp_path)
        step, state = after.restore(None, state_at(0))
        assert step == (2 if point in COMMITTED else 1) and same(state, state_at(step))
        assert all(p.name.isdecimal() for p in tmp_path.iterdir())


def test_what_an_interrupted_save_left_is_removed_at_the_start(tmp_path):
    saved(tmp_path, 1)
    shutil.copytree(tmp_path / '1', tmp_path / TEMPORARY)
    assert opened(tmp_path).steps() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ['1']


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'file/checkpoints cannot be written .*: choose another --out'):
        opened(tmp_path / 'file' / 'checkpoints')


def test_the_manifest_names_every_file_and_every_leaf(tmp_path):
    saved(tmp_path, 4)
    found = manifest.check(tmp_path / '4', 4)
    on_disk = {p.relative_to(tmp_path / '4').as_posix() for p in (tmp_path / '4').rglob('*') if p.is_file()}
    assert set(found['files']) | {'manifest.json'} == on_disk
    assert found['leaves'] == {
        'optimizer/student/0/count': 'int32[]',
        'optimizer/student/1/mu': 'bfloat16[4]',
        'step': 'int32[]',
        'variables/student/params/a': 'float32[4,3]',
    }
