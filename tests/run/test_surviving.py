"""A verification outlives an arm that diverges: what the record then says, and what it means for claims."""

import dataclasses
import io
import json
import re

import numpy as np
import optax
import pytest
import tiny
from rich.console import Console

from kdjax import record as records
from kdjax.algorithms import supervised
from kdjax.cli.verdicts import table
from kdjax.cli.verifying import show
from kdjax.data.condensed import PROVENANCE, CondensedSet
from kdjax.errors import UserError
from kdjax.experiment import Experiment, claim
from kdjax.metrics.classification import log_probabilities
from kdjax.metrics.feature_sets import as_features
from kdjax.metrics.paired import mean_interval
from kdjax.objectives import hard_labels
from kdjax.report.site import write_site
from kdjax.run import pictures
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.surviving import SAID, StageDiverged, Surviving, own_stages
from kdjax.run.verdict import judged
from kdjax.run.verify import Verification, verify
from kdjax.stage import Artifact, Compute

EXPLODING = supervised(tiny.mlp(), hard_labels(), optax.chain(optax.sgd(1e30), optax.scale(1e30)))
WHY = r"^step 1: 'student/.*' is (nan|inf); first bad leaf: .*Nothing of this step or later was saved$"


def drawn(seeds):
    """An arm whose metric is 1, but where it diverges: at `seeds`."""

    def call(inputs, *, key):
        looked.append(1)
        if len(looked) - 1 in seeds:
            as_features(np.full((3, 1), np.nan), called='generated')
        return {}, {'metrics': {split: {'kl': 1.0, 'modes': 8.0} for split in ('validation', 'test')}}

    looked: list[int] = []
    return Compute(name='arm', module='tiny', config={'seeds': seeds}, call=call, data=tiny.dataset())


def verified(store, arms, *claims, seeds=5, **given):
    experiment = Experiment('T', tiny.Settings(), lambda settings: arms, claims, seeds=seeds)
    return verify(Verification('tests/tiny', 'tiny', experiment, tiny.Settings(), seeds), store=store, **given)


@pytest.fixture(scope='module')
def exploded(tmp_path_factory):
    """(record, what was said): an arm of a rate at which it diverges at every seed, beside one that does not."""
    said: list[str] = []
    store = Store(tmp_path_factory.mktemp('store'))
    arms = {'kd': tiny.train(EXPLODING), 'labels': drawn(())}
    return verified(store, arms, 'kd < labels on kl', 'labels < kd on kl', seeds=2, say=said.append), said


def test_the_record_says_at_which_seeds_and_why_and_the_others_go_on(exploded):
    record, said = exploded
    kd, labels = record['arms']['kd'], record['arms']['labels']
    assert set(kd['diverged']) == {'0', '1'} and 'diverged' not in labels
    assert all(re.search(WHY, why) for why in kd['diverged'].values())
    assert kd['metrics'] == {'kl': [None, None], 'modes': [None, None]}
    assert labels['metrics'] == {'kl': [1.0, 1.0], 'modes': [8.0, 8.0]}
    assert (kd['cost'], kd['state_sha256'], kd['curves']) == ({}, [], {'step': []})
    assert [line for line in said if 'diverged' in line] == [
        f'arm/kd, seed {seed} diverged: {why}' for seed, why in kd['diverged'].items()
    ]
    assert json.loads(records.dumps(record))['arms']['kd']['diverged'] == kd['diverged']


def test_a_claim_on_an_arm_that_diverged_is_contrary_and_one_against_it_says_nothing(exploded):
    ours, theirs = exploded[0]['claims']
    assert (ours['verdict'], ours['text']) == ('contrary', 'kd < labels on kl (kd diverged at 2 of 2 seeds)')
    assert (theirs['verdict'], theirs['mean'], theirs['differences']) == ('inconclusive', None, [None] * 2)
    assert theirs['text'] == 'labels < kd on kl (on 0 of 2 seeds: kd diverged)'
    assert exploded[0]['verdict'] == 'contrary'


def test_table_page_and_verdicts_are_written_without_the_numbers(exploded, tmp_path):
    told, record = io.StringIO(), json.loads(records.dumps(exploded[0] | {'seconds': 1.0}))
    show(record, Console(file=told, width=300))
    assert "diverged: kd, seed 1: step 1: 'student/" in told.getvalue()
    assert '2 of 2 diverged' in told.getvalue()
    assert '| kd < labels on kl (kd diverged at 2 of 2 seeds) | – [–, –] | contrary |' in table([record])
    write_site([record | {'systems': []}], tmp_path, experiments={})
    page = (tmp_path / 'experiments' / 'tests' / 'tiny.html').read_text()
    assert 'id="diverged"' in page and 'first bad leaf' in page


def test_seeds_that_are_left_are_judged_and_a_metric_alone_may_be_what_diverged(tmp_path):
    """The second arm diverges where it is measured, at seeds 1 and 3; the claim stands on three."""
    arms = {'good': drawn(()), 'bad': drawn((1, 3))}
    record = verified(Store(tmp_path), arms, 'good > bad - 1 on kl', 'bad < good + 1 on kl')
    bad = record['arms']['bad']
    assert bad['metrics'] == {'kl': [1.0, None, 1.0, None, 1.0], 'modes': [8.0, None, 8.0, None, 8.0]}
    assert set(bad['diverged']) == {'1', '3'}
    assert bad['diverged']['1'].startswith('when it was measured: generated: example 0 is not finite')
    good, contrary = record['claims']
    assert (good['verdict'], good['differences']) == ('reproduced', [0.0, None, 0.0, None, 0.0])
    assert good['text'] == 'good > bad - 1 on kl (on 3 of 5 seeds: bad diverged)'
    assert contrary['verdict'] == 'contrary'


def test_seeds_of_a_group_are_tried_one_by_one(tmp_path, monkeypatch):
    asked, stage = [], drawn(())

    def run_all(self, stage, seeds):
        asked.append(list(seeds))
        if 1 in seeds:
            raise StageDiverged(stage, 'step 7')
        return [Artifact({}, {'seed': seed}) for seed in seeds]

    monkeypatch.setattr(Executor, 'run_all', run_all)
    made, lost = Surviving(Store(tmp_path), module='tiny').attempt(stage, [0, 1, 2], own={'arm'})
    assert asked == [[0, 1, 2], [0], [1], [2]]
    assert ({seed: a.info['seed'] for seed, a in made.items()}, lost) == ({0: 0, 2: 2}, {1: 'step 7'})


@pytest.mark.slow
def test_seeds_that_were_trained_together_are_made_anew_without_the_one_that_diverged(tmp_path):
    flags = []

    def measure(said, reference):
        """Two curves, then two seeds alone, of which the second cannot be measured again."""
        flags.append(1)
        if len(flags) in (2, 6):
            log_probabilities(np.full((1, 3), np.nan))
        return {'kl': 1.0}

    stage = dataclasses.replace(tiny.train(supervised(tiny.mlp(), hard_labels(), optax.sgd(0.1))), measure=measure)
    experiment = Experiment('T', tiny.Settings(), lambda _: {'a': stage, 'b': drawn(())}, ('a > b on kl',), seeds=2)
    asked = Verification('tests/tiny', 'tiny', experiment, tiny.Settings(), 2, seeds_at_once=2)
    record = verify(asked, store=Store(tmp_path))
    assert record['arms']['a']['metrics']['kl'] == [1.0, None]
    assert set(record['arms']['a']['diverged']) == {'1'}


def test_what_several_arms_read_may_not_diverge(tmp_path):
    student = dataclasses.replace(tiny.train(EXPLODING), name='student')

    def size(power):
        metrics = {split: {'size': 1.0} for split in ('validation', 'test')}
        return Compute(
            name='arm', module='tiny', config={'power': power}, call=lambda inputs, *, key: ({}, {'metrics': metrics}),
            inputs={'student': student['variables']['student']}, data=student.data,
        )  # fmt: skip

    with pytest.raises(UserError, match=r"stage 'student' diverged, and it is not one arm's alone: step 1"):
        verified(Store(tmp_path), {'one': size(1), 'two': size(2)}, 'one > two on size', seeds=1)
    record = verified(Store(tmp_path), {'one': size(1), 'two': drawn(())}, 'one > two on kl', seeds=1)
    assert record['arms']['one']['diverged']['0'].startswith("stage 'student': step 1")


def test_stages_of_an_arm_alone_are_neither_shared_nor_read_by_others():
    kd = tiny.arms(tiny.Settings())['kd']
    first = dataclasses.replace(kd, name='first')
    second = dataclasses.replace(kd, inputs={**kd.inputs, 'start': first['variables']})
    arms = Experiment('', tiny.Settings(), lambda _: {'kd': kd, 'longer': second}, ()).resolve()
    assert own_stages(arms) == {'kd': {'arm/kd'}, 'longer': {'arm/longer', 'first'}}


@pytest.mark.parametrize(
    ('left', 'right', 'verdict', 'text', 'mean'),
    [
        ([1.0, 1.1, 1.2], [0.0, 0.0, 0.0], 'reproduced', 'a > b on kl', 1.1),
        ([1.0, 1.1, None, 1.2], [0.0] * 4, 'contrary', 'a > b on kl (a diverged at 1 of 4 seeds)', 1.1),
        ([1.0, 1.1, 9.0, 1.2], [0.0, 0.0, None, 0.0], 'reproduced', 'a > b on kl (on 3 of 4 seeds: b diverged)', 1.1),
        ([1.0, 1.1, 9.0], [0.0, 0.0, np.nan], 'inconclusive', 'a > b on kl (on 2 of 3 seeds: b diverged)', 1.05),
        ([0.0, np.inf, 0.0, 0.0], [None, None, 0.0, 0.0], 'contrary', 'a > b on kl (a diverged at 1 of 4 seeds)', 0.0),
        ([None], [None], 'contrary', 'a > b on kl (a diverged at 1 of 1 seeds)', None),
    ],
)
def test_the_rule_where_numbers_are_missing(left, right, verdict, text, mean):
    found = judged(claim('a > b on kl'), left, right)
    assert (found['verdict'], found['text']) == (verdict, text)
    assert found['mean'] == (None if mean is None else pytest.approx(mean))
    assert len(found['differences']) == len(left)


def test_without_missing_numbers_it_is_the_verdict_of_the_record():
    c, left, right = claim('a < b + 0.5 on kl'), [1.0, 1.1], [0.7, 0.9]
    assert judged(c, left, right) == records.judge(c, left, right)


@pytest.mark.parametrize(
    'check',
    [
        lambda: log_probabilities(np.full((1, 3), np.nan)),
        lambda: as_features(np.full((3, 1), np.inf), called='generated'),
        lambda: mean_interval([np.nan]),
        lambda: CondensedSet(
            np.full((1, 2, 2, 1), np.nan), np.zeros(1, np.int32), (0.0,), (1.0,), dict.fromkeys(PROVENANCE)
        ),
    ],
)
def test_every_check_of_what_was_trained_is_known_as_one(check):
    with pytest.raises(UserError) as error:
        check()
    assert SAID.search(str(error.value))


def test_an_error_of_the_pictures_does_not_cost_the_record(tmp_path, monkeypatch):
    def keep(record, task, arms, executor):
        error = ValueError('a picture of three axes')
        error.add_note("arm 'good'")
        raise error

    monkeypatch.setattr(pictures, 'keep', keep)
    said: list[str] = []
    record = verified(Store(tmp_path), {'good': drawn(()), 'b': drawn(())}, 'good > b on kl', seeds=1, say=said.append)
    assert record['claims'][0]['verdict'] == 'inconclusive'
    assert said[-1] == "no samples are kept for the report (arm 'good'): ValueError: a picture of three axes"
