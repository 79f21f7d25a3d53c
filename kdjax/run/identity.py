"""Who made this: digests of code, configuration and data, versions, device."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import pathlib
import platform
from typing import Any

import jax
import numpy as np

from kdjax.run.imports import closure


def digest(value: Any) -> str:
    """sha256 of anything that JSON can say, keys in order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


@functools.cache
def code(module: str) -> str:
    """sha256 over the code of a module and of all of kdjax that it depends on, see `kdjax.run.imports`.

    Comments, docstrings and layout are no part of it: to describe a result is not to change it. Nor is what the module
    itself is called, which for an experiment depends on the folder that it was loaded from.
    """
    return digest({'' if name == module else name: _bare(path) for name, path in closure(module).items()})


def _bare(path: pathlib.Path) -> str:
    """A file's syntax tree without its docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and not isinstance(node, ast.ExceptHandler):
            node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(statement: ast.AST) -> bool:
    """A docstring, or any other string that stands alone: it does nothing."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)


def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on."""
    packages = ('kdjax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
    return {'python': platform.python_version(), **{p: _version(p) for p in packages}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


def device() -> str:
    """The first device in words, and how many there are."""
    devices = jax.devices()
    return f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform})'


def state_digest(tree: Any) -> str:
    """sha256 over every leaf of a pytree: path, type, shape and bytes."""
    whole = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        whole.update(f'{jax.tree_util.keystr(path)}:{array.dtype}:{array.shape};'.encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
