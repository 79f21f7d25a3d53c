"""The command line: what is printed where, exit codes, and the message of every bad input."""

import json
import pathlib
import textwrap

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from kdjax import record as records
from kdjax.cli import commands
from kdjax.cli.main import main
from kdjax.run.find import find
from kdjax.run.identity import state_digest
from kdjax.run.stages import Executor
from kdjax.run.store import Store

HEADER = """
    import dataclasses
    import jax.numpy as jnp
    from kdjax import losses, teachers
    from kdjax.experiment import Experiment
    from kdjax.models.model import Outputs
    from kdjax.objectives import hard_labels, kl, term
    from kdjax.tasks.small_images import SmallImages
    from kdjax.tasks.task import Bound

    @dataclasses.dataclass(frozen=True)
    class Small(SmallImages):
        train_examples: int | None = 40
        student: str = 'mlp-8'
        teacher: str = 'mlp-8'
        batch: int = 8
        steps: int = 4
        teacher_steps: int = 4
        teacher_crop_padding: int = 0
        evaluations: int = 1
        temperature: float = 4.0
"""

GOOD = (
    '''
    """A made-up note."""
'''
    + HEADER
    + """
    def arms(task):
        return {
            'labels': task.arm(hard_labels()),
            'kd': task.arm(hard_labels() + kl(temperature=task.temperature), task.cached_teacher()),
        }

    experiment = Experiment(
        title='Small', config=Small(), arms=arms, systems=(1,), seeds=2,
        claims=('kd > labels - 50 on accuracy',),
    )
"""
)

BAD = (
    HEADER
    + """
    def from_step_2(step):
        return jnp.where(step >= 2, jnp.float32(jnp.nan), jnp.float32(1.0))

    def arms(task):
        seven = Bound(teachers.oracle(lambda batch: Outputs(jnp.zeros((len(batch['label']), 7)))), {})
        return {
            'nan': task.arm(from_step_2 * hard_labels()),
            'tap': task.arm(term(losses.cross_entropy, 'student.stage9', 'batch.label')),
            'classes': task.arm(kl(), seven),
        }

    experiment = Experiment(title='Bad', config=Small(), arms=arms, claims=('nan > tap on accuracy',))
"""
)


@pytest.fixture(scope='module')
def home(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp('home')
    for name, text in {'logits/small': GOOD, 'odd/bad': BAD}.items():
        path = root / 'experiments' / f'{name}.py'
        path.parent.mkdir(parents=True)
        path.write_text(textwrap.dedent(text))
    return root


@pytest.fixture(autouse=True)
def elsewhere(home, tmp_path, monkeypatch):
    """Nothing of these tests is written outside their folders."""
    monkeypatch.setenv('KDJAX_HOME', str(home))
    monkeypatch.setenv('KDJAX_CACHE', str(home / 'cache'))
    monkeypatch.setenv('KDJAX_STORE', str(home / 'store'))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kdjax(capsys):
    """Run a command: exit code, standard output, standard error."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


class TestVerify:
    def test_json_is_the_record_and_nothing_else_is_printed(self, kdjax, home):
        code, out, err = kdjax('verify', 'small', '--json')
        record = json.loads(out)
        assert code == 0
        assert record['verdict'] == 'reproduced'
        assert (record['experiment'], record['seeds']) == ('logits/small', [0, 1])
        assert 'training' in err and '4/4 done' in err
        assert records.load(home / 'results' / 'logits' / 'small.json') == record

    def test_a_whole_verification_writes_the_report(self, kdjax, home, tmp_path):
        code, out, _ = kdjax('verify', 'small', '--site', tmp_path / 'site')
        assert code == 0
        assert out.splitlines()[-1].split() == ['report', str(tmp_path / 'site' / 'index.html')]
        assert 'Small' in (tmp_path / 'site' / 'index.html').read_text()
        assert f'record  {home / "results" / "logits" / "small.json"}' in out
        code, listed, _ = kdjax('list', '--json')
        assert {row['name']: row['verdict'] for row in json.loads(listed)}['logits/small'] == 'reproduced'

    def test_the_table_and_the_exit_code_of_what_is_not_reproduced(self, kdjax, tmp_path):
        code, out, _ = kdjax('verify', 'logits/small', '--seeds', 1)
        assert code == 3
        assert 'kd > labels - 50 on accuracy' in out
        assert 'verdict: inconclusive' in out
        assert 'accuracy' in out and 'GFLOPs' in out
        assert list(tmp_path.iterdir()) == [], 'a partial verification is no record'

    def test_out_keeps_any_record(self, kdjax, tmp_path):
        code, out, _ = kdjax(
            'verify', 'small', '--seeds', 1, '--json', '--out', tmp_path / 'r.json', '--split', 'validation'
        )
        assert code == 3
        assert records.load(tmp_path / 'r.json') == json.loads(out)
        assert json.loads(out)['split'] == 'validation'

    def test_a_file_of_your_own_keeps_its_record_beside_it(self, kdjax, home, tmp_path):
        mine = tmp_path / 'mine' / 'own.py'
        mine.parent.mkdir()
        mine.write_text((home / 'experiments' / 'logits' / 'small.py').read_text())
        code, _, _ = kdjax('verify', mine, '--site', tmp_path / 'site')
        assert code == 0
        assert records.load(mine.with_suffix('.json'))['experiment'] == 'mine/own'
        assert 'mine/own' in (tmp_path / 'site' / 'index.html').read_text()
        assert not (home / 'results' / 'mine').exists()

    def test_seeds_below_one(self, kdjax):
        code, out, err = kdjax('verify', 'small', '--seeds', 0)
        assert (code, out) == (1, '')
        assert '--seeds 0: at least one is needed' in err

    def test_an_error_writes_no_record(self, kdjax, home, tmp_path):
        code, out, err = kdjax('verify', 'bad', '--json', '--out', tmp_path / 'r.json')
        assert (code, out) == (1, '')
        assert "step 2: 'student/hard_labels' is nan" in err or "step 2: 'student/loss' is nan" in err
        assert not (tmp_path / 'r.json').exists()
        assert not (home / 'results' / 'odd').exists()


class TestRun:
    def test_the_last_line_names_the_folder_and_the_digest_of_the_state(self, kdjax, tmp_path):
        code, out, _ = kdjax('run', 'small', '--arm', 'kd', '--seed', 3, '--save-every', 2, '--log-every', 1)
        assert code == 0
        folder, sha = out.splitlines()[-1].rsplit(' ', 1)
        assert pathlib.Path(folder) == tmp_path / 'runs' / 'logits' / 'small' / 'kd' / '3'
        found = find('small')
        stage = found.experiment.resolve()['kd'].stage
        state, _, _ = Executor(Store(), module=found.module.__name__).train(stage, 3)
        assert sha == state_digest(state)
        result = json.loads((tmp_path / folder / 'result.json').read_text())
        assert result['state_sha256'] == sha
        rows = [json.loads(line) for line in (tmp_path / folder / 'metrics.jsonl').read_text().splitlines()]
        assert [row['step'] for row in rows] == [1, 2, 3, 4]
        assert {'config.json', 'identity.json', 'checkpoints'} <= {p.name for p in pathlib.Path(folder).iterdir()}
        figures = {p.name for p in (pathlib.Path(folder) / 'figures').iterdir()}
        assert figures == {'training.svg', 'validation.svg'}

        code, again, _ = kdjax(
            'run', 'small', '--arm', 'kd', '--seed', 3, '--save-every', 2, '--log-every', 1
        )
        assert code == 0
        assert again.splitlines()[-1] == out.splitlines()[-1], 'a finished run goes on to the same end'

        code, out, err = kdjax('run', 'small', '--arm', 'kd', '--seed', 3, '--temperature', 2.0)
        assert (code, out) == (1, '')
        assert 'belongs to another run (temperature: 4.0 there, 2.0 now): choose another --out' in err

    def test_a_nan_stops_the_run_and_what_is_on_disk_stays_finite(self, kdjax, tmp_path):
        code, out, err = kdjax(
            'run', 'bad', '--arm', 'nan', '--out', tmp_path / 'run', '--save-every', 1, '--log-every', 1
        )
        assert (code, out) == (1, '')
        assert "step 2: 'student/loss' is nan; first bad leaf: " in err
        assert 'Nothing of this step or later was saved' in err
        saved = sorted(int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir() if p.name.isdigit())
        assert saved == [1, 2]
        with ocp.StandardCheckpointer() as reader:
            state = reader.restore(tmp_path / 'run' / 'checkpoints' / '2' / 'state')
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
        assert [row['step'] for row in rows] == [1, 2]
        assert all(np.isfinite(value) for row in rows for value in row.values())

    def test_a_tap_that_does_not_exist(self, kdjax):
        code, _, err = kdjax('run', 'bad', '--arm', 'tap')
        assert code == 1
        assert "unknown tap of 'student' 'stage9'" in err and 'known: ' in err
        assert 'known: (none)' not in err

    def test_teacher_and_student_with_different_classes(self, kdjax):
        code, _, err = kdjax('run', 'bad', '--arm', 'classes')
        assert code == 1
        assert "term 'kl' (student, teacher): teacher has 7 classes, student 10" in err


BAD_INPUT = {
    'experiment': (('verify', 'smal'), "unknown experiment 'smal'; did you mean 'small'? known: bad, small"),
    'experiment of a family': (('show', 'logits/smal'), "did you mean 'logits/small'?"),
    'file': (('run', 'gone.py'), "no file 'gone.py'"),
    'arm': (
        ('run', 'small', '--arm', 'kdd'),
        "unknown arm of 'logits/small' 'kdd'; did you mean 'kd'? known: kd, labels",
    ),
    'field': (('run', 'small', '--temperatur', '2'), '--temperature'),
    'type': (('verify', 'small', '--temperature', 'hot'), 'hot'),
    'type of steps': (('run', 'small', '--steps', '1.5'), '1.5'),
    'command': (('verfy', 'small'), "unknown command 'verfy'; did you mean 'verify'?"),
    'family': (('list', '--family', 'logit'), "unknown family 'logit'; did you mean 'logits'?"),
    'data set': (('show', 'small', '--dataset', 'digit'), "unknown data set 'digit'; did you mean 'digits'?"),
    'model': (('show', 'small', '--student', 'resent8'), 'resent8'),
    'tracker': (('run', 'small', '--track', 'wandbb'), "unknown tracker 'wandbb'; did you mean 'wandb'?"),
}


@pytest.mark.parametrize('case', BAD_INPUT)
def test_bad_input_exits_1_and_names_the_remedy(case, kdjax):
    arguments, message = BAD_INPUT[case]
    code, out, err = kdjax(*arguments)
    assert code == 1
    assert out == ''
    assert message in err
    assert 'Traceback' not in err


def write_npz(folder: pathlib.Path, labels: np.ndarray, image: np.ndarray | None = None) -> str:
    folder.mkdir()
    for split in ('train', 'validation', 'test'):
        images = np.zeros((len(labels), 4, 4, 1), np.float32) if image is None else image
        np.savez(folder / f'{split}.npz', image=images, label=labels)
    return f'npz:{folder}'


def test_bad_data_exits_1(kdjax, tmp_path):
    nan = np.zeros((4, 4, 4, 1), np.float32)
    nan[2, 1, 1, 0] = np.nan
    labels = np.arange(4) % 2
    bad = {
        'is empty': write_npz(tmp_path / 'empty', np.zeros((0,), np.int32)),
        'holds a single class (0)': write_npz(tmp_path / 'single', np.zeros((4,), np.int32)),
        'image 2 holds NaN or infinity': write_npz(tmp_path / 'nan', labels, nan),
    }
    for message, spec in bad.items():
        code, out, err = kdjax('show', 'small', '--train-examples', 'None', '--dataset', spec)
        assert (code, out) == (1, '')
        assert message in err


def test_a_record_of_another_version(kdjax, home):
    path = home / 'results' / 'odd' / 'bad.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"version": 99}')
    try:
        code, out, err = kdjax('list')
        assert (code, out) == (1, '')
        assert (
            "is a record of version 99, this kdjax reads version 1: write it anew with 'kdjax verify'" in err
        )
    finally:
        path.unlink()
        path.parent.rmdir()


def test_list_as_json(kdjax):
    code, out, err = kdjax('list', '--json')
    assert (code, err) == (0, '')
    rows = {row['name']: row for row in json.loads(out)}
    assert set(rows) == {'logits/small', 'odd/bad'}
    assert rows['logits/small']['title'] == 'Small'
    assert rows['logits/small']['systems'] == [1]
    code, out, _ = kdjax('list', '--family', 'odd', '--json')
    assert [row['name'] for row in json.loads(out)] == ['odd/bad']


def test_show_resolves_overrides(kdjax):
    code, out, _ = kdjax('show', 'small', '--temperature', '7.25')
    assert code == 0
    for text in ('A made-up note.', '7.25', 'labels', 'kd > labels - 50 on accuracy', 'parameters'):
        assert text in out


@pytest.mark.parametrize(('arguments', 'code'), [((), 1), (('--help',), 0), (('verify', '--help'), 0)])
def test_help(arguments, code, kdjax):
    found, out, _ = kdjax(*arguments)
    assert found == code
    assert 'usage' in out


def test_data_list(kdjax):
    code, out, _ = kdjax('data', 'list')
    assert code == 0
    assert 'digits' in out and 'scikit-learn' in out


def test_doctor(kdjax):
    code, out, _ = kdjax('doctor')
    assert code in (0, 1)
    assert 'digits: 1000 training examples' in out


def test_our_fault_is_2(kdjax, monkeypatch):
    def broken(arguments):
        raise RuntimeError('a defect')

    monkeypatch.setattr(commands, 'data', broken)
    code, out, err = kdjax('data')
    assert (code, out) == (2, '')
    assert 'RuntimeError: a defect' in err
    assert 'this is a defect of kdjax, not of your input' in err


def test_an_interruption_says_how_to_go_on(kdjax, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, 'data', interrupted)
    code, _, err = kdjax('data')
    assert code == 130
    assert 'run the same command to go on' in err
