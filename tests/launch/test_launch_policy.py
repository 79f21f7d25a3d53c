"""What exit codes mean, when a command is tried again, and how the state of a job is kept."""

import itertools
import json
import pathlib
import random
import time

import pytest
import yaml

from kdjax.cli import main as kdjax_main
from kdjax.errors import UserError
from kdjax.run.preemption import PREEMPTED
from launch import exit_codes
from launch.exit_codes import as_exit_code, worst, worth_retrying
from launch.job import Job, jobs_at, load, named, new_id, open_job
from launch.manifest import as_yaml
from launch.retry import Policy, attempts


def test_the_codes_are_those_of_kdjax():
    ours = exit_codes.DONE, exit_codes.USER_ERROR, exit_codes.DEFECT, exit_codes.NOT_REPRODUCED, exit_codes.PREEMPTED
    theirs = kdjax_main.DONE, kdjax_main.WRONG_INPUT, kdjax_main.OUR_FAULT, kdjax_main.NOT_REPRODUCED, PREEMPTED
    assert ours == theirs


@pytest.mark.parametrize('code', [70, 75, 129, 137, 143, 255])
def test_retried(code):
    assert worth_retrying(code)


@pytest.mark.parametrize('code', [0, 1, 2, 3, 5, 127])
def test_never_retried(code):
    assert not worth_retrying(code)


def test_the_worst_code_explains_the_others():
    order = [0, 3, 75, 2, 137, 70, 1]
    for better, worse in itertools.pairwise(order):
        assert worst([better, worse]) == worst([worse, better]) == worse
    assert worst([]) == 0
    assert worst([0, 75, 99]) == 99
    assert as_exit_code(-9) == 137
    assert as_exit_code(75) == 75


def run_with(codes, restarts, stop_at=None):
    """The last code, and the waits."""
    waits = []

    def stopped(seconds):
        waits.append(seconds)
        return len(waits) == stop_at

    return attempts(Policy(restarts, first=1, longest=5), lambda n: codes[n], stopped), waits


def test_back_off_doubles_up_to_the_longest():
    assert run_with([75, 137, 70, 75, 255, 0], restarts=9) == (0, [1, 2, 4, 5, 5])


def test_the_last_attempt_counts():
    assert run_with([75, 75, 75], restarts=2) == (75, [1, 2])


@pytest.mark.parametrize('code', [0, 1, 2, 3])
def test_no_second_attempt(code):
    assert run_with([code], restarts=9) == (code, [])


def test_no_attempt_after_being_asked_to_stop():
    assert run_with([75, 75, 0], restarts=9, stop_at=2) == (75, [1, 2])


def a_job(id='kd-1'):
    return Job(id, 'local', ('kdjax', 'run', 'kd'), {'procs': 2})


def test_the_state_of_a_job_comes_back():
    job = a_job().with_handle(launcher=7, ranks=[8, 9]).started().ended(75).started().save()
    assert load(job.folder) == job
    assert jobs_at('local') == [job]
    assert jobs_at('slurm') == []
    assert [attempt.code for attempt in job.attempts] == [75, None]
    assert named('local', 'kd-1') == job


def test_the_state_is_replaced_whole(monkeypatch):
    """A writer that dies leaves the state before, never half of one."""
    job = a_job().save()
    before = (job.folder / 'job.json').read_bytes()

    def dies(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, 'replace', dies)
    with pytest.raises(KeyboardInterrupt):
        job.started().save()
    assert (job.folder / 'job.json').read_bytes() == before


def test_the_same_id_goes_on_with_the_same_job():
    job = a_job().started().ended(75).save()
    again = open_job('local', 'kd-1', ['kdjax', 'run', 'kd'], {'procs': 4})
    assert again.attempts == job.attempts
    assert again.options == {'procs': 4}


def test_an_id_belongs_to_one_command_and_one_place():
    a_job().save()
    with pytest.raises(UserError, match=r"--id 'kd-1' belongs to another command \(kdjax run kd, not kdjax run dkd\)"):
        open_job('local', 'kd-1', ['kdjax', 'run', 'dkd'], {})
    with pytest.raises(UserError, match=r"--id 'kd-1' belongs to another place \(local, not slurm\) .*another --id"):
        open_job('slurm', 'kd-1', ['kdjax', 'run', 'kd'], {})


@pytest.mark.parametrize('id', ['Kd', '1st', 'a_b', 'x' * 31, 'end-', '../up'])
def test_names_that_some_place_refuses(id):
    with pytest.raises(UserError, match='is no name that every place accepts; give at most 30 lower-case letters'):
        open_job('local', id, ['kdjax'], {})


@pytest.mark.parametrize(
    ('command', 'id'),
    [
        (['kdjax', 'run', 'logits/kd', '--arm', 'kd'], 'kd-0102-030405'),
        (['bin/kdjax', 'verify', 'mine/Cubic_2.py'], 'cubic-2-0102-030405'),
        (['/bin/echo'], 'echo-0102-030405'),
        (['7zip'], 'job-7zip-0102-030405'),
    ],
)
def test_a_new_id_says_what_and_when(command, id):
    assert new_id(command, time.struct_time((2026, 1, 2, 3, 4, 5, 0, 2, 0))) == id


def test_a_file_that_is_no_state_is_named():
    job = a_job().save()
    (job.folder / 'job.json').write_text('{"id": "kd-1"}')
    with pytest.raises(UserError, match=r"runs/launch/kd-1/job.json is not a job's state .*; move it away"):
        jobs_at('local')


def test_a_job_that_nobody_knows():
    a_job().save()
    with pytest.raises(UserError, match="unknown local job 'kd-2'; did you mean 'kd-1'"):
        named('local', 'kd-2')


def test_yaml_of_ours_is_read_as_what_was_written():
    value = {
        'text': ['', 'yes', 'No', '1e3', '2x4', '1:30', 'a: b', '- x', '#', 'plain', 'null', '~', '*a', 'é', "it's"],
        'script': 'if true\nthen\n  echo "x: y" # z\n\nfi\n',
        'nested': [{'a': [{'b': {}}, {'c': []}]}, [[1, 2], ['x', ['y']]], 'z', {'d': None, 'e': 1.5, 'f': True}],
        'empty': {},
        '1': {'a/b.c': '/x'},
    }
    assert yaml.safe_load(as_yaml(value)) == value


def test_yaml_of_arbitrary_data():
    draw = random.Random(0)

    def some(depth):
        kind = draw.randrange(5 if depth else 3)
        if kind == 3:
            return [some(depth - 1) for _ in range(draw.randrange(4))]
        if kind == 4:
            return {word(): some(depth - 1) for _ in range(draw.randrange(4))}
        return [word, lambda: draw.randrange(-9, 9), lambda: draw.choice([True, False, None])][kind]()

    def word():
        return ''.join(draw.choice('ab01 :#-\'"{}[]&*!%@,.?|>/~') for _ in range(draw.randrange(6)))

    for _ in range(300):
        value = {'value': some(4)}
        assert yaml.safe_load(as_yaml(value)) == value


def test_the_state_is_json_that_people_can_read():
    job = a_job().save()
    assert json.loads((job.folder / 'job.json').read_text())['command'] == ['kdjax', 'run', 'kd']
