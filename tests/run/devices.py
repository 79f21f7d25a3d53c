"""Seeds as one program on two and on four devices, in a process of their own: prints one JSON object."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from typing import Any

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import tiny

from kdjax.run import collectives, stages
from kdjax.run.layout import Layout, MeshShape
from kdjax.run.store import Store
from kdjax.run.together import Together
from kdjax.run.verify import Verification, verify

SEEDS = 3


def record(store: Store, layout: Layout, seeds_at_once: int, say: Any) -> dict[str, Any]:
    asked = Verification(
        'tests/tiny', 'tiny', tiny.experiment, tiny.Settings(), SEEDS, layout=layout, seeds_at_once=seeds_at_once
    )
    return verify(asked, store=store, say=say)


def together(store: Store, devices: int) -> dict[str, Any]:
    """What is said, made and sent where so many devices train the seeds."""
    layout, said, again, programs = Layout(MeshShape().mesh(jax.devices()[:devices])), [], [], []

    class Kept(Together):
        def __init__(self, *given: Any, **named: Any):
            super().__init__(*given, **named)
            programs.append(self)

    stages.Together = Kept
    made = record(store, layout, SEEDS, said.append)
    record(store, layout, SEEDS, again.append)
    sent = [c for p in programs if p._compiled for c in collectives.collectives(p._compiled.as_text())]
    shapes = sorted({(c.kind, a.shape) for c in sent for a in c.arrays})
    return {'record': made, 'said': said, 'again': again, 'sent': shapes}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(pathlib.Path(folder))
        alone = record(store, stages.single(), 1, lambda line: None)
        print(json.dumps({'alone': alone, '2': together(store, 2), '4': together(store, 4)}))


if __name__ == '__main__':
    main()
