"""A disk that is full or takes nothing: what could not be saved is told, what was saved stays, the loop goes on."""

import contextlib
import gc
import subprocess

import pytest
from one_run import train
from states import opened, same, saved, state_at

from kdjax.errors import UserError
from kdjax.run import checkpoints
from kdjax.run.checkpoints import TEMPORARY

MODES = pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])


@contextlib.contextmanager
def mounted(place, *options):
    """A small file system in memory; skips the test where nobody may mount one."""
    place.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', ','.join(options), 'none', str(place)]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f'no mount command here: {error}')
    if made.returncode:
        pytest.skip(f'no tmpfs may be mounted here: {made.stderr.strip()}')
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', str(place)], check=True)


def filled(place):
    """A file that takes all the room there is."""
    with contextlib.suppress(OSError), (place / 'ballast').open('wb', buffering=0) as file:
        while True:
            file.write(b'0' * 4096)
    return place / 'ballast'


@MODES
def test_a_full_disk_is_told_and_the_next_save_is_made_when_there_is_room(asynchronous, tmp_path):
    with mounted(tmp_path / 'small', 'size=512k') as place:
        lines = []
        there = saved(place / 'checkpoints', 1, lines=lines, asynchronous=asynchronous)
        ballast = filled(place)
        there.save(2, state_at(2))
        there.wait()
        (line,) = lines
        assert line.startswith('step 2 was not saved (OSError: [Errno 28] No space left on device: about ')
        assert 'bytes are needed, 0 are free); the latest stays step 1' in line
        assert there.latest() == 1 and same(there.restore(None, state_at(0))[1], state_at(1))
        ballast.unlink()
        there.save(3, state_at(3))
        there.wait()
        assert there.latest() == 3 and same(there.restore(None, state_at(0))[1], state_at(3))
        assert not (place / 'checkpoints' / TEMPORARY).exists() and len(lines) == 1


@MODES
@pytest.mark.parametrize('room', [4, 12, *(pytest.param(room, marks=pytest.mark.slow) for room in (8, 16))])
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_disk_that_fills_up_in_the_middle_of_a_save(room, asynchronous, tmp_path, monkeypatch):
    """After so many KiB, where nothing was known beforehand: one save meets several errors, told once and forgotten.

    What Orbax leaves of its half-done writes is collected here.
    """
    monkeypatch.setattr(checkpoints, '_check_room', lambda folder, size: None)
    with mounted(tmp_path / 'small', 'size=512k') as place:
        lines = []
        there = saved(place / 'checkpoints', 1, lines=lines, asynchronous=asynchronous)
        ballast = filled(place)
        with ballast.open('r+b') as file:
            file.truncate(ballast.stat().st_size - room * 1024)
        there.save(2, state_at(2))
        there.wait()
        assert len(lines) == 1 and 'No space left on device' in lines[0]
        ballast.unlink()
        there.save(3, state_at(3))
        there.wait()
        assert there.steps() == [1, 3] and same(there.restore(None, state_at(0))[1], state_at(3))
        gc.collect()


def test_a_whole_run_over_a_disk_that_is_full_for_a_while(tmp_path):
    """The saves at 5 and 10 do not fit; the rows go on, and the end is saved and is the end."""
    whole = train(tmp_path / 'whole', save_every=5)
    with mounted(tmp_path / 'small', 'size=512k') as place:
        (place / 'checkpoints').mkdir()
        ballast = place / 'ballast'
        ballast.write_bytes(b'0' * 480 * 1024)
        seen = []

        def fill(step, row):
            seen.append(step)
            if step == 12:
                ballast.unlink()

        ran = train(place, save_every=5, on_row=fill, asynchronous=False)
        told = [line for line in ran.lines if 'was not saved' in line]
        assert [line.split()[1] for line in told] == ['5', '10']
        assert ran.digest == whole.digest and seen == [3, 6, 9, 12, 15, 18, 20]
        assert sorted(p.name for p in (place / 'checkpoints').iterdir()) == ['15', '20']


def test_a_file_system_that_takes_nothing(tmp_path):
    with mounted(tmp_path / 'fixed', 'size=512k') as place:
        saved(place / 'checkpoints', 1).close()
        (place / 'checkpoints' / TEMPORARY).mkdir()
        subprocess.run(['mount', '-o', 'remount,ro', str(place)], check=True)
        with pytest.raises(UserError, match=r'cannot be written .*Read-only file system.*: choose another --out'):
            opened(place / 'checkpoints')
        with pytest.raises(UserError, match=r'cannot be made .*Read-only file system.*: choose another with --out'):
            train(place / 'run')
