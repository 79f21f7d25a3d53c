"""The chart of quality against seconds of training: its record is drawn again, a run leaves one."""

import json
import pathlib
import re
import runpy
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'
RECORD = {
    'name': 'convergence', 'device': '1 x made up (cpu)', 'ratios': {'dmd2': 2.0}, 'goals': {}, 'met': {}, 'seed': 0,
    'settings': {'task': {'dataset': 'mnist5k'}}, 'training_images': 0.4,
    'curves': {
        'teacher': [{'step': 0, 'seconds': 0.0}, {'step': 8, 'seconds': 4.0, 'frechet_3': 9.0, 'frechet_35': 1.5}],
        'dmd2': [
            {'step': 0, 'seconds': 0.0, 'frechet_1': 30.0}, {'step': 4, 'seconds': 2.0, 'frechet_1': 5.0},
            {'step': 8, 'seconds': 4.0, 'frechet_1': 3.0},
        ],
        'sid': [
            {'step': 0, 'seconds': 0.0, 'frechet_1': 30.0}, {'step': 4, 'seconds': 2.0, 'frechet_1': 6.0},
            {'step': 8, 'seconds': 4.0, 'diverged': True},
        ],
    },
}  # fmt: skip


@pytest.fixture
def script(monkeypatch):
    """`call(*flags)` runs the script as from a command line."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def call(*flags, name='__main__'):
        monkeypatch.setattr(sys, 'argv', ['convergence.py', *map(str, flags)])
        return runpy.run_path(str(FOLDER / 'convergence.py'), run_name=name)

    return call


def test_ratios_are_of_the_last_numbers_to_the_teacher_of_most_evaluations(script):
    made = script(name='convergence')
    assert list(made['teacher_lines'](RECORD).items()) == [(35, 1.5), (3, 9.0)]
    assert made['ratios'](RECORD) == {'dmd2': 2.0, 'sid': 4.0}
    assert made['ratios']({'curves': {}}) == {}


def test_a_record_is_drawn_again_with_what_diverged(script, tmp_path):
    record = tmp_path / 'record.json'
    record.write_text(json.dumps(RECORD))
    script('--from', record, '--out', tmp_path / 'made')
    drawn = (tmp_path / 'made' / 'convergence.svg').read_text()
    assert 'SiD, diverged' in drawn and 'DMD2, ' not in drawn and 'teacher, 35 evaluations' in drawn
    assert 'made up' in drawn


def test_the_guide_says_what_the_record_says(script):
    record = json.loads((FOLDER / 'records' / 'convergence.json').read_text())
    page = (FOLDER.parent / 'docs' / 'generators.md').read_text()
    told = page.partition('## Quality against seconds')[2].partition('\n## ')[0]
    lines = script(name='convergence')['teacher_lines'](record)
    curves = {
        name: [point['frechet_1'] for point in curve[1:]]
        for name, curve in record['curves'].items()
        if name != 'teacher'
    }
    said = curves['dmd2'][-1], curves['sid'][-1], lines[35], lines[7], min(curves['scm'])
    assert record['device'].endswith('NVIDIA H200 (gpu)') and 'On one NVIDIA H200' in told
    assert re.findall(r'\d+\.\d+', told) == [f'{value:.3f}' for value in said]


@pytest.mark.slow
def test_a_run_leaves_a_record_of_every_look_and_a_chart(script, tmp_path, capsys):
    script('--smoke', '--out', tmp_path)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    record = json.loads((tmp_path / 'convergence.json').read_text())
    assert said['name'] == record['name'] == 'convergence' and said['ratios'] == record['ratios']
    assert record['ratios'].keys() == record['trials'].keys() == {'dmd2', 'sid', 'scm'}
    assert [list(rates) for rates in record['trials'].values()] == 3 * [['0.0001', '0.001']]
    for name, curve in record['curves'].items():
        seconds = [point['seconds'] for point in curve]
        assert seconds[0] == 0 and seconds == sorted(seconds) and len(seconds) >= 2, name
        assert all('frechet_1' in point and 'class_accuracy_1' in point for point in curve)
    assert (tmp_path / 'convergence.svg').exists()
