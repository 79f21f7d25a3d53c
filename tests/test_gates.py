"""The rules of the house: style, types, imports that point down, short files, nothing of one machine."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'kdjax'
SOURCES = sorted(PACKAGE.rglob('*.py'))
MODULES = {'.'.join(p.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): p for p in SOURCES}

MAY_IMPORT = {
    'errors': set(),
    'catalogue': {'errors'},
    'losses': set(),
    'streams': set(),
    'metrics': {'errors'},
    'models': {'errors', 'streams'},
    'diffusion': {'errors', 'streams', 'models', 'metrics'},
    'surgery': {'errors', 'streams', 'models', 'metrics'},
    'decoding': {'errors', 'streams', 'models'},
    'data': {'errors', 'streams'},
    'renderers': {'errors', 'streams', 'models', 'data', 'metrics'},
    'view': {'errors', 'models'},
    'objectives': {'errors', 'streams', 'losses', 'models', 'view'},
    'teachers': {'errors', 'streams', 'losses', 'diffusion', 'models', 'view'},
    'algorithms': {
        'errors',
        'streams',
        'losses',
        'diffusion',
        'data',
        'models',
        'decoding',
        'view',
        'objectives',
        'teachers',
    },
    'stage': {'errors', 'algorithms'},
    'experiment': {'errors', 'stage'},
    'record': {'errors', 'experiment', 'metrics'},
    'tasks': {
        'errors',
        'streams',
        'losses',
        'diffusion',
        'metrics',
        'models',
        'data',
        'surgery',
        'decoding',
        'renderers',
        'view',
        'objectives',
        'teachers',
        'algorithms',
        'stage',
    },
}
MAY_IMPORT['run'] = {*MAY_IMPORT}
MAY_IMPORT['report'] = {*MAY_IMPORT, 'run'}
MAY_IMPORT['cli'] = {*MAY_IMPORT, 'run', 'report'}

STANDARD = set(sys.stdlib_module_names)
OUTSIDE = {
    'losses': {'jax', 'jaxtyping', 'optax', 'einops'},
    'algorithms': {'jax', 'jaxlib', 'jaxtyping', 'numpy', 'optax'},
    'diffusion': {'jax', 'jaxtyping', 'numpy'},
    'teachers': {'jax', 'jaxtyping'},
}


def imports(path: pathlib.Path) -> set[str]:
    """Absolute names of all that a file imports, at its top or inside its functions."""
    package = '.'.join(path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split('.')[: len(package.split('.')) + 1 - node.level] if node.level else []
            module = '.'.join([*base, node.module or '']).strip('.')
            found.update(f'{module}.{alias.name}' for alias in node.names)
    return found


def room(module: str) -> str:
    return module.split('.')[1] if '.' in module else ''


@pytest.mark.parametrize('module', [m for m in MODULES if room(m)])
def test_imports_point_down(module):
    used = {room(name) for name in imports(MODULES[module]) if name.startswith('kdjax.')}
    upward = used - MAY_IMPORT[room(module)] - {room(module)}
    assert not upward, f'{module} imports {sorted(upward)}'


@pytest.mark.parametrize('module', [m for m in MODULES if room(m) in OUTSIDE])
def test_pure_rooms_need_little(module):
    packages = {name.partition('.')[0] for name in imports(MODULES[module])}
    assert packages <= OUTSIDE[room(module)] | STANDARD | {'kdjax'}


@pytest.mark.parametrize('name', ['losses', 'models.resnet', 'diffusion', 'algorithms', 'teachers', 'objectives'])
def test_the_pure_rooms_work_alone(name):
    """With nothing installed that reads data, parses a command line or draws."""
    absent = ['grain', 'tensorflow_datasets', 'tyro', 'matplotlib', 'sklearn', 'scipy']
    if name == 'losses':
        absent += ['flax', 'rich', 'orbax']  # flax itself asks for the other two
    code = f'import sys\nfor name in {absent!r}: sys.modules[name] = None\nimport kdjax.{name}'
    found = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_importing_touches_no_device():
    code = (
        'import kdjax.cli.main, kdjax.cli.verifying, kdjax.cli.training, jax._src.xla_bridge as b\n'
        'assert not b._backends, list(b._backends)'
    )
    found = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_does_two_things(path):
    assert len(path.read_text().splitlines()) <= 450
    assert path.stem not in ('utils', 'common', 'base', 'helpers', 'misc')


def tracked() -> list[pathlib.Path]:
    listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip('not a git checkout')
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


FOREIGN = re.compile(
    r'(?<![\w.])/(?:work|root|home|Users)/|/tmp/\w'  # a machine's folders
    r'|pypi\.org|files\.pythonhosted|conda\.anaconda|index-url|proxy\.golang'  # where packages come from
)


def test_nothing_of_one_machine_in_what_is_tracked():
    bad = []
    for path in tracked():
        if path == pathlib.Path(__file__) or path.suffix in ('.png', '.npz', '.svg'):
            continue
        for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
            if FOREIGN.search(line):
                bad.append(f'{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}')
    assert not bad, '\n'.join(bad)


@pytest.mark.parametrize('word', ['TO' + 'DO', 'FIX' + 'ME', 'NotImplemented' + 'Error', 'XX' + 'X'])
def test_nothing_is_left_for_later(word):
    pattern = re.compile(rf'\b{word}\b')
    assert [str(p) for p in tracked() if p.suffix == '.py' and pattern.search(p.read_text())] == []


@pytest.mark.parametrize(
    'tool', [('ruff', 'check', '--no-cache', '--output-format=concise', '.'), ('mypy',)], ids=' '.join
)
def test_tools(tool):
    found = subprocess.run([sys.executable, '-m', *tool], cwd=ROOT, capture_output=True, text=True)
    assert not found.returncode, pytest.fail(found.stdout + found.stderr, pytrace=False)
