"""What distillation costs once the teacher has spoken: a KD step with cached outputs against labels only.

Ratios are seconds per step, KD / labels.
"""

from __future__ import annotations

from timing import interleaved, ratio, run_cases
from workload import distilled, images, kdjax_loop, model, on_labels, random_logits

from kdjax.teachers import cached

CASES = {
    'dense_1ms': {'spec': 'mlp-64', 'size': 32, 'batch': 64, 'steps': 500},
    'resnet8x4': {'spec': 'resnet8x4', 'size': 32, 'batch': 64, 'steps': 1},
}
SMOKE = {name: {'spec': 'mlp-8', 'size': 4, 'batch': 4, 'steps': 60} for name in CASES}
GOALS = dict.fromkeys(CASES, '<= 1.1')


def measure(case: dict, *, repeats: int) -> float:
    """Seconds of a step with the cached teacher over those of a step on labels."""
    source, student = images(2048, case['size']), model(case['spec'], case['size'])
    seconds = interleaved(
        {
            'labels': kdjax_loop(on_labels(student), source, batch=case['batch'], frozen={}),
            'KD, cached teacher': kdjax_loop(
                distilled(student, cached()), source, batch=case['batch'], frozen=random_logits(source)
            ),
        },
        steps=case['steps'],
        repeats=repeats,
    )
    return ratio(seconds['KD, cached teacher'], seconds['labels'])


def main() -> None:
    run_cases('cached_teacher', __doc__, cases=CASES, smoke=SMOKE, measure=measure, goals=GOALS)


if __name__ == '__main__':
    main()
