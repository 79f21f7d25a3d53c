"""Methods of condensation by name: what `kdjax condense`, the fair table and the experiments call."""

from __future__ import annotations

from collections.abc import Callable

from kdjax.errors import unknown
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing import (
    cropped,
    datadam,
    dream,
    fyi,
    matched,
    ncfm,
    recovered,
    scored,
    selected,
    trajectories,
)
from kdjax.tasks.condensing.method import Made

Method = Callable[[CondensedImages], Made]

METHODS: dict[str, Method] = {
    'random': selected.random,
    'k_means': selected.k_means,
    'herding': selected.herding,
    'k_center': selected.k_center,
    'graph_cut': selected.graph_cut,
    'el2n': scored.el2n,
    'dc': matched.dc,
    'dsa': matched.dsa,
    'dm': matched.dm,
    'datadam': datadam.datadam,
    'ncfm': ncfm.ncfm,
    'dream': dream.dream,
    'fyi': fyi.fyi,
    'mtt': trajectories.mtt,
    'ftd': trajectories.ftd,
    'datm': trajectories.datm,
    'sre2l': recovered.sre2l,
    'cda': recovered.cda,
    'rded': cropped.rded,
}
"""Each with the authors' settings where they carry over; its docstring says what it is."""


def method(name: str) -> Method:
    """Raises UserError on a name that no method has."""
    if name not in METHODS:
        raise unknown('method', name, METHODS)
    return METHODS[name]
