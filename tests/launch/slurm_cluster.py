"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd, everything in one folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

DAEMONS = ('munged', 'slurmctld', 'slurmd')

MUNGE = ('socket', 'key-file', 'log-file', 'pid-file', 'seed-file')

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MessageTimeout=90
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why there can be no cluster here; empty if there can."""
    if os.getuid() != 0:
        return 'Slurm here needs root'
    path = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
    missing = [name for name in (*DAEMONS, 'srun') if shutil.which(name, path=path) is None]
    return f'{", ".join(missing)} not installed: apt-get install munge slurmctld slurmd slurm-client' if missing else ''


@contextlib.contextmanager
def cluster(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """Start it; what it gives has to be in the environment of Slurm's commands."""
    environment = os.environ | {'SLURM_CONF': str(folder / 'slurm.conf')}
    environment['PATH'] += ':/usr/sbin:/sbin'
    _configure(folder)
    with contextlib.ExitStack() as daemons:
        munge = [f'--{name}={folder}/munge.{name.removesuffix("-file")}' for name in MUNGE]
        for command in (['munged', '-F', '--force', *munge], ['slurmctld', '-D', '-c'], ['slurmd', '-D', '-c']):
            daemons.enter_context(_daemon(command, folder, environment))
            if command[0] == 'munged':
                wait_until((folder / 'munge.socket').exists, 10, 'munged opens its socket')
        wait_until(lambda: _idle(environment), 60, 'the node is idle')
        yield environment


def _configure(folder: pathlib.Path) -> None:
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True)
    (folder / 'munge.key').write_bytes(secrets.token_bytes(128))
    (folder / 'munge.key').chmod(0o400)
    host = socket.gethostname().split('.')[0]
    ports = dict(zip(('controller', 'daemon'), _free_ports(2), strict=True))
    text = CONFIGURATION.format(folder=folder, host=host, cpus=os.cpu_count(), **ports)
    (folder / 'slurm.conf').write_text(text)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _daemon(command: list[str], folder: pathlib.Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f'{command[0]}.out').open('w') as out:
        program = shutil.which(command[0], path=environment['PATH'])
        process = subprocess.Popen([program, *command[1:]], env=environment, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def _idle(environment: dict[str, str]) -> bool:
    found = subprocess.run(
        ['sinfo', '--noheader', '--format=%T'], env=environment, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() == 'idle'


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Look twice a second; AssertionError after so many seconds."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f'not within {seconds:g} s: {what}'
        time.sleep(0.5)
