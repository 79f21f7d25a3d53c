"""Asked to stop, a process saves or ends; hung, it says where; a folder that one process holds takes no other."""

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

ENDLESS = """
import jax
from kdjax.run.preemption import Preemption

endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x < 2.0, jax.numpy.cos, x)).lower(1.0).compile()
with Preemption() as asked:
    asked.hold()
    print('running', flush=True)
    jax.block_until_ready(endless(1.0))
"""


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

    def test_the_second_ends_it_also_inside_a_program_that_never_returns(self, number):
        """Python calls no handler while its main thread is inside XLA."""
        child = subprocess.Popen([sys.executable, '-c', ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout.readline() == b'running\n'
        child.send_signal(number)
        time.sleep(0.5)
        assert child.poll() is None
        child.send_signal(number)
        _, err = child.communicate(timeout=10)
        assert child.returncode == 75 and b'again: ending at once' in err

    def test_where_nobody_looks_it_is_an_exception_that_no_one_catches_by_mistake(self, number):
        with pytest.raises(Preempted, match='before or after training; what was finished is kept'), Preemption():
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
    with pytest.raises(Preempted, match='asked to stop after the last step; it is saved'), Preemption() as asked:
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
        refused = pytest.raises(UserError, match=r'cannot be made .* choose another with --out')
        with refused, lock.hold(tmp_path / 'file'):
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
