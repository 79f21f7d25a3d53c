"""On whichever cloud SkyPilot finds machines: a managed job, which SkyPilot moves when its machines are taken away."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any

from kdjax.errors import UserError
from launch.exit_codes import RETRIED
from launch.hands import Hands
from launch.job import Job
from launch.manifest import as_yaml
from launch.place import Place, SubmitPaid, at_least_one, outlives_the_machine

DIED = (134, 137, 139, 143)
"""Exit codes of a process that SIGABRT, SIGKILL, SIGSEGV or SIGTERM ended."""

PORT = 8476
"""Where the processes of several nodes meet, on the first of them."""

INSTALL = 'python3 -m venv .venv\n.venv/bin/pip install -q -c constraints.txt -e .'

BUCKET = re.compile(r'(s3|gs|r2|https|oci|nebius)://\S+')


@dataclasses.dataclass(frozen=True)
class SkyPilot(SubmitPaid):
    """A managed job of SkyPilot. It sends the folder that the command is given in, and recovers from lost machines."""

    accelerators: str = ''
    """Such as H100:8 or tpu-v6e-8; left out, CPUs alone."""
    nodes: int = 1
    """Machines; one JAX process on each."""
    infra: str = ''
    """Cloud, cloud/region or k8s/context; left out, the cheapest that has it."""
    spot: bool = True
    """Spot machines: cheaper, and taken away at any time."""
    bucket: str = ''
    """A bucket such as gs://runs, seen at /mnt/runs on every machine; for the run folder."""
    setup: str = INSTALL
    """What makes a machine ready, in the folder with the code; its Python has to be 3.11 or later."""


def check(options: SkyPilot, command: Sequence[str]) -> None:
    at_least_one(nodes=options.nodes)
    if options.bucket and not BUCKET.fullmatch(options.bucket):
        raise UserError(f"--bucket '{options.bucket}' is no address of a bucket; give one such as gs://runs or s3://runs")
    outlives_the_machine(command)


def task(job: Job, options: SkyPilot) -> dict[str, Any]:
    """SkyPilot's task: what `sky jobs launch` reads."""
    resources: dict[str, Any] = {'use_spot': options.spot}
    if options.accelerators:
        resources['accelerators'] = options.accelerators
    if options.infra:
        resources['infra'] = options.infra
    resources['job_recovery'] = {'max_restarts_on_errors': 0, 'recover_on_exit_codes': [*RETRIED, *DIED]}
    return {
        'name': job.resource,
        'workdir': '.',
        'num_nodes': options.nodes,
        'resources': resources,
        **({'file_mounts': {'/mnt/runs': {'source': options.bucket, 'mode': 'MOUNT'}}} if options.bucket else {}),
        'envs': {'KDJAX_LAUNCH_ID': job.id},
        'setup': options.setup,
        'run': _run(job, options),
    }


def _run(job: Job, options: SkyPilot) -> str:
    group = [
        f'export KDJAX_COORDINATOR="$(echo "$SKYPILOT_NODE_IPS" | head -n1):{PORT}"',
        'export KDJAX_PROCESSES="$SKYPILOT_NUM_NODES" KDJAX_PROCESS="$SKYPILOT_NODE_RANK"',
    ]
    last = ['export PATH="$PWD/.venv/bin:$PATH"', f'exec {shlex.join(job.command)}']
    return '\n'.join([*(group if options.nodes > 1 else ()), *last]) + '\n'


def submit(job: Job, options: SkyPilot, hands: Hands) -> int:
    """Hand the task over; SkyPilot's controller runs and recovers it."""
    path = job.folder / 'task.yaml'
    hands.write(path, as_yaml(task(job, options)))
    if not hands.dry:
        job.started().save()
    return hands.run('sky', 'jobs', 'launch', f'--name={job.resource}', '--yes', '--detach-run', str(path))


def status(job: Job, hands: Hands) -> int:
    """All of our jobs: SkyPilot's list has no filter by name."""
    return hands.run('sky', 'jobs', 'queue')


def logs(job: Job, hands: Hands) -> int:
    return hands.run('sky', 'jobs', 'logs', f'--name={job.resource}', '--no-follow')


def stop(job: Job, hands: Hands) -> int:
    return hands.run('sky', 'jobs', 'cancel', f'--name={job.resource}', '--yes')


def leaked(jobs: Sequence[Job], hands: Hands) -> int:
    """Jobs that have not ended, and clusters; the controller of managed jobs is one, and is paid for."""
    hands.need('sky', 'jobs', 'queue', '--skip-finished')
    hands.need('sky', 'status', '--refresh')
    return 0


def remove(job: Job, hands: Hands) -> int:
    stop(job, hands)
    print(f'{job.folder} and the run folder stay')
    return 0


PLACE = Place('skypilot', SkyPilot, check, submit, status, logs, stop, leaked, remove)
