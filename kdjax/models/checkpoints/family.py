"""What a family of public checkpoints is, and what is said of settings that it cannot have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kdjax.errors import UserError
from kdjax.models.checkpoints.renaming import Tensor

Settings = Mapping[str, Any]
"""What config.json holds."""


@dataclasses.dataclass(frozen=True)
class Family:
    """How checkpoints of one architecture are read and written.

    config(settings, names) -> our config, given config.json and the names of the tensors.
    settings(config) -> config.json, without what is the same for all.
    fits(config) -> whether a network of ours is written as this architecture.
    tensors(config) -> the table of names. prefix: may be left out of the names in a file.
    ignored(config) -> patterns of tensors that carry nothing.
    """

    config: Callable[[Settings, Collection[str]], Any]
    tensors: Callable[[Any], list[Tensor]]
    prefix: str
    ignored: Callable[[Any], tuple[str, ...]]
    settings: Callable[[Any], dict[str, Any]]
    fits: Callable[[Any], bool]


def only(settings: Settings, field: str, *allowed: Any) -> None:
    """Raises UserError unless a setting is one of these, the first of which is the default."""
    value = settings.get(field, allowed[0])
    if value not in allowed:
        known = ' or '.join(map(repr, allowed))
        raise UserError(f'config.json: {field} is {value!r}, and kdjax has {known} only: use another checkpoint')


def needed(settings: Settings, *fields: str) -> list[Any]:
    """The values of fields. Raises UserError where one is missing."""
    for field in fields:
        if settings.get(field) is None:
            raise UserError(f"config.json has no '{field}': the file is not that of a whole checkpoint")
    return [settings[field] for field in fields]
