"""The ways of running, by name."""

from __future__ import annotations

from kdjax.errors import unknown
from launch import gke, local, skypilot, slurm, tpu_vm
from launch.place import Place

PLACES = {module.PLACE.name: module.PLACE for module in (local, slurm, tpu_vm, gke, skypilot)}


def place(name: str) -> Place:
    """Raises a UserError with the nearest name where there is none of this one."""
    if name not in PLACES:
        raise unknown('place', name, PLACES)
    return PLACES[name]
