"""The picture of quality against evaluations: a panel of each teacher, from records, with what is missing."""

import json
import pathlib
import runpy
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'
CONFIG = {'dataset': 'ring8', 'teacher': 'points-8-1', 'teacher_steps': 10, 'batch': 4, 'conditional': False}


def record(name, arms, **config):
    made = {n: {'metrics': m} for n, m in arms.items()}
    return {'experiment': name, 'config': CONFIG | config, 'arms': made, 'seeds': [0, 1]}


POINTS = record(
    'trajectories/few_steps',
    {
        'scm': {'kl_to_data': [0.5, 0.3], 'kl_to_data_4': [0.2, 0.1], 'kl_from_data': [9.0, 9.0]},
        'tuned_8': {'kl_to_data': [0.1, 0.1], 'nfe': [8.0, 8.0]},
    },
)
DIGITS = [
    record('generators/dmd2_digits', {'dmd2': {'frechet': [1.0, 2.0]}, 'teacher': {'frechet': [3.0], 'nfe': [35.0]}}),
    record('trajectories/rcm', {'rcm': {'frechet': [1.0, 1.0], 'frechet_2': [0.5, 0.5], 'frechet_w2': [7.0, 7.0]}}),
]


@pytest.fixture(scope='module')
def script():
    return runpy.run_path(str(FOLDER / 'frontier.py'))


def gathered(script, records, panel):
    return script['gathered']({r['experiment']: r for r in records}, script['PANELS'][panel])


def seen(points):
    return [(p.method.rpartition(': ')[2], p.evaluations, round(p.mean, 3), p.trained) for p in points]


def test_points_stand_at_their_number_of_evaluations(script):
    found, missing = gathered(script, [POINTS], 0)
    assert seen(found) == [('scm', 1, 0.4, True), ('scm', 4, 0.15, True), ('tuned_8', 8, 0.1, False)]
    assert not missing


def test_records_of_one_teacher_share_a_panel(script):
    found, missing = gathered(script, DIGITS, 1)
    assert seen(found) == [
        ('dmd2', 1, 1.5, True), ('teacher', 35, 3.0, False), ('rcm', 1, 1.0, True), ('rcm', 2, 0.5, True),
    ]  # fmt: skip
    assert missing == ['trajectories/sana_sprint, no record yet']


def test_a_record_of_another_teacher_is_left_out_and_an_arm_that_diverged_says_so(script):
    other = record('trajectories/rcm', {'rcm': {'frechet': [1.0, 1.0]}}, teacher_steps=11)
    made = json.loads(json.dumps(DIGITS[0]))
    made['arms']['dmd2'] |= {'diverged': {'0': 'step 3'}, 'metrics': {'frechet': [None, 2.0]}}
    found, missing = gathered(script, [made, other], 1)
    assert seen(found) == [('dmd2 (1 of 2 seeds diverged)', 1, 2.0, True), ('teacher', 35, 3.0, False)]
    assert 'trajectories/rcm, another teacher: teacher_steps 11' in missing


def test_the_command_draws_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    for made in [POINTS, *DIGITS]:
        path = tmp_path / f'{made["experiment"]}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(made))
    out = tmp_path / 'frontier.svg'
    monkeypatch.setattr(sys, 'argv', ['frontier.py', '--results', str(tmp_path), '--out', str(out)])
    runpy.run_path(str(FOLDER / 'frontier.py'), run_name='__main__')
    printed = capsys.readouterr().out
    assert 'left out: trajectories/sana_sprint, no record yet' in printed and f'picture {out}' in printed
    first = out.read_text()
    assert 'the teacher, sampled' in first and 'scm' in first
    runpy.run_path(str(FOLDER / 'frontier.py'), run_name='__main__')
    assert out.read_text() == first


def test_without_a_record_there_is_nothing_to_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['frontier.py', '--results', str(tmp_path), '--out', str(tmp_path / 'x.svg')])
    runpy.run_path(str(FOLDER / 'frontier.py'), run_name='__main__')
    assert "nothing to draw: verify an experiment first, 'few_steps' say" in capsys.readouterr().out
    assert not (tmp_path / 'x.svg').exists()
