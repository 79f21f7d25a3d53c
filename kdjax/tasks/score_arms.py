"""Arms that distil a score into scenes, the same in every task whose prior knows pictures."""

from __future__ import annotations

import abc
from typing import Any

from kdjax.algorithms.scores import ScoreDistillation, Times, uniform
from kdjax.diffusion import Guidance
from kdjax.objectives import Objective
from kdjax.stage import Train


class ScoreArms(abc.ABC):
    """Before a task among the bases, which says `denoiser`, `null`, the `scale` of guidance and `distilled`.

    No dataclass: it would bring defaults along, over those of the task.
    """

    @abc.abstractmethod
    def distilled(self, method: ScoreDistillation | None = None, **addresses: Any) -> Train:
        """An arm whose particles follow a method, for its steps. addresses: of `ScoreDistillation.objective`."""

    def addresses(self) -> dict[str, Any]:
        """Where a method finds what every arm has, see `algorithms.scores.reads`."""
        return {'condition': 'batch.condition'}

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.scale, 'from_null')  # type: ignore[attr-defined]

    def method(self, **choices: Any) -> ScoreDistillation:
        """A score distillation over the task's steps, with its guidance unless another is chosen."""
        return ScoreDistillation(**{'guidance': self.guidance, 'steps': self.steps, **choices})  # type: ignore[attr-defined]

    def objective(self, method: ScoreDistillation, **addresses: Any) -> Objective:
        return method.objective(self.denoiser, self.null, **self.addresses(), **addresses)  # type: ignore[attr-defined]

    def sds(self, *, times: Times | None = None, scale: float | None = None, **choices: Any) -> Train:
        """The baselines: SDS at uniform times, or at others such as `annealed()`."""
        guidance = self.guidance if scale is None else Guidance(scale, 'from_null')
        return self.distilled(self.method(**{'times': times or uniform(), 'guidance': guidance, **choices}))
