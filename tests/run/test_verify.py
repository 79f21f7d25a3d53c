"""Stages run once, seeds are paired, and the record says all of it."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
import tiny

from kdjax import record as records
from kdjax.algorithms import Player, play, supervised
from kdjax.errors import UserError
from kdjax.objectives import hard_labels
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.verify import Verification, verify
from kdjax.stage import Compute

KEYS = {
    'version',
    'experiment',
    'title',
    'systems',
    'config',
    'dataset',
    'split',
    'seeds',
    'arms',
    'claims',
    'verdict',
    'disagreements',
    'identity',
    'seconds',
}


def asked(**given) -> Verification:
    fields = {
        'name': 'tests/tiny',
        'module': 'tiny',
        'experiment': tiny.experiment,
        'config': tiny.Settings(),
        'seeds': 2,
    }
    return Verification(**(fields | given))


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp('store'))


@pytest.fixture(scope='module')
def verified(store):
    """The record, and what was said while it was made."""
    said: list[str] = []
    with jax.numpy_dtype_promotion('standard'):
        return verify(asked(), store=store, say=said.append), said


def test_what_is_shared_runs_once_and_the_rest_once_per_seed(verified):
    _, said = verified
    assert sorted(said) == [
        'computing said',
        'training arm/kd, seed 0: 6 steps',
        'training arm/kd, seed 1: 6 steps',
        'training arm/labels, seed 0: 6 steps',
        'training arm/labels, seed 1: 6 steps',
        'training teacher, seed 0: 20 steps',
    ]


def test_a_second_verification_trains_nothing(verified, store):
    said: list[str] = []
    again = verify(asked(), store=store, say=said.append)
    assert said == []
    assert records.dumps(again | {'seconds': 0}) == records.dumps(verified[0] | {'seconds': 0})


def test_one_more_seed_trains_one_more_of_each_arm(verified, store):
    said: list[str] = []
    verify(asked(seeds=3), store=store, say=said.append)
    assert said == ['training arm/labels, seed 2: 6 steps', 'training arm/kd, seed 2: 6 steps']


def test_the_record_has_every_key(verified):
    record, _ = verified
    assert set(record) == KEYS
    assert record['version'] == records.VERSION
    assert (record['experiment'], record['dataset'], record['split'], record['seeds']) == (
        'tests/tiny',
        'blobs',
        'test',
        [0, 1],
    )
    assert record['config'] == {'steps': 6, 'learning_rate': 0.1, 'temperature': 2.0}
    assert set(record['identity']) == {'code', 'config', 'data', 'versions', 'device', 'layout', 'execution'}
    for arm in record['arms'].values():
        assert set(arm) == {'description', 'metrics', 'curves', 'calibration', 'cost', 'state_sha256'}
        assert {len(values) for values in arm['metrics'].values()} == {2}
        assert {'accuracy', 'nll', 'ece', 'agreement', 'kl_to_teacher'} <= set(arm['metrics'])
        assert arm['curves']['step'] == [6]
        assert {'seconds', 'peak_memory_bytes', 'parameters'} <= set(arm['cost'])
        assert len(set(arm['state_sha256'])) == 2
        assert sum(arm['calibration']['count']) == 24


def test_the_record_survives_json(verified, tmp_path):
    record, _ = verified
    records.save(record, tmp_path / 'r.json')
    assert records.load(tmp_path / 'r.json') == json.loads(records.dumps(record))


def test_claims_are_judged_on_paired_differences(verified):
    record, _ = verified
    (claim,) = record['claims']
    kd, labels = (record['arms'][name]['metrics']['accuracy'] for name in ('kd', 'labels'))
    assert claim['differences'] == [a - b for a, b in zip(kd, labels, strict=True)]
    assert record['verdict'] == claim['verdict']


def test_disagreements_are_real(verified, store):
    record, _ = verified
    executor = Executor(store, module='tiny')
    stage = tiny.experiment.resolve()['kd'].stage
    teacher = np.asarray(executor.reference(stage, 0)['test']).argmax(-1)
    labels = tiny.dataset()['test']['label']
    for row in record['disagreements']:
        assert row['teacher'] == teacher[row['index']]
        assert row['label'] == labels[row['index']]
        assert any(said != row['teacher'] for said in row['students'].values())


def test_the_first_seed_shifts_every_seed_and_the_teacher(store):
    said: list[str] = []
    shifted = verify(asked(first_seed=7, seeds=1), store=store, say=said.append)
    assert shifted['seeds'] == [7]
    assert sum('training teacher' in line for line in said) == 1
    assert shifted['claims'][0]['verdict'] == 'inconclusive', 'one seed says nothing'
    assert json.loads(records.dumps(shifted))['claims'][0]['low'] is None


def test_arms_of_one_seed_start_alike_and_other_stages_draw_their_own(store):
    executor = Executor(store, module='tiny', base_seed=3)
    arms = tiny.experiment.resolve()
    kd = arms['kd'].stage
    assert executor._seed(kd, 4) == executor._seed(arms['labels'].stage, 4) == 4
    teacher = kd.reference.stage.inputs['model'].stage
    assert executor._seed(teacher, 4) == executor._seed(teacher, 5) != 4
    own = dataclasses.replace(teacher, shared=False)
    assert executor._seed(own, 4) != executor._seed(own, 5)


def test_a_stage_between_reads_its_references_and_facts_at_the_seed_of_the_arm(store):
    """A stage draws its own randomness, but what it reads of others belongs to the seed that asked."""
    asked_for = []

    def scores(inputs, *, key):
        asked_for.append(key)
        return {
            'logits': {split: np.zeros((12, 3), np.float32) for split in ('validation', 'test')},
            'best': {'validation': np.float32(2.0), 'test': np.float32(3.0)},
        }

    scored = Compute(name='scores', module='tiny', config={}, call=scores)
    algorithm = supervised(tiny.mlp(), hard_labels(), optax.sgd(0.1))
    between = tiny.train(
        algorithm, name='between', steps=1, reference=scored['logits'], facts={'scale': scored['best']}
    )
    said: list[str] = []
    artifact = Executor(store, module='tiny', say=said.append).run(between, 4)
    assert len(asked_for) == 1
    assert said == ['training between, seed 4: 1 steps', 'computing scores']
    assert artifact.info['metrics']['test']['scale'] == 3.0
    assert artifact.info['metrics']['validation']['scale'] == 2.0


def test_one_program_serves_all_seeds(store):
    executor = Executor(store, module='tiny')
    stage = tiny.experiment.resolve()['kd'].stage
    assert executor.program(stage) is executor.program(stage)
    assert executor.program(tiny.experiment.resolve()['labels'].stage) is not executor.program(stage)


def test_a_metric_that_does_not_exist_is_named(store):
    experiment = dataclasses.replace(tiny.experiment, claims=('kd > labels on acuracy',))
    with pytest.raises(UserError, match="unknown metric of arm 'kd' 'acuracy'; did you mean 'accuracy'"):
        verify(asked(experiment=experiment), store=store)


def test_an_arm_that_diverges_leaves_the_others_and_nothing_of_its_own(verified, store):
    def arms(settings):
        exploding = optax.chain(optax.sgd(1e30), optax.scale(1e30))
        return {
            'labels': tiny.arms(settings)['labels'],
            'kd': tiny.train(supervised(tiny.mlp(), hard_labels(), exploding)),
        }

    kept, said = sorted(store.root.iterdir()), []
    experiment = dataclasses.replace(tiny.experiment, arms=arms)
    record = verify(asked(experiment=experiment), store=store, say=said.append)
    assert record['arms']['kd']['diverged'].keys() == {'0', '1'}
    assert record['arms']['kd']['metrics']['accuracy'] == [None, None]
    assert records.finite(record['arms']['labels']) == records.finite(verified[0]['arms']['labels'])
    assert record['disagreements'] and all(set(row['students']) == {'labels'} for row in record['disagreements'])
    assert sorted(store.root.iterdir()) == kept
    assert len([line for line in said if 'training arm/kd' in line]) == 2


def test_an_error_that_is_none_of_numbers_ends_a_verification(store):
    def wrong(inputs, *, key):
        raise UserError('there is no such table')

    experiment = dataclasses.replace(
        tiny.experiment,
        arms=lambda settings: {
            'kd': Compute(name='arm', module='tiny', config={'wrong': 1}, call=wrong, data=tiny.dataset()),
            'labels': tiny.arms(settings)['labels'],
        },
    )
    with pytest.raises(UserError, match=r'^there is no such table$'):
        verify(asked(experiment=experiment), store=store)


def test_an_arm_may_end_in_a_computation_that_leaves_metrics(store):
    """Its cost is that of what was trained on the way; there are no curves and no predictions to calibrate."""

    def arms(settings):
        student = dataclasses.replace(tiny.arms(settings)['kd'], name='student')

        def size(power):
            def measured(inputs, *, key):
                norm = sum(float(np.sum(np.abs(w) ** power)) for w in jax.tree.leaves(inputs['student']))
                return {}, {'metrics': {split: {'size': norm} for split in ('validation', 'test')}}

            return measured

        read = {'student': student['variables']['student']}
        return {
            f'power{n}': Compute(
                name='arm', module='tiny', config={'power': n}, inputs=read, call=size(n), data=student.data
            )
            for n in (1, 2)
        }

    experiment = dataclasses.replace(tiny.experiment, arms=arms, claims=('power1 > power2 on size',))
    record = verify(asked(experiment=experiment), store=store)
    one, two = record['arms'].values()
    assert set(one['metrics']) == {'size'} and one['metrics']['size'] != two['metrics']['size']
    assert one['curves'] == {'step': []} and one['calibration']['count'] == [] == one['state_sha256']
    assert one['cost']['student_flops'] == tiny.cost()['student_flops'] and one['cost']['seconds'] > 0
    assert record['dataset'] == 'blobs' and record['disagreements'] == []


def test_what_predicts_neither_classes_nor_tokens_has_no_calibration(store):
    def arms(settings):
        player = Player(tiny.mlp(), hard_labels(), optax.sgd(0.5))
        drawn = play({'student': player}, evaluates=lambda view: {'picture': view['student'][:, None]})
        measure = lambda said, reference: {'size': float(np.abs(said['picture']).sum())}  # noqa: E731
        return {f'rate{r}': dataclasses.replace(tiny.train(drawn, steps=r), measure=measure) for r in (1, 2)}

    experiment = dataclasses.replace(tiny.experiment, arms=arms, claims=('rate1 > rate2 on size',))
    record = verify(asked(experiment=experiment), store=store)
    assert [arm['calibration']['count'] for arm in record['arms'].values()] == [[], []]


def test_a_computation_without_metrics_is_no_arm(store):
    silent = Compute(name='arm', module='tiny', config={}, call=lambda inputs, *, key: {}, data=tiny.dataset())
    experiment = dataclasses.replace(tiny.experiment, arms=lambda _: {'kd': silent, 'labels': silent})
    with pytest.raises(UserError, match="'arm/kd' measures nothing"):
        verify(asked(experiment=experiment), store=store)
