"""The hands of a launcher: they write files and run programs, or, in a dry run, only say so."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

from kdjax.errors import UserError
from launch.job import write_whole

REMEDIES = {
    'sbatch': "Slurm's commands: submit from a login node of the cluster",
    'gcloud': 'the Google Cloud CLI, then `gcloud auth login`',
    'xpk': '`pip install xpk`, in an environment of its own',
    'kubectl': "kubectl, then `gcloud container clusters get-credentials` for the cluster's address",
    'sky': '`pip install skypilot`, in an environment of its own, then `sky check`',
}
REMEDIES |= dict.fromkeys(('squeue', 'scancel'), REMEDIES['sbatch'])


@dataclasses.dataclass(frozen=True)
class Hands:
    """Everything that a place does to the world outside goes through here."""

    dry: bool

    def run(self, *argv: str) -> int:
        """Run a program with the terminal's input and output; its exit code."""
        if self.dry:
            return self._say(argv)
        return subprocess.run([_found(argv[0]), *argv[1:]], check=False).returncode

    def need(self, *argv: str) -> None:
        """Run a program that has to succeed.

        Raises:
            UserError: it did not.
        """
        if code := self.run(*argv):
            raise UserError(f'`{shlex.join(argv)}` failed with exit code {code}; what it wrote above says why')

    def ask(self, *argv: str, if_dry: str = '') -> str:
        """What a program prints, without the spaces around it; `if_dry` in a dry run.

        Raises:
            UserError: it failed; the message has its last line.
        """
        if self.dry:
            self._say(argv)
            return if_dry
        found = subprocess.run([_found(argv[0]), *argv[1:]], capture_output=True, text=True, check=False)
        if found.returncode:
            said = (found.stderr or found.stdout).strip() or 'it wrote nothing'
            raise UserError(f'`{shlex.join(argv)}` failed with exit code {found.returncode}: {said.splitlines()[-1]}')
        return found.stdout.strip()

    def stream(self, *argv: str, line: Callable[[str], None]) -> int:
        """Run a program and hand on each line that it writes; its exit code."""
        if self.dry:
            return self._say(argv)
        with subprocess.Popen(
            [_found(argv[0]), *argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace'
        ) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line(text.rstrip('\n'))
        return process.returncode

    def write(self, path: pathlib.Path, text: str) -> None:
        """Write a file, whole."""
        if self.dry:
            body = ''.join(f'  | {line}'.rstrip() + '\n' for line in text.splitlines())
            print(f'write {path}\n{body}', end='', flush=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)

    def _say(self, argv: tuple[str, ...]) -> int:
        print(f'run {shlex.join(argv)}', flush=True)
        return 0


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        remedy = REMEDIES.get(program, 'the program, or give its whole path')
        raise UserError(f"'{program}' is not on the PATH of this machine; install {remedy}")
    return path


def tell(text: str) -> None:
    """A line of the launcher itself, on standard error; if nobody is there to read it, the work goes on."""
    with contextlib.suppress(OSError):
        print(f'launch: {text}', file=sys.stderr, flush=True)
