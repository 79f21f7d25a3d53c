"""A View is what an objective sees of a step: every output by its address, computed when first read.

Addresses: `batch.label` is a field of the batch, `student` the prediction of the node `student`, `student.stage3` one
of its taps, `teacher()` the network `teacher` itself, to be called on any inputs. Nodes are players, teachers and
learned parts. What nobody reads is never computed, so an arm that trains on labels alone pays nothing for a teacher
that stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax.errors import UserError, unknown
from kdjax.models.model import Outputs

Node = Callable[['View'], Outputs]

Function = Callable[..., Outputs]
"""A network: `function(inputs, key=None) -> Outputs`. Without a key, every call in a step draws the same."""

Reads = str | tuple[str, ...]
"""One address, or several whose values are given as a tuple."""


class View:
    """The outputs of a step, by address. Lives inside one trace; reading is the only thing done to it."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        batch: Mapping[str, Any],
        step: jax.typing.ArrayLike,
        *,
        functions: Mapping[str, Callable[[View], Function]] | None = None,
        key: jax.Array | None = None,
    ):
        self.batch = batch
        self.step = step
        self.key = key
        self._nodes = nodes
        self._functions = functions or {}
        self._outputs: dict[str, Outputs | None] = {}

    def __getitem__(self, address: str) -> Any:
        if address.endswith('()'):
            return self.function(address.removesuffix('()'))
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

    def function(self, node: str) -> Function:
        """The network of a node, with its variables of now."""
        if node in self._functions:
            return self._functions[node](self)
        if node in self._nodes:
            raise UserError(f"'{node}' answers about the batch alone and cannot be called on inputs: read '{node}'")
        raise unknown('function', f'{node}()', [f'{known}()' for known in self._functions])

    def evaluated(self) -> dict[str, Outputs]:
        """The outputs of every node that was read so far."""
        return {name: outputs for name, outputs in self._outputs.items() if outputs is not None}

    def _field(self, name: str) -> Any:
        if name not in self.batch:
            raise unknown('field of the batch', name, self.batch)
        return self.batch[name]
