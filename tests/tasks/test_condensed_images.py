"""Sets from noise to a measured arm: every stage traces, and each baseline is what it says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from abstract_stages import Abstract

from kdjax import data
from kdjax.algorithms.condensation import matching
from kdjax.algorithms.condensation.experts import check_experts
from kdjax.data.augment import prepare
from kdjax.errors import UserError
from kdjax.objectives import term
from kdjax.stage import graph
from kdjax.tasks.condensed_images import CondensedImages

SMALL = {
    'dataset': 'blobs', 'student': 'mlp-8', 'teacher': 'mlp-16', 'transfer': ('vit-8-1-p1-h2',), 'per_class': 2,
    'real_batch': 4, 'set_steps': 3, 'batch': 4, 'steps': 3,
}  # fmt: skip


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(data, 'load', lambda *_, **__: tiny.dataset())
    return CondensedImages(**SMALL)


def mean_matched(task, **options):
    objective = term(matching.mean_embedding, 'synthetic', 'batch.image', 'network', model=task.matched())
    return task.condense('dm_set', objective, {'network': task.fresh_networks()}, **options)


def test_an_arm_traces_from_real_images_to_students_of_every_kind(task):
    abstract = Abstract()
    made = mean_matched(task, start=task.chosen('random'), passes=4)
    arrays, metrics = abstract.train(task.measured(made))
    predictions = arrays['predictions']['test']
    assert set(predictions) == {'student', 'soft', 'vit', 'label'}
    assert {predictions[n].shape for n in ('student', 'soft', 'vit')} == {(12, 3)}
    assert {m.shape for m in metrics.values()} == {()}
    assert abstract.read(made)['params']['image'].shape == (2, 3, 2, 2, 1)


def test_sets_with_labels_of_their_own_have_one_student_more(task):
    made = mean_matched(task, soft_labels=True, rate=0.1)
    arrays, _ = Abstract().train(task.measured(made, soft_labels=True, rate=0.1))
    assert set(arrays['predictions']['test']) == {'student', 'soft', 'own', 'vit', 'label'}


def test_experts_are_of_the_network_that_is_matched_through(task):
    found = Abstract().read(task.experts(count=2, epochs=3, expert_batch=8))
    check_experts(found, task.matched(), (2, 2, 1))
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(found)} == {(2, 4)}


def test_real_images_train_the_same_students(task):
    arrays, _ = Abstract().train(task.on_real_images())
    assert set(arrays['predictions']['test']) == {'student', 'soft', 'vit', 'label'}


def test_costs_of_measuring_are_equal_whatever_is_learned_from(task):
    chosen, real = task.measured(task.chosen('random')).cost(), task.on_real_images().cost()
    assert chosen == real
    assert chosen['student_flops'] > 0 and chosen['teacher_flops'] > 0


def test_every_stage_of_an_arm_has_its_own_name(task):
    made = mean_matched(task, start=task.chosen('k_means'))
    stages = graph(task.measured(made))
    assert set(stages) == {'chosen_k_means', 'dm_set', 'teacher', 'teacher_predictions', 'arm'}
    assert all(len(found) == 1 for found in stages.values())


@pytest.mark.parametrize('way', ['random', 'k_means', 'herding', 'k_center', 'graph_cut'])
def test_chosen_images_are_of_their_classes_and_of_the_training_split(task, way):
    stage = task.chosen(way).stage
    found = np.asarray(stage.call({}, key=jax.random.key(1))['params']['image'])
    again = np.asarray(stage.call({}, key=jax.random.key(1))['params']['image'])
    np.testing.assert_array_equal(found, again)
    train = task.data['train']
    seen = np.asarray(prepare(jnp.asarray(train['image']), mean=task.data.mean, std=task.data.std))
    for i in range(2):
        for c in range(3):
            matches = np.flatnonzero((seen == found[i, c]).all((1, 2, 3)))
            assert len(matches) == 1 and train['label'][matches[0]] == c
    shapes = jax.tree.map(lambda a: a.shape, stage.shapes({}))
    assert shapes['params']['image'] == found.shape


def test_other_seeds_choose_other_images(task):
    call = task.chosen('random').stage.call
    one, other = (np.asarray(call({}, key=jax.random.key(s))['params']['image']) for s in (0, 1))
    assert not np.array_equal(one, other)


def test_crops_move_images_and_black_comes_in(task):
    black = (0 - np.asarray(task.data.mean)) / np.asarray(task.data.std)
    images = jnp.full((16, 2, 2, 1), float(black[0]))
    moved = jax.jit(functools.partial(task._crop, key=jax.random.key(0)))(images)
    np.testing.assert_allclose(moved, images, atol=1e-5)


def test_what_cannot_be_condensed(task):
    with pytest.raises(UserError, match="unknown way to choose images 'kmeans'; did you mean 'k_means'"):
        task.chosen('kmeans')
    with pytest.raises(UserError, match='class 0 has 8 examples, and 9 for each class are wanted'):
        dataclasses.replace(task, per_class=9).chosen('random')
    with pytest.raises(UserError, match='architectures need different first words'):
        dataclasses.replace(task, transfer=('mlp-8', 'mlp-4')).on_real_images()
