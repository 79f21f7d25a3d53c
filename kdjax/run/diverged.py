"""A number that is not finite: which step, which term, and the first leaf it is found in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdjax.algorithms.condensation.unrolled import FINITE, said_of
from kdjax.errors import UserError
from kdjax.run.skipping import finite


class Diverged(UserError):
    """A loss, a gradient or the data is NaN or infinite. Nothing of it was saved.

    which: the place among several seeds that were trained together.
    """

    which = 0

    def of(self, run: str) -> Diverged:
        """The same, and whose it is."""
        return Diverged(f'{run}: {self}')


def check_each(metrics: Mapping[str, np.ndarray], first_step: int, *, state: Any, batch_at: Any, seeds: int) -> None:
    """As `check`, for several seeds: metrics are `[steps, seeds]`, a state has them in front, a batch one by one."""
    for i in range(seeds):
        try:
            check(
                {name: values[:, i] for name, values in metrics.items()},
                first_step,
                state=lambda i=i: jax.tree.map(lambda x: _whole(x)[i, ...], state),
                batch_at=lambda step, i=i: jax.tree.map(lambda x: np.split(x, seeds)[i], batch_at(step)),
            )
        except Diverged as error:
            error.which = i
            raise


def check(metrics: Mapping[str, np.ndarray], first_step: int, *, state: Any, batch_at: Any) -> None:
    """Raise `Diverged` if any metric `[steps]` is not finite.

    state: the variables after these steps, or what gives them; batch_at: step -> batch. They are searched for the first
    bad leaf.
    """
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in metrics.items()}
    bad = {name: where[0] for name, where in bad.items() if len(where)}
    if not bad:
        return
    offset = min(bad.values())
    term = min((name for name, at in bad.items() if at == offset), key=_blame)
    step = first_step + int(offset)
    state = state() if callable(state) else state
    leaf = first_bad_leaf({'batch': batch_at(step)}) or first_bad_leaf(state) or 'no leaf: the loss alone'
    remedy = (
        'repair the data' if leaf.startswith('batch') else 'lower the learning rate, clip gradients, or check the loss'
    )
    inner = next((values[offset] for name, values in metrics.items() if name.endswith(FINITE)), None)
    if inner is not None and not leaf.startswith('batch'):
        remedy = said_of(int(inner), value=_blame(term)[0] < 2)
    raise Diverged(
        f"step {step}: '{term}' is {metrics[term][offset]}; first bad leaf: {leaf}. Remedy: {remedy}. "
        'Nothing of this step or later was saved'
    )


def check_state(state: Any, step: int) -> None:
    """Raise `Diverged` if the update that led to `step` left a number that is not finite after a finite loss."""
    if not _all_finite(state):
        raise Diverged(
            f'the state after step {step - 1} is not finite; first bad leaf: {first_bad_leaf(state)}. Remedy: lower '
            'the learning rate or clip gradients. Nothing of this step or later was saved'
        )


@jax.jit
def _all_finite(state: Any) -> jax.Array:
    """On the device: a state that was looked at from the host could not be donated afterwards."""
    return finite(state)


def _blame(name: str) -> tuple[int, str]:
    """A term says more than the loss, the loss more than the gradient norm."""
    last = name.rpartition('/')[2]
    return {'gradient_norm': 2, 'loss': 1}.get(last, 0), name


def _whole(leaf: Any) -> np.ndarray:
    """An array on the host; if other processes hold parts of it, all of them have to ask."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def first_bad_leaf(tree: Any) -> str | None:
    """Path of the first leaf with NaN or infinity, and where in it; None if all is finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = _whole(leaf)
        if array.dtype.kind not in 'fV':
            continue
        bad = np.argwhere(~np.isfinite(array.astype(np.float32)))
        if len(bad):
            return f'{jax.tree_util.keystr(path, simple=True, separator="/")}{bad[0].tolist()}'
    return None
