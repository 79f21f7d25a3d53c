"""The commands of docs/launching.md and what they print: `python tests/launch/documented.py` writes the page anew."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs/launching.md'

BLOCK = re.compile(r'(?<=```console\n)(.*?)(?=```)', re.S)

CHANGING = (
    (r'127\.0\.0\.1:\d+', '127.0.0.1:PORT'),
    (r'after \d+\.\d s', 'after SECONDS s'),
)
"""What differs from one time to the next, and what stands for it on the page."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A command of the page, and the output printed below it."""

    command: str
    output: str


def examples(page: str) -> list[Example]:
    """In the order of the page: later ones may look at what earlier ones did."""
    found = []
    for block in BLOCK.findall(page):
        for part in re.split(r'^\$ ', block, flags=re.M)[1:]:
            command, _, output = part.partition('\n')
            found.append(Example(command, output))
    return found


def run(example: Example, folder: pathlib.Path) -> str:
    """What a terminal would show, normalised."""
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'COLUMNS': '100'}
    command = re.sub(r'\bpython\b', sys.executable, example.command, count=1)
    found = subprocess.run(
        command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    return normalised(found.stdout)


def normalised(output: str) -> str:
    """Placeholders for what changes; lines of ranks in the order of the ranks."""
    for pattern, name in CHANGING:
        output = re.sub(pattern, name, output)
    lines = output.splitlines(keepends=True)
    ranks = iter(sorted((line for line in lines if _rank(line)), key=_rank))
    return ''.join(next(ranks) if _rank(line) else line for line in lines)


def _rank(line: str) -> str:
    found = re.match(r'\[(\d+)\]', line)
    return found[1] if found else ''


def main() -> None:
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        outputs = iter([run(example, pathlib.Path(folder)) for example in examples(page)])

    def filled(block: re.Match[str]) -> str:
        commands = [f'$ {example.command}\n' for example in examples(f'```console\n{block[0]}```')]
        return ''.join(command + next(outputs) for command in commands)

    PAGE.write_text(BLOCK.sub(filled, page))


if __name__ == '__main__':
    main()
