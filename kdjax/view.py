"""A View is what an objective sees of a step: every output by its address, computed when first read.

Addresses: `batch.label` is a field of the batch, `student` the prediction of the node `student`, `student.stage3` one
of its taps. Nodes are players, teachers and learned parts. What nobody reads is never computed, so an arm that
trains on labels alone pays nothing for a teacher that stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax.errors import UserError, unknown
from kdjax.models.model import Outputs

Node = Callable[['View'], Outputs]

Reads = str | tuple[str, ...]
"""One address, or several whose values are given as a tuple."""


class View:
    """The outputs of a step, by address. Lives inside one trace; reading is the only thing done to it."""

    def __init__(self, nodes: Mapping[str, Node], batch: Mapping[str, Any], step: jax.typing.ArrayLike):
        self.batch = batch
        self.step = step
        self._nodes = nodes
        self._outputs: dict[str, Outputs | None] = {}

    def __getitem__(self, address: str) -> Any:
        node, _, tap = address.partition('.')
        if node == 'batch':
            return self._field(tap)
        outputs = self.outputs(node)
        if not tap:
            return outputs.prediction
        if tap not in outputs.taps:
            raise unknown(f"tap of '{node}'", tap, outputs.taps)
        return outputs.taps[tap]

    def __contains__(self, node: str) -> bool:
        return node in self._nodes

    def inputs(self, reads: Reads) -> Any:
        """What stands at one address, or a tuple of what stands at several."""
        return self[reads] if isinstance(reads, str) else tuple(self[address] for address in reads)

    def outputs(self, node: str) -> Outputs:
        """All outputs of a node, applied at the first call."""
        if node not in self._nodes:
            raise unknown('output', node, [*self._nodes, 'batch'])
        if node not in self._outputs:
            self._outputs[node] = None
            self._outputs[node] = self._nodes[node](self)
        found = self._outputs[node]
        if found is None:
            raise UserError(f"'{node}' reads its own output, directly or through another: remove one of the reads")
        return found

    def evaluated(self) -> dict[str, Outputs]:
        """The outputs of every node that was read so far."""
        return {name: outputs for name, outputs in self._outputs.items() if outputs is not None}

    def _field(self, name: str) -> Any:
        if name not in self.batch:
            raise unknown('field of the batch', name, self.batch)
        return self.batch[name]
