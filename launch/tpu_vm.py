"""On Google Cloud TPU VMs, through a queued resource: all workers, and a new machine in place of a lost one."""

from __future__ import annotations

import dataclasses
import re
import shlex
import time
from collections.abc import Sequence

from kdjax.errors import UserError
from launch import retry
from launch.exit_codes import LOST, as_exit_code, worst
from launch.hands import Hands, tell
from launch.job import Job
from launch.place import Place, SubmitPaid, outlives_the_machine, show

ENDED = re.compile(r'kdjax-launch: exit code (\d+)$')
"""What each worker says last."""

GONE = ('FAILED', 'SUSPENDING', 'SUSPENDED', 'DELETING')
"""States of a queued resource that has no machine any more."""

INSTALL = 'python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e . "jax[tpu]"'


@dataclasses.dataclass(frozen=True)
class TpuVm(SubmitPaid):
    """TPU VMs. Sends the committed code, installs it on every worker, runs the command, and deletes the machine."""

    project: str = ''
    """Google Cloud project."""
    zone: str = ''
    """Zone, such as us-east5-a."""
    type: str = 'v6e-8'
    """Accelerator type."""
    runtime: str = 'v2-alpha-tpuv6e'
    """Runtime version: the image of the machine."""
    spot: bool = True
    """Spot machines: cheaper, and taken away at any time."""
    valid_for: str = '6h'
    """How long to wait for machines before the request lapses."""
    setup: str = INSTALL
    """What makes a worker ready, in the folder with the code; its Python has to be 3.11 or later."""
    restarts: int = 20
    """Take a new machine at most so many times."""
    backoff: float = 60.0
    """Seconds before the first restart; doubles with each."""
    poll: float = 30.0
    """Seconds between looks at the queue."""
    keep: bool = False
    """Leave the machine there (and paid for) at the end."""


def check(options: TpuVm, command: Sequence[str]) -> None:
    for name, value in (('project', options.project), ('zone', options.zone)):
        if not value:
            raise UserError(f'tpu_vm has no --{name}; give the one that your quota is in')
    outlives_the_machine(command)


def submit(job: Job, options: TpuVm, hands: Hands) -> int:
    """Run to the end from here: this program has to stay up, the machines need not."""
    submission = _Submission(job, options, hands)
    policy = retry.Policy(0 if hands.dry else options.restarts, options.backoff)
    if not hands.dry:
        job.stopped.unlink(missing_ok=True)
    try:
        code = retry.attempts(policy, submission.attempt, submission.stopped)
    except BaseException:
        tell(f'{job.resource} may be there, and paid for: `python -m launch tpu_vm cleanup {job.id}` deletes it')
        raise
    submission.finish()
    return code


class _Submission:
    def __init__(self, job: Job, options: TpuVm, hands: Hands):
        self._job, self._options, self._hands = job, options, hands

    def attempt(self, number: int) -> int:
        """One machine, or what is left of its life; the exit code of all workers together."""
        if not self._hands.dry:
            self._job = self._job.started().save()
        code = self._run() if self._machine() else LOST
        if not self._hands.dry:
            self._job = self._job.ended(code).save()
        return code

    def stopped(self, seconds: float) -> bool:
        """Wait, unless `stop` was said."""
        if not self._job.stopped.exists():
            time.sleep(seconds)
        return self._job.stopped.exists()

    def _machine(self) -> bool:
        """Have a machine with the code on it, an old one if it is still there; False if none could be had."""
        hands, job = self._hands, self._job
        state = _state(job, hands) if job.attempts[1:] else ''
        if state in GONE:
            _delete(job, hands)
        if state in GONE or not state:
            hands.need(*_create(job, self._options))
        if not self._wait():
            return False
        archive = str(job.folder / 'code.tar.gz')
        hands.need('git', 'archive', '--format=tar.gz', f'--output={archive}', 'HEAD')
        ready = f'mkdir -p kdjax && tar -xzf code.tar.gz -C kdjax && cd kdjax && {self._options.setup}'
        return not hands.run(*_tpu_vm(job, 'scp', archive, f'{job.resource}:code.tar.gz')) and not hands.run(
            *_tpu_vm(job, 'ssh', job.resource, f'--command={ready}')
        )

    def _wait(self) -> bool:
        while (state := _state(self._job, self._hands, if_dry='ACTIVE')) != 'ACTIVE':
            if state in GONE:
                return False
            tell(f'{self._job.id}: {state}')
            time.sleep(self._options.poll)
        return True

    def _run(self) -> int:
        """The command on all workers. A connection that breaks is a lost machine, unless a worker said why."""
        codes: list[int] = []

        def line(text: str) -> None:
            print(text, flush=True)
            with (job.folder / 'log.txt').open('a') as log:
                log.write(text + '\n')
            if said := ENDED.search(text):
                codes.append(int(said[1]))

        job = self._job
        remote = f'cd kdjax && export {_exports(job)} && {_recorded(job.command)}; echo "kdjax-launch: exit code $?"'
        broken = as_exit_code(self._hands.stream(*_tpu_vm(job, 'ssh', job.resource, f'--command={remote}'), line=line))
        if broken or not (codes or self._hands.dry):
            codes.append(LOST)
        return worst(codes)

    def finish(self) -> None:
        if self._options.keep:
            job = self._job
            tell(f'{job.resource} is kept, and paid for; `python -m launch tpu_vm cleanup {job.id}` deletes it')
        else:
            _delete(self._job, self._hands)


def _exports(job: Job) -> str:
    return f'PATH="$PWD/.venv/bin:$PATH" KDJAX_DISTRIBUTED=auto KDJAX_LAUNCH_ID={job.id}'


def _recorded(command: Sequence[str]) -> str:
    """The command, as a process whose id `stop` finds."""
    return f'sh -c {shlex.quote(f"echo $$ > launch.pid; exec {shlex.join(command)}")}'


def _create(job: Job, options: TpuVm) -> tuple[str, ...]:
    spot = ('--spot',) if options.spot else ()
    return _queue(
        job, 'create', job.resource, f'--node-id={job.resource}', f'--accelerator-type={options.type}',
        f'--runtime-version={options.runtime}', f'--valid-until-duration={options.valid_for}',
        f'--labels=kdjax-launch={job.id}', *spot,
    )  # fmt: skip


def _where(job: Job) -> tuple[str, str]:
    return f'--project={job.options["project"]}', f'--zone={job.options["zone"]}'


def _queue(job: Job, verb: str, *rest: str) -> tuple[str, ...]:
    return 'gcloud', 'compute', 'tpus', 'queued-resources', verb, *rest, *_where(job)


def _tpu_vm(job: Job, verb: str, *rest: str) -> tuple[str, ...]:
    return 'gcloud', 'compute', 'tpus', 'tpu-vm', verb, *rest, '--worker=all', *_where(job)


def _state(job: Job, hands: Hands, if_dry: str = '') -> str:
    """The state of the queued resource; empty where there is none."""
    mine = _queue(job, 'list', f'--filter=name~/{job.resource}$', '--format=value(state.state)')
    return hands.ask(*mine, if_dry=if_dry)


def _delete(job: Job, hands: Hands) -> None:
    hands.need(*_queue(job, 'delete', job.resource, '--force', '--quiet'))


def status(job: Job, hands: Hands) -> int:
    print(f'{job.id}: queued resource {job.resource}, {_state(job, hands) or "not there"}')
    for number, attempt in enumerate(job.attempts, 1):
        print(f'  attempt {number}: {"no end on record" if attempt.code is None else f"exit code {attempt.code}"}')
    return 0


def logs(job: Job, hands: Hands) -> int:
    return show(job.folder / 'log.txt', job)


def stop(job: Job, hands: Hands) -> int:
    """Every worker saves and exits 75; the program that submitted the job deletes the machine and does not retry."""
    hands.write(job.stopped, 'no retry\n')
    return hands.run(*_tpu_vm(job, 'ssh', job.resource, '--command=kill -TERM $(cat kdjax/launch.pid)'))


def leaked(jobs: Sequence[Job], hands: Hands) -> int:
    """Queued resources named by us, in every project and zone that a job of this folder used."""
    places = {_where(job): job for job in jobs}
    if not places:
        print('no job of this folder used tpu_vm, so there is no project and zone to look in')
    for job in places.values():
        ours = ('--filter=name~/kdjax-', '--format=value(name.basename(),state.state)')
        found = hands.ask(*_queue(job, 'list', *ours))
        if not hands.dry:
            print(found or f'nothing is left over in {" ".join(_where(job))}')
    return 0


def remove(job: Job, hands: Hands) -> int:
    _delete(job, hands)
    print(f'{job.folder} and the run folder stay')
    return 0


PLACE = Place('tpu_vm', TpuVm, check, submit, status, logs, stop, leaked, remove)
