"""What the pages quote of the benchmarks is what their records say."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs/language.md').read_text()
CASES = {
    'KL(teacher ‖ student)': 'kl_forward', 'KL(student ‖ teacher)': 'kl_reverse', 'Jensen-Shannon': 'jsd',
    'two teachers, forward': 'two_teachers',
}  # fmt: skip


def ratios(name: str) -> dict[str, float]:
    return json.loads((ROOT / f'benchmarks/records/{name}.json').read_text())['ratios']


def test_vocabulary_losses_beside_others():
    said = ratios('vocab_loss')
    for shown, case in CASES.items():
        *seconds, memory = re.search(rf'^\| {re.escape(shown)} \| (.+) \|$', PAGE, re.M).group(1).split(' | ')
        peers = [f'{said[f"{case}_{peer}"]:.1f}' for peer in ('scan', 'dense', 'torch', 'liger', 'trl')]
        assert [*seconds, memory] == [*peers, f'{said[f"{case}_temporaries"]:.0f}']


def test_steps_and_generation_beside_others():
    quoted = re.findall(r'(\d\.\d) times', PAGE.partition('## What it costs')[2].partition('\n## ')[0])
    step, generation = ratios('lm_step'), ratios('generation')
    told = step['live_teacher'], step['hidden_state_cache'], generation['sampling'], generation['nucleus']
    assert quoted == [f'{ratio:.1f}' for ratio in told]


def test_generators_against_seconds():
    """The last distance of each student, the teacher's by evaluations, and the best of the one that collapses."""
    curves = json.loads((ROOT / 'benchmarks/records/convergence.json').read_text())['curves']
    page = (ROOT / 'docs/generators.md').read_text()
    quoted = re.findall(r'\d\.\d{3}', page.partition('## Quality against seconds')[2].partition('\n## ')[0])
    teacher, best = curves['teacher'][-1], min(point['frechet_1'] for point in curves['scm'])
    last = [curves[name][-1]['frechet_1'] for name in ('dmd2', 'sid')]
    assert quoted == [f'{value:.3f}' for value in (*last, teacher['frechet_35'], teacher['frechet_7'], best)]


def test_gradients_through_training_and_evaluation_beside_pytorch():
    unroll, evaluation = ratios('unroll'), ratios('evaluation')
    page = (ROOT / 'docs/condensing.md').read_text()
    memory = re.search(r'holds (\d+) times less memory and takes ([\d.]+) times as long', page).groups()
    assert memory == (f'{unroll["memory_50"]:.0f}', f'{1 / unroll["seconds_50"]:.1f}')
    assert f'trained {evaluation["dense"]:.1f} times as fast' in page
