"""The picture of quality against evaluations: from records, by teacher, with what is missing."""

import json
import pathlib
import runpy
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'
CONFIG = {
    'dataset': 'ring8', 'tilt': 1.0, 'evaluation_rows': 8000, 'bins': 40, 'conditional': False, 'teacher': 'points-8-1',
    'teacher_steps': 10, 'teacher_learning_rate': 1e-3, 'batch': 4, 'rows': 20000, 'weight_decay': 0.0,
    'sigma_min': 0.002, 'sigma_max': 80.0, 'drop': 0.1,
}  # fmt: skip


def record(name, arms, **config):
    return {'experiment': name, 'config': CONFIG | config, 'arms': {n: {'metrics': m} for n, m in arms.items()}}


RECORDS = [
    record(
        'trajectories/few_steps',
        {
            'scm': {'kl_to_data': [0.5, 0.3], 'kl_to_data_4': [0.2, 0.1], 'kl_from_data': [9.0, 9.0]},
            'tuned_8': {'kl_to_data': [0.1, 0.1], 'nfe': [8.0, 8.0]},
        },
    ),
    record('trajectories/boot', {'boot': {'kl_to_data': [0.4, 0.4]}, 'failed': {'kl_to_data': [0.4, None]}}),
    record('generators/dmd2', {'four_steps': {'kl_to_data': [0.2, 0.2]}}, tilt=8.0),
    record('generators/sid', {'sid': {'kl_to_data': [0.3, 0.3]}, 'sid_exact': {'kl_to_data': [0.2, 0.2]}}),
    record('generators/dmd2_digits', {'dmd2': {'frechet': [1.0, 1.0]}}),
]


@pytest.fixture(scope='module')
def script():
    return runpy.run_path(str(FOLDER / 'frontier.py'))


def test_points_stand_by_teacher_at_their_number_of_evaluations(script):
    found, missing = script['gathered']({r['experiment']: r for r in RECORDS}, ['trajectories/few_steps', 'a/b'])
    trained, exact = found
    assert trained.startswith('points-8-1, 10 steps of 4') and exact == 'the exact score'
    assert [(p.arm, p.evaluations, round(p.mean, 3), p.trained, p.tuned) for p in found[trained]] == [
        ('scm', 1, 0.4, True, False), ('scm', 4, 0.15, True, False), ('tuned_8', 8, 0.1, False, True),
        ('sid', 1, 0.3, True, False),
    ]  # fmt: skip
    assert {p.arm for p in found[exact]} == {'boot', 'sid_exact'}
    assert missing == {
        'a/b': 'no record yet', 'generators/dmd2': 'another law: tilt 8.0',
        'generators/dmd2_digits': 'does not measure kl_to_data',
    }  # fmt: skip


def test_an_arm_that_diverged_is_left_out_and_named(script):
    arms = {'tuned_8': {'kl_to_data': [None, 0.1], 'nfe': [None, 8.0]}, 'scm': {'kl_to_data': [0.1, 0.1]}}
    made = record('trajectories/few_steps', arms) | {'seeds': [0, 1]}
    made['arms']['tuned_8']['diverged'] = {'0': 'step 3'}
    found, missing = script['gathered']({made['experiment']: made}, [])
    assert [p.arm for points in found.values() for p in points] == ['scm']
    assert missing == {'trajectories/few_steps: tuned_8': 'diverged at 1 of 2 seeds'}


def test_another_teacher_has_a_panel_of_its_own(script):
    other = record('trajectories/training_free', {'tuned_5': {'kl_to_data': [0.2], 'nfe': [5.0]}}, batch=8)
    found, _ = script['gathered']({r['experiment']: r for r in [RECORDS[0], other]}, [])
    assert [t.partition(' (')[0] for t in found] == ['points-8-1, 10 steps of 4', 'points-8-1, 10 steps of 8']


def test_students_of_several_steps_under_a_plain_name_are_counted(script):
    point = next(iter(script['points'](RECORDS[2])))[1]
    assert (point.arm, point.evaluations) == ('four_steps', 4)


def test_the_command_draws_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    for made in RECORDS:
        path = tmp_path / f'{made["experiment"]}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(made))
    for results, out in ((tmp_path, tmp_path / 'made' / 'a.svg'), (tmp_path / 'none', tmp_path / 'b.svg')):
        monkeypatch.setattr(sys, 'argv', ['frontier.py', '--results', str(results), '--out', str(out)])
        runpy.run_path(str(FOLDER / 'frontier.py'), run_name='__main__')
    first, last = capsys.readouterr().out.split('picture')
    assert 'left out: trajectories/agd, no record yet' in first
    assert 'nothing to draw' in last and not (tmp_path / 'b.svg').exists()
    drawn = (tmp_path / 'made' / 'a.svg').read_text()
    assert 'few_steps: scm' in drawn and 'tuned sampler' in drawn and 'the exact score' in drawn


def test_every_experiment_that_is_named_exists(script):
    named = {*script['EXACTLY_TAUGHT'], *script['EVALUATIONS'], script['MAIN']}
    assert all((FOLDER.parent / 'experiments' / f'{name}.py').is_file() for name in named)
