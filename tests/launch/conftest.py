"""Every test of the launchers starts in an empty folder; programs that cost money are played by scripts."""

import os
import pathlib
import shlex
import sys

import pytest

STAND_IN = pathlib.Path(__file__).parent / 'stand_in.py'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to launch from."""
    folder = tmp_path / 'here'
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def played(tmp_path, monkeypatch):
    """`played('gcloud', body)`: a shell script under that name; gives a function that reads what it was called with."""
    bin = tmp_path / 'bin'
    bin.mkdir()
    monkeypatch.setenv('PATH', f'{bin}{os.pathsep}{os.environ["PATH"]}')

    def play(name: str, body: str = ''):
        calls = tmp_path / f'{name}.calls'
        calls.touch()
        script = bin / name
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {shlex.quote(str(calls))}\n{body}\n')
        script.chmod(0o755)
        return lambda: calls.read_text().splitlines()

    return play


@pytest.fixture
def stand_in(tmp_path):
    """The command of a run of so many steps into one folder, as `kdjax run` would be given."""

    def command(steps=5, pause=0.0):
        return [sys.executable, str(STAND_IN), f'--out={tmp_path / "run"}', f'--steps={steps}', f'--pause={pause}']

    return command
