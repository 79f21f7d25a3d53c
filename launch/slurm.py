"""On a Slurm cluster: a batch job that ends itself before its time limit and puts itself in the queue again."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence

import tyro

from kdjax.errors import UserError
from launch.exit_codes import RETRIED, SIGNALLED
from launch.hands import Hands, tell
from launch.job import Job
from launch.place import Place, Submit, at_least_one, show

TIME = re.compile(r'(\d+-)?\d+(:\d+){0,2}')


@dataclasses.dataclass(frozen=True)
class Slurm(Submit):
    """A batch job: one task for each JAX process. It is requeued after a preemption, a hang or a lost node."""

    nodes: int = 1
    """Nodes."""
    tasks: int | None = None
    """Processes in all, a multiple of the nodes; left out, one a node."""
    devices: int | None = None
    """CPU devices of each process; left out, whatever JAX finds."""
    time: str = '24:00:00'
    """Time limit of one attempt, as sbatch takes it."""
    notice: int = 120
    """SIGTERM so many seconds before the limit. Slurm may be up to a minute early."""
    restarts: int = 100
    """Requeue at most so many times."""
    partition: str = ''
    """Where to queue; left out, the cluster's default."""
    account: str = ''
    """Whom to charge; left out, your default."""
    sbatch: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A further option of sbatch, such as `--sbatch=--gres=gpu:4`; may be given several times."""


def check(options: Slurm, command: Sequence[str]) -> None:
    at_least_one(nodes=options.nodes, tasks=options.tasks, devices=options.devices, notice=options.notice)
    if options.tasks is not None and options.tasks % options.nodes:
        raise UserError(
            f'--tasks {options.tasks} does not divide over --nodes {options.nodes}; give a multiple of {options.nodes}'
        )
    if not TIME.fullmatch(options.time):
        raise UserError(f"--time '{options.time}' is no time of sbatch; give minutes, H:MM:SS or D-HH:MM:SS")


def script(job: Job, options: Slurm) -> str:
    """The batch script. TERM goes to the tasks, which save and exit 75; the script outlives them and requeues."""
    shared = f'export KDJAX_DISTRIBUTED=auto KDJAX_LAUNCH_ID={job.id}'
    if options.devices is not None:
        shared += f' KDJAX_DEVICES={options.devices}'
    again = ' || '.join([*(f'[ $code -eq {code} ]' for code in RETRIED), f'[ $code -ge {SIGNALLED} ]'])
    return f"""#!/bin/bash
{_directives(job, options)}

{shared}
srun --kill-on-bad-exit=0 --wait={options.notice} --label {shlex.join(job.command)}
code=$?
echo "attempt $((${{SLURM_RESTART_COUNT:-0}} + 1)): exit code $code" >> {job.folder}/attempts.txt
if [ -e {job.stopped} ]; then exit $code; fi
if {{ {again}; }} && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {options.restarts} ]; then
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit $code
"""


def _directives(job: Job, options: Slurm) -> str:
    tasks = options.tasks or options.nodes
    lines = [
        f'--job-name={job.resource}',
        f'--nodes={options.nodes}',
        f'--ntasks={tasks}',
        f'--ntasks-per-node={tasks // options.nodes}',
        f'--time={options.time}',
        '--requeue',
        f'--signal=TERM@{options.notice}',
        '--open-mode=append',
        f'--output={job.folder}/log.txt',
        *([f'--partition={options.partition}'] if options.partition else []),
        *([f'--account={options.account}'] if options.account else []),
        *options.sbatch,
    ]
    return '\n'.join(f'#SBATCH {line}' for line in lines)


def submit(job: Job, options: Slurm, hands: Hands) -> int:
    """Hand the job to Slurm, which runs it when it can."""
    if not hands.dry and job.handle and (state := _state(job, hands)):
        raise UserError(
            f"job '{job.id}' is at Slurm already (number {job.handle['number']}, {state}); wait for it, or end it with "
            f'`python -m launch slurm stop {job.id}`'
        )
    path = job.folder / 'job.sh'
    hands.write(path, script(job, options))
    if not hands.dry:
        job.stopped.unlink(missing_ok=True)
        job.save()
    said = hands.ask('sbatch', '--parsable', str(path))
    if not hands.dry:
        number = said.split(';')[0]
        job.started().with_handle(number=number).save()
        print(number)
        tell(f'{job.id}: logs in {job.folder / "log.txt"}')
    return 0


def _number(job: Job) -> str:
    if 'number' not in job.handle:
        raise UserError(f"job '{job.id}' never reached Slurm; submit it again")
    return str(job.handle['number'])


def _state(job: Job, hands: Hands) -> str:
    """PENDING, RUNNING, ...; empty once Slurm has no such job in its queue."""
    mine = ('squeue', '--noheader', f'--name={job.resource}', '--format=%i %T')
    states = dict(line.split() for line in hands.ask(*mine).splitlines())
    return states.get(_number(job), '')


def status(job: Job, hands: Hands) -> int:
    state = _state(job, hands) or 'not in the queue'
    print(f'{job.id}: Slurm job {_number(job)}, {state}')
    attempts = job.folder / 'attempts.txt'
    print(attempts.read_text() if attempts.exists() else '', end='')
    return 0


def logs(job: Job, hands: Hands) -> int:
    return show(job.folder / 'log.txt', job)


def stop(job: Job, hands: Hands) -> int:
    """A running job gets SIGTERM, saves and is not requeued; a waiting one leaves the queue."""
    hands.write(job.stopped, 'not to be requeued\n')
    if _state(job, hands) == 'RUNNING':
        hands.need('scancel', '--signal=TERM', _number(job))
    else:
        hands.need('scancel', _number(job))
    return 0


def leaked(jobs: Sequence[Job], hands: Hands) -> int:
    """All jobs of ours in the queue, of whichever folder."""
    said = hands.ask('squeue', '--noheader', '--me', '--format=%i %j %T')
    if hands.dry:
        return 0
    mine = [line for line in said.splitlines() if line.split()[1].startswith('kdjax-')]
    known = {job.resource: job.id for job in jobs}
    for line in mine:
        number, name, state = line.split()
        where = f'python -m launch slurm cleanup {known[name]}' if name in known else f'scancel {number}'
        print(f'{name}: Slurm job {number}, {state}; end it with `{where}`')
    if not mine:
        print('nothing is left over')
    return 0


def remove(job: Job, hands: Hands) -> int:
    hands.need('scancel', _number(job))
    print(f'{job.folder} and the run folder stay')
    return 0


PLACE = Place('slurm', Slurm, check, submit, status, logs, stop, leaked, remove)
