"""Claims are read, judged and written down."""

import dataclasses
import json
import math

import optax
import pytest
import tiny

from kdjax import record as records
from kdjax.algorithms import supervised
from kdjax.errors import UserError
from kdjax.experiment import Arm, Claim, Experiment, claim
from kdjax.objectives import hard_labels
from kdjax.record import finite, judge, overall
from kdjax.stage import Compute, Output, graph


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('kd > labels on accuracy', Claim('kd', '>', 'labels', 'accuracy')),
        ('  ps_kd<labels on nll ', Claim('ps_kd', '<', 'labels', 'nll')),
        ('amd > best - 0.005 on accuracy', Claim('amd', '>', 'best', 'accuracy', -0.005)),
        ('a-b > c.d + .5 on peer/ece', Claim('a-b', '>', 'c.d', 'peer/ece', 0.5)),
    ],
)
def test_claims_are_read(text, expected):
    assert claim(text) == expected
    assert claim(str(expected)) == expected


@pytest.mark.parametrize(
    'text', ['', 'kd beats labels', 'kd > labels', 'kd >= labels on nll', 'kd > a > b on nll']
)
def test_a_claim_that_cannot_be_read_shows_the_form(text):
    with pytest.raises(
        UserError, match="cannot be read: write 'LEFT > RIGHT on METRIC', with '<' where less is better"
    ):
        claim(text)


FIVE = [0.80, 0.81, 0.79, 0.80, 0.82]


def shifted(by: float) -> list[float]:
    """Five paired values, better by `by`, with a spread of a thousandth."""
    return [v + by + e for v, e in zip(FIVE, (0.001, -0.001, 0.0005, -0.0005, 0.0), strict=True)]


@pytest.mark.parametrize(
    ('text', 'by', 'verdict'),
    [
        ('a > b on accuracy', 0.02, 'reproduced'),
        ('a > b on accuracy', -0.02, 'contrary'),
        ('a > b on accuracy', 0.0001, 'inconclusive'),
        ('a < b on nll', -0.02, 'reproduced'),
        ('a < b on nll', 0.02, 'contrary'),
        ('a > b - 0.01 on accuracy', -0.005, 'reproduced'),
        ('a > b - 0.01 on accuracy', -0.02, 'contrary'),
        ('a > b + 0.01 on accuracy', 0.005, 'contrary'),
        ('a > b + 0.01 on accuracy', 0.0101, 'inconclusive'),
        ('a < b + 0.01 on nll', 0.005, 'reproduced'),
        ('a < b - 0.01 on nll', -0.005, 'contrary'),
    ],
)
def test_verdicts(text, by, verdict):
    judged = judge(claim(text), shifted(by), FIVE)
    assert judged['verdict'] == verdict
    assert judged['low'] < judged['mean'] < judged['high']
    assert judged['mean'] == pytest.approx(by)
    assert judged['text'] == text


def test_one_seed_is_inconclusive():
    judged = judge(claim('a > b on accuracy'), [0.9], [0.1])
    assert judged['verdict'] == 'inconclusive'
    assert (judged['low'], judged['high']) == (-math.inf, math.inf)


def test_equal_arms_are_inconclusive():
    assert judge(claim('a > b on accuracy'), FIVE, FIVE)['verdict'] == 'inconclusive'


def test_arms_of_different_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match='zip'):
        judge(claim('a > b on accuracy'), FIVE, FIVE[:4])


@pytest.mark.parametrize(
    ('verdicts', 'expected'),
    [
        (['reproduced', 'reproduced'], 'reproduced'),
        (['reproduced', 'inconclusive'], 'inconclusive'),
        (['reproduced', 'contrary'], 'contrary'),
        (['inconclusive', 'contrary'], 'contrary'),
        ([], 'inconclusive'),
    ],
)
def test_the_overall_verdict(verdicts, expected):
    assert overall([{'verdict': v} for v in verdicts]) == expected


def test_json_has_no_nan():
    value = {'a': [1.0, math.nan, {'b': (math.inf, -math.inf, 2)}], 'c': 'NaN', 'd': None}
    assert finite(value) == {'a': [1.0, None, {'b': [None, None, 2]}], 'c': 'NaN', 'd': None}
    assert 'NaN' not in records.dumps({'x': math.nan})


class TestFiles:
    def test_round_trip(self, tmp_path):
        path = tmp_path / 'family' / 'name.json'
        records.save({'version': records.VERSION, 'x': [1.5]}, path)
        assert records.load(path) == {'version': records.VERSION, 'x': [1.5]}
        assert [p.name for p in path.parent.iterdir()] == ['name.json']

    def test_a_write_that_fails_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / 'r.json'
        path.write_text('old')

        def refuse(source, target):
            raise OSError('no')

        monkeypatch.setattr(records.os, 'replace', refuse)
        with pytest.raises(OSError, match='no'):
            records.write_atomically(path, 'new')
        assert path.read_text() == 'old'
        assert [p.name for p in tmp_path.iterdir()] == ['r.json']

    @pytest.mark.parametrize('version', [0, 2, None])
    def test_another_version_names_both_and_the_remedy(self, tmp_path, version):
        path = tmp_path / 'r.json'
        path.write_text(json.dumps({'version': version}))
        with pytest.raises(UserError) as error:
            records.load(path)
        expected = (
            f"is a record of version {version}, this kdjax reads version 1: write it anew with 'kdjax verify'"
        )
        assert str(error.value) == f'{path} {expected}'

    @pytest.mark.parametrize('text', ['', '{"version": 1', '[1]'])
    def test_what_is_no_record(self, tmp_path, text):
        path = tmp_path / 'r.json'
        path.write_text(text)
        with pytest.raises(UserError, match='record'):
            records.load(path)


class TestResolve:
    def test_arms_get_their_names(self):
        arms = tiny.experiment.resolve()
        assert {n: a.stage.name for n, a in arms.items()} == {'labels': 'arm/labels', 'kd': 'arm/kd'}
        assert all(isinstance(a, Arm) for a in arms.values())

    def test_another_configuration_makes_other_arms(self):
        arms = tiny.experiment.resolve(tiny.Settings(steps=3))
        assert arms['kd'].stage.steps == 3

    def test_a_claim_of_an_unknown_arm(self):
        wrong = dataclasses.replace(tiny.experiment, claims=('kdd > labels on accuracy',))
        with pytest.raises(
            UserError, match="unknown arm in the claim 'kdd > labels on accuracy' 'kdd'; did you mean 'kd'"
        ):
            wrong.resolve()

    def test_two_stages_of_one_name(self):
        def arms(settings):
            first, second = tiny.arms(settings), tiny.arms(settings)
            return {'labels': first['labels'], 'kd': second['kd']}

        twice = Experiment(title='', config=tiny.Settings(), arms=arms, claims=())
        with pytest.raises(
            UserError, match="two different stages are called 'teacher': build it once and use it twice"
        ):
            twice.resolve()

    def test_a_shared_stage_that_reads_one_of_a_seed_is_refused(self):
        def arms(settings):
            own = dataclasses.replace(tiny.teacher_stage(settings), shared=False)
            said = Compute(
                name='said', module='tiny', config={}, shared=True, call=tiny.table,
                inputs={'model': own['variables']['student']},
            )  # fmt: skip
            arm = tiny.train(supervised(tiny.mlp(), hard_labels(), optax.sgd(0.1)), reference=Output(said))
            return {'labels': arm, 'kd': arm}

        with pytest.raises(UserError, match=r"'said' is shared by all seeds but reads 'teacher'.*shared=False"):
            dataclasses.replace(tiny.experiment, arms=arms).resolve()

    def test_a_graph_lists_inputs_before_users(self):
        arms = tiny.experiment.resolve()
        assert list(graph(*(a.stage for a in arms.values()))) == ['teacher', 'said', 'arm/labels', 'arm/kd']

    def test_an_output_is_a_path_into_the_arrays(self):
        stage = Compute(name='s', module='tiny', config={}, call=lambda inputs, *, key: {})
        output = stage['a']['b']
        assert (output.stage, output.path) == (stage, ('a', 'b'))
        assert output.of({'a': {'b': 3}}) == 3
