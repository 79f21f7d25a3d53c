"""A group on this machine: what each rank is told, and how the group ends."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from launch.job import load
from launch.main import main

ROOT = pathlib.Path(__file__).parents[2]

SHOW = 'echo c=$KDJAX_COORDINATOR n=$KDJAX_PROCESSES i=$KDJAX_PROCESS m=$KDJAX_DEVICES d=$KDJAX_DISTRIBUTED'


def local(*words, id='job'):
    return main(['local', '--id', id, *words])


def shell(script, *options):
    return local(*options, '--', 'sh', '-c', script)


def state(id='job'):
    return load(pathlib.Path('runs/launch') / id)


def test_every_rank_knows_its_place(capfd):
    assert shell(SHOW, '--procs', '3', '--devices', '2') == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    port = re.search(r'127\.0\.0\.1:(\d+)', lines[0])[1]
    assert lines == [f'[{i}] c=127.0.0.1:{port} n=3 i={i} m=2 d=' for i in range(3)]


def test_one_process_is_no_group(capfd, monkeypatch):
    for name in ('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS', 'KDJAX_DISTRIBUTED'):
        monkeypatch.setenv(name, 'inherited')
    assert shell(SHOW) == 0
    assert capfd.readouterr().out == '[0] c= n= i= m= d=\n'


def test_the_log_has_what_the_terminal_had(capfd):
    shell('echo $KDJAX_PROCESS; echo error >&2; printf unfinished', '--procs', '2')
    shown = capfd.readouterr().out
    assert sorted(shown.splitlines()) == [f'[{i}] {said}' for i in (0, 1) for said in (i, 'error', 'unfinished')]
    assert main(['local', 'logs', 'job']) == 0
    assert capfd.readouterr().out == shown


@pytest.mark.parametrize(('codes', 'expected'), [('0 0', 0), ('3 3', 3), ('0 75', 75), ('75 3', 75)])
def test_the_worst_code(codes, expected):
    assert shell(f'set -- {codes}; shift $KDJAX_PROCESS; exit $1', '--procs', '2', '--save-time', '5') == expected


def test_when_one_fails_all_end_and_its_code_is_the_groups(capfd):
    began = time.monotonic()
    script = 'if [ $KDJAX_PROCESS = 1 ]; then exit 1; fi; sleep 60'
    assert shell(script, '--procs', '3', '--restarts', '5') == 1
    assert time.monotonic() - began < 5
    assert 'launch: exit code 1 (rank 0: 143, rank 1: 1, rank 2: 143)' in capfd.readouterr().err
    assert len(state().attempts) == 1


def test_a_rank_that_ignores_sigterm_is_killed():
    script = 'if [ $KDJAX_PROCESS = 1 ]; then sleep 0.3; kill -9 $$; fi; trap "" TERM; sleep 60 & wait; wait; sleep 60'
    began = time.monotonic()
    assert shell(script, '--procs', '2', '--grace', '0.5') == 137
    assert time.monotonic() - began < 8


def test_what_the_ranks_started_ends_with_them(tmp_path):
    assert shell(f'sleep 60 & echo $! > {tmp_path}/pid; exit 1') == 1
    pid = int((tmp_path / 'pid').read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(40):
            os.kill(pid, 0)
            time.sleep(0.05)


def test_a_rank_alone_with_75_ends_the_group_gently():
    """The others get time to save, then SIGTERM, upon which they save as well."""
    script = 'if [ $KDJAX_PROCESS = 1 ]; then exit 75; fi; trap "exit 75" TERM; while :; do sleep 0.05; done'
    assert shell(script, '--procs', '2', '--save-time', '0.5') == 75


def test_restarts_go_on_in_the_same_folder(stand_in, tmp_path, capfd):
    command = ' '.join(stand_in(steps=4))
    script = f'if [ ! -e been ]; then touch been; kill -9 $$; fi; {command}'
    assert shell(script, '--restarts', '2', '--backoff', '0.01') == 0
    assert [attempt.code for attempt in state().attempts] == [137, 0]
    assert 'launch: exit code 137: attempt 2 of 3 in 0.01 s' in capfd.readouterr().err
    assert main(['local', 'status', 'job']) == 0
    said = capfd.readouterr().out
    assert said.startswith('job: ended with exit code 0\n  attempt 1: exit code 137 after')


def test_restarts_run_out():
    assert shell('exit 75', '--restarts', '2', '--backoff', '0.01') == 75
    assert len(state().attempts) == 3


def started(*options, command, first=()):
    """`launch local` as a program of its own."""
    return subprocess.Popen(
        [*first, sys.executable, '-m', 'launch', 'local', '--id', 'job', *options, '--', *command],
        env=os.environ | {'PYTHONPATH': str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(program, text):
    """Read until a line has the text in it."""
    for line in program.stdout:
        if text in line:
            return
    raise AssertionError(f'{text} never came')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_all_ranks_which_save(stand_in, tmp_path, number):
    command = stand_in(steps=10**6, pause=0.01)
    if number == signal.SIGINT:
        command = ['sh', '-c', 'trap "echo saved; exit 75" INT; echo from step; while :; do sleep 0.05; done']
    program = started('--procs', '2', '--restarts', '3', command=command)
    for _ in range(2):
        wait_for(program, 'from step')
    program.send_signal(number)
    rest = program.communicate(timeout=20)[0]
    assert program.returncode == 75, rest
    assert rest.count('saved') == 2
    assert len(state().attempts) == 1, 'who was asked to stop does not start again'


def test_a_closed_terminal_does_not_end_what_nohup_started():
    script = 'trap "exit 75" TERM; echo up; while :; do sleep 0.05; done'
    program = started(command=['sh', '-c', script], first=['nohup'])
    wait_for(program, 'up')
    program.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.5)
    program.terminate()
    program.communicate(timeout=20)
    assert program.returncode == 75


def test_a_reader_that_goes_away_takes_nothing_along():
    """As in `python -m launch local ... | head -n1`: the log has all of it, and the exit code is the job's."""
    script = 'echo first; sleep 0.3; for i in $(seq 3000); do echo a line that nobody reads; done; exit 3'
    program = started(command=['sh', '-c', script])
    wait_for(program, 'first')
    program.stdout.close()
    assert program.wait(20) == 3
    assert len(pathlib.Path('runs/launch/job/log.txt').read_text().splitlines()) == 3001


def test_after_a_stop_the_same_command_goes_on(stand_in, tmp_path, capfd):
    command = stand_in(steps=40, pause=0.05)
    program = started(command=command)
    wait_for(program, 'one step further')
    assert main(['local', 'stop', 'job']) == 0
    program.communicate(timeout=20)
    assert program.returncode == 75
    assert local('--', *command) == 0
    begins = json.loads((tmp_path / 'run/rank0.json').read_text())['begins']
    assert len(begins) == 2
    assert begins[1] > 0
    assert [attempt.code for attempt in state().attempts] == [75, 0]


def test_a_running_job_is_not_started_twice(stand_in, capfd):
    command = stand_in(steps=10**6, pause=0.01)
    program = started(command=command)
    wait_for(program, 'from step 0')
    try:
        assert local('--', *command) == 1
        assert f"job 'job' is running (process {program.pid}); wait for it, stop it with" in capfd.readouterr().err
        assert main(['local', 'cleanup', 'job']) == 1
        assert 'nothing of it is left over; `stop` ends it' in capfd.readouterr().err
        assert main(['local', 'cleanup']) == 0
        assert main(['local', 'status', 'job']) == 0
        out = capfd.readouterr().out
        assert out.startswith(f'nothing is left over\njob: running; launcher {program.pid}, ranks ')
    finally:
        program.terminate()
        program.communicate(timeout=20)


def test_cleanup_finds_ranks_without_their_launcher(stand_in, tmp_path, capfd):
    program = started(command=stand_in(steps=10**6, pause=0.01))
    wait_for(program, 'from step 0')
    program.kill()
    program.wait()
    program.stdout.close()
    (rank,) = state().handle['ranks']
    assert main(['local', 'status', 'job']) == 0
    assert main(['local', 'cleanup']) == 0
    assert main(['local', 'cleanup', 'job', '--dry-run']) == 0
    out = capfd.readouterr().out
    assert f'job: its launcher is gone, ranks {rank} are not; see `cleanup`' in out
    assert f'job: processes {rank} without a launcher; `python -m launch local cleanup job` ends them' in out
    assert f'SIGTERM to process {rank} (dry run)' in out
    os.kill(rank, 0)
    assert main(['local', 'cleanup', 'job']) == 0
    assert 'runs/launch/job and the run folder stay' in capfd.readouterr().out
    assert main(['local', 'cleanup']) == 0
    assert capfd.readouterr().out == 'nothing is left over\n'
    assert main(['local', 'status', 'job']) == 0
    assert 'job: lost with its launcher; submit the same again to go on' in capfd.readouterr().out
    assert main(['local', 'stop', 'job']) == 0
    assert capfd.readouterr().out == 'job does not run\n'
    assert (tmp_path / 'run').is_dir()


def test_a_dry_run_starts_nothing(capfd, here):
    assert local('--procs', '2', '--port', '4321', '--dry-run', '--', 'kdjax', 'run', 'kd') == 0
    assert capfd.readouterr().out.splitlines() == [
        'dry run of job on local: nothing is written or started',
        *(
            f'run KDJAX_LAUNCH_ID=job KDJAX_COORDINATOR=127.0.0.1:4321 KDJAX_PROCESSES=2 KDJAX_PROCESS={i} kdjax run kd'
            for i in range(2)
        ),
    ]
    assert list(here.iterdir()) == []


def refused(capfd, *words):
    assert main(list(words)) == 1
    return capfd.readouterr().err


def test_a_port_in_use(capfd):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capfd, 'local', '--procs', '2', '--port', str(port), '--', 'true')
    assert said == (
        f'launch: --port {port}: address already in use on 127.0.0.1; choose another, or leave --port out to get '
        'a free one\n'
    )


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--port', '70000'], '--port 70000 is no port; give 1 to 65535, or leave --port out'),
        (['--procs', '0'], '--procs 0 makes no group; give 1 or more'),
        (['--procs', '-2'], '--procs -2 makes no group; give 1 or more'),
        (['--devices', '0'], '--devices 0 makes no group; give 1 or more'),
        (['--restarts', '-1'], '--restarts -1 is less than none; give 0 or more'),
    ],
)
def test_wrong_numbers(capfd, words, message):
    assert message in refused(capfd, 'local', *words, '--', 'true')


def test_a_program_that_is_not_there(capfd):
    said = refused(capfd, 'local', '--', 'kdjaxx', 'run')
    assert "'kdjaxx' is not on the PATH of this machine; activate its environment, or give its whole path" in said


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['slurn', '--', 'true'], "unknown place 'slurn'; did you mean 'slurm'? known: gke, local"),
        (['local', 'statsu', 'x'], "unknown verb 'statsu'; did you mean 'status'?"),
        (['local', '--procs', '2'], 'no command after `--`; give one: python -m launch local -- kdjax run'),
        (['local', 'status', 'nobody'], "unknown local job 'nobody'; known: (none)"),
        (['local', '--procs', 'two', '--', 'true'], 'two'),
    ],
)
def test_wrong_words(capfd, words, message):
    assert main(words) == 1
    said = capfd.readouterr()
    assert message in said.err + said.out


def test_logs_before_there_are_any(capfd):
    local('--', 'true')
    pathlib.Path('runs/launch/job/log.txt').unlink()
    assert "job 'job' has no log yet (runs/launch/job/log.txt); it has not begun" in refused(
        capfd, 'local', 'logs', 'job'
    )


def test_help_names_places_and_verbs(capfd):
    assert main(['--help']) == 0
    said = capfd.readouterr().out
    assert 'local, slurm, tpu_vm, gke, skypilot' in said
    assert all(verb in said for verb in ('submit', 'status', 'logs', 'stop', 'cleanup'))
    assert main([]) == 1
    assert main(['local', '--help']) == 0
