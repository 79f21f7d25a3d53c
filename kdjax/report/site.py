"""Write the report: a folder of static pages that needs no server and no network."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdjax import catalogue
from kdjax.errors import UserError
from kdjax.record import VERSION, write_atomically
from kdjax.report import condensing
from kdjax.report.atlas import atlas
from kdjax.report.coverage import Page, entries
from kdjax.report.detail import Images, Pictures, detail
from kdjax.report.overview import overview
from kdjax.report.sweeps import path, sweep_page
from kdjax.run.sweeps.standing import Standing


def write_site(
    records: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    experiments: Mapping[str, Mapping[str, Any]],
    images: Images | None = None,
    pictures: Pictures | None = None,
    sweeps: Sequence[Standing] = (),
    tables: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """Write index.html, atlas.html, a page for each record and sweep, and site.css; returns the files written.

    Records on condensed sets, and `tables`, those of `kdjax condense --table`, share one page more, condensing.html.
    records: as `kdjax.record.load` reads them. experiments: family/name -> {docstring, systems, command},
    verified or not. images: `images(dataset, indices)` -> [N, H, W, C] of the test split, or None where the
    data are not here. pictures: `pictures(record)` -> what its verification has kept, or None where the store has it
    not. The same input gives the same bytes. Raises `UserError` for a record of another
    version and for a system that the catalogue does not have.
    """
    pages = _pages(records, experiments)
    rows = entries(catalogue.systems(), pages)
    sets = [*tables, *(p.record for p in pages if p.record and condensing.is_condensed(p.record))]
    texts = {'index.html': overview(pages, rows, sweeps, sets), 'atlas.html': atlas(rows), 'site.css': _stylesheet()}
    texts |= {condensing.PATH: condensing.condensing_page(sets)} if sets else {}
    texts |= {p.path: detail(p, images, pictures) for p in pages if p.record}
    texts |= {path(s): sweep_page(s) for s in sweeps}
    for name, text in texts.items():
        write_atomically(out / name, text)
    return [out / name for name in texts]


def _stylesheet() -> str:
    return importlib.resources.files('kdjax.report').joinpath('site.css').read_text(encoding='utf-8')


def _pages(records: Sequence[Mapping[str, Any]], experiments: Mapping[str, Mapping[str, Any]]) -> list[Page]:
    """Every experiment that was declared or verified, by name."""
    by_name = {_checked(r)['experiment']: r for r in records}
    pages = [_page(n, experiments.get(n, {}), by_name.get(n)) for n in sorted({*experiments, *by_name})]
    for page in pages:
        for number in page.systems:
            catalogue.system(number)
    return pages


def _checked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    name, version = record.get('experiment', '(without a name)'), record.get('version')
    if version != VERSION:
        raise UserError(
            f"the record of '{name}' has version {version}, this kdjax reads version {VERSION}: "
            "write it anew with 'kdjax verify'"
        )
    parts = str(name).split('/')
    if len(parts) != 2 or not all(p and set(p) <= _NAME for p in parts):
        raise UserError(
            f"the record of '{name}' cannot be shown: call it family/name, in letters, digits, _ and -"
        )
    return record


_NAME = frozenset('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-')


def _page(name: str, about: Mapping[str, Any], record: Mapping[str, Any] | None) -> Page:
    declared = about.get('systems') or (record or {}).get('systems') or ()
    return Page(
        name=name,
        docstring=str(about.get('docstring') or ''),
        command=str(about.get('command') or f'kdjax verify {name.rpartition("/")[2]}'),
        systems=tuple(declared),
        record=record,
    )
