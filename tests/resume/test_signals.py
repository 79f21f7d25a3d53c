"""Asked to stop, the loop saves the step it is at; hung, it says where; held by one process, a folder takes no other."""

import json
import os
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.run import lock, preemption
from kdjax.run.pace import Pace
from kdjax.run.preemption import Preempted, Preemption


@pytest.fixture
def ended(monkeypatch):
    """The exit codes of processes that ended at once."""
    codes = []
    monkeypatch.setattr(preemption.os, '_exit', codes.append)
    return codes


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
class TestPreemption:
    def test_held_it_waits_to_be_looked_at_and_a_second_signal_ends_at_once(self, number, ended, capfd):
        with Preemption() as asked:
            asked.hold()
            assert not asked.asked()
            os.kill(os.getpid(), number)
            assert asked.asked() and ended == []
            os.kill(os.getpid(), number)
            assert ended == [75]
        said = capfd.readouterr().err
        assert 'finishing the step and saving; a second signal ends at once' in said
        assert 'again: ending at once; run the same command to go on' in said

    def test_where_nobody_looks_it_is_an_exception_that_no_one_catches_by_mistake(self, number):
        with pytest.raises(Preempted, match='before or after training; what was finished is kept'):
            with Preemption():
                try:
                    os.kill(os.getpid(), number)
                except Exception:
                    pytest.fail('caught as an error')

    def test_what_came_before_is_put_back(self, number):
        before = signal.getsignal(number)
        with Preemption():
            assert signal.getsignal(number) != before
        assert signal.getsignal(number) == before


def test_a_signal_that_nobody_looked_at_is_not_lost_when_looking_ends():
    with pytest.raises(Preempted, match='asked to stop after the last step; it is saved'):
        with Preemption() as asked:
            asked.hold()
            os.kill(os.getpid(), signal.SIGTERM)
            asked.release()


HUNG = """
import pathlib, sys, time
from kdjax.run.watchdog import Watchdog

def stuck_here():
    time.sleep(20)

with Watchdog(0.3, pathlib.Path(sys.argv[1])) as watchdog:
    for _ in range(5):
        time.sleep(0.15)
        watchdog.beat()
    print('beaten', flush=True)
    stuck_here()
"""


def test_a_hang_exits_70_with_the_stacks_of_all_threads_on_standard_error_and_in_the_folder(tmp_path):
    start = time.monotonic()
    found = subprocess.run([sys.executable, '-c', HUNG, tmp_path], capture_output=True, text=True, timeout=20)
    assert (found.returncode, found.stdout) == (70, 'beaten\n')
    assert time.monotonic() - start < 10
    (file,) = tmp_path.glob('hang-*.txt')
    assert f'no progress for 0.3 s: the stacks of all threads follow, and are in {file}' in found.stderr
    for text in (found.stderr, file.read_text()):
        assert 'in stuck_here' in text and text.count('hread 0x') == 2


HOLDING = """
import pathlib, sys, time
from kdjax.run import lock
with lock.hold(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(60)
"""


class TestLock:
    def test_a_second_run_is_told_who_holds_the_folder(self, tmp_path):
        with lock.hold(tmp_path), pytest.raises(UserError) as error, lock.hold(tmp_path):
            pass
        host = os.uname().nodename
        assert str(error.value) == (
            f'the run folder {tmp_path} is in use by process {os.getpid()} on {host}: wait for it, end it, or choose '
            'another --out'
        )
        with lock.hold(tmp_path):
            pass

    def test_a_dead_process_holds_nothing(self, tmp_path):
        holder = subprocess.Popen([sys.executable, '-c', HOLDING, tmp_path], stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(UserError, match=f'in use by process {holder.pid} on'), lock.hold(tmp_path):
            pass
        holder.kill()
        holder.communicate()
        with lock.hold(tmp_path):
            pass

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(UserError, match=r'cannot be made .* choose another with --out'), lock.hold(tmp_path / 'file'):
            pass


class TestPace:
    def parts(self, seconds_per_step, steps=200, chunk=50):
        now = [0.0]
        pace, cuts = Pace(chunk, seconds=1.0, clock=lambda: now[0]), []
        for part in pace.parts(np.zeros((steps, 1))):
            now[0] += seconds_per_step * len(part) + (100 if not cuts else 0)
            pace.keep(jnp.zeros(()), len(part))
            cuts.append(len(part))
        assert sum(cuts) == steps
        return cuts

    def test_one_step_compiles_one_is_measured_and_then_no_more_than_a_second_is_under_way(self):
        assert self.parts(0.1)[:4] == [1, 1, 10, 10]
        assert set(self.parts(5.0, steps=6)) == {1}

    def test_quick_steps_go_in_whole_chunks(self):
        assert self.parts(0.0001)[:5] == [1, 1, 50, 50, 50]

    def test_what_happens_between_chunks_is_not_the_steps_time(self):
        now = [0.0]
        pace = Pace(50, clock=lambda: now[0])
        for pause in (0.0, 0.0, 1000.0, 0.0):
            now[0] += 0.5
            pace.keep(jnp.zeros(()), 1)
            now[0] += pause
            pace.rest()
        assert max(len(p) for p in pace.parts(np.zeros((9, 1)))) == 2


class TestOneRun:
    """Through the command, in this process."""

    @pytest.fixture
    def kdjax(self, monkeypatch, tmp_path, capfd):
        from kdjax.cli.main import main

        (tmp_path / 'mine').mkdir()
        (tmp_path / 'mine' / 'small.py').write_text(EXPERIMENT)
        for name in ('HOME', 'CACHE', 'STORE'):
            monkeypatch.setenv(f'KDJAX_{name}', str(tmp_path / name.lower()))

        def call(*options):
            code = main(['run', str(tmp_path / 'mine' / 'small.py'), '--out', str(tmp_path / 'run'), *map(str, options)])
            return code, *capfd.readouterr()

        return call

    def test_sigterm_saves_the_step_and_exits_75_and_the_same_command_goes_on(self, kdjax, tmp_path, monkeypatch):
        from kdjax.run.session import Session

        log, sent = Session._log, []

        def signalled(self, step, row):
            log(self, step, row)
            if step == 3 and not sent:
                sent.append(os.kill(os.getpid(), signal.SIGTERM))

        monkeypatch.setattr(Session, '_log', signalled)
        code, out, err = kdjax('--log-every', 1)
        assert (code, out) == (75, '')
        assert 'asked to stop: saving step 4 of 8' in err
        assert 'kdjax: asked to stop after step 4 of 8; run the same command to go on' in err
        code, out, err = kdjax('--log-every', 1)
        assert code == 0 and 'going on from step 4 of 8' in err
        cut = json.loads((tmp_path / 'run' / 'result.json').read_text())
        rows = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
        os.rename(tmp_path / 'run', tmp_path / 'cut')
        assert kdjax('--log-every', 1)[1].split()[-1] == out.split()[-1]
        whole = json.loads((tmp_path / 'run' / 'result.json').read_text())
        assert rows == (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
        assert cut['curves'] == whole['curves'] and len(whole['curves']['step']) == 4
        assert cut['state_sha256'] == whole['state_sha256']

    def test_what_may_be_resumed(self, kdjax, tmp_path):
        said = 'give auto, never, or the step of a checkpoint'
        assert f"--resume 'last': {said}" in self.refused(kdjax, '--resume', 'last')
        assert 'no checkpoint of step 4 in' in self.refused(kdjax, '--resume', 4)
        assert kdjax('--resume', 'never', '--save-every', 3, '--keep', 5, '--no-save-in-background')[0] == 0
        saved = sorted(p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir())
        assert saved == ['3', '6', '8']
        err = self.refused(kdjax, '--resume', 'never')
        assert 'holds checkpoints (the latest is of step 8): choose another --out, or go on with --resume auto' in err
        assert '--resume takes one of 3, 6, 8' in self.refused(kdjax, '--resume', 5)
        code, _, err = kdjax('--resume', 6)
        assert code == 0 and 'going on from step 6 of 8' in err

    def refused(self, kdjax, *options):
        code, out, err = kdjax(*options)
        assert (code, out) == (1, '')
        return err

    def test_two_runs_in_one_folder(self, kdjax, tmp_path):
        with lock.hold(tmp_path / 'run'):
            assert f'is in use by process {os.getpid()} on' in self.refused(kdjax)

    def test_numbers_that_make_no_sense(self, kdjax):
        assert 'keep=0: at least one checkpoint has to be kept' in self.refused(kdjax, '--keep', 0)

    def test_on_nan_is_an_option(self, kdjax, tmp_path):
        code, _, err = kdjax('--on-nan', 'skip', '--log-every', 4)
        assert code == 0, err
        rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
        assert [row['skipped'] for row in rows] == [0, 0]


EXPERIMENT = '''
"""A made-up note."""
import dataclasses
from kdjax.experiment import Experiment
from kdjax.objectives import hard_labels
from kdjax.tasks.small_images import SmallImages

@dataclasses.dataclass(frozen=True)
class Small(SmallImages):
    train_examples: int | None = 40
    student: str = 'mlp-8'
    teacher: str = 'mlp-8'
    teacher_steps: int = 4
    teacher_crop_padding: int = 0
    batch: int = 8
    steps: int = 8
    evaluations: int = 4

def arms(task):
    return {'labels': task.arm(hard_labels()), 'twice': task.arm(2.0 * hard_labels())}

experiment = Experiment(title='Small', config=Small(), arms=arms, claims=('labels > twice on accuracy',))
'''
