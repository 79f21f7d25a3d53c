"""Worlds whose law is known, scenes in them, and what is measured there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.scores import LessFake
from kdjax.diffusion import Denoiser
from kdjax.errors import UserError
from kdjax.metrics.known_law import energy_distance, log_density
from kdjax.models.model import Outputs
from kdjax.tasks.edited_scenes import EditedScenes, measure_edits, source_class
from kdjax.tasks.exact_measures import measure
from kdjax.tasks.exact_scenes import SCHEDULE, ExactScenes
from kdjax.tasks.panoramas import Panoramas
from kdjax.tasks.worlds import digits_by_style, panoramas, styled_digits

KEY = jax.random.key(0)
TINY = ExactScenes(particles=4, steps=3)


def said_of(world, pictures, condition, **more):
    count = len(pictures)
    return {
        'picture': np.asarray(pictures).reshape(count, *world.shape), 'condition': np.asarray(condition),
        'label': np.asarray(condition), 'particle': np.arange(count), **more,
    }  # fmt: skip


def exact_samples(world, count=64, classes=10):
    condition = np.repeat(np.arange(classes), count)
    return np.concatenate([world.draw(c, count, seed=1) for c in range(classes)]), condition


def test_worlds_are_laws_over_real_digits():
    world = digits_by_style()
    np.testing.assert_allclose(world.weights.sum(1), 1)
    np.testing.assert_allclose(world.means[:30].mean(), 0, atol=1e-9)
    np.testing.assert_allclose(world.means[:30].std(), 1)
    pixels = world.means[:30] * world.deviation + world.mean
    np.testing.assert_allclose(pixels * 16, np.round(pixels * 16), atol=1e-6)
    assert [sorted(world.kind[world.of(c)].tolist()) for c in (0, 9)] == [[0, 1, 2]] * 2
    np.testing.assert_array_equal(world.deviations[world.of(world.negative)], 0.7)


def test_exact_samples_measure_as_exact():
    """To the noise of 640 samples; the smallest picture that is off in one respect is seen in that respect."""
    world = digits_by_style()
    pictures, condition = exact_samples(world)
    found = measure(world, said_of(world, pictures, condition))
    assert found['class_accuracy'] > 0.99 and found['class_probability'] > 0.99
    assert found['to_mode'] == pytest.approx(1, abs=0.02) and found['off_law'] == 0
    assert abs(found['energy']) < 0.05 and found['weight_error'] < 0.06
    for name in ('norm', 'sharpness', 'diversity'):
        assert found[name] == pytest.approx(1, abs=0.06), name
    assert found['agreement'] == 1 and found['saturated'] < 0.05


def test_what_is_off_is_seen():
    world = digits_by_style()
    pictures, condition = exact_samples(world)
    exact = measure(world, said_of(world, pictures, condition))
    large = measure(world, said_of(world, 2 * pictures, condition))
    assert large['norm'] == pytest.approx(2 * exact['norm']) and large['saturated'] > 0.2 and large['off_law'] == 1
    modes = world.means[[3 * c for c in condition]]
    collapsed = measure(world, said_of(world, modes, condition))
    assert collapsed['weight_error'] == pytest.approx(0.4) and collapsed['diversity'] == 0
    assert collapsed['to_mode'] == 0 and collapsed['energy'] > 1
    assert collapsed['log_density'] > exact['log_density']
    others = measure(world, said_of(world, pictures, (condition + 1) % 10))
    assert others['class_accuracy'] < 0.01


def test_the_density_and_the_energy_distance_by_hand():
    means, deviations = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]), np.array([1.0, 2.0, 1.0])
    at = np.array([[0.5, 0.2]])
    each = [
        np.exp(-np.square(at - m).sum() / (2 * d**2)) / (2 * np.pi * d**2)
        for m, d in zip(means, deviations, strict=True)
    ]
    found = log_density(at, means, deviations, np.array([0.25, 0.75, 0.0]))
    np.testing.assert_allclose(found, np.log(0.25 * each[0] + 0.75 * each[1]))
    line = np.array([[0.0], [1.0]])
    assert energy_distance(line, line + 3) == pytest.approx(2 * 3 - 1 - 1)


def test_an_edit_keeps_its_style_and_its_noise():
    world = styled_digits()
    label, particle = np.repeat(np.arange(10), 9), np.tile(np.arange(9), 10)
    before = source_class(label, particle)
    assert (before != label).all() and len(set(before[label == 3])) == 9
    source = np.concatenate([world.draw(c, 1, seed=i) for i, c in enumerate(before.tolist())])
    centres = world.means.reshape(10, 3, -1)[:, 0]
    said = {'source': source.reshape(90, *world.shape), 'source_label': before}
    ideal = measure_edits(world, said_of(world, source - centres[before] + centres[label], label, **said))
    assert ideal['to_ideal'] == pytest.approx(0, abs=1e-6) and ideal['style_kept'] == 1
    assert ideal['class_accuracy'] == 1
    nothing = measure_edits(world, said_of(world, source, label, **said))
    assert nothing['to_source'] == 0 and nothing['class_accuracy'] == 0
    assert nothing['to_ideal'] == pytest.approx(ideal['to_source'])


def test_views_of_a_panorama_are_crops_of_it():
    world = panoramas(width=24)
    whole = world.means[:6].reshape(6, 8, 24)
    np.testing.assert_array_equal(world.means[world.of(5)].reshape(6, 8, 24)[:, :, :19], whole[:, :, 5:])
    beyond = world.means[world.of(20)].reshape(6, 8, 24)
    np.testing.assert_array_equal(beyond[:, :, 12:], whole[:, :, :12])
    with pytest.raises(UserError, match='views of 40 columns of a panorama of 32'):
        panoramas(width=40)


@pytest.fixture(scope='module')
def panorama():
    """Two particles from two views, twelve columns apart: (outputs, canvases)."""
    task = Panoramas(particles=2)
    model = task.model('pixels')

    @jax.jit
    def said(key):
        variables = model.init(KEY, None)
        label, particle, view = (jnp.asarray(x, jnp.int32) for x in ([0] * 4, [0, 0, 1, 1], [0, 12, 0, 12]))
        return model.apply(variables, (label, particle, view), key=key, train=True)[0], variables

    return said(KEY), said(jax.random.key(7))


def test_a_view_shows_pixels_of_its_canvas(panorama):
    (outputs, variables), _ = panorama
    canvas = np.asarray(variables['params']['canvas'][0, 1, :, :, 0])
    np.testing.assert_allclose(outputs.prediction[3, :, :, 0], np.roll(canvas, -12, 1)[:, :24], atol=1e-5)


def test_noise_is_shared_as_far_as_it_says(panorama):
    (outputs, _), (later, _) = panorama

    def seen(taps, name, row):
        return np.asarray(taps[name][row, :, :, 0])

    for name, shared, stays in (('noise', True, True), ('step_noise', True, False), ('view_noise', False, True)):
        first, second = seen(outputs.taps, name, 0), seen(outputs.taps, name, 1)
        assert np.array_equal(first[:, 12:], second[:, :12]) == shared, name
        assert np.array_equal(first, seen(later.taps, name, 0)) == stays, name
        assert not np.array_equal(first, seen(outputs.taps, name, 2)), name
        assert abs(first.std() - 1) < 5 / np.sqrt(2 * first.size), name


def test_every_particle_is_in_every_step_and_in_one_split():
    rows = {
        s: set(zip(*(TINY.data[s][n].tolist() for n in ('label', 'particle')), strict=True)) for s in TINY.data.splits
    }
    assert rows['train'] == rows['validation'] | rows['test'] and not rows['validation'] & rows['test']
    assert TINY.batch_of_all == 40 and Panoramas(particles=4).batch_of_all == 8


def test_a_fake_score_begins_as_the_prior_and_particles_and_it_move():
    arm = TINY.with_fake(TINY.method(direction=LessFake()))
    batch = {n: jnp.asarray(c) for n, c in TINY.data['train'].take(np.arange(20)).items()}  # half of them, for speed
    state = jax.jit(arm.algorithm.init)(KEY, {}, batch)
    network = TINY.fake_network()

    def function(inputs):
        return Outputs(network.apply(state['variables']['fake'], inputs, key=KEY, train=False)[0].prediction)

    x, t, label = jax.random.normal(KEY, (20, *TINY.world.shape)), jnp.linspace(0.1, 0.9, 20), batch['label']
    fake = TINY.fake_denoiser(function)
    assert isinstance(fake, Denoiser) and fake.schedule == SCHEDULE
    np.testing.assert_allclose(fake.noise(x, t, label), TINY.prior.noise(x, t, label), atol=2e-4)
    after, metrics = jax.jit(arm.algorithm.step)(state, {}, batch, KEY)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state['variables'], after['variables'])
    assert moved['student']['params']['canvas'] and any(jax.tree.leaves(moved['fake']))
    assert not jax.tree.leaves(moved['student']['stats'])[0]
    assert np.isfinite([float(m) for m in metrics.values()]).all()
    assert arm.cost()['student_flops'] > 0


def test_the_source_stays_and_the_edit_begins_there():
    task = EditedScenes(particles=2)
    model = task.model('pixels')
    variables = jax.jit(lambda: model.init(KEY, None))()
    source = variables['stats']['source']
    np.testing.assert_array_equal(variables['params']['canvas'], source)
    label, particle = np.divmod(np.arange(20), 2)
    squares = np.square(np.asarray(source, np.float64).reshape(20, 1, -1) - task.world.means[None]).sum(-1)
    np.testing.assert_array_equal(squares.argmin(1) // 3, source_class(label, particle))


def test_particles_follow_a_method_and_are_measured():
    """Three annealed steps of everything, and DDIM beside it."""
    arm = dataclasses.replace(TINY, evaluations=1).sds()
    said = {'picture': np.zeros((20, *TINY.world.shape)), 'condition': np.arange(20) % 10, 'particle': np.arange(20)}
    assert set(TINY.measure()(said)) >= {'energy', 'log_density', 'weight_error'}
    assert arm.steps == 3 and arm.batch == 40
    sampled = TINY.sampled(steps=20).call({}, key=KEY)[1]['metrics']['test']
    assert sampled['nfe'] == 21 and sampled['class_accuracy'] == 1 and sampled['off_law'] == 0


def test_what_is_refused():
    with pytest.raises(UserError, match='EditedScenes has no negative condition: take ExactScenes'):
        _ = EditedScenes().negative
    with pytest.raises(UserError, match='the prior is known exactly: take `exact_teacher`'):
        _ = TINY.trained_teacher
    with pytest.raises(UserError, match='1 particles of a class: two for validation and two for the test'):
        _ = ExactScenes(particles=1).data
    with pytest.raises(UserError, match='scenes of 10 classes with 0 particles each: both are at least 1'):
        ExactScenes(particles=0).model('pixels')
