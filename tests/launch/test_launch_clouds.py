"""Where machines are paid for: nothing without --yes, retries on a new machine, left-overs listed. Tools are played."""

import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from launch import retry
from launch.exit_codes import RETRIED, worth_retrying
from launch.gke import Gke, job_set
from launch.job import Job, load
from launch.main import main
from launch.skypilot import SkyPilot, task
from launch.slurm import Slurm, script

RUN = ['--', 'kdjax', 'run', 'kd', '--out', '/mnt/runs/kd-3']

LAB = ['--project=lab', '--zone=us-east5-a']

PLACE = {
    'tpu_vm': ['--id', 'kd-3', *LAB, '--poll=0.01', '--backoff=0.01', '--restarts=3'],
    'gke': ['--id', 'kd-3', '--image', 'eu.pkg.dev/lab/kdjax:1', '--storage', 'runs'],
    'skypilot': ['--id', 'kd-3', '--bucket', 'gs://runs'],
}

XPK = ['--via', 'xpk', '--cluster', 'pod', *LAB]

TOOLS = ('gcloud', 'kubectl', 'xpk', 'sky', 'git')


def launch(place, *words):
    return main([place, *PLACE[place], *words, *RUN])


@pytest.mark.parametrize('more', [[], ['--yes', '--dry-run']], ids=['no --yes', '--dry-run'])
@pytest.mark.parametrize('place', PLACE)
def test_nothing_happens_without_yes(played, capfd, here, place, more):
    calls = [played(tool) for tool in TOOLS]
    assert launch(place, *more) == 0
    assert [call() for call in calls] == [[]] * len(TOOLS)
    assert list(here.iterdir()) == []
    first, *plan = capfd.readouterr().out.splitlines()
    assert first.startswith(f'dry run of kd-3 on {place}: nothing is written or started')
    assert ('add --yes to do it' in first) == (not more)
    assert any(line.startswith('run ') for line in plan)


@pytest.fixture
def cloud(played, tmp_path):
    """gcloud with one queued resource, whose state is a file; `ssh` does what the test says, a line a time."""
    fate = tmp_path / 'fate'

    def play(*lives):
        """One shell line for each time that the command runs."""
        fate.write_text('\n'.join(lives) + '\n')
        played('git')
        return played(
            'gcloud',
            f"""
cd {tmp_path}
case "$*" in
*'queued-resources create'*) [ ! -e state ] || exit 1; echo ACTIVE > state;;
*'queued-resources delete'*) rm state;;
*'queued-resources list'*) [ ! -e state ] || cat state;;
*'echo "kdjax-launch: exit code'*) line=$(head -n1 fate); sed -i 1d fate; eval "$line";;
esac""",
        )

    return play


def said(code):
    return f'echo "kdjax-launch: exit code {code}"'


def verbs(calls):
    return [re.search(r'(?:queued-resources|tpu-vm) (\w+)', call)[1] for call in calls]


RUNS, FRESH = ['list', 'scp', 'ssh', 'ssh'], ['list', 'delete', 'create']


def codes():
    return [attempt.code for attempt in load(pathlib.Path('runs/launch/kd-3')).attempts]


def test_tpu_vm_runs_on_all_workers_and_gives_the_machine_back(cloud, tmp_path, capfd):
    calls = cloud(f'echo step 1; {said(0)}; {said(0)}')
    assert launch('tpu_vm', '--yes') == 0
    assert verbs(calls()) == ['create', *RUNS, 'delete']
    assert not (tmp_path / 'state').exists()
    assert all('--worker=all' in call for call in calls() if 'tpu-vm' in call)
    assert all(call.endswith('--project=lab --zone=us-east5-a') for call in calls())
    assert main(['tpu_vm', 'logs', 'kd-3']) == 0
    assert capfd.readouterr().out.count('step 1') == 2


def test_tpu_vm_takes_a_new_machine_for_a_lost_one_and_the_same_run_folder(cloud):
    calls = cloud('echo SUSPENDED > state; exit 255', said(0))
    assert launch('tpu_vm', '--yes') == 0
    assert verbs(calls()) == ['create', *RUNS, *FRESH, *RUNS, 'delete']
    assert codes() == [255, 0]
    runs = [call for call in calls() if 'exec kdjax' in call]
    assert runs[0] == runs[1]
    assert '--out /mnt/runs/kd-3' in runs[0]


def test_tpu_vm_keeps_the_machine_when_only_the_run_was_asked_to_stop(cloud):
    calls = cloud(f'{said(75)}; {said(75)}', said(0))
    assert launch('tpu_vm', '--yes') == 0
    assert verbs(calls()) == ['create', *RUNS, 'list', *RUNS, 'delete']
    assert codes() == [75, 0]


@pytest.mark.parametrize(('code', 'connection'), [(1, 0), (1, 255), (2, 0), (3, 0)])
def test_tpu_vm_never_retries_what_no_retry_mends(cloud, code, connection):
    calls = cloud(f'{said(code)}; exit {connection}', said(0))
    assert launch('tpu_vm', '--yes') == code
    assert verbs(calls()) == ['create', *RUNS, 'delete']
    assert codes() == [code]


def test_tpu_vm_a_silent_end_is_a_lost_machine(cloud):
    cloud('true', said(0))
    assert launch('tpu_vm', '--yes') == 0
    assert codes() == [255, 0]


def test_tpu_vm_gives_up_and_still_gives_the_machine_back(cloud, tmp_path):
    cloud(*['exit 255'] * 3)
    assert launch('tpu_vm', '--yes', '--restarts', '2') == 255
    assert codes() == [255] * 3
    assert not (tmp_path / 'state').exists()


def test_tpu_vm_keep(cloud, tmp_path, capfd):
    cloud(said(0))
    assert launch('tpu_vm', '--yes', '--keep') == 0
    assert (tmp_path / 'state').read_text() == 'ACTIVE\n'
    assert 'kdjax-kd-3 is kept, and paid for; `python -m launch tpu_vm cleanup kd-3`' in capfd.readouterr().err
    assert main(['tpu_vm', 'cleanup']) == 0
    assert capfd.readouterr().out == 'ACTIVE\n'
    assert main(['tpu_vm', 'cleanup', 'kd-3']) == 0
    assert not (tmp_path / 'state').exists()
    assert main(['tpu_vm', 'cleanup']) == 0
    assert 'nothing is left over in --project=lab --zone=us-east5-a' in capfd.readouterr().out
    assert main(['tpu_vm', 'status', 'kd-3']) == 0
    assert capfd.readouterr().out == 'kd-3: queued resource kdjax-kd-3, not there\n  attempt 1: exit code 0\n'


def test_tpu_vm_stop_ends_the_retries(cloud, capfd):
    calls = cloud(f'touch {pathlib.Path("runs/launch/kd-3/stopped").resolve()}; {said(75)}', said(0))
    assert launch('tpu_vm', '--yes') == 75
    assert codes() == [75]
    assert main(['tpu_vm', 'stop', 'kd-3']) == 0
    assert 'kill -TERM $(cat kdjax/launch.pid)' in calls()[-1]


def test_tpu_vm_a_refused_request_says_that_something_may_be_there(cloud, tmp_path, capfd):
    (tmp_path / 'state').write_text('ACTIVE\n')
    cloud(said(0))
    assert launch('tpu_vm', '--yes') == 1
    said_ = capfd.readouterr().err
    assert 'kdjax-kd-3 may be there, and paid for: `python -m launch tpu_vm cleanup kd-3` deletes it' in said_
    assert 'failed with exit code 1; what it wrote above says why' in said_


def test_what_stop_finds_on_a_worker_is_the_command_itself(tmp_path, capfd):
    """The remote line, in a shell here: `launch.pid` names the process that runs the command."""
    (tmp_path / 'kdjax').mkdir()
    words = ['--', 'sh', '-c', 'echo mine $$ $KDJAX_DISTRIBUTED; exit 75']
    assert main(['tpu_vm', *PLACE['tpu_vm'], *words]) == 0
    (line,) = (line for line in capfd.readouterr().out.splitlines() if 'launch.pid' in line)
    (option,) = (word for word in shlex.split(line) if word.startswith('--command='))
    remote = ['bash', '-c', option.removeprefix('--command=')]
    found = subprocess.run(remote, cwd=tmp_path, capture_output=True, text=True, check=True)
    pid = (tmp_path / 'kdjax/launch.pid').read_text().strip()
    assert found.stdout == f'mine {pid} auto\nkdjax-launch: exit code 75\n'


def test_gke_applies_what_it_wrote(played, capfd):
    calls = played('kubectl')
    assert launch('gke', '--yes', '--queue', 'team') == 0
    path = 'runs/launch/kd-3/jobset.yaml'
    assert calls() == [f'apply --filename={path}']
    written = yaml.safe_load(pathlib.Path(path).read_text())
    assert written['metadata']['labels']['kueue.x-k8s.io/queue-name'] == 'team'
    assert launch('gke', '--yes') == 0
    assert calls()[1:] == ['delete jobset kdjax-kd-3 --ignore-not-found', f'apply --filename={path}']


def test_gke_verbs(played):
    calls = played('kubectl')
    launch('gke', '--yes')
    for verb in (['status', 'kd-3'], ['logs', 'kd-3'], ['stop', 'kd-3'], ['cleanup'], ['cleanup', 'kd-3']):
        assert main(['gke', *verb]) == 0
    assert [call.partition(' -')[0] for call in calls()[1:]] == [
        'get jobset kdjax-kd-3', 'logs', 'delete jobset kdjax-kd-3', 'get jobsets', 'delete jobset kdjax-kd-3',
    ]  # fmt: skip


def test_gke_through_xpk(played):
    calls = played('xpk')
    assert launch('gke', '--yes', *XPK) == 0
    for verb in (['status', 'kd-3'], ['cleanup'], ['stop', 'kd-3']):
        assert main(['gke', *verb]) == 0
    assert [call.split()[1] for call in calls()] == ['create', 'list', 'list', 'delete']
    assert all('--cluster=pod --project=lab --zone=us-east5-a' in call for call in calls())
    assert 'exec kdjax run kd --out /mnt/runs/kd-3' in calls()[0]


def test_skypilot_verbs(played):
    calls = played('sky')
    assert launch('skypilot', '--yes') == 0
    for verb in (['status', 'kd-3'], ['logs', 'kd-3'], ['stop', 'kd-3'], ['cleanup'], ['cleanup', 'kd-3']):
        assert main(['skypilot', *verb]) == 0
    assert calls() == [
        'jobs launch --name=kdjax-kd-3 --yes --detach-run runs/launch/kd-3/task.yaml',
        'jobs queue',
        'jobs logs --name=kdjax-kd-3 --no-follow',
        'jobs cancel --name=kdjax-kd-3 --yes',
        'jobs queue --skip-finished',
        'status --refresh',
        'jobs cancel --name=kdjax-kd-3 --yes',
    ]
    written = yaml.safe_load(pathlib.Path('runs/launch/kd-3/task.yaml').read_text())
    assert set(written['resources']['job_recovery']['recover_on_exit_codes']) == {70, 75, 134, 137, 139, 143}
    assert 'KDJAX_COORDINATOR' not in written['run']


def test_skypilot_nodes_find_one_another(capfd):
    assert launch('skypilot', '--nodes', '2') == 0
    plan = [line[4:] for line in capfd.readouterr().out.splitlines() if line.startswith('  | ')]
    remote = yaml.safe_load('\n'.join(plan))['run'].replace('exec kdjax', 'env; echo kdjax')
    given = {'SKYPILOT_NODE_IPS': '10.0.0.1\n10.0.0.2', 'SKYPILOT_NUM_NODES': '2', 'SKYPILOT_NODE_RANK': '1'}
    found = subprocess.run(
        ['bash', '-c', remote], env={**given, 'PATH': '/usr/bin:/bin'}, capture_output=True, text=True
    )
    assert {'KDJAX_COORDINATOR=10.0.0.1:8476', 'KDJAX_PROCESSES=2', 'KDJAX_PROCESS=1'} <= set(found.stdout.splitlines())


@pytest.mark.parametrize('place', PLACE)
def test_a_run_without_a_folder_that_outlives_the_machine(capfd, place):
    assert main([place, *PLACE[place], '--', 'kdjax', 'run', 'kd']) == 1
    said = capfd.readouterr().err
    assert '`kdjax run kd` has no --out, so a machine that replaces a lost one would begin anew; add --out' in said


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['tpu_vm', '--zone', 'z'], 'tpu_vm has no --project; give the one that your quota is in'),
        (['tpu_vm', '--project', 'p'], 'tpu_vm has no --zone; give the one that your quota is in'),
        (['gke', '--type', 'v6e-166', '--image', 'a'], "unknown TPU type 'v6e-166'; did you mean 'v6e-16'?"),
        (['gke'], "--image '' is no container image; give the address of one with kdjax and jax[tpu] in it"),
        (['gke', '--image', 'a', '--slices', '0'], '--slices 0 makes no group; give 1 or more'),
        (['gke', '--image', 'a', '--via', 'xpk', '--cluster', 'c', '--zone', 'z'], 'gke --via xpk has no --project'),
        (['skypilot', '--nodes', '0'], '--nodes 0 makes no group; give 1 or more'),
        (['skypilot', '--bucket', 'runs'], "--bucket 'runs' is no address of a bucket; give one such as gs://runs"),
        (['slurm', '--tasks', '3', '--nodes', '2'], '--tasks 3 does not divide over --nodes 2; give a multiple of 2'),
        (['slurm', '--tasks', '0'], '--tasks 0 makes no group; give 1 or more'),
        (['slurm', '--time', 'soon'], "--time 'soon' is no time of sbatch; give minutes, H:MM:SS or D-HH:MM:SS"),
    ],
)
def test_wrong_options(capfd, words, message):
    assert main([*words, *RUN]) == 1
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ('tool', 'words', 'remedy'),
    [
        ('gcloud', ['tpu_vm', *PLACE['tpu_vm'], '--yes'], 'the Google Cloud CLI, then `gcloud auth login`'),
        ('kubectl', ['gke', *PLACE['gke'], '--yes'], 'kubectl, then `gcloud container clusters get-credentials`'),
        ('xpk', ['gke', *PLACE['gke'], *XPK, '--yes'], '`pip install xpk`, in an environment of its own'),
        ('sky', ['skypilot', '--yes'], '`pip install skypilot`, in an environment of its own, then `sky check`'),
        ('sbatch', ['slurm'], "Slurm's commands: submit from a login node of the cluster"),
    ],
)
def test_a_tool_that_is_not_installed(capfd, monkeypatch, tmp_path, tool, words, remedy):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert main([*words, *RUN]) == 1
    assert f"'{tool}' is not on the PATH of this machine; install {remedy}" in capfd.readouterr().err


def test_a_tool_that_fails_is_quoted(played, capfd):
    played('sbatch', 'echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1')
    assert main(['slurm', '--partition', 'gpu', '--id', 'kd-3', *RUN]) == 1
    assert 'failed with exit code 1: sbatch: error: invalid partition specified: gpu' in capfd.readouterr().err


def test_every_option_of_sbatch_is_passed_on(capfd):
    more = ['--sbatch=--gres=gpu:4', '--sbatch=--exclusive', '--partition=long', '--account=lab', '--devices=2']
    assert main(['slurm', '--dry-run', '--id', 'kd-3', *more, *RUN]) == 0
    said = capfd.readouterr().out
    for line in ('--gres=gpu:4', '--exclusive', '--partition=long', '--account=lab'):
        assert f'#SBATCH {line}\n' in said
    assert 'KDJAX_DEVICES=2\n' in said


def test_slurm_numbers(played, capfd):
    played('sbatch', 'echo "417;cluster"')
    played('squeue', 'echo "417 PENDING"')
    cancelled = played('scancel')
    assert main(['slurm', '--id', 'kd-3', *RUN]) == 0
    assert main(['slurm', '--id', 'kd-3', *RUN]) == 1
    said = capfd.readouterr()
    assert said.out == '417\n'
    assert "job 'kd-3' is at Slurm already (number 417, PENDING); wait for it, or end it with" in said.err
    assert main(['slurm', 'stop', 'kd-3']) == 0
    assert cancelled() == ['417']


def test_the_batch_script_retries_by_the_common_policy(tmp_path):
    """The script itself, with srun and scontrol played, for every exit code that there is."""
    job = Job('kd-3', 'slurm', ('true',), {})
    job.save()
    text = script(job, Slurm(restarts=1))
    for restarts in (0, 1):
        loop = f"""
srun() {{ return $ask; }}; scontrol() {{ return 0; }}
for ask in $(seq 0 255); do (SLURM_RESTART_COUNT={restarts}; {text.replace('exit 0', 'exit 200')}
); echo $ask $?; done"""
        found = subprocess.run(['bash', '-c', loop], capture_output=True, text=True, check=True)
        got = dict(tuple(map(int, line.split())) for line in found.stdout.splitlines())
        assert got == {
            code: 200 if worth_retrying(code) and restarts < 1 else code for code in range(256)
        }, 'a requeued job is shown as 200 here'


def test_one_policy_for_all(monkeypatch):
    """The places that retry by themselves and the classes of codes that the others are told agree."""
    job = Job('kd-3', 'gke', ('kdjax',), {})
    (rule,) = job_set(job, Gke())['spec']['replicatedJobs'][0]['template']['spec']['podFailurePolicy']['rules']
    assert rule['action'] == 'FailJob'
    assert rule['onExitCodes']['operator'] == 'NotIn'
    assert rule['onExitCodes']['values'] == [code for code in range(256) if worth_retrying(code)]
    recovered = task(job, SkyPilot())['resources']['job_recovery']['recover_on_exit_codes']
    assert set(RETRIED) < set(recovered) <= set(rule['onExitCodes']['values'])
    assert retry.Policy(3, first=60).delay(1) == 120
