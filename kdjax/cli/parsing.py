"""Options of a command, then typed overrides of the experiment's own configuration."""

from __future__ import annotations

from typing import Any, TypeVar

import tyro

from kdjax.run.find import Found, find

Options = TypeVar('Options')


def options(kind: type[Options], command: str, arguments: list[str]) -> Options:
    """Parse a command that takes no overrides."""
    return tyro.cli(kind, args=arguments, prog=f'kdjax {command}')


def with_overrides(kind: type[Options], command: str, arguments: list[str]) -> tuple[Options, Found, Any]:
    """Parse a command on an experiment: its options, the experiment, and the configuration with overrides applied."""
    asked, rest = tyro.cli(kind, args=arguments, prog=f'kdjax {command}', return_unknown_args=True)
    found = find(asked.name)  # type: ignore[attr-defined]
    config = found.experiment.config
    changed = tyro.cli(
        type(config), default=config, args=rest, prog=f'kdjax {command} {found.name}',
        description='Overrides of the configuration.',
    )  # fmt: skip
    return asked, found, changed
