"""Sets from noise to a measured arm: every stage traces, and each baseline is what it says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from abstract_stages import Abstract

from kdjax import data
from kdjax.algorithms.condensation import matching
from kdjax.algorithms.condensation.experts import check_experts
from kdjax.algorithms.condensation.sets import started
from kdjax.data.augment import prepare
from kdjax.data.condensed import save_condensed
from kdjax.errors import UserError
from kdjax.objectives import term
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.stage import graph
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.experts import experts
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.methods import METHODS, method
from kdjax.tasks.condensing.selected import chosen
from kdjax.tasks.condensing.stored import plain, stored

SMALL = {
    'dataset': 'blobs', 'student': 'mlp-8', 'teacher': 'mlp-16', 'transfer': ('vit-8-1-p1-h2',), 'per_class': 2,
    'real_batch': 4, 'set_steps': 3, 'batch': 4, 'steps': 3,
}  # fmt: skip


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(data, 'load', lambda *_, **__: tiny.dataset())
    return CondensedImages(**SMALL)


def test_an_arm_traces_from_real_images_to_students_of_every_kind(task):
    arrays, metrics = Abstract().train(task.measured(METHODS['dm'](task)))
    predictions = arrays['predictions']['test']
    assert set(predictions) == {'student', 'soft', 'vit', 'label'}
    assert {predictions[n].shape for n in ('student', 'soft', 'vit')} == {(12, 3)}
    assert {m.shape for m in metrics.values()} == {()}


@pytest.mark.parametrize('name', ['graph_cut', 'dc', 'dsa', 'dm'])
def test_a_method_makes_a_set_of_the_size_that_is_asked(task, name):
    made = METHODS[name](task)
    wanted = jax.eval_shape(lambda: task.set_model(**made.learned).init(jax.random.key(0), None))
    assert jax.tree.map(lambda a: a.shape, Abstract().read(made.set)) == jax.tree.map(lambda a: a.shape, wanted)


def test_sets_with_labels_of_their_own_have_one_student_more(task):
    made = Made(chosen(task, soft_labels=True, rate=0.1), soft_labels=True, rate=0.1)
    arrays, _ = Abstract().train(task.measured(made))
    assert set(arrays['predictions']['test']) == {'student', 'soft', 'own', 'vit', 'label'}


@pytest.mark.parametrize('soft, size', [(False, 4 * 6 * (4 + 1)), (True, 4 * 6 * (4 + 1 + 3))])
def test_stored_bytes_count_labels(task, soft, size):
    (fact,) = task.measured(Made(chosen(task, soft_labels=soft), soft_labels=soft)).facts.values()
    assert fact.of(fact.stage.call({}, key=jax.random.key(0))) == size


def test_sizes_of_one_task_share_all_other_stages(task):
    one, two = task.at(1), task.at(2)
    arms = [sized.measured(METHODS[name](sized)) for name in ('random', 'dm') for sized in (one, two)]
    stages = graph(*(dataclasses.replace(arm, name=f'arm/{i}') for i, arm in enumerate(arms)))
    assert all(len(found) == 1 for found in stages.values())
    assert {'chosen_random_1', 'chosen_random_2', 'dm_1', 'dm_2', 'teacher'} <= set(stages)
    assert experts(one, count=2).stage is experts(two, count=2).stage is not experts(two, count=3).stage


def test_experts_are_of_the_network_that_is_matched_through(task):
    found = Abstract().read(experts(task, count=2, epochs=3, expert_batch=8))
    check_experts(found, task.matched(), (2, 2, 1))
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(found)} == {(2, 4)}


def test_real_images_train_the_same_students(task):
    arrays, _ = Abstract().train(task.on_real_images())
    assert set(arrays['predictions']['test']) == {'student', 'soft', 'vit', 'label'}


def test_costs_of_measuring_are_equal_whatever_is_learned_from(task):
    chosen, real = task.measured(METHODS['random'](task)).cost(), task.on_real_images().cost()
    assert chosen == real
    assert chosen['student_flops'] > 0 and chosen['teacher_flops'] > 0


@pytest.mark.parametrize('way', ['random', 'k_means', 'herding', 'k_center', 'graph_cut'])
def test_chosen_images_are_of_their_classes_and_of_the_training_split(task, way):
    stage = chosen(task, way).stage
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
    call = chosen(task).stage.call
    one, other = (np.asarray(call({}, key=jax.random.key(s))['params']['image']) for s in (0, 1))
    assert not np.array_equal(one, other)


def test_crops_move_images_and_black_comes_in(task):
    black = (0 - np.asarray(task.data.mean)) / np.asarray(task.data.std)
    images = jnp.full((16, 2, 2, 1), float(black[0]))
    moved = jax.jit(functools.partial(task.shifted, key=jax.random.key(0)))(images)
    np.testing.assert_allclose(moved, images, atol=1e-5)


def test_what_cannot_be_condensed(task):
    with pytest.raises(UserError, match="unknown way to choose images 'kmeans'; did you mean 'k_means'"):
        chosen(task, 'kmeans')
    with pytest.raises(UserError, match="unknown method 'k_mean'; did you mean 'k_means'"):
        method('k_mean')
    with pytest.raises(UserError, match='class 0 has 8 examples, and 9 for each class are wanted'):
        chosen(task.at(9))
    with pytest.raises(UserError, match='architectures need different first words'):
        dataclasses.replace(task, transfer=('mlp-8', 'mlp-4')).on_real_images()


def test_a_set_that_was_written_is_the_set_that_is_measured(task, tmp_path):
    variables = started(jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 1)), soft_labels=True, rate=0.1)
    made = Made(chosen(task, soft_labels=True, rate=0.1), soft_labels=True, rate=0.1)
    written = plain(task, made, variables, {'method': 'random', 'seed': 0})
    assert written.label.tolist() == [0, 1, 2, 0, 1, 2]
    save_condensed(tmp_path / 'set.npz', written)
    sized, again = stored(dataclasses.replace(task, per_class=5), tmp_path / 'set.npz')
    assert sized.per_class == 2 and again.soft_labels and again.rate == pytest.approx(0.1)
    found = again.set.stage.call({}, key=jax.random.key(0))
    np.testing.assert_allclose(found['params']['image'], variables['params']['image'], atol=1e-5)
    labels = [jax.nn.softmax(v['params']['label_logits']) for v in (found, variables)]
    np.testing.assert_allclose(*labels, atol=1e-6)


@pytest.mark.slow
def test_an_arm_runs_and_a_matched_set_teaches(task, tmp_path):
    """On blobs: from noise to students that are right of most test images, and the set is kept as an artifact."""
    small = dataclasses.replace(
        task,
        set_steps=60,
        steps=60,
        learning_rate=0.02,
        teacher_steps=60,
        teacher_learning_rate=0.02,
        crop_padding=0,
        teacher_crop_padding=0,
    )  # images of two pixels a side lose half of themselves in a crop
    objective = term(matching.mean_embedding, 'synthetic', 'batch.image', 'network', model=small.matched())
    made = Made(small.condense('from_noise', objective, {'network': small.fresh_networks()}, optimizer=optax.adam(0.1)))
    executor = Executor(Store(tmp_path), module='tiny')
    with jax.numpy_dtype_promotion('standard'):
        arm = executor.run(small.measured(made), 0)
        kept = made.set.of(executor.run(made.set.stage, 0).arrays)
    assert np.shape(kept['params']['image']) == (2, 3, 2, 2, 1)
    metrics = arm.info['metrics']['test']
    assert metrics['accuracy'] > 0.6 and metrics['soft/accuracy'] > 0.6 and metrics['stored_bytes'] == 120
    assert arm.info['cost']['student_flops'] > 0
