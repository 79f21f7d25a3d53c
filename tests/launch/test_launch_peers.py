"""The tools themselves read what we send them: xpk, SkyPilot and gcloud, where they are installed, without a network.

xpk and SkyPilot pin other versions of what kdjax needs, so each lives in an environment of its own:
`KDJAX_XPK_PYTHON` and `KDJAX_SKY_PYTHON` name its Python (default: the `xpk` and `sky` on the PATH).
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from launch import tpu_vm
from launch.exit_codes import RETRIED
from launch.gke import CONTAINER, Gke, job_set, xpk_create
from launch.job import Job
from launch.main import main
from launch.manifest import as_yaml
from launch.skypilot import SkyPilot, task
from launch.tpu_types import TYPES
from launch.tpu_vm import TpuVm

pytestmark = pytest.mark.slow

COMMAND = ('kdjax', 'run', 'kd', '--out', '/mnt/runs/kd-3')

WHERE = {'cluster': 'pod', 'project': 'lab', 'zone': 'us-east5-a', 'via': 'xpk'}


def python_of(tool, variable):
    """The Python that a tool is installed for; skips where there is none."""
    if variable in os.environ:
        return os.environ[variable]
    script = shutil.which(tool)
    if script is None:
        pytest.skip(f'{tool} is not installed; {variable} names the python of an environment that has it')
    return pathlib.Path(script).read_text().splitlines()[0].removeprefix('#!')


@pytest.fixture
def apart(tmp_path):
    """An environment whose home is empty, and in which nothing reports anything to anybody."""
    return os.environ | {
        'HOME': str(tmp_path), 'CLOUDSDK_CONFIG': str(tmp_path / 'gcloud'), 'SKYPILOT_DISABLE_USAGE_COLLECTION': '1',
    }  # fmt: skip


def run(command, environment, **options):
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture
def xpk(apart):
    python = python_of('xpk', 'KDJAX_XPK_PYTHON')
    entry = 'from xpk.main import main; main()'

    def call(*words):
        return run([python, '-c', entry, *words], apart)

    return call


@pytest.fixture
def theirs(xpk, tmp_path):
    """The JobSet that xpk would apply."""

    def make(options):
        job = Job('kd-3', 'gke', COMMAND, WHERE)
        path = tmp_path / 'theirs.yaml'
        _, *words = xpk_create(job, options)
        xpk(*words, '--dry-run', '--skip-validation', f'--output-manifest-file={path}')
        return yaml.safe_load(path.read_text()), job_set(job, options)

    return make


OPTIONS = [
    Gke(type='v6e-16', image='eu.pkg.dev/lab/kdjax:1'),
    Gke(type='v5litepod-256', image='eu.pkg.dev/lab/kdjax:1', slices=2, restarts=3, save_time=300),
    Gke(type='v5p-128', image='eu.pkg.dev/lab/kdjax:1'),
]


@pytest.mark.parametrize('options', OPTIONS, ids=lambda options: options.type)
def test_xpks_job_set_and_ours_agree(theirs, options):
    xpks, ours = theirs(options)
    for path in (
        ('apiVersion',), ('kind',), ('metadata', 'name'), ('metadata', 'annotations'), ('spec', 'failurePolicy'),
        (*JOB, 'name'), (*JOB, 'replicas'), (*SLICE, 'parallelism'), (*SLICE, 'completions'), (*SLICE, 'backoffLimit'),
        (*POD, 'restartPolicy'), (*POD, 'terminationGracePeriodSeconds'), (*POD, 'hostNetwork'), (*POD, 'dnsPolicy'),
        (*POD, 'nodeSelector'), (*POD, 'tolerations'),
        (*MAIN, 'name'), (*MAIN, 'image'), (*MAIN, 'env'), (*MAIN, 'resources'), (*MAIN, 'securityContext'),
    ):  # fmt: skip
        assert at(ours, path) == at(xpks, path), path
    assert 'exec kdjax run kd --out /mnt/runs/kd-3' in at(xpks, (*MAIN, 'command'))[-1]
    assert at(ours, (*MAIN, 'command')) == list(COMMAND)


JOB = ('spec', 'replicatedJobs', 0)
SLICE = (*JOB, 'template', 'spec')
POD = (*SLICE, 'template', 'spec')
MAIN = (*POD, 'containers', 0)


def at(value, path):
    for step in path:
        value = value[step]
    return value


def test_xpk_retries_what_we_retry_and_two_codes_more(theirs):
    """42 and 127 are xpk's own, and kdjax never exits with them."""
    rules = [at(made, (*SLICE, 'podFailurePolicy', 'rules', 0)) for made in theirs(OPTIONS[0])]
    xpks, ours = (rule.pop('onExitCodes') for rule in rules)
    assert [rule['action'] for rule in rules] == ['FailJob', 'FailJob']
    assert xpks['operator'] == ours['operator'] == 'NotIn'
    assert xpks['containerName'] == ours['containerName'] == CONTAINER
    assert set(xpks['values']) - set(ours['values']) == {42, 127}
    assert set(RETRIED) < set(ours['values']) < set(xpks['values'])


def test_sigterm_reaches_the_command_through_xpks_script(theirs, tmp_path):
    """The script's trap signals a subshell, which is the command itself by then; its exit code is the pod's."""
    xpks, _ = theirs(OPTIONS[0])
    script = at(xpks, (*MAIN, 'command'))[-1]
    (tmp_path / 'kdjax').write_text('#!/bin/bash\ntrap "exit 75" TERM\necho up\nwhile :; do sleep 0.1; done\n')
    (tmp_path / 'kdjax').chmod(0o755)
    environment = os.environ | {'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'}
    with subprocess.Popen(['bash', '-c', script], env=environment, stdout=subprocess.PIPE, text=True) as pod:
        while 'up' not in pod.stdout.readline():
            assert pod.poll() is None
        pod.terminate()
        pod.communicate(timeout=30)
    assert pod.returncode == 75


def test_our_table_of_slices_is_that_of_xpk(apart):
    python = python_of('xpk', 'KDJAX_XPK_PYTHON')
    code = (
        'import json\nfrom xpk.core.system_characteristics import UserFacingNameToSystemCharacteristics as all\n'
        'print(json.dumps({name: (s.gke_accelerator, s.topology, s.vms_per_slice, s.chips_per_vm)'
        ' for name, s in all.items()}))'
    )
    xpks = yaml.safe_load(run([python, '-c', code], apart))
    ours = {name: [s.accelerator, s.topology, s.machines, s.chips] for name, s in TYPES.items()}
    assert {name: xpks.get(name) for name in ours} == ours


def test_xpk_has_the_other_commands_that_we_send(xpk):
    for words in (
        ['list', '--cluster=pod', '--filter-by-job=kdjax-kd-3'],
        ['delete', '--cluster=pod', '--workload=kdjax-kd-3', '--force'],
    ):
        xpk('workload', *words, '--project=lab', '--zone=us-east5-a', '--dry-run', '--skip-validation')


TASKS = [
    SkyPilot(),
    SkyPilot(accelerators='H100:8', nodes=4, infra='aws/us-east-1', spot=False, bucket='s3://runs'),
    SkyPilot(accelerators='tpu-v6e-8', infra='gcp/us-east5', bucket='gs://runs'),
]

READ = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
print(json.dumps({
    'name': task.name, 'nodes': task.num_nodes, 'run': task.run, 'setup': task.setup, 'workdir': task.workdir,
    'envs': task.envs, 'spot': resources.use_spot, 'accelerators': resources.accelerators,
    'infra': resources.infra.to_str() if resources.infra else '',
    'recovery': resources.job_recovery, 'mounts': {at: s.source for at, s in task.storage_mounts.items()},
}))
"""


@pytest.mark.parametrize('options', TASKS, ids=['cpu', 'gpu', 'tpu'])
def test_skypilot_reads_our_task(apart, here, options):
    python = python_of('sky', 'KDJAX_SKY_PYTHON')
    asked = task(Job('kd-3', 'skypilot', COMMAND, {}), options)
    (here / 'task.yaml').write_text(as_yaml(asked))
    read = yaml.safe_load(run([python, '-c', READ, 'task.yaml'], apart).splitlines()[-1])
    assert read['name'] == 'kdjax-kd-3'
    assert read['nodes'] == options.nodes
    assert read['run'] == asked['run']
    assert read['setup'].strip() == options.setup
    assert read['spot'] == options.spot
    assert (read['accelerators'] is None) == (not options.accelerators)
    assert (read['infra'] or '') == options.infra
    assert read['recovery'] | asked['resources']['job_recovery'] == read['recovery']
    assert read['mounts'] == ({'/mnt/runs': options.bucket} if options.bucket else {})
    assert read['envs']['KDJAX_LAUNCH_ID'] == 'kd-3'


def test_sky_has_the_options_that_we_send(apart):
    python = pathlib.Path(python_of('sky', 'KDJAX_SKY_PYTHON'))
    for words, options in (
        (['jobs', 'launch'], ['--name', '--yes', '--detach-run']),
        (['jobs', 'logs'], ['--name', '--no-follow']),
        (['jobs', 'cancel'], ['--name', '--yes']),
        (['jobs', 'queue'], ['--skip-finished']),
        (['status'], ['--refresh']),
    ):
        said = run([str(python.parent / 'sky'), *words, '--help'], apart)
        assert [option for option in options if option not in said] == []


@pytest.mark.skipif(shutil.which('gcloud') is None, reason='gcloud is not installed')
def test_gcloud_has_the_options_that_we_send(apart, capfd, monkeypatch):
    """Every gcloud command of the plan, against the manual that gcloud has on board."""
    for name in ('CLOUDSDK_CONFIG', 'HOME'):
        monkeypatch.setenv(name, apart[name])
    job = Job('kd-3', 'tpu_vm', COMMAND, {'project': 'lab', 'zone': 'us-east5-a'})
    assert main(['tpu_vm', '--project=lab', '--zone=us-east5-a', '--id=kd-3', '--', *COMMAND]) == 0
    plan = [line for line in capfd.readouterr().out.splitlines() if line.startswith('run gcloud')]
    plan.append('run ' + ' '.join(tpu_vm._create(job, TpuVm(spot=False))))
    words = {tuple(re.match(r'run gcloud ((?:[a-z-]+ )+)', f'{line} ')[1].split()[:4]) for line in plan}
    assert {command[2:] for command in words} == {
        ('queued-resources', 'create'), ('queued-resources', 'list'), ('queued-resources', 'delete'),
        ('tpu-vm', 'scp'), ('tpu-vm', 'ssh'),
    }  # fmt: skip
    for command in words:
        manual = re.sub(r'\x1b\[\d*m', '', run(['gcloud', *command, '--help'], apart))
        sent = {o for line in plan if ' '.join(command) in line for o in re.findall(r"[ '](--[a-z-]+)=?", line)}
        inside = {'--', '--no-index'} | set(re.findall(r'--[a-z-]+', tpu_vm.INSTALL + ' '.join(COMMAND)))
        assert {option for option in sent - inside if option not in manual} == set(), command
