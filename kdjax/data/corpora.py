"""Corpora: the texts that ship inside Python and its packages, frozen at first use, and files of your own."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import platform
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from kdjax.data import documents, instructions, tfds_text
from kdjax.data.cache import cached
from kdjax.data.dataset import SPLITS, Origin
from kdjax.data.documents import Document, plain
from kdjax.errors import UserError, unknown

NOT_LIBRARY = ('test', 'tests', 'idle_test', 'site-packages', 'dist-packages', 'sitecustomize.py')
PACKAGES = ('numpy', 'scipy', 'scikit-learn', 'jax', 'flax', 'optax')
"""The packages whose docstrings make a corpus: kdjax depends on them, so they are here."""
IMPORTED_AS = {'scikit-learn': 'sklearn'}


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents in disjoint splits. identity: sha256 of their names and content."""

    name: str
    splits: Mapping[str, Sequence[Document]]
    identity: str
    origin: Origin


def load(spec: str, *, template: str = instructions.CHATML, limit_bytes: int | None = None) -> Corpus:
    """Read a corpus.

    spec: `stdlib` (the source of Python's standard library), `pydoc` (the topics of its help), `docstrings` (those of
      the numerical packages here), `file:PATH` (a text file or a folder of them), `jsonl:PATH` (instructions, or
      {"text"}, one a line; a folder may hold train.jsonl, validation.jsonl, test.jsonl), `tfds:NAME`.
    template: how the messages of an instruction are written out (see `instructions.read`).
    limit_bytes: keep about this much text, of every split the same share.

    The text inside packages changes with their versions. The first use of a version freezes a copy in the cache
    folder, and the identity is that of the content. Raises `UserError` for an unknown name, for what cannot be read,
    and where no text is left.
    """
    kind, colon, rest = spec.partition(':')
    if spec in FROZEN:
        found = split_up(spec, _frozen(spec))
        origin = FROZEN[spec][1]()
    elif kind in ('file', 'jsonl', 'tfds') and rest:
        found, origin = _own(kind, rest, template)
    elif colon and kind in ('file', 'jsonl', 'tfds'):
        raise UserError(f"corpus '{spec}' lacks what follows the colon: file:PATH, jsonl:PATH or tfds:NAME")
    else:
        raise unknown('corpus', spec, KNOWN)
    return _assembled(spec, found, origin, limit_bytes)


def split_up(name: str, found: Sequence[Document]) -> dict[str, list[Document]]:
    return documents.split([document for document in found if document.text.strip()], corpus=name)


def _own(kind: str, rest: str, template: str) -> tuple[dict[str, list[Document]], Origin]:
    if kind == 'tfds':
        return tfds_text.read(rest)
    path = Path(rest).expanduser()
    if not path.exists():
        raise UserError(f"'{path}' of corpus '{kind}:{rest}' does not exist")
    read = split_up(f'file:{rest}', list(_files(path))) if kind == 'file' else instructions.splits(path, template)
    return read, Origin(source='your own text', licence='yours', size='')


def _assembled(
    name: str, found: dict[str, list[Document]], origin: Origin, limit_bytes: int | None
) -> Corpus:
    total = sum(len(document) for each in found.values() for document in each)
    if total == 0:
        raise UserError(f"corpus '{name}' holds no text: every document is empty")
    if limit_bytes is not None:
        if limit_bytes < 1:
            raise UserError(f"limit_bytes={limit_bytes} of corpus '{name}': it must be at least 1")
        found = {split: documents.limit(each, limit_bytes / total) for split, each in found.items()}
    empty = [split for split in SPLITS if not found[split]]
    if empty:
        raise UserError(f"corpus '{name}' holds too little text: nothing is left for {', '.join(empty)}")
    size = sum(len(document) for each in found.values() for document in each)
    return Corpus(name, found, _identity(found), dataclasses.replace(origin, size=f'{size / 1e6:.2f} MB'))


def _identity(found: Mapping[str, Sequence[Document]]) -> str:
    digest = hashlib.sha256(documents.RULE.encode())
    for split in SPLITS:
        for document in found[split]:
            for text, counted in document.parts:
                digest.update(f'\n{split} {document.name} {counted} {len(text)}\n'.encode())
                digest.update(text)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Document]:
    """The file, or every file of a folder that is not hidden, by name."""
    if path.is_file():
        yield plain(path.name, path.read_bytes())
        return
    for file in sorted(path.rglob('*')):
        relative = file.relative_to(path)
        if file.is_file() and not any(part.startswith('.') for part in relative.parts):
            yield plain(relative.as_posix(), file.read_bytes())


def _frozen(name: str) -> list[Document]:
    """The documents of a named corpus as they were when this version of it was first read here."""
    read, _, version = FROZEN[name]
    arrays = cached(f'corpus-{name}-{version()}', lambda: _stored(read()))
    texts = np.split(arrays['text'], arrays['ends'][:-1])
    return [plain(str(title), text.tobytes()) for title, text in zip(arrays['names'], texts, strict=True)]


def _stored(found: Iterator[Document]) -> dict[str, np.ndarray]:
    pairs = [(document.name, document.text) for document in found]
    names, texts = zip(*pairs, strict=True)
    return {
        'names': np.array(names),
        'ends': np.cumsum([len(text) for text in texts]),
        'text': np.frombuffer(b''.join(texts), np.uint8),
    }


def _stdlib() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()['stdlib'])
    for file in sorted(root.rglob('*.py')):
        relative = file.relative_to(root)
        if not any(part in NOT_LIBRARY or part.startswith('_sysconfigdata') for part in relative.parts):
            yield plain(relative.as_posix(), file.read_bytes())


def _pydoc() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield plain(name, topics[name].encode())


def _docstrings() -> Iterator[Document]:
    """The docstrings of each source file of the packages, one document a file. Nothing is imported."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(IMPORTED_AS.get(package, package))
        assert spec and spec.submodule_search_locations, f'{package} is a dependency of kdjax'
        root = Path(spec.submodule_search_locations[0])
        for file in sorted(root.rglob('*.py')):
            relative = file.relative_to(root.parent)
            if not any(part in NOT_LIBRARY for part in relative.parts):
                yield plain(relative.as_posix(), _docstrings_of(file.read_bytes()))


def _docstrings_of(source: bytes) -> bytes:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return '\n\n'.join(text for text in found if text).encode()


def _python() -> str:
    return f'python{platform.python_version()}'


def _packages() -> str:
    return '-'.join(importlib.metadata.version(package) for package in PACKAGES)


def _inside_python() -> Origin:
    return Origin(source=f'inside Python {platform.python_version()}', licence='PSF-2.0', size='')


def _inside_packages() -> Origin:
    named = ', '.join(f'{package} {importlib.metadata.version(package)}' for package in PACKAGES)
    return Origin(source=f'inside {named}', licence='BSD-3-Clause and Apache-2.0', size='')


FROZEN: dict[str, tuple[Callable[[], Iterator[Document]], Callable[[], Origin], Callable[[], str]]] = {
    'stdlib': (_stdlib, _inside_python, _python),
    'pydoc': (_pydoc, _inside_python, _python),
    'docstrings': (_docstrings, _inside_packages, _packages),
}
"""How each is read, where it comes from, and the version that its frozen copy is kept by."""
KNOWN = (*FROZEN, 'file:PATH', 'jsonl:PATH', 'tfds:NAME')
