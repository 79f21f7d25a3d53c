"""JSONL files: instructions whose responses are learned, written out by a template, or plain texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdjax.data import documents
from kdjax.data.dataset import SPLITS
from kdjax.data.documents import Document, plain
from kdjax.errors import UserError

CHATML = '<|im_start|>{role}\n{content}<|im_end|>\n'
"""One message, as SmolLM2, Qwen and others were trained to read it."""
ROLES = ('system', 'user', 'assistant', 'tool')
FORMS = '{"prompt": ..., "response": ...}, {"messages": [{"role": ..., "content": ...}]} or {"text": ...}'


def read(path: Path, template: str = CHATML) -> list[Document]:
    """The documents of a JSONL file, one a line, in one of the forms of `FORMS`; blank lines are skipped.

    template: one message, with {content} and, unless roles do not matter, {role}. Of an instruction, what the
    assistant says is to be predicted, and the mark that ends it; nothing else is. A special token that is written
    out in a content is encoded as that token. Names are digests of the content, so that the same line twice lies in
    the same split. Raises `UserError` that names the file and the line.
    """
    check_template(template)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            place = f'{path}:{number}'
            parts = _parts(_record(line, place), template, place)
            content = repr(parts).encode()
            found.append(Document(hashlib.sha256(content).hexdigest(), parts))
    return found


def splits(path: Path, template: str = CHATML) -> dict[str, list[Document]]:
    """Documents by split: of one file by `documents.split`; of a folder, by its train.jsonl, validation.jsonl and
    test.jsonl, where those that are missing are taken out of train."""
    if path.is_file():
        return documents.split(read(path, template), corpus=f'jsonl:{path}')
    files = {name: path / f'{name}.jsonl' for name in SPLITS}
    if not files['train'].is_file():
        raise UserError(f"folder '{path}' of corpus 'jsonl:{path}' holds no train.jsonl")
    whole = {name: read(file, template) for name, file in files.items() if file.is_file()}
    return whole if len(whole) == len(SPLITS) else documents.completed(whole, corpus=f'jsonl:{path}')


def check_template(template: str) -> None:
    """Raises `UserError` unless {content} is there once, {role} at most once, and before it."""
    before, _, after = template.partition('{content}')
    if template.count('{content}') != 1 or before.count('{role}') > 1 or '{role}' in after:
        raise UserError(f'template {template!r}: it needs {{content}} once, and {{role}} at most once, before it')


def write_out(messages: list[Mapping[str, str]], template: str = CHATML, *, answer: bool = False) -> str:
    """Messages as one text, as a model reads them; answer: up to where the assistant begins to speak."""
    said = ''.join(''.join(_turn(message, template)) for message in messages)
    return said + _turn({'role': 'assistant', 'content': ''}, template)[0] if answer else said


def _turn(message: Mapping[str, str], template: str) -> tuple[str, str, str]:
    """(before, what is said with the mark that ends it, white space after)."""
    before, _, after = template.partition('{content}')
    mark = after.rstrip()
    return before.replace('{role}', message['role']), message['content'] + mark, after[len(mark) :]


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(f'{place}: byte {line[error.start]:#04x} at position {error.start} is not UTF-8') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{place}: not JSON ({error}): a JSONL file has one object a line') from None
    if not isinstance(record, dict):
        raise UserError(f'{place}: {type(record).__name__} instead of an object like {FORMS}')
    return record


def _parts(record: dict[str, Any], template: str, place: str) -> tuple[tuple[bytes, bool], ...]:
    if 'text' in record:
        return plain('', _said(record['text'], 'text', place).encode()).parts
    if 'prompt' in record and 'response' in record:
        pairs = (('user', 'prompt'), ('assistant', 'response'))
        messages = [{'role': role, 'content': _said(record[key], key, place)} for role, key in pairs]
    elif 'messages' in record:
        messages = _messages(record['messages'], place)
    else:
        raise UserError(f'{place}: keys {sorted(record)}; wanted {FORMS}')
    runs: list[tuple[str, bool]] = []
    for message in messages:
        before, said, after = _turn(message, template)
        runs += [(before, False), (said, message['role'] == 'assistant'), (after, False)]
    return tuple(_merged(runs))


def _merged(runs: list[tuple[str, bool]]) -> Iterator[tuple[bytes, bool]]:
    """Neighbours of one kind become one part; what follows the last response is left out."""
    last = max(i for i, (_, counted) in enumerate(runs) if counted)
    held, kind = '', False
    for text, counted in runs[: last + 1]:
        if counted != kind and held:
            yield held.encode(), kind
            held = ''
        held, kind = held + text, counted
    yield held.encode(), kind


def _messages(found: Any, place: str) -> list[dict[str, str]]:
    if not isinstance(found, list) or not found:
        raise UserError(f'{place}: "messages" must be a list of messages, with one at least')
    for i, message in enumerate(found):
        if not isinstance(message, dict) or not {'role', 'content'} <= set(message):
            raise UserError(f'{place}: message {i} must be an object with "role" and "content"')
        if message['role'] not in ROLES:
            raise UserError(f'{place}: message {i} has the role {message["role"]!r}; known: {", ".join(ROLES)}')
        _said(message['content'], f'message {i}', place)
    if all(message['role'] != 'assistant' for message in found):
        raise UserError(f'{place}: no message of the assistant: there is nothing to learn')
    return found


def _said(value: Any, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f'{place}: {key} must be a text, not {type(value).__name__}')
    if not value.strip():
        raise UserError(f'{place}: {key} is empty: fill it in or remove the line')
    if any('\ud800' <= character <= '\udfff' for character in value):
        raise UserError(f'{place}: {key} holds half of a surrogate pair, which is no text: repair it')
    return value
