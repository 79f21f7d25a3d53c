"""The rules of the house, for launch/: types, short files, the standard library and tyro alone."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted((ROOT / 'launch').glob('*.py'))

ALLOWED = {*sys.stdlib_module_names, 'tyro', 'launch'}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.name)
def test_needs_the_standard_library_and_tyro(path):
    outside = {name for name in imported(path) if name.partition('.')[0] not in ALLOWED}
    assert outside <= {'kdjax.errors'}
    assert len(path.read_text().splitlines()) <= 400


def test_starts_without_jax():
    code = 'import sys, launch.main, launch.places; assert not {"jax", "numpy"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_types():
    command = [sys.executable, '-m', 'mypy', '--explicit-package-bases', 'launch']
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not found.returncode, found.stdout
