"""Model FLOP utilisation of a distillation step on one GPU: a Llama of 1.7 B parameters teaches others, bfloat16.

Counted are 6 N_student + 2 N_teacher FLOPs a token (arXiv 2001.08361, sec. 2.1; a tied table counts once, as the head;
attention and what is computed again are not counted), over the card's dense bfloat16 peak. Fused against dense logits.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
from language import distillation, llama, sentences, size, weights
from timing import arguments, conclude

from kdjax.objectives import Objective, fused, kl

PEAK = {'NVIDIA H100': 989.4e12, 'NVIDIA H200': 989.4e12}
"""Dense bfloat16 FLOP/s by the vendor's data sheet."""

FULL = {
    'vocabulary': 49152, 'teacher': (2560, 23), 'head_width': 128, 'groups': 4, 'rows': 8, 'length': 2048,
}  # fmt: skip
STUDENTS = {'0.2B': (1536, 5), '0.27B': (1536, 8)}
SMOKE = {
    'vocabulary': 512, 'teacher': (128, 2), 'head_width': 64, 'groups': 1, 'rows': 2, 'length': 64,
}  # fmt: skip
SMALL = {'small': (64, 1)}
GOALS = {f'{student}_fused': '>= 0.5' for student in STUDENTS}


def seconds(case: dict[str, Any], objective: Objective, *, repeats: int) -> tuple[float, float, float]:
    """(median seconds of a step, FLOPs counted, GB of temporaries)."""
    form = {name: case[name] for name in ('vocabulary', 'groups', 'head_width')}
    student, teacher = (llama(*case[who], **form, dtype='bfloat16') for who in ('student', 'teacher'))
    frozen = {'teacher': weights(teacher, dtype='bfloat16'), 'start': weights(student)}
    batch = sentences(case['rows'], case['length'], case['vocabulary'])
    algorithm, key = distillation(student, teacher, objective), jax.random.key(0)
    state = jax.jit(algorithm.init)(key, frozen, batch)
    flops = (6 * size(state['variables']['student']) + 2 * size(frozen['teacher'])) * case['rows'] * case['length']
    step = jax.jit(algorithm.step, donate_argnums=0).lower(state, frozen, batch, key).compile()
    spent = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        state, metrics = step(state, frozen, batch, key)
        jax.block_until_ready((state, metrics))
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[2:]), flops, step.memory_analysis().temp_size_in_bytes / 1e9


def main() -> None:
    options = arguments(__doc__, repeats=20)
    case, students = (SMOKE, SMALL) if options.smoke else (FULL, STUDENTS)
    kind = jax.devices()[0].device_kind
    peak = next((peak for name, peak in PEAK.items() if kind.startswith(name)), None)
    found = {}
    for student, form in students.items():
        for name, objective in {'fused': fused(), 'dense': kl()}.items():
            spent, flops, temporary = seconds(case | {'student': form}, objective, repeats=options.repeats)
            tokens = case['rows'] * case['length'] / spent
            said = f'{1e3 * spent:9.2f} ms, {tokens:10.0f} tokens/s, {temporary:7.2f} GB of temporaries'
            print(f'  {student:<8} {name:<8} {said}', flush=True)
            found[f'{student}_{name}'] = flops / spent / (peak or float('nan'))
            found[f'{student}_{name}_gigabytes'] = temporary
    if peak is None:
        raise SystemExit(f'no peak is known for {kind}: its utilisation cannot be said')
    conclude('utilisation', ratios=found, goals=GOALS)


if __name__ == '__main__':
    main()
