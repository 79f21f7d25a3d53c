"""What a method of condensation leaves: a set, and all that is needed to learn from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from kdjax.stage import Output


@dataclasses.dataclass(frozen=True)
class Made:
    """A set that was chosen or learned: what `CondensedImages.measured` measures.

    set: its variables, as `algorithms.condensation.sets.synthetic_set` has them. soft_labels: whether it holds labels
    of its own. rate: that of inner training where it was learned, at its start. factor: of mosaics, each of factor^2
    images.
    """

    set: Output
    soft_labels: bool = False
    rate: float | None = None
    factor: int = 1

    @property
    def learned(self) -> dict[str, Any]:
        """What of it is learned beside images, as `set_model` takes it."""
        return {'soft_labels': self.soft_labels, 'rate': self.rate}
