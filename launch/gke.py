"""On Google Kubernetes Engine: a JobSet, written here and applied with kubectl, or made by xpk."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any, Literal

from kdjax.errors import UserError
from launch.exit_codes import RETRIED, SIGNALLED
from launch.hands import Hands
from launch.job import Job
from launch.manifest import as_yaml
from launch.place import Place, SubmitPaid, at_least_one, outlives_the_machine
from launch.tpu_types import slice_of

CONTAINER = 'jax-tpu'

IMAGE = re.compile(r'[a-z0-9][\w.:/@-]*')


@dataclasses.dataclass(frozen=True)
class Gke(SubmitPaid):
    """TPU slices of a Kubernetes cluster. Kubernetes itself restarts all pods after a preemption or a lost node."""

    via: Literal['kubectl', 'xpk'] = 'kubectl'
    """Apply our own JobSet with kubectl, or let xpk make one (for clusters that xpk made)."""
    cluster: str = ''
    """The cluster. kubectl takes it from its context."""
    project: str = ''
    """Google Cloud project; for xpk."""
    zone: str = ''
    """Zone; for xpk."""
    type: str = 'v6e-8'
    """TPU type of a slice."""
    slices: int = 1
    """Slices."""
    image: str = ''
    """Container image with kdjax and jax[tpu] in it."""
    storage: str = ''
    """Holds the run folder: a PersistentVolumeClaim, seen at /mnt/runs; for xpk a storage attached to the cluster."""
    queue: str = ''
    """Kueue's local queue; for kubectl."""
    restarts: int = 20
    """Restart all pods at most so many times."""
    save_time: int = 120
    """Seconds between SIGTERM and SIGKILL when pods are taken away."""


def check(options: Gke, command: Sequence[str]) -> None:
    at_least_one(slices=options.slices, save_time=options.save_time)
    slice_of(options.type)
    if not IMAGE.fullmatch(options.image):
        raise UserError(
            f"--image '{options.image}' is no container image; give the address of one with kdjax and jax[tpu] in it"
        )
    asked = {'cluster': options.cluster, 'project': options.project, 'zone': options.zone}
    missing = [name for name, value in asked.items() if options.via == 'xpk' and not value]
    if missing:
        raise UserError(f'gke --via xpk has no --{missing[0]}; give the one that `xpk cluster list` shows')
    outlives_the_machine(command)


def environment(job: Job) -> dict[str, str]:
    return {'KDJAX_DISTRIBUTED': 'auto', 'KDJAX_LAUNCH_ID': job.id}


def job_set(job: Job, options: Gke) -> dict[str, Any]:
    """The JobSet: one indexed job a slice, one pod a machine; a code that no retry mends fails it at once."""
    labels = {'kueue.x-k8s.io/queue-name': options.queue} if options.queue else {}
    return {
        'apiVersion': 'jobset.x-k8s.io/v1alpha2',
        'kind': 'JobSet',
        'metadata': {
            'name': job.resource,
            'labels': {'kdjax-launch': job.id, **labels},
            'annotations': {'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'},
        },
        'spec': {
            'failurePolicy': {
                'maxRestarts': options.restarts,
                'rules': [{'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
            },
            'replicatedJobs': [
                {'name': 'slice-job', 'replicas': options.slices, 'template': {'spec': _slice(job, options)}}
            ],
        },
    }


def _slice(job: Job, options: Gke) -> dict[str, Any]:
    machines = slice_of(options.type).machines
    retried = [*RETRIED, *range(SIGNALLED, 256)]
    codes = {'containerName': CONTAINER, 'operator': 'NotIn', 'values': retried}
    return {
        'parallelism': machines,
        'completions': machines,
        'completionMode': 'Indexed',
        'backoffLimit': 0,
        'podFailurePolicy': {'rules': [{'action': 'FailJob', 'onExitCodes': codes}]},
        'template': {'metadata': {'labels': {'kdjax-launch': job.id}}, 'spec': _pod(job, options)},
    }


def _pod(job: Job, options: Gke) -> dict[str, Any]:
    slice = slice_of(options.type)
    container = {
        'name': CONTAINER,
        'image': options.image,
        'command': list(job.command),
        'env': [{'name': name, 'value': value} for name, value in environment(job).items()],
        'resources': {'limits': {'google.com/tpu': slice.chips}},
        'securityContext': {'privileged': True},
    }
    pod = {
        'restartPolicy': 'Never',
        'terminationGracePeriodSeconds': options.save_time,
        'hostNetwork': True,
        'dnsPolicy': 'ClusterFirstWithHostNet',
        'nodeSelector': {
            'cloud.google.com/gke-tpu-accelerator': slice.accelerator,
            'cloud.google.com/gke-tpu-topology': slice.topology,
        },
        'tolerations': [{'key': 'google.com/tpu', 'operator': 'Exists'}],
        'containers': [container],
    }
    if options.storage:
        container['volumeMounts'] = [{'name': 'runs', 'mountPath': '/mnt/runs'}]
        pod['volumes'] = [{'name': 'runs', 'persistentVolumeClaim': {'claimName': options.storage}}]
    return pod


def xpk_create(job: Job, options: Gke) -> tuple[str, ...]:
    """xpk's command line. Its script hands SIGTERM to a subshell; by `exec` the command is sure to take its place."""
    storage = (f'--storage={options.storage}',) if options.storage else ()
    return _xpk(
        job, 'create', f'--workload={job.resource}', f'--tpu-type={options.type}', f'--num-slices={options.slices}',
        f'--docker-image={options.image}', f'--command=exec {shlex.join(job.command)}',
        f'--max-restarts={options.restarts}', f'--restart-on-exit-codes={",".join(map(str, RETRIED))}',
        f'--termination-grace-period-seconds={options.save_time}', *storage,
        *(f'--env={name}={value}' for name, value in environment(job).items()),
    )  # fmt: skip


def _xpk(job: Job, verb: str, *rest: str) -> tuple[str, ...]:
    where = (f'--{name}={job.options[name]}' for name in ('cluster', 'project', 'zone'))
    return 'xpk', 'workload', verb, *where, *rest


def submit(job: Job, options: Gke, hands: Hands) -> int:
    """Hand the JobSet over; the cluster runs and restarts it. One that ended under this name makes room first."""
    if job.attempts:
        _delete(job, hands)
    if not hands.dry:
        job.started().save()
    if options.via == 'xpk':
        return hands.run(*xpk_create(job, options))
    path = job.folder / 'jobset.yaml'
    hands.write(path, as_yaml(job_set(job, options)))
    return hands.run('kubectl', 'apply', f'--filename={path}')


def _delete(job: Job, hands: Hands) -> None:
    if job.options['via'] == 'xpk':
        hands.need(*_xpk(job, 'delete', f'--workload={job.resource}', '--force'))
    else:
        hands.need('kubectl', 'delete', 'jobset', job.resource, '--ignore-not-found')


def status(job: Job, hands: Hands) -> int:
    if job.options['via'] == 'xpk':
        return hands.run(*_xpk(job, 'list', f'--filter-by-job={job.resource}'))
    return hands.run('kubectl', 'get', 'jobset', job.resource)


def logs(job: Job, hands: Hands) -> int:
    mine = f'--selector=jobset.sigs.k8s.io/jobset-name={job.resource}'
    return hands.run('kubectl', 'logs', mine, '--prefix', '--tail=-1', '--max-log-requests=256')


def stop(job: Job, hands: Hands) -> int:
    """Deletes the JobSet: its pods get SIGTERM and `save_time` to save."""
    _delete(job, hands)
    return 0


def leaked(jobs: Sequence[Job], hands: Hands) -> int:
    """Every JobSet of ours in the cluster of kubectl's context, and in those of xpk that this folder used."""
    clusters = {_xpk(job, 'list', '--filter-by-job=kdjax-.*') for job in jobs if job.options['via'] == 'xpk'}
    for command in sorted(clusters):
        hands.need(*command)
    if not clusters or any(job.options['via'] == 'kubectl' for job in jobs):
        hands.need('kubectl', 'get', 'jobsets', '--selector=kdjax-launch')
    return 0


def remove(job: Job, hands: Hands) -> int:
    _delete(job, hands)
    print(f'{job.folder} and the run folder stay')
    return 0


PLACE = Place('gke', Gke, check, submit, status, logs, stop, leaked, remove)
