"""Options of commands that train: which devices, how arrays are split over them, how a step is computed."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kdjax.algorithms.algorithm import Execution
from kdjax.run.layout import Layout, read_mesh, read_rules

Placement = Literal['both', 'fsdp', 'tensor', 'replicated']
Dtype = Literal['float32', 'bfloat16']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """None of it belongs to an experiment, and none of it is in its code."""

    mesh: str = ''
    """Devices along each axis, as in data=2,fsdp=2,tensor=2; all of them along data unless it says otherwise."""
    shard: tuple[str, ...] = ()
    """Sharding rules PATTERN=AXIS,AXIS over paths of the state; they come before those of the models."""
    student_placement: Placement = 'both'
    """Which axes split the weights of those who learn."""
    teacher_placement: Placement = 'both'
    """Which axes split the weights of those who teach."""
    accumulate: int = 1
    """Compute the gradient of a batch in so many parts, one after the other."""
    remat: bool = False
    """Keep of each block of a network what goes into it, and compute the block again for the backward pass. It saves
    nothing on CPU, where --accumulate is what lowers the peak."""
    dtype: Dtype = 'float32'
    """Of activations; parameters and updates stay float32."""
    teacher_dtype: Dtype = 'float32'
    """Of the activations of teachers."""

    def layout(self) -> Layout:
        """Raises `UserError` for what cannot be read, or does not fit the devices there are."""
        return Layout(
            read_mesh(self.mesh).mesh(), read_rules(self.shard), self.student_placement, self.teacher_placement
        )

    def execution(self) -> Execution:
        return Execution(self.accumulate, self.remat, self.dtype, self.teacher_dtype)
