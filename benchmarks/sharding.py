"""What the steps of FSDP send between devices against the arithmetic, compiled for 8 devices and for 256.

Bytes are read from the HLO. `gathered`: those of the student's and the teacher's split weights, once a step. `reduced`:
those of the gradients, once. Both are the factor by which they are off, 1 for exact. `stray`: elements of the largest
array that is sent and is no weight / elements of the logits of one device. No device is needed: nothing is run.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from timing import arguments, conclude

CASES = {'of_8': (8, 'vit fsdp'), 'of_256': (256, 'large fsdp')}
SMOKE = {'of_8': (8, 'mlp in parts')}


def compiled(devices: int, case: str) -> dict[str, Any]:
    """What `compiled.py` says, in a process with so many devices."""
    script = pathlib.Path(__file__).with_name('compiled.py')
    environ = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}
    found = subprocess.run([sys.executable, str(script), case], env=environ, stdout=subprocess.PIPE, check=True)
    return json.loads(found.stdout)[case]


def off(value: float, expected: float) -> float:
    """The factor between two numbers, at least 1."""
    return max(value / expected, expected / value)


def main() -> None:
    options = arguments(__doc__, repeats=1)
    ratios: dict[str, float] = {}
    for name, (devices, case) in (SMOKE if options.smoke else CASES).items():
        said = compiled(devices, case)
        print(f'  {case}, {devices} devices: gathered {said["gathered"]}, reduced {said["reduced"]} bytes', flush=True)
        ratios |= {
            f'gathered_{name}': off(said['gathered'], said['student']['split'] + said['teacher']['split']),
            f'reduced_{name}': off(said['reduced'], said['student']['all']),
            f'stray_{name}': said['stray'] / said['logits'],
        }
    bounds = {'gathered': '<= 1.1', 'reduced': '<= 1.1', 'stray': '<= 0.01'}
    conclude('sharding', ratios=ratios, goals={name: bounds[name.split('_')[0]] for name in ratios})


if __name__ == '__main__':
    main()
