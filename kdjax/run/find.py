"""Experiments by name: `kd`, `logits/kd`, or the path of a file of your own."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import sys
from types import ModuleType

import kdjax
from kdjax.errors import UserError, unknown
from kdjax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Found:
    """An experiment and where it is written. `name` is family/name."""

    name: str
    path: pathlib.Path
    module: ModuleType
    experiment: Experiment

    @property
    def family(self) -> str:
        return self.name.partition('/')[0]

    @property
    def about(self) -> str:
        """The lab note: the file's docstring."""
        return (self.module.__doc__ or '').strip()


def home() -> pathlib.Path:
    """The folder of `experiments/` and `results/`: `$KDJAX_HOME`, the checkout, or what the wheel brought along."""
    if 'KDJAX_HOME' in os.environ:
        return pathlib.Path(os.environ['KDJAX_HOME'])
    package = pathlib.Path(kdjax.__file__).parent
    checkout = package.parent
    return checkout if (checkout / 'experiments').is_dir() else package / '_shipped'


def names() -> list[str]:
    """Every shipped experiment, as family/name."""
    files = sorted((home() / 'experiments').glob('*/*.py'))
    return [f'{f.parent.name}/{f.stem}' for f in files if not f.stem.startswith('_')]


def find(name: str) -> Found:
    """The experiment of that name or path. Raises `UserError` with the nearest known name."""
    if name.endswith('.py'):
        path = pathlib.Path(name).absolute()
        if not path.exists():
            raise UserError(f"no file '{name}': give an experiment's name (see 'kdjax list') or the path of its file")
        return _load(f'{path.parent.name}/{path.stem}', path)
    known = names()
    full = [n for n in known if name in (n, n.partition('/')[2])]
    if not full:
        raise unknown('experiment', name, known if '/' in name else [n.partition('/')[2] for n in known])
    if len(full) > 1:
        raise UserError(f"'{name}' is the name of {len(full)} experiments: write {' or '.join(full)}")
    return _load(full[0], home() / 'experiments' / f'{full[0]}.py')


def _load(name: str, path: pathlib.Path) -> Found:
    tag = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    called = f'kdjax_experiment_{path.stem}_{tag}'
    if called not in sys.modules:
        spec = importlib.util.spec_from_file_location(called, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[called] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[called]
            raise
    module = sys.modules[called]
    experiment = getattr(module, 'experiment', None)
    if not isinstance(experiment, Experiment):
        raise UserError(f'{path} has no module-level `experiment = Experiment(...)`: add one (see the README)')
    return Found(name, path, module, experiment)
