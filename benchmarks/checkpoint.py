"""What saving in the background costs the loop: 100 MB of state, one save a minute, in the temporary folder.

Two runs in turn, the same steps with one save after the first fifth and without. Reported: the seconds that the save
cost in all, per minute (the copy, and the writing beside the loop), and how long the loop stood still.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from typing import Any

from timing import arguments, conclude
from workload import SEED, images, model, on_labels

from kdjax.run.checkpoints import Checkpoints
from kdjax.run.fit import Events, fit
from kdjax.run.program import Program

FULL = {'spec': 'mlp-2048-1024', 'size': 32, 'batch': 64, 'steps': 400}
SMOKE = {'spec': 'mlp-8', 'size': 4, 'batch': 4, 'steps': 60}
GOALS = {'seconds_per_minute': '<= 3.0'}


class Run:
    """The same steps again and again, with one compiled program."""

    def __init__(self, case: dict[str, Any]):
        self.case, self.source = case, images(2048, case['size'])
        self.program = Program(on_labels(model(case['spec'], case['size'])))
        self.bytes = 0

    def seconds(self, folder: pathlib.Path | None) -> tuple[float, float]:
        """(whole run, standing still in `save`), saving once after a fifth of the steps if there is a folder."""
        checkpoints, stalled = Checkpoints(folder) if folder else None, [0.0]

        def save(step: int, state: Any) -> None:
            if checkpoints is None or step != every:
                return
            start = time.perf_counter()
            checkpoints.save(step, state)
            stalled[0] += time.perf_counter() - start

        every = self.case['steps'] // 5
        events = Events(save_every=every, on_save=save, log_every=every)
        start = time.perf_counter()
        fit(
            self.program, self.source, batch=self.case['batch'], steps=self.case['steps'], seed=SEED, frozen={},
            events=events,
        )  # fmt: skip
        spent = time.perf_counter() - start
        if checkpoints is not None:
            begun = time.perf_counter()
            checkpoints.close()
            spent += time.perf_counter() - begun
            self.bytes = sum(f.stat().st_size for f in checkpoints.folder.rglob('*') if f.is_file())
        return spent, stalled[0]


def main() -> None:
    options = arguments(__doc__, repeats=5)
    run = Run(SMOKE if options.smoke else FULL)
    run.seconds(None)
    costs, stalls = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            plain, _ = run.seconds(None)
            saving, stalled = run.seconds(pathlib.Path(folder) / 'checkpoints')
        costs.append(saving - plain)
        stalls.append(stalled)
        print(f'  {plain:8.2f} s without, {saving:8.2f} s with one save, {stalled:6.3f} s stalled', flush=True)
    print(f'  {run.bytes / 1e6:.0f} MB a checkpoint')
    conclude(
        'checkpoint',
        ratios={
            'seconds_per_minute': max(statistics.median(costs), 1e-6),
            'stall_seconds': statistics.median(stalls),
            'megabytes': run.bytes / 1e6,
        },
        goals=GOALS,
    )


if __name__ == '__main__':
    main()
