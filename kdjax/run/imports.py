"""Which modules of kdjax a module's behaviour depends on: those that it imports, at any depth, name by name.

A package whose file does nothing but import gives names to what stands in other files. Whoever takes a name from it
depends on the file behind that name and on no other, so that a new loss changes nothing for those who do not use it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib
import sys


def closure(module: str) -> dict[str, pathlib.Path]:
    """The files of a module and of all that it depends on, by name."""
    found: dict[str, pathlib.Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = source(name)
        if path is None or name in found or (name != module and _names(name) is not None):
            continue
        found[name] = path
        todo.extend(_imports(path, name if path.name == '__init__.py' else name.rpartition('.')[0]))
        if name.startswith('kdjax.'):
            todo.append(name.rpartition('.')[0])
    return found


def source(module: str) -> pathlib.Path | None:
    """Its file; None where no module has this name."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, '__file__', None)
    if file is None:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # a name imported from a package, not a module
            return None
        file = spec.origin if spec else None
    return pathlib.Path(file) if file and file.endswith('.py') else None


@functools.cache
def _names(package: str) -> dict[str, tuple[str, str]] | None:
    """What a package that only imports calls by which name: (module, name there). None of any other module."""
    path = source(package)
    if path is None or path.name != '__init__.py' or not package.startswith('kdjax'):
        return None
    named: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.ImportFrom) and all(alias.name != '*' for alias in statement.names):
            taken_from = _origin(statement, package)
            named |= {alias.asname or alias.name: (taken_from, alias.name) for alias in statement.names}
        elif not _only_says(statement):
            return None
    return named


def _only_says(statement: ast.stmt) -> bool:
    """A docstring, or `__all__`."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Assign) and all(_is_name(target, '__all__') for target in statement.targets)


@functools.cache
def _imports(path: pathlib.Path, package: str) -> tuple[str, ...]:
    """The modules behind every name that a file takes from kdjax."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _whole(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found |= _taken(tree, alias.asname or alias.name, *_behind(_origin(node, package), alias.name))
    return tuple(sorted(n for n in found if n == 'kdjax' or n.startswith('kdjax.')))


def _origin(node: ast.ImportFrom, package: str) -> str:
    return importlib.util.resolve_name('.' * node.level + (node.module or ''), package)


def _behind(module: str, name: str) -> tuple[str, str | None]:
    """(module, name) that a name of a module stands for; a module itself has no name."""
    named = _names(module) if module.startswith('kdjax') else None
    if named is not None and name in named:
        return _behind(*named[name])
    whole = f'{module}.{name}'
    return (whole, None) if module.startswith('kdjax') and source(whole) is not None else (module, name)


def _taken(tree: ast.AST, local: str, module: str, name: str | None) -> set[str]:
    """What a file depends on that calls a name of a module, or a module, `local`."""
    if name is not None:
        return {module}
    if _names(module) is None:
        return {module}
    attributes = _attributes(tree, local)
    if attributes is None:
        return _whole(module)
    return {_behind(module, attribute)[0] for attribute in attributes}


def _whole(module: str) -> set[str]:
    """A module, or of a package that only imports all that it names."""
    named = _names(module) if module.startswith('kdjax') else None
    return {module} if named is None else {part for name in named for part in _whole(_behind(module, name)[0])}


def _attributes(tree: ast.AST, local: str) -> set[str] | None:
    """Which attributes of the name `local` a file reads; None where it uses the name in any other way."""
    read = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _is_name(n.value, local)]
    uses = [n for n in ast.walk(tree) if _is_name(n, local)]
    return {n.attr for n in read} if len(read) == len(uses) else None


def _is_name(node: ast.AST, local: str) -> bool:
    return isinstance(node, ast.Name) and node.id == local
