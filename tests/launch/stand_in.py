"""A program that behaves as `kdjax run` does towards a launcher: steps, SIGTERM saves and exits 75, resumes, a hash."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import signal
import sys
import time


def rank() -> int:
    for name in ('KDJAX_PROCESS', 'SLURM_PROCID'):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def advance(state: str, step: int) -> str:
    """A chain: the last state depends on every step, in order."""
    return hashlib.sha256(f'{state}{step}'.encode()).hexdigest()


def uninterrupted(steps: int) -> str:
    state = ''
    for step in range(steps):
        state = advance(state, step)
    return state


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--pause', type=float, default=0.0)
    asked = parser.parse_args()
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    asked.out.mkdir(parents=True, exist_ok=True)
    place = asked.out / f'rank{rank()}.json'
    saved = json.loads(place.read_text()) if place.exists() else {'step': 0, 'state': '', 'begins': []}
    saved['begins'].append(saved['step'])
    print(f'from step {saved["step"]}', flush=True)
    while saved['step'] < asked.steps and not stop:
        time.sleep(asked.pause)
        saved |= {'step': saved['step'] + 1, 'state': advance(saved['state'], saved['step'])}
        if saved['step'] == saved['begins'][-1] + 1:
            print('one step further', flush=True)
    place.write_text(json.dumps(saved))
    if saved['step'] < asked.steps:
        print(f'saved at step {saved["step"]}', flush=True)
        return 75
    print(f'done {saved["state"]}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
