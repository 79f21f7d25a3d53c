"""Experiment, Arm, Claim: what is compared, on which task, and what is claimed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from kdjax.errors import UserError, unknown
from kdjax.stage import Compute, Train, graph

_CLAIM = re.compile(
    r'^(?P<left>[\w.-]+)\s*(?P<sign>[<>])\s*(?P<right>[\w.-]+)(?P<margin>\s*[+-]\s*[\d.]+)?\s+on\s+(?P<metric>[\w/]+)$'
)


ARM = 'arm/'
"""The last stage of an arm is called by this and the arm's name."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """`left` beats `right` on a metric, by at least a margin. Read from text by `claim`.

    sign: '>' where more is better, '<' where less is. margin: `left - right` must lie beyond it.
    """

    left: str
    sign: str
    right: str
    metric: str
    margin: float = 0.0

    def __str__(self) -> str:
        margin = f' {"+" if self.margin > 0 else "-"} {abs(self.margin):g}' if self.margin else ''
        return f'{self.left} {self.sign} {self.right}{margin} on {self.metric}'


def claim(text: str) -> Claim:
    """From text: 'kd > labels on accuracy', 'ps_kd < labels on nll', 'amd > best - 0.005 on accuracy'."""
    found = _CLAIM.match(text.strip())
    if not found:
        raise UserError(f"claim '{text}' cannot be read: write 'LEFT > RIGHT on METRIC', with '<' where less is better")
    margin = float((found['margin'] or '0').replace(' ', ''))
    return Claim(found['left'], found['sign'], found['right'], found['metric'], margin)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is compared: its last stage, and what is said of it.

    A stage that trains is measured; a `Compute` leaves what it measured as `{'metrics': {split: {metric: float}}}` in
    its info, for the validation and the test split.
    """

    stage: Train | Compute
    about: str = ''


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A module-level constant `experiment` of a file in `experiments/<family>/`.

    title: what a reader sees. systems: the catalogue's ids that it covers.
    config: a frozen dataclass instance; its fields are the typed overrides of the command line.
    arms: `config -> {name: Arm or its last stage}`: the method and its baselines, same data order, teacher and budget.
    claims: texts for `claim`. seeds: how many paired seeds a verification runs.
    """

    title: str
    config: Any
    arms: Callable[[Any], Mapping[str, Arm | Train | Compute]]
    claims: tuple[str, ...]
    systems: tuple[int, ...] = ()
    seeds: int = 5

    def resolve(self, config: Any | None = None) -> dict[str, Arm]:
        """The arms of a configuration, each stage under its final name."""
        made = self.arms(self.config if config is None else config)
        arms = {name: self._named(name, arm) for name, arm in made.items()}
        self._check_stages(arms)
        for c in self.read_claims():
            for side in (c.left, c.right):
                if side not in arms:
                    raise unknown(f"arm in the claim '{c}'", side, arms)
        return arms

    def read_claims(self) -> tuple[Claim, ...]:
        return tuple(claim(text) for text in self.claims)

    @staticmethod
    def _named(name: str, arm: Arm | Train | Compute) -> Arm:
        arm = arm if isinstance(arm, Arm) else Arm(arm)
        return dataclasses.replace(arm, stage=dataclasses.replace(arm.stage, name=ARM + name))

    @staticmethod
    def _check_stages(arms: Mapping[str, Arm]) -> None:
        for name, stages in graph(*(arm.stage for arm in arms.values())).items():
            if len(stages) > 1:
                raise UserError(
                    f"two different stages are called '{name}': build it once and use it twice, or give one another "
                    "name"
                )
            for read in stages[0].reads:
                if stages[0].shared and not read.stage.shared:
                    raise UserError(
                        f"stage '{name}' is shared by all seeds but reads '{read.stage.name}', which every seed makes "
                        "anew: give the first shared=False, or the second shared=True"
                    )
