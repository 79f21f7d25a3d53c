"""Methods along experts, out of networks and from crops: every stage traces, and what host code chooses is right."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from abstract_stages import Abstract

from kdjax import data
from kdjax.algorithms.condensation import experts
from kdjax.algorithms.condensation.recovery import recovery
from kdjax.errors import UserError
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing import all_images, cropped, fyi, recovered, trajectories, understood

TINY = {
    'dataset': 'blobs', 'student': 'mlp-4', 'teacher': 'convnet-4-1', 'transfer': ('vit-8-1-p1-h2',), 'per_class': 2,
    'real_batch': 4, 'set_steps': 3, 'batch': 4, 'steps': 3,
}  # fmt: skip
SHORT = trajectories.Follow(2, ahead=1, last=2, batch=4)
KEY = jax.random.key(0)


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(data, 'load', lambda *_, **__: tiny.dataset())
    return CondensedImages(**TINY)


@functools.cache
def way():
    """Of two experts of the tiny student, in shapes of a buffer; nobody trained them."""
    model = CondensedImages.model(_Tiny(), 'mlp-4')
    one = jax.vmap(lambda k: model.init(k, jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))['params'])
    return jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), one(jax.random.split(KEY, 6)))


class _Tiny:
    data = tiny.dataset()
    norm = 'none'

    def norm_of(self, spec):
        return self.norm


def test_facts_of_a_set_are_numbers(task):
    buffer = trajectories.experts(task, count=2, epochs=2, expert_batch=4)
    made = trajectories.mtt(task, follow=SHORT, buffer=buffer)
    shapes = Abstract()
    for fact in (trajectories.accumulated(task, made, buffer, SHORT, name='mtt'), fyi.asymmetric(made, name='mtt')):
        assert shapes.read(fact).shape == ()


def test_small_images_are_recovered_under_larger_crops(task, monkeypatch):
    told = [recovered.suiting(task, curriculum='cosine')]
    monkeypatch.setattr(data, 'load', lambda *_, **__: dataclasses.replace(tiny.dataset(), image_shape=(32, 40, 3)))
    told += [recovered.suiting(CondensedImages(**TINY), curriculum='cosine')]
    assert [(r.least, r.weight, r.curriculum) for r in told] == [(0.5, 0.1, 'cosine'), (0.08, 0.01, 'cosine')]


def test_recovery_of_a_set_is_that_of_its_images_under_the_crops_of_its_step(task):
    stage = recovered.cda(task, squeezed='convnet-4-1').set.stage
    trained = stage.inputs['squeezed'].stage
    assert trained.config['norm'] == 'batch' and trained.config['model'] == 'convnet-4-1'
    model = task.train_teacher('squeezed', 'convnet-4-1', norm='batch').model
    variables = model.init(KEY, jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    images = jax.random.normal(KEY, (2, 3, 2, 2, 1))
    options = {'model': model, 'norms': recovered.convnet_norms(1), 'flip': False, 'key': KEY}
    recover = recovered.Recover(curriculum='cosine', least=0.25, steps=4, first=2.0)
    got = recovered.recovered(images, variables, recover=recover, step=jnp.int32(4), **options)
    wanted = recovery(
        images.reshape(6, 2, 2, 1), jnp.arange(6) % 3, variables, weight=0.01, first=2.0, crop=0.25, **options
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    with pytest.raises(UserError, match=r"'mlp-4' cannot be recovered from: name a ConvNet"):
        recovered.sre2l(task, squeezed='mlp-4')


def test_windows_and_settings_are_those_of_the_largest_size_that_is_no_larger():
    sizes = [trajectories.for_size(trajectories.DATM, n).last for n in (1, 5, 10, 49, 50, 200)]
    assert sizes == [4, 4, 20, 20, 40, 40]
    assert trajectories.DATM[10].windows == {'first': 0, 'last': 20, 'begin': 10, 'grows': 1000}
    assert trajectories.MTT[50].epochs == 41


def test_datm_starts_at_images_that_an_expert_is_right_about(task):
    """As far as there are any; labels are the mean logits of those that are."""
    made = trajectories.datm(task, follow=SHORT)
    start = made.set.stage.inputs['start'].stage
    found = start.call({'experts': way()}, key=KEY)['params']
    images, labels, logits = understood.said_by_experts(task.matched(), task.data, way(), -1)
    right = np.asarray(jnp.argmax(logits, -1)) == labels
    seen = np.asarray(images)
    for i, c in np.ndindex(2, 3):
        (row,) = np.flatnonzero((seen == np.asarray(found['image'])[i, c]).all((1, 2, 3)))
        assert labels[row] == c
        assert right[:, row].any() or right[:, labels == c].any(0).sum() < 2
        wanted = experts.logits_of_the_right(logits[:, [row]], jnp.asarray([c]))[0]
        np.testing.assert_allclose(found['label_logits'][i, c], wanted, rtol=1e-5, atol=1e-5)


def test_rded_takes_the_crops_that_the_teacher_is_surest_of(task):
    """With crops of everything: the images with the least cross-entropy of each class."""
    stage = cropped.rded(task, crops=2, least=1.0).set.stage
    model = task.trained_teacher.model
    variables = model.init(KEY, jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    found = np.asarray(stage.call({'teacher': variables}, key=KEY)['params']['image'])
    images, labels = all_images.training_images(task.data)
    said = np.asarray(jax.nn.log_softmax(model.apply(variables, images, key=KEY, train=False)[0].prediction))
    for c in range(3):
        own = np.flatnonzero(labels == c)
        best = own[np.argsort(-said[own, c], kind='stable')[:2]]
        np.testing.assert_allclose(found[:, c], np.asarray(images)[best], atol=1e-5)


def test_fyi_has_hosts(task):
    with pytest.raises(UserError, match="unknown host of FYI 'dsa'"):
        fyi.fyi(task, host='dsa')


def test_crops_of_a_task_mirror_where_labels_allow(task):
    still = dataclasses.replace(task, crop_padding=0)
    vars(still)['data'] = dataclasses.replace(task.data, flip_ok=True)
    image = jnp.asarray([[[1.0], [2.0]], [[3.0], [4.0]]])
    moved = np.asarray(jax.jit(still.shifted)(jnp.broadcast_to(image, (32, 2, 2, 1)), key=KEY))
    turned = np.isclose(moved, np.asarray(image)[:, ::-1]).all((1, 2, 3))
    assert 4 < turned.sum() < 28
