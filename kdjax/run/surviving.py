"""A verification goes on where an arm diverges: at which seeds it did, and why, is part of what it found."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from kdjax.errors import UserError
from kdjax.experiment import Arm
from kdjax.run.diverged import Diverged
from kdjax.run.stages import Executor
from kdjax.stage import Artifact, Stage, graph

SAID = re.compile(r'not finite|diverged|NaN or infinity')
"""How the checks of what was trained speak of numbers that are not finite, where these are measured."""


class StageDiverged(UserError):
    """A stage could not be finished: its numbers are not finite. stage: which one."""

    def __init__(self, stage: Stage, why: str):
        super().__init__(why)
        self.stage = stage


class Surviving(Executor):
    """An executor that says which stage diverged, and tries each seed by itself."""

    def attempt(
        self, stage: Stage, seeds: Sequence[int], *, own: Collection[str]
    ) -> tuple[dict[int, Artifact], dict[int, str]]:
        """What the seeds left, and why the others left nothing.

        own: the stages that are nobody else's, see `own_stages`. Raises `UserError` where another one diverged: all
        that read it would be compared with nothing.
        """
        try:
            return dict(zip(seeds, self.run_all(stage, seeds), strict=True)), {}
        except StageDiverged as error:
            if error.stage.name not in own:
                raise UserError(
                    f"stage '{error.stage.name}' diverged, and it is not one arm's alone: {error}. Without it there is "
                    'nothing to compare'
                ) from error
            if len(seeds) == 1:
                where = '' if error.stage is stage else f"stage '{error.stage.name}': "
                self.say(f'{stage.name}, seed {seeds[0]} diverged: {where}{error}')
                return {}, {seeds[0]: f'{where}{error}'}
        kept: dict[int, Artifact] = {}
        lost: dict[int, str] = {}
        for seed in seeds:
            made, failed = self.attempt(stage, [seed], own=own)
            kept, lost = kept | made, lost | failed
        return kept, lost

    def _make(self, stage: Stage, seeds: Sequence[int]) -> None:
        try:
            super()._make(stage, seeds)
        except StageDiverged:
            raise
        except Diverged as error:
            raise StageDiverged(stage, str(error)) from error
        except UserError as error:
            if SAID.search(str(error)) is None:
                raise
            raise StageDiverged(stage, f'when it was measured: {error}') from error


def own_stages(arms: Mapping[str, Arm]) -> dict[str, set[str]]:
    """Of each arm, the names of the stages that are made for it alone, seed by seed."""
    read = {name: graph(arm.stage) for name, arm in arms.items()}
    return {
        name: {
            called
            for called, (stage,) in stages.items()
            if not stage.shared and not any(called in read[other] for other in arms if other != name)
        }
        for name, stages in read.items()
    }
