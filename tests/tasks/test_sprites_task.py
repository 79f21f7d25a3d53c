"""Multi-view sprites: who is seen from where, what is measured, and that a prior, a judge and scenes run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.diffusion import Guidance
from kdjax.errors import UserError
from kdjax.models.count import forward_flops
from kdjax.objectives import term
from kdjax.renderers import named_renderer, orbit
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.scenes import marginals, measure_scenes, object_noise, scenes, view_consistency
from kdjax.tasks.sprites import MultiViewSprites
from kdjax.tasks.view_samples import prior_samples

KEY = jax.random.key(0)
TINY = MultiViewSprites(
    student='splats3d-3', teacher='dit-8-1-p4-h2', judge='vit-8-1-p4-h2', batch=12, steps=6, teacher_steps=6,
    teacher_batch=8, judge_steps=6, size=8, particles=2, examples=48, evaluation_examples=48, evaluations=1,
)  # fmt: skip


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv('KDJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
    yield TINY
    patch.undo()


def prepared(train):
    batch = TINY.data['train'].take(np.arange(36))
    return jax.jit(lambda b: TINY.prepared()(b, key=KEY, train=train))(batch)


def test_in_training_every_scene_is_seen_equally_often_from_random_cameras():
    batch = prepared(True)
    scene = np.asarray(batch['label']) * 2 + np.asarray(batch['particle'])
    np.testing.assert_array_equal(np.bincount(scene), np.full(12, 3))
    off = np.abs(np.asarray(batch['azimuth']) - np.pi / 2 * np.asarray(batch['view']))
    assert off.max() <= 0.6 * np.pi / 4 + 1e-5
    np.testing.assert_array_equal(batch['condition'], batch['label'] * 4 + batch['view'])
    assert len(set(np.asarray(batch['view']))) == 4


def test_in_evaluation_cameras_are_those_of_the_real_images():
    batch, stored = prepared(False), TINY.data['train']
    for name in ('label', 'view', 'azimuth', 'elevation'):
        np.testing.assert_array_equal(batch[name], stored[name][:36])
    assert batch['image'].min() >= -1 and batch['image'].max() <= 1
    scene = np.asarray(batch['label']) * 2 + np.asarray(batch['particle'])
    assert len(set(scene)) == 12


def test_a_view_of_a_scene_moves_that_scene_alone():
    model = TINY.model('splats3d-3')
    variables = jax.jit(lambda key: model.init(key, None))(KEY)
    inputs = tuple(jnp.asarray(x) for x in ([2, 4], [1, 0], [0.0, 1.0], [0.3, 0.3]))

    @jax.jit
    def gradient(params):
        def loss(params):
            return jnp.sum(
                jnp.square(model.apply(variables | {'params': params}, inputs, key=KEY, train=True)[0].prediction)
            )

        return jax.grad(loss)(params)

    moved = np.abs(gradient(variables['params'])['colour']).sum((-1, -2)) > 0
    assert set(map(tuple, np.argwhere(moved))) == {(2, 1), (4, 0)}


def test_noise_belongs_to_the_particle():
    """The same at every step; nearby views of one scene share it, views of two scenes do not; variance 1."""
    model = TINY.model('voxels-4')
    variables = jax.jit(lambda key: model.init(key, None))(KEY)
    inputs = tuple(jnp.asarray(x) for x in ([2, 2, 3], [1, 1, 1], [0.0, 0.1, 0.0], [0.3, 0.3, 0.3]))
    say = jax.jit(lambda key: model.apply(variables, inputs, key=key, train=True)[0].taps['noise'])
    noise = np.asarray(say(KEY))
    np.testing.assert_array_equal(noise, say(jax.random.key(5)))
    flat = noise.reshape(3, -1)
    assert np.corrcoef(flat)[0, 1] > 0.4
    assert abs(np.corrcoef(flat)[0, 2]) < 5 / np.sqrt(flat.shape[1])
    assert abs(flat.std() - 1) < 5 / np.sqrt(2 * flat.size)


def test_noise_of_an_object_is_a_constant_to_its_parameters():
    renderer = named_renderer('splats3d-2', height=3, width=3)
    params = jax.jit(renderer.init)(KEY)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(object_noise(renderer, p, orbit(0.0), key=KEY, cells=4))))(params)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_prior_a_judge_and_scenes_are_trained_and_measured(tiny, tmp_path):
    executor = Executor(Store(tmp_path), module='kdjax.tasks.sprites')
    arm = tiny.arm(term(losses.hint_mse, 'student', 'batch.image', name='data'), tiny.live_teacher())
    found = executor.run(dataclasses.replace(arm, name='arm/data'), 0).info['metrics']['test']
    assert found.keys() >= {'class_accuracy', 'view_accuracy', 'frechet', 'view_consistency', 'diversity'}
    assert 0 <= found['class_accuracy'] <= 1 and found['frechet'] > 0
    prior = executor.run(tiny.trained_teacher.variables.stage, 0).info['metrics']['test']
    assert 0 < prior['error'] < 1.5 * prior['base_error']
    drawn = prior_samples(tiny, steps=2, guidance=Guidance(2.0, 'from_null'), batch=20)
    samples = executor.run(drawn, 0).info['metrics']['test']
    assert samples['nfe'] == 6 and samples.keys() == found.keys() | {'nfe'}
    assert samples['real_class_accuracy'] == pytest.approx(found['real_class_accuracy'])


def test_the_prior_is_counted_on_what_the_prior_sees(tiny):
    """An objective that reads the teacher asks it once for every row, at the FLOPs of its own inputs."""
    pull = term(losses.hint_mse, 'student', 'teacher', name='pull')
    arm = tiny.arm(pull, tiny.live_teacher())
    found = arm.cost()
    alone = forward_flops(tiny.denoising_network(), tiny.denoising_example())
    assert found['teacher_flops'] == pytest.approx(arm.steps * arm.batch * alone, rel=1e-3)
    assert found['teacher_queries'] == arm.steps * arm.batch
    assert found['forward_flops'] == forward_flops(tiny.model(tiny.student), tiny.example())


def said(seen, label, particle):
    """Outputs of a judge that is sure: `seen` pairs of class and view of two views each."""
    features = np.random.default_rng(0).normal(size=(len(label), 3))
    return {
        'judged': 20 * np.eye(6)[seen], 'label': np.asarray(label), 'view': np.asarray(seen) % 2,
        'particle': np.asarray(particle), 'features': features, 'real_features': features,
    }  # fmt: skip


def test_metrics_of_scenes_that_are_known():
    """Two particles of class 1: one looks like 1 from both sides, the other like 2 from one."""
    found = measure_scenes(said([2, 3, 2, 5], [1, 1, 1, 1], [0, 0, 1, 1]), views=2)
    assert found['class_accuracy'] == 0.75 and found['view_accuracy'] == 1
    assert found['view_consistency'] == 0.75
    assert found['frechet'] == pytest.approx(0, abs=1e-9)
    features = said([2] * 4, [1] * 4, [0] * 4)['features']
    apart = np.linalg.norm(features[:2].mean(0) - features[2:].mean(0))
    assert found['diversity'] == pytest.approx(apart)


def test_the_other_of_a_pair_is_summed_out():
    logits = np.log([[0.1, 0.2, 0.3, 0.4]])
    by_class, by_view = marginals(logits, 2)
    np.testing.assert_allclose(np.exp(by_class), [[0.3, 0.7]])
    np.testing.assert_allclose(np.exp(by_view), [[0.4, 0.6]])
    assert view_consistency(np.array([0, 0, 1]), np.zeros(3, int), np.zeros(3, int)) == pytest.approx(2 / 3)


def test_what_is_refused(tiny):
    with pytest.raises(
        UserError, match='batch of 16 views of 2 particles of each of 6 classes: choose a multiple of 12'
    ):
        dataclasses.replace(tiny, batch=16).arm(term(losses.hint_mse, 'student', 'batch.image'))
    with pytest.raises(UserError, match='scenes of 6 classes with 0 particles each: both are at least 1'):
        dataclasses.replace(tiny, particles=0).model('pixels')
    with pytest.raises(UserError, match=r"unknown renderer 'voxel'; did you mean 'voxels'.*grammar: pixels"):
        tiny.model('voxel')
    with pytest.raises(UserError, match='unknown renderer'):
        named_renderer('pixels-3', height=4, width=4)


def test_flat_scenes_show_one_canvas_to_all_cameras():
    model = scenes(named_renderer('pixels', height=4, width=4), classes=2, count=1, distance=3.0, field_of_view=0.6)
    inputs = tuple(jnp.asarray(x) for x in ([1, 1], [0, 0], [0.0, 2.0], [0.3, 0.1]))

    @jax.jit
    def seen(key):
        return model.apply(model.init(key, None), inputs, key=key, train=False)[0]

    outputs = seen(KEY)
    np.testing.assert_array_equal(*outputs.prediction)
    np.testing.assert_allclose(outputs.prediction, 2 * outputs.taps['image'] - 1, atol=1e-6)
    np.testing.assert_array_equal(*outputs.taps['noise'])
