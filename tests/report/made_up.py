"""Records that nobody measured, for the tests of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdjax.experiment import claim
from kdjax.record import judge, overall

SEEDS = [0, 1, 2, 3, 4]


def arm(level: float, *, rng: np.random.Generator, steps: int = 6) -> dict[str, Any]:
    accuracy = (level + 0.01 * rng.standard_normal(5)).clip(0, 1)
    step = [50 * (i + 1) for i in range(steps)]
    rise = np.array([1 - 0.6 * np.exp(-0.8 * i) for i in range(steps)])
    confidence = (np.arange(15) + 0.5) / 15
    return {
        'description': 'what this arm does',
        'metrics': {
            'accuracy': accuracy.tolist(),
            'nll': (1 - accuracy + 0.1).tolist(),
            'ece': (0.3 * (1 - accuracy)).tolist(),
            'agreement': (accuracy * 0.99).tolist(),
            'kl_to_teacher': (1.3 - accuracy).tolist(),
        },
        'curves': {
            'step': step,
            'accuracy': [(a * rise + 0.01 * rng.standard_normal(steps)).tolist() for a in accuracy],
            'nll': [(1.4 - a * rise).tolist() for a in accuracy],
        },
        'calibration': {
            'confidence': [None, None, *confidence[2:].tolist()],
            'accuracy': [None, None, *(0.9 * confidence[2:]).tolist()],
            'count': [0, 0, *(np.arange(13) ** 2 + 1).tolist()],
        },
        'cost': {
            'parameters': 12345.0, 'forward_flops': 2.5e6, 'student_flops': 3.1e11, 'teacher_flops': 0.0,
            'teacher_queries': 32000.0, 'cache_bytes': 4.2e6, 'seconds': 8.25, 'peak_memory_bytes': None,
        },
        'state_sha256': ['0' * 64] * 5,
    }  # fmt: skip


def record(
    name: str = 'logits/kd',
    *,
    levels: dict[str, float] | None = None,
    claims: tuple[str, ...] = ('kd > labels on accuracy', 'kd < labels on nll'),
    title: str = 'Classic distillation against labels',
    systems: tuple[int, ...] = (85,),
) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    arms = {n: arm(v, rng=rng) for n, v in (levels or {'labels': 0.85, 'kd': 0.9}).items()}
    read = [claim(text) for text in claims]
    judged = [judge(c, arms[c.left]['metrics'][c.metric], arms[c.right]['metrics'][c.metric]) for c in read]
    return {
        'version': 1, 'experiment': name, 'title': title, 'systems': list(systems),
        'config': {'temperature': 4.0, 'steps': 300, 'model': 'mlp'}, 'dataset': 'digits', 'split': 'test',
        'seeds': SEEDS, 'arms': arms, 'claims': judged,
        'verdict': overall(judged),
        'disagreements': [
            {
                'index': i, 'label': i % 10, 'teacher': (i + i % 2) % 10,
                'students': dict.fromkeys(arms, (i + 3) % 10),
            }
            for i in range(12)
        ],
        'identity': {
            'code': 'a' * 64, 'config': 'b' * 64, 'data': 'c' * 64, 'device': 'cpu',
            'versions': {'jax': '0.10.2', 'python': '3.12.3'},
        },
        'seconds': 83.4,
    }  # fmt: skip


ABOUT = {
    'logits/kd': {
        'docstring': (
            'Does a student learn more from a teacher than from labels?\n\n'
            'Hinton, Vinyals and Dean (arXiv 1503.02531), with `T^2` kept.\n\n'
            '    labels    CE(y, p_S)\n'
            '    kd        (1 - alpha) CE(y, p_S) + alpha T^2 KL(p_T^(T) || p_S^(T)),   T = 4\n'
        ),
        'systems': (85,),
        'command': 'kdjax verify kd',
    },
    'logits/waiting': {
        'docstring': 'An experiment without a record.',
        'systems': (86,),
        'command': 'kdjax verify waiting',
    },
}


def images(dataset: str, indices: list[int]) -> np.ndarray:
    rng = np.random.default_rng(len(dataset))
    return rng.random((len(indices), 8, 8, 1), dtype=np.float32)
