"""Methods at several sizes of sets, rounds instead of sets, and sets without labels."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from abstract_stages import Abstract

from kdjax import data
from kdjax.errors import UserError
from kdjax.stage import graph
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.arms import arms_at
from kdjax.tasks.condensing.datadam import datadam, maps_before_the_last
from kdjax.tasks.condensing.dream import dream, real_images
from kdjax.tasks.condensing.ncfm import ncfm
from kdjax.tasks.condensing.repeated import with_replacement, without_replacement
from kdjax.tasks.condensing.scored import el2n
from kdjax.tasks.readout import Readout, seen
from kdjax.tasks.unlabelled_images import UnlabelledImages

KEY = jax.random.key(0)
SMALL = {
    'dataset': 'blobs', 'student': 'mlp-4', 'teacher': 'mlp-8', 'transfer': (), 'real_batch': 4, 'set_steps': 3,
    'batch': 4, 'steps': 3,
}  # fmt: skip


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(data, 'load', lambda *_, **__: tiny.dataset())
    return CondensedImages(**SMALL)


def test_arms_of_every_size_share_all_that_does_not_depend_on_it(task):
    arms = arms_at(task, (1, 2), 'random', 'dm', rs2=without_replacement, ncfm=ncfm)
    assert set(arms) == {f'{name}_{size}' for name in ('random', 'dm', 'rs2', 'ncfm') for size in (1, 2)}
    stages = graph(*arms.values())
    assert {name for name, found in stages.items() if len(found) > 1} == {'arm'}
    assert {'teacher', 'pretrained', 'dm_1', 'dm_2', 'chosen_random_1', 'chosen_random_2'} <= set(stages)
    assert [arms[f'rs2_{size}'].batch for size in (1, 2)] == [3, 4]
    with pytest.raises(UserError, match="unknown method 'ncmf'"):
        arms_at(task, (1,), 'ncmf')


METHODS = {
    'ncfm': ('mlp-4', functools.partial(ncfm, learned_frequencies=True)),
    'dream': ('mlp-4', dream),
    'datadam': ('resnet8', datadam),
}


@pytest.mark.parametrize('name', METHODS)
def test_a_method_leaves_a_set_of_the_size_that_is_asked(task, name):
    student, make = METHODS[name]
    made = make(dataclasses.replace(task, student=student, per_class=2))
    assert Abstract().read(made.set)['params']['image'].shape == (2, 3, 2, 2, 1)


def test_rounds_train_the_same_students(task):
    arrays, _ = Abstract().train(with_replacement(task.at(2)))
    assert set(arrays['predictions']['test']) == {'student', 'soft', 'label'}


def test_real_images_stand_class_by_class(task):
    stage = real_images(task).stage
    rows = np.asarray(stage.call({}, key=KEY))
    labels = np.asarray(task.data['train'].take(np.arange(24))['label'])
    images = np.asarray(seen(task.data, 'train'))
    for c in range(3):
        np.testing.assert_allclose(rows[:, c], images[labels == c], rtol=1e-6)


def test_attention_needs_maps(task):
    with pytest.raises(UserError, match='has no two feature maps whose attention could be matched'):
        datadam(task)
    resnet = dataclasses.replace(task, student='resnet8').matched()
    assert maps_before_the_last(resnet, task.example()) == ('stage1', 'stage2')


def test_the_hardest_images_are_those_that_networks_are_least_sure_of(task):
    """Three networks that are one and the same, so that their mean is what it says."""
    stage = el2n(task.at(2), networks=3, epochs=6).set.stage
    model = task.matched()
    one = model.init(KEY, task.example())['params']
    buffer = jax.tree.map(lambda p: jnp.broadcast_to(p, (3, 7, *p.shape)), one)
    made = np.asarray(stage.call({'experts': buffer}, key=KEY)['params']['image'])
    images, labels = np.asarray(seen(task.data, 'train')), np.asarray(task.data['train'].take(np.arange(24))['label'])
    said = model.apply({'params': one, 'stats': {}}, jnp.asarray(images), key=KEY, train=False)[0].prediction
    error = np.linalg.norm(np.asarray(jax.nn.softmax(said)) - np.eye(3)[labels], axis=1)
    for c in range(3):
        hardest = np.argsort(-np.where(labels == c, error, -1), kind='stable')[:2]
        np.testing.assert_allclose(made[:, c], images[hardest], rtol=1e-6)


@pytest.fixture
def unlabelled(task):
    del task
    return UnlabelledImages(
        dataset='blobs', student='mlp-4', teacher='mlp-8', norm='none', size=5, real_batch=8, networks=2, age=4,
        labelled=2, draws=3, batch=4, steps=3, set_steps=3,
    )  # fmt: skip


def test_a_set_without_labels_traces_from_pairs_to_a_network(unlabelled):
    abstract = Abstract()
    made = unlabelled.condensed('set', unlabelled.pairs())
    params = abstract.read(made)['params']
    assert (params['image'].shape, params['target'].shape) == ((5, 2, 2, 1), (5, 8))
    wanted = jax.eval_shape(lambda: unlabelled.network().init(KEY, unlabelled.example()))
    for variables in (unlabelled.pretrained('set', made), unlabelled.pretrained_on_all(), unlabelled.untrained()):
        assert jax.tree.map(lambda a: a.shape, abstract.read(variables)) == jax.tree.map(lambda a: a.shape, wanted)
    with pytest.raises(UserError, match="unknown way to choose unlabelled images 'herding'"):
        unlabelled.pairs('herding')


@pytest.mark.parametrize('way', ['random', 'k_means'])
def test_pairs_are_real_images_with_what_the_teacher_says(unlabelled, way):
    model = unlabelled.representation.model
    teacher = model.init(KEY, unlabelled.example())
    made = unlabelled.pairs(way).stage.call({'teacher': teacher}, key=KEY)['params']
    images = np.asarray(seen(unlabelled.data, 'train'))
    rows = [np.flatnonzero((images == x).all((1, 2, 3)))[0] for x in np.asarray(made['image'])]
    assert len(set(rows)) == 5
    said = model.apply(teacher, jnp.asarray(images[np.array(rows)]), key=KEY, train=False)[0].taps['pooled']
    np.testing.assert_allclose(made['target'], said, rtol=1e-5)


def test_a_readout_of_the_teacher_itself_leaves_nothing_unexplained(unlabelled):
    model = unlabelled.representation.model
    variables = model.init(KEY, unlabelled.example())

    def itself(variables, inputs, *, key, train):
        said, after = model.apply(variables, inputs, key=key, train=train)
        return dataclasses.replace(said, prediction=said.taps['pooled']), after

    network = dataclasses.replace(model, apply=itself)
    read = Readout(unlabelled.data, network, model, labelled=2, draws=3)
    _, said = read({'network': variables, 'teacher': variables}, key=KEY)
    assert set(said['metrics']) == {'validation', 'test'}
    for metrics in said['metrics'].values():
        assert metrics['unexplained'] == 0.0
        assert 0 <= metrics['accuracy'] <= 1 and metrics['all/accuracy'] >= 0.5
