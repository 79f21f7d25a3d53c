"""Storms: a run that is struck again and again, at random, ends as the one that nobody touched."""

import random
import signal
import subprocess
import time

import pytest
from one_run import command, elsewhere, rows_digest, train

from kdjax.run.checkpoints import TEMPORARY
from kdjax.run.manifest import Damaged, check

pytestmark = pytest.mark.slow

STEPS, SAVE_EVERY, PAUSE = 600, 20, 0.02
OPTIONS = {'kind': 'average of the student', 'steps': STEPS, 'save_every': SAVE_EVERY, 'log_every': 1}

POINTS = {'_prepare': 30, '_finish': 30, '_commit': 30, '_prune': 60, '_remove': 90}
"""Where a process dies, and the step that is committed then; nothing is removed before the second save."""


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    return train(folder, **OPTIONS).digest, rows_digest(folder)


class Struck:
    """One process, struck after its first row and a random while: how it ended, and what it left."""

    def __init__(self, folder, number, chance, **options):
        given, pipe = command(folder, **OPTIONS, pause=PAUSE, **options), subprocess.PIPE
        process = subprocess.Popen(given, stdout=pipe, stderr=pipe, text=True)
        first = process.stdout.readline()
        time.sleep(chance.uniform(0, 1.2))
        at = time.monotonic()
        process.send_signal(number)
        said, self.error = process.communicate(timeout=60)
        self.seconds, self.code = time.monotonic() - at, process.returncode
        self.reached = max(int(line) for line in (first + said).split('\n') if line.isdecimal())
        self.committed = newest(folder / 'checkpoints')
        self.temporary = [p.name for p in (folder / 'checkpoints').iterdir() if not p.name.isdecimal()]
        self.size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


def newest(checkpoints) -> int:
    """The newest step whose every byte has its digest; none may be damaged."""
    found = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdecimal())
    for step in found:
        try:
            check(checkpoints / str(step), step)
        except Damaged as damage:
            pytest.fail(f'a signal damaged a checkpoint: {damage}')
    return found[-1] if found else 0


def test_ten_sigterms_lose_nothing_that_was_complete(tmp_path, whole, capsys):
    chance, struck = random.Random(10), []
    for _ in range(10):
        struck.append(Struck(tmp_path, signal.SIGTERM, chance))
        now = struck[-1]
        assert now.code == 75, now.error
        assert now.reached <= now.committed <= now.reached + 4, 'at most the chunk that was under way is more'
        assert now.temporary == []
    last = elsewhere(tmp_path, **OPTIONS)
    assert (last['digest'], rows_digest(tmp_path)) == whole
    with capsys.disabled():
        slowest = max(s.seconds for s in struck)
        print(
            f'\n10 SIGTERMs up to step {struck[-1].reached} of {STEPS}: no complete step lost, ends as uninterrupted;'
        )
        print(f'from the signal to the exit {slowest:.2f} s at most')


@pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])
def test_twenty_sigkills_end_as_the_uninterrupted_run(asynchronous, tmp_path, whole, capsys):
    """Saved in the foreground, a kill loses no more than the interval; in the background, a write more at most."""
    chance, struck = random.Random(20), []
    for _ in range(20):
        now = Struck(tmp_path, signal.SIGKILL, chance, asynchronous=asynchronous)
        struck.append(now)
        assert now.code == -signal.SIGKILL, now.error
        assert now.temporary in ([], [TEMPORARY])
        assert now.reached - now.committed <= (2 * SAVE_EVERY if asynchronous else SAVE_EVERY)
    last = elsewhere(tmp_path, **OPTIONS)
    assert (last['digest'], rows_digest(tmp_path)) == whole
    assert not (tmp_path / 'checkpoints' / TEMPORARY).exists()
    with capsys.disabled():
        lost = [s.reached - s.committed for s in struck]
        during = sum(s.temporary == [TEMPORARY] for s in struck)
        print(f'\n20 SIGKILLs, {"async" if asynchronous else "sync"}, {during} during a save: ends as uninterrupted;')
        print(
            f'a checkpoint every {SAVE_EVERY} steps, lost {sorted(lost)}; {max(s.size for s in struck)} bytes at most'
        )


@pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])
@pytest.mark.parametrize('point', POINTS)
def test_a_process_that_dies_at_a_point_of_its_save_goes_on_as_if_it_had_not(point, asynchronous, tmp_path, whole):
    """It ends at the second time that it gets there, without a word; from a background thread as well."""
    options = OPTIONS | {'save_every': 30, 'keep': 1, 'asynchronous': asynchronous}
    process = subprocess.run(command(tmp_path, **options, dies_in=point), capture_output=True, text=True, timeout=120)
    assert process.returncode == 9, process.stderr
    assert newest(tmp_path / 'checkpoints') == POINTS[point]
    last = elsewhere(tmp_path, **options)
    assert f'going on from step {POINTS[point]} of {STEPS}' in last['lines']
    assert (last['digest'], rows_digest(tmp_path)) == whole
