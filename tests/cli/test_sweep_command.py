"""`kdjax sweep`: plans, running and going on, failures, interruptions, other machines, and every message.

Most trials here run a stand-in for `kdjax run` that writes what its plan promises; one test runs the real thing.
"""

import dataclasses
import json
import os
import re
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from kdjax.cli.main import main
from kdjax.cli.parsing import with_overrides
from kdjax.cli.training import Run
from kdjax.run import lock
from kdjax.run.sweeps import plan, trials
from kdjax.run.sweeps.outcomes import worst
from kdjax.run.sweeps.standing import standing

EXPERIMENT = '''
    """A made-up note."""
    import dataclasses
    from kdjax.experiment import Experiment
    from kdjax.objectives import hard_labels, kl
    from kdjax.tasks.small_images import SmallImages

    @dataclasses.dataclass(frozen=True)
    class Inner:
        rate: float = 0.5
        widths: tuple[int, ...] = (1, 2)
        warm: bool = True

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
        alpha: float = 0.5
        mirror: bool = False
        inner: Inner = Inner()

    def arms(task):
        return {
            'labels': task.arm(hard_labels()),
            'kd': task.arm(hard_labels() + kl(temperature=task.temperature), task.cached_teacher()),
        }

    experiment = Experiment(
        title='Small', config=Small(), arms=arms, seeds=2, claims=('kd > labels on accuracy', 'kd < labels on nll'),
    )
'''

WRITTEN = """
    from kdjax.run.sweeps.combinators import prefix, product, values

    sweeps = {
        'deep': product(prefix('inner', values('rate', 0.1, 0.2)), values('temperature', 1.0, 2.0)),
        'wrong': values('temperature', 'hot'),
    }
"""

STAND_IN = """
    import json, os, pathlib, signal, sys, time

    words = sys.argv[1:]
    folder = pathlib.Path(words[words.index('--out') + 1])
    plans = [json.loads(p.read_text()) for p in pathlib.Path('runs/sweeps').glob('*/plan.json')]
    settings = next(t for p in plans for t in p['trials'] if t['command'][1:] == words)['settings']
    with open('calls.txt', 'a') as calls:
        print(settings['arm'], settings['temperature'], settings['seed'], file=calls)
    t = settings['temperature']
    if t == 13.0:
        print('an earlier line')
        sys.exit('kdjax: an unlucky temperature: choose another')
    if t == 14.0:
        os.kill(os.getpid(), signal.SIGKILL)
    if t == 50.0:
        while sum(line.startswith('kd 50.0') for line in open('calls.txt')) < 2:
            time.sleep(0.01)
    if t == 99.0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        folder.joinpath('began').write_text('')
        time.sleep(30)
        sys.exit(3)
    folder.joinpath('config.json').write_text(json.dumps(settings))
    accuracy = 0.9 - 0.01 * abs(t - 2) + 0.001 * settings['seed']
    metrics = {'validation': {'accuracy': accuracy, 'nll': t}, 'test': {'accuracy': 0.25, 'nll': 1.0}}
    if t != 98.0:
        folder.joinpath('result.json').write_text(json.dumps({'metrics': metrics}))
"""

LAUNCHER = """
    import json, pathlib, sys
    with open('handed.jsonl', 'a') as file:
        print(json.dumps(sys.argv[1:]), file=file)
    if '--full' in sys.argv:
        sys.exit('launch: no room: try later')
    if sys.argv[1] == 'gke' and '--yes' not in sys.argv:
        sys.exit(print('dry run of it on gke: nothing is written or started; add --yes to do it'))
    job = pathlib.Path('runs/launch') / sys.argv[sys.argv.index('--id') + 1] / 'job.json'
    job.parent.mkdir(parents=True, exist_ok=True)
    job.write_text('{}')
    print('submitted as job 7')
"""


@pytest.fixture(scope='module')
def home(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('home')
    path = root / 'experiments' / 'logits' / 'small.py'
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(EXPERIMENT))
    return root


@pytest.fixture(autouse=True)
def elsewhere(home, tmp_path, monkeypatch):
    """Nothing of these tests is written outside their folders; trials run the stand-in."""
    for name, place in {'KDJAX_HOME': home, 'KDJAX_CACHE': home / 'cache', 'KDJAX_STORE': home / 'store'}.items():
        monkeypatch.setenv(name, str(place))
    monkeypatch.chdir(tmp_path)
    stand_in = tmp_path / 'stand_in.py'
    stand_in.write_text(textwrap.dedent(STAND_IN))
    (tmp_path / 'points.py').write_text(textwrap.dedent(WRITTEN))
    (tmp_path / 'broken.py').write_text('1 / 0')
    monkeypatch.setattr(trials, 'PROGRAM', (sys.executable, '-S', str(stand_in)))


@pytest.fixture
def sweep(capfd):
    """Run `kdjax sweep small`: exit code, standard output, standard error."""

    def call(*arguments):
        capfd.readouterr()
        code = main(['sweep', 'small', *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


def calls() -> list[str]:
    file = Path('calls.txt')
    return file.read_text().splitlines() if file.exists() else []


def temperatures(out: str) -> list[str]:
    """The second column of the printed table."""
    return [line.split('│')[2].strip() for line in out.splitlines() if line.startswith('│')]


def only_plan() -> plan.Plan:
    (path,) = Path('runs/sweeps').glob('*/plan.json')
    return plan.load(path)


class TestPlan:
    def test_a_dry_run_shows_every_trial_and_writes_nothing(self, sweep):
        code, out, _ = sweep('--over', 'temperature=1,2', '--over', 'alpha=0.25', '--seeds', 2, '--dry-run')
        assert code == 0
        assert '2 x 2 seeds = 4 trials' in out
        assert out.count('waiting') == 4
        assert 'kdjax run logits/small --arm kd --seed 1' in out
        assert not Path('runs').exists()

    def test_the_plan_holds_typed_overrides_folders_and_commands(self, sweep):
        code, *_ = sweep('--over', 'temperature=1,2', '--steps', 3, '--seeds', 1)
        assert code == 0
        made = only_plan()
        assert (made.experiment, made.fields, made.metric, made.more) == (
            'logits/small', ('temperature',), 'accuracy', True,
        )  # fmt: skip
        assert made.fixed == {'steps': 3}
        first = made.trials[0]
        assert (first.overrides, first.arm, first.seed) == ({'temperature': 1.0}, 'kd', 0)
        assert re.fullmatch(r'trials/logits/small/kd/steps=3,temperature=1.0-[0-9a-f]{8}/0', first.folder)
        assert first.command == (
            'kdjax', 'run', 'logits/small', '--arm', 'kd', '--seed', '0', '--out', f'runs/sweeps/{first.folder}',
            '--steps=3', '--temperature=1.0',
        )  # fmt: skip
        assert re.fullmatch(r'small-temperature-[0-9a-f]{8}', made.id)

    def test_every_kind_of_value_survives_the_command_line(self, sweep):
        code, *_ = sweep(
            '--zip', 'inner.rate=1e-3', 'inner.widths=3 4', 'inner.warm=False', 'mirror=true', 'train-examples=None',
            '--seeds', 1,
        )  # fmt: skip
        assert code == 0
        (trial,) = only_plan().trials
        _, _, config = with_overrides(Run, 'run', list(trial.command[2:]))
        assert json.loads(json.dumps(dataclasses.asdict(config))).items() <= trial.settings.items()
        assert (config.inner.rate, config.inner.widths, config.inner.warm) == (1e-3, (3, 4), False)
        assert (config.mirror, config.train_examples) == (True, None)

    def test_over_multiplies_zip_goes_in_step_each_goes_alone(self, sweep):
        options = ('--over', 'batch=4', '--zip', 'steps=1,2', 'weight-decay=3,4', '--each', 'alpha=0,1', 'mirror=true')
        sweep(*options, '--seeds', 1)
        alone = [{'alpha': 0.0}, {'alpha': 1.0}, {'mirror': True}]
        assert [trial.overrides for trial in only_plan().trials] == [
            {'batch': 4, 'steps': steps, 'weight_decay': decay} | one
            for steps, decay in ((1, 3.0), (2, 4.0))
            for one in alone
        ]

    def test_a_sweep_written_in_python(self, sweep):
        code, *_ = sweep('--use', 'points.py:deep', '--seeds', 1)
        assert code == 0
        assert [t.overrides for t in only_plan().trials] == [
            {'inner.rate': r, 'temperature': t} for r in (0.1, 0.2) for t in (1.0, 2.0)
        ]

    def test_equal_points_are_one_trial(self, sweep):
        sweep('--each', 'temperature=1,4', 'alpha=0.5', '--seeds', 1)
        assert [t.overrides for t in only_plan().trials] == [{'temperature': 1.0}, {'temperature': 4.0}]

    def test_it_does_not_depend_on_where_it_is_kept_or_what_is_looked_at(self, sweep, tmp_path):
        names = set()
        for more in ((), ('--out', tmp_path / 'there'), ('--metric', 'nll'), ('--split', 'test')):
            _, out, _ = sweep('--over', 'temperature=1', '--seeds', 1, '--dry-run', *more)
            names |= set(re.findall(r'small-temperature-[0-9a-f]{8}', out))
        assert len(names) == 1

    def test_another_code_is_another_sweep(self, sweep, home, monkeypatch, tmp_path):
        _, first, _ = sweep('--over', 'temperature=1', '--seeds', 1, '--dry-run')
        path = tmp_path / 'home' / 'experiments' / 'logits' / 'small.py'
        path.parent.mkdir(parents=True)
        path.write_text(textwrap.dedent(EXPERIMENT).replace('hard_labels() + kl', '2.0 * hard_labels() + kl'))
        monkeypatch.setenv('KDJAX_HOME', str(tmp_path / 'home'))
        _, second, _ = sweep('--over', 'temperature=1', '--seeds', 1, '--dry-run')
        name = re.compile(r'small-temperature-[0-9a-f]{8}')
        assert name.findall(first)[0] != name.findall(second)[0]


class TestHere:
    def test_points_are_sorted_on_validation_and_the_best_is_named(self, sweep):
        code, out, err = sweep('--over', 'temperature=1,2,8', '--seeds', 2)
        assert code == 0
        assert temperatures(out) == ['2.0', '1.0', '8.0']
        assert '6 of 6 trials done; validation split, on which values are chosen' in out
        assert 'best  accuracy 90.05 ± 0.64 % on validation: kd --temperature=2.0\n' in out
        assert 'then  kdjax verify small --temperature=2.0' in out
        assert '6/6 kd temperature=8.0 seed 1' in err

    def test_a_metric_of_which_less_is_better(self, sweep):
        _, out, _ = sweep('--over', 'temperature=1,2,8', '--seeds', 1, '--metric', 'nll')
        assert temperatures(out) == ['1.0', '2.0', '8.0']

    def test_the_second_call_and_a_larger_sweep_run_only_the_rest(self, sweep):
        sweep('--over', 'temperature=1,2', '--seeds', 1)
        assert calls() == ['kd 1.0 0', 'kd 2.0 0']
        code, _, err = sweep('--over', 'temperature=1,2', '--seeds', 1)
        assert (code, len(calls())) == (0, 2)
        assert '2 of 2 trials are done' in err
        sweep('--over', 'temperature=2,3', '--seeds', 2)
        assert calls()[2:] == ['kd 2.0 1', 'kd 3.0 0', 'kd 3.0 1']

    def test_a_result_of_other_settings_does_not_count(self, sweep):
        sweep('--over', 'temperature=1', '--seeds', 1)
        folder = Path('runs/sweeps') / only_plan().trials[0].folder
        (folder / 'config.json').write_text('{"temperature": 3.0}')
        sweep('--over', 'temperature=1', '--seeds', 1)
        assert len(calls()) == 2

    def test_a_failure_is_recorded_and_the_sweep_goes_on(self, sweep):
        code, out, err = sweep('--over', 'temperature=1,13,2', '--seeds', 1)
        assert code == 1
        assert calls() == ['kd 1.0 0', 'kd 13.0 0', 'kd 2.0 0']
        assert 'failed (1): an unlucky temperature: choose another' in re.sub(r'\s*│\n.*?│\s*', ' ', out)
        assert 'kd temperature=13.0 seed 0: an unlucky temperature: choose another (exit code 1)' in err
        (kept,) = Path('runs/sweeps').glob('*/outcomes.json')
        failed = [o for o in json.loads(kept.read_text()).values() if o['code']]
        assert failed == [{'code': 1, 'place': 'local', 'said': 'an unlucky temperature: choose another'}]
        code, *_ = sweep('--over', 'temperature=1,13,2', '--seeds', 1)
        assert (code, calls()[3:]) == (1, ['kd 13.0 0']), 'what failed is tried again, and nothing else'

    def test_a_killed_trial_and_one_without_a_result(self, sweep):
        code, out, err = sweep('--over', 'temperature=14,98,1', '--seeds', 1)
        assert code == 137
        assert 'it said nothing (exit code 137)' in err
        assert re.search(r'it ended well, but runs/sweeps/\S+ holds no result of these settings', err)
        assert '1 of 3 trials done' in out

    def test_a_point_without_all_its_seeds_stands_behind(self, sweep):
        sweep('--over', 'temperature=2,8', '--seeds', 2)
        (Path('runs/sweeps') / only_plan().trials[0].folder / 'result.json').unlink()
        now = standing(only_plan(), Path('runs/sweeps'), 'validation')
        assert [(p.overrides['temperature'], p.done) for p in now.places] == [(8.0, 2), (2.0, 1)]
        assert now.best is None

    def test_jobs_run_at_once(self, sweep):
        code, *_ = sweep('--over', 'temperature=50', '--seeds', 2, '--jobs', 2)
        assert (code, len(calls())) == (0, 2), 'each waits for the other'

    @pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_with_75_and_the_same_command_goes_on(self, sweep, number):
        def interrupt():
            while not list(Path('runs').glob('sweeps/trials/*/*/*/*/*/began')):
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=interrupt)
        thread.start()
        code, out, err = sweep('--over', 'temperature=1,99,2', '--seeds', 1)
        thread.join()
        assert code == 75
        assert calls() == ['kd 1.0 0', 'kd 99.0 0'], 'nothing is started after the signal'
        assert 'stopped; run the same command to go on' in err
        assert '1 of 3 trials done' in out and 'interrupted' in out and 'waiting' in out
        assert 'best' not in out, 'what is left may be better'

    def test_a_run_folder_in_use_is_left_alone(self, sweep):
        sweep('--over', 'temperature=13', '--seeds', 1)
        with lock.hold(Path('runs/sweeps') / only_plan().trials[0].folder):
            code, out, _ = sweep('--over', 'temperature=13', '--seeds', 1)
        assert (code, len(calls())) == (75, 1)
        assert 'another process is at it' in re.sub(r'\s*│\n.*?│\s*', ' ', out)

    def test_two_sweeps_of_one_plan_at_once(self, sweep):
        sweep('--over', 'temperature=1', '--seeds', 1)
        with lock.hold(Path('runs/sweeps') / only_plan().id):
            code, _, err = sweep('--over', 'temperature=1', '--seeds', 1)
        assert code == 1
        assert f'in use by process {os.getpid()}' in err

    def test_the_test_split_is_shown_only_when_asked_and_then_nothing_is_chosen(self, sweep):
        _, out, _ = sweep('--over', 'temperature=1,2', '--seeds', 2)
        assert '25.0' not in out
        _, out, _ = sweep('--over', 'temperature=1,2', '--seeds', 2, '--split', 'test')
        assert 'TEST split: to look at after the choice, never to choose by' in out
        assert '25.0' in out and 'best' not in out

    def test_several_arms_as_json(self, sweep):
        code, out, _ = sweep('--over', 'temperature=2', '--arm', 'kd', 'labels', '--seeds', 2, '--json')
        said = json.loads(out)
        assert code == 0
        assert (said['metric'], said['split']) == ('accuracy', 'validation')
        assert [(p['arm'], p['states'], p['metrics']['accuracy']) for p in said['places']] == [
            (arm, ['done', 'done'], [0.9, 0.901]) for arm in ('kd', 'labels')
        ]


def test_the_report_shows_the_sweeps_of_this_folder(sweep):
    sweep('--over', 'temperature=1,2', '--seeds', 1)
    page = Path('site') / 'sweeps' / f'{only_plan().id}.html'
    assert main(['report']) == 0
    assert f'href="sweeps/{page.name}"' in Path('site/index.html').read_text()
    assert 'validation split' in page.read_text() and '90.00' in page.read_text() and '25.00' not in page.read_text()
    assert main(['report', '--split', 'test']) == 0
    assert 'TEST split' in page.read_text() and '25.00' in page.read_text() and '90.00' not in page.read_text()


def test_the_real_run_leaves_what_the_plan_expects(sweep):
    sweep('--over', 'temperature=2', '--over', 'inner.widths=3 4', '--seeds', 1, '--first-seed', 5, '--dry-run')
    sweep('--over', 'temperature=98', '--over', 'inner.widths=3 4', '--seeds', 1, '--first-seed', 5)
    (trial,) = only_plan().trials
    folder = Path('runs/sweeps') / trial.folder
    (folder / 'config.json').unlink()
    assert plan.result(trial, Path('runs/sweeps')) is None
    assert main(list(trial.command[1:])) == 0
    found = plan.result(trial, Path('runs/sweeps'))
    assert found is not None
    assert {'accuracy', 'nll'} <= found['metrics']['validation'].keys()


class TestElsewhere:
    @pytest.fixture(autouse=True)
    def launcher(self, home, monkeypatch, tmp_path):
        """The launchers of a checkout, as far as a sweep can see."""
        root = tmp_path / 'checkout'
        (root / 'launch').mkdir(parents=True)
        (root / 'launch' / '__init__.py').write_text('')
        (root / 'launch' / '__main__.py').write_text(textwrap.dedent(LAUNCHER))
        (root / 'experiments').symlink_to(home / 'experiments')
        monkeypatch.setenv('KDJAX_HOME', str(root))

    def handed(self) -> list[list[str]]:
        return [json.loads(line) for line in Path('handed.jsonl').read_text().splitlines()]

    def test_each_trial_is_handed_over_once(self, sweep):
        options = ('--over', 'temperature=1,2', '--seeds', 1, '--on', 'slurm', "--launch=--time '2 h'")
        code, out, err = sweep(*options)
        assert code == 0, err
        first, second = self.handed()
        assert first[:3] == ['slurm', 'submit', '--id']
        assert re.fullmatch(r'small-[0-9a-f]{8}-0', first[3]) and first[3] != second[3]
        assert first[4:7] == ['--time', '2 h', '--']
        assert first[7:] == list(only_plan().trials[0].command)
        assert out.count('handed to slurm') == 2
        assert (sweep(*options)[0], len(self.handed())) == (0, 2)
        sweep(*options, '--again')
        assert self.handed()[2:] == [first, second]

    def test_what_finished_elsewhere_is_done(self, sweep):
        options = ('--over', 'temperature=1', '--seeds', 1)
        sweep(*options, '--on', 'slurm')
        sweep(*options)
        code, out, _ = sweep(*options, '--on', 'slurm', '--again')
        assert (code, len(self.handed())) == (0, 1)
        assert '1 of 1 trials done' in out

    def test_a_refusal_stops_and_gives_the_launchers_words(self, sweep):
        code, _, err = sweep('--over', 'temperature=1,2', '--seeds', 1, '--on', 'slurm', '--launch=--full')
        assert (code, len(self.handed())) == (1, 1)
        assert 'slurm took 0 of 2 trials, then said: no room: try later (exit code 1)' in err

    def test_where_money_is_spent_nothing_is_handed_over_without_yes(self, sweep):
        options = ('--over', 'temperature=1', '--seeds', 1, '--on', 'gke')
        code, out, err = sweep(*options)
        assert code == 0
        assert 'add --yes to do it' in err
        assert 'handed' not in out and 'waiting' in out
        code, out, _ = sweep(*options, '--launch=--yes')
        assert (code, len(self.handed())) == (0, 2)
        assert 'handed to gke' in out

    def test_a_dry_run_shows_what_would_be_handed_over(self, sweep):
        _, out, _ = sweep('--over', 'temperature=1', '--seeds', 1, '--on', 'slurm', '--launch=--yes', '--dry-run')
        assert re.search(r'python -m launch slurm submit --id small-\w{8}-0 --yes', out)
        assert not Path('handed.jsonl').exists()


BAD = {
    'unknown field': (
        ('--over', 'temperatur=1'), "unknown field of logits/small 'temperatur'; did you mean 'temperature'?",
    ),
    'unknown nested field': (('--over', 'inner.rat=1'), "did you mean 'inner.rate'?"),
    'type': (
        ('--over', 'temperature=1,hot'),
        "temperature=hot: 'hot' is no float; logits/small has temperature=4.0",
    ),
    'type with None': (('--over', 'train_examples=many'), "'many' is no int | None"),
    'type of a nested field': (('--over', 'inner.warm=maybe'), "inner.warm=maybe: 'maybe' is no bool"),
    'type in the file': (('--use', 'points.py:wrong'), "temperature=hot: 'hot' is no float"),
    'no equals sign': (('--over', 'temperature'), "'temperature' cannot be read: write FIELD=VALUE,VALUE, e.g. '"),
    'no value': (('--over', 'temperature='), "'temperature=' cannot be read"),
    'unequal zip': (
        ('--zip', 'temperature=1,2', 'alpha=0.5'), "zip: 'temperature' has 2 points, 'alpha' has 1: give both as many",
    ),
    'field twice': (
        ('--over', 'temperature=1', '--over', 'temperature=2'), "product: 'temperature' is in two of its sweeps",
    ),
    'swept and fixed': (
        ('--over', 'temperature=1,2', '--temperature', '3'), 'temperature is swept, and fixed to 3.0: leave out one',
    ),
    'arm': (('--over', 'temperature=1', '--arm', 'kdd'), "unknown arm of 'logits/small' 'kdd'; did you mean 'kd'?"),
    'model': (('--over', 'student=mlp-8,resent8'), 'the point student=resent8: '),
    'seeds': (('--over', 'temperature=1', '--seeds', '0'), '--seeds 0: at least one is needed'),
    'jobs': (('--over', 'temperature=1', '--jobs', '0'), '--jobs 0: at least one trial has to run at a time'),
    'written': (('--use', 'points.py:dep'), "unknown sweep of points.py 'dep'; did you mean 'deep'?"),
    'no name': (('--use', 'points.py'), "--use 'points.py': give FILE.py:NAME, a file that is there and the name"),
    'no file': (('--use', 'gone.py:deep'), "--use 'gone.py:deep': give FILE.py:NAME"),
    'broken file': (('--use', 'broken.py:deep'), 'broken.py cannot be run: ZeroDivisionError'),
    'too many': (
        ('--over', 'temperature=1,2,3,4,5', '--over', 'alpha=1,2,3,4'),
        'the sweep has 20 points, 12 are the most: take fewer values, or --zip some',
    ),
    'no launchers': (
        ('--over', 'temperature=1', '--on', 'slurm'), "sweep from a checkout of kdjax, or here with '--on local'",
    ),
    'launch options': (
        ('--over', 'temperature=1', '--on', 'slurm', '--dry-run', "--launch='--a"),
        "--launch ''--a' cannot be read (No closing quotation): write options as in a shell",
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', BAD)
def test_bad_input_exits_1_and_names_the_remedy(case, sweep, monkeypatch):
    monkeypatch.setattr('kdjax.run.sweeps.handing._checkout', Path)
    monkeypatch.setattr('kdjax.cli.overrides.MOST_POINTS', 12)
    arguments, message = BAD[case]
    code, out, err = sweep(*arguments)
    assert code == 1
    assert out == ''
    assert message in err
    assert 'Traceback' not in err
    assert calls() == []


def test_a_sweep_in_a_group_of_processes(sweep, monkeypatch):
    monkeypatch.setattr('kdjax.run.group.distributed.ranks', lambda: 4)
    code, _, err = sweep('--over', 'temperature=1')
    assert code == 1
    assert 'a sweep is one process, here are 4: start it alone' in err
    assert not Path('runs').exists()


@pytest.mark.parametrize(
    ('said', 'last'),
    [
        ('a line\nkdjax: no arm: give one\n', 'no arm: give one'),
        ('Trace\nRuntimeError: broken\nkdjax: this is a defect of kdjax, not of your input\n', 'RuntimeError: broken'),
        ('launch: no room\n', 'no room'),
        ('\n \n', 'it said nothing'),
    ],
)
def test_last_words(said, last):
    assert trials.last_words(said) == last


def test_the_exit_code_of_the_worst():
    assert [worst(codes) for codes in ((), (0, 1), (1, 70, 0), (70, 2), (1, 137), (2, 75, 1))] == [0, 1, 70, 2, 137, 75]


def test_an_unknown_metric(sweep):
    code, _, err = sweep('--over', 'temperature=1', '--seeds', 1, '--metric', 'acuracy')
    assert code == 1
    assert "unknown metric 'acuracy'; did you mean 'accuracy'? known: accuracy, nll" in err


def test_a_place_that_cannot_be_written(sweep, tmp_path):
    (tmp_path / 'file').write_text('')
    code, _, err = sweep('--over', 'temperature=1', '--out', tmp_path / 'file' / 'sweeps')
    assert code == 1
    assert 'cannot be kept' in err and 'choose another place with --out' in err


@pytest.mark.parametrize(
    ('text', 'message'),
    [('{"version": 99}', 'is a plan of version 99, this kdjax reads version 1'), ('{', 'is not the plan of a sweep')],
)
def test_a_plan_that_cannot_be_read(text, message, capfd, tmp_path):
    file = tmp_path / 'runs' / 'sweeps' / 'old' / 'plan.json'
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(['report']) == 1
    said = capfd.readouterr().err
    assert message in said and "write it anew with 'kdjax sweep'" in said


def test_outcomes_that_cannot_be_read(sweep):
    sweep('--over', 'temperature=1', '--seeds', 1)
    (Path('runs/sweeps') / only_plan().id / 'outcomes.json').write_text('[1]')
    code, _, err = sweep('--over', 'temperature=1', '--seeds', 1)
    assert code == 1
    assert 'outcomes.json cannot be read' in err and 'move it away and sweep again' in err
