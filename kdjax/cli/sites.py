"""From the records on disk to the report."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax import record as records
from kdjax.data import load
from kdjax.errors import UserError
from kdjax.report.site import write_site
from kdjax.run.find import Found, find, home, names
from kdjax.run.pictures import address
from kdjax.run.store import Store
from kdjax.run.sweeps.standing import SWEEPS, standings
from kdjax.stage import Artifact

TABLES = 'condensation/table'
"""In the results folder: records of comparisons that claim nothing."""


def results_folder() -> pathlib.Path:
    """Where records are kept: beside the experiments in a checkout, else in the folder you are in."""
    return home() / 'results' if home().name != '_shipped' else pathlib.Path('results')


def record_path(found: Found) -> pathlib.Path:
    """Where the record of an experiment is kept: in the results folder, or beside a file of your own."""
    if found.name in names() and found.path.is_relative_to(home()):
        return results_folder() / f'{found.name}.json'
    return found.path.with_suffix('.json')


def all_records() -> list[dict[str, Any]]:
    """Every record in the results folder, by experiment name."""
    return [records.load(path) for path in sorted(results_folder().glob('*/*.json'))]


def all_tables() -> list[dict[str, Any]]:
    """Every record of `kdjax condense --table` that is kept with the others."""
    return [records.load(path) for path in sorted(results_folder().glob(f'{TABLES}/*.json'))]


def described(found: Found) -> dict[str, Any]:
    """What the report says of an experiment that its record does not hold."""
    return {
        'docstring': found.about,
        'systems': found.experiment.systems,
        'command': f'kdjax verify {found.name.partition("/")[2]}',
    }


def write_report(
    out: pathlib.Path, new: tuple[Found, dict[str, Any]] | None = None, split: str = 'validation'
) -> pathlib.Path:
    """Write the site, also with a new record that is kept elsewhere than the others; returns its first page.

    split: where the metrics of the sweeps under runs/sweeps are taken.
    """
    experiments = {name: described(find(name)) for name in names()}
    kept = all_records()
    if new is not None and new[0].name not in experiments:
        experiments[new[0].name] = described(new[0])
        kept.append(new[1])
    write_site(
        kept, out, experiments=experiments, images=_images, pictures=_pictures, sweeps=standings(SWEEPS, split),
        tables=all_tables(),
    )  # fmt: skip
    return out / 'index.html'


def _images(dataset: str, indices: list[int]) -> np.ndarray | None:
    """Test images by index, on the 0..1 scale; None where the data set is not here."""
    try:
        image = load(dataset)['test'].take(np.asarray(indices))['image']
    except UserError:
        return None
    return image / np.float32(255) if image.dtype == np.uint8 else image


def _pictures(record: Mapping[str, Any]) -> Artifact | None:
    """What a verification has kept to look at; None where it was made elsewhere."""
    try:
        store = Store()
    except UserError:
        return None
    place = address(record)
    return store.get(place) if store.has(place) else None
