"""What a model costs: parameters and floating-point operations."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import jax

from kdjax.models.model import Model, Variables


def parameters(variables: Variables) -> int:
    """The number of trained values; running statistics do not count. Arrays or their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))


def parameter_table(variables: Variables) -> list[tuple[str, tuple[int, ...], int]]:
    """(path, shape, number of values) of each parameter: `('stem/kernel', (3, 3, 1, 16), 144)`."""
    leaves = jax.tree_util.tree_leaves_with_path(variables['params'])
    return [
        (jax.tree_util.keystr(path, simple=True, separator='/'), tuple(leaf.shape), math.prod(leaf.shape))
        for path, leaf in leaves
    ]


def forward_flops(model: Model, example: Any, variables: Variables | None = None) -> float:
    """Floating-point operations of the prediction for one example in evaluation mode; a multiply-add is two.

    example: an input batch or its shapes; the count is divided by its leading size.
    variables: or their shapes; found from `model.init` unless given. Nothing is allocated or run: this is XLA's count
    for the program lowered for a CPU, whatever the accelerator, which leaves out products with the zeros of a padded
    border. Only where JAX is told to know no CPU (JAX_PLATFORMS) is it compiled, and counted as the accelerator does.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), example)
    key = jax.eval_shape(lambda: jax.random.key(0))
    if variables is None:
        variables = jax.eval_shape(model.init, key, shapes)

    def predict(variables: Variables, inputs: Any, key: jax.Array) -> Any:
        return model.apply(variables, inputs, key=key, train=False)[0].prediction

    with _on_a_cpu():
        lowered = jax.jit(predict).lower(variables, shapes, key)
        analysis: Any = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return float(analysis['flops']) / jax.tree.leaves(shapes)[0].shape[0]


def _on_a_cpu() -> contextlib.AbstractContextManager[Any]:
    """Accelerators count the operations of compiled programs alone."""
    try:
        return jax.default_device(jax.local_devices(backend='cpu')[0])
    except RuntimeError:
        return contextlib.nullcontext()
