"""`kdjax doctor`: is this machine ready?"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.cli.parsing import options
from kdjax.cli.printing import printer, table
from kdjax.errors import UserError
from kdjax.run import identity
from kdjax.run.find import names
from kdjax.run.store import Store


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check versions, devices, the store, the data and the experiments."""


def doctor(arguments: list[str]) -> int:
    options(Doctor, 'doctor', arguments)
    shown = table('check', 'finding', 'ok')
    failed = 0
    for name, check in _CHECKS.items():
        try:
            finding, ok = check(), True
        except (UserError, AssertionError, OSError, RuntimeError) as error:
            finding, ok = str(error), False
        failed += not ok
        shown.add_row(name, finding, 'yes' if ok else '[red]no')
    printer().print(shown)
    return 1 if failed else 0


def _versions() -> str:
    return ', '.join(f'{k} {v}' for k, v in identity.versions().items())


def _compile() -> str:
    value = jax.jit(jnp.sum)(jnp.arange(10))
    assert int(value) == 45, f'sum(0..9) came out as {value}'
    return 'a compiled program runs and adds up'


def _store() -> str:
    store = Store()
    free = shutil.disk_usage(store.root).free
    assert free > 2**30, f'{store.root}: only {free / 2**20:.0f} MiB free, 1 GiB is needed'
    probe = store.root / '.probe'
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
    'compiler': _compile,
    'store': _store,
    'data': _data,
    'experiments': _experiments,
}
