"""`kdjax doctor`: is this machine ready?"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.cli.parsing import options
from kdjax.cli.printing import printer, table
from kdjax.data.cache import cache_folder
from kdjax.errors import UserError
from kdjax.run import identity
from kdjax.run.find import names
from kdjax.run.group import distributed, preflight
from kdjax.run.store import Store


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check versions, devices, folders, data and experiments, and whether several processes fit together."""

    out: pathlib.Path | None = None
    """A run folder that all processes have to see. Rank 0 makes it and tries it with a file."""


def doctor(arguments: list[str]) -> int:
    asked = options(Doctor, 'doctor', arguments)
    found = {name: _outcome(check) for name, check in _CHECKS.items()}
    failed = [name for name, (_, ok) in found.items() if not ok]
    if distributed.is_writer():
        shown = table('check', 'finding', 'ok')
        for name, (finding, ok) in found.items():
            shown.add_row(name, finding, 'yes' if ok else '[red]no')
        printer().print(shown)
    faults = _together(asked.out, failed) if distributed.active() else []
    return 1 if failed or faults else 0


def _outcome(check: Callable[[], str]) -> tuple[str, bool]:
    try:
        return check(), True
    except (UserError, AssertionError, OSError, RuntimeError) as error:
        return str(error), False


def _together(out: pathlib.Path | None, failed: list[str]) -> list[str]:
    """The table of all processes, printed by the first; what is wrong with them together, known to all."""
    said = preflight.gather(out)
    faults = preflight.faults(said) + [
        f'rank {i} (on {said[i].host}) fails its own checks: {", ".join(names)}: run kdjax doctor there'
        for i, names in enumerate(distributed.agree(failed, 'doctor'))
        if names
    ]
    if distributed.is_writer():
        shown = table('of all processes', *(f'rank {i}' for i in range(len(said))), title='preflight')
        for row in preflight.rows(said):
            shown.add_row(*row)
        printer().print(shown)
        for fault in faults or ['all ranks fit together']:
            print(fault)
    return faults


def _versions() -> str:
    return ', '.join(f'{k} {v}' for k, v in identity.versions().items())


def _processes() -> str:
    if not distributed.active():
        return 'this one alone'
    return f'{distributed.ranks()}, joined at {distributed.coordinator()}'


def _compilations() -> str:
    folder = jax.config.values['jax_compilation_cache_dir']
    return f'compilations kept in {folder}' if folder else 'compilations are not kept'


def _compile() -> str:
    value = jax.jit(jnp.sum)(jnp.arange(10))
    assert int(value) == 45, f'sum(0..9) came out as {value}'
    return 'a compiled program runs and adds up'


def _store() -> str:
    store = Store()
    free = shutil.disk_usage(store.root).free
    assert free > 2**30, f'{store.root}: only {free / 2**20:.0f} MiB free, 1 GiB is needed'
    probe = store.root / f'.probe-{os.getpid()}'
    probe.write_text('x')
    probe.unlink()
    return f'{store.root}: writable, {free / 2**30:.0f} GiB free'


def _data() -> str:
    from kdjax.data import load

    digits = load('digits')
    return f'digits: {len(digits["train"])} training examples'


def _experiments() -> str:
    found = names()
    assert found, 'no experiments found: set KDJAX_HOME to the folder that holds experiments/'
    return f'{len(found)} experiments'


_CHECKS: dict[str, Callable[[], str]] = {
    'versions': _versions,
    'devices': identity.device,
    'processes': _processes,
    'compiler': _compile,
    'compilation cache': _compilations,
    'data cache': lambda: str(cache_folder()),
    'store': _store,
    'data': _data,
    'experiments': _experiments,
}
