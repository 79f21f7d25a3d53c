"""Tasks of generators: batches, networks and generators on the same variables, teachers, samplers, metrics."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract_stages import Abstract

from kdjax import losses
from kdjax.algorithms.generators import Terms
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.solvers import DPMSolver, Heun
from kdjax.objectives import term
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.stage import Output
from kdjax.tasks.denoising import PREDICTS
from kdjax.tasks.digit_diffusion import DigitDiffusion
from kdjax.tasks.mixtures_2d import Mixtures2D, measure
from kdjax.tasks.samplers import evenly, fixed, heun, sampler_arm

KEY = jax.random.key(0)
POINTS = Mixtures2D(rows=4000, evaluation_rows=2000, student='points-16-2', teacher='points-16-2', teacher_steps=20)
DIGITS = DigitDiffusion(student='unet-4-8', teacher='unet-4-8', judge='mlp-16', judge_steps=5, samples=600)


def batch_of(task, rows, *, train, key=KEY, split='train'):
    return task.prepared()(task.data[split].take(np.asarray(rows)), key=key, train=train)


@pytest.mark.parametrize('task', [POINTS, DIGITS], ids=['points', 'digits'])
def test_the_target_is_the_raw_output_whose_data_is_the_data(task):
    batch = batch_of(task, range(64), train=True)
    true = task.denoiser(lambda inputs: dataclasses.make_dataclass('Said', ['prediction'])(batch['target']), 'truth')
    found = true.data(batch['noised'], batch['time'], batch['label'])
    np.testing.assert_allclose(found, batch['data'], atol=2e-3)
    rms = float(jnp.sqrt(jnp.mean(jnp.square(batch['target']))))
    assert rms == pytest.approx(1.0, abs=0.2)  # EDM's target has unit variance at every level


def test_noise_of_evaluation_belongs_to_the_row_and_training_noise_does_not():
    first, again = (batch_of(POINTS, rows, train=False, split='test') for rows in ([3, 4, 5], [5, 9, 3]))
    for name in ('noise', 'noised', 'time'):
        np.testing.assert_array_equal(first[name][0], again[name][2])
    assert not np.array_equal(first['noise'][0], first['noise'][1])
    drawn = batch_of(POINTS, [3, 3], train=True)['noise']
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_tenth_of_the_conditions_is_the_null_class_in_training_and_none_in_evaluation():
    trained, held = (batch_of(POINTS, range(2000), train=train) for train in (True, False))
    share = float(np.mean(trained['condition'] == POINTS.classes))
    assert share == pytest.approx(0.1, abs=0.03)
    kept = trained['condition'] != POINTS.classes
    assert np.array_equal(trained['condition'][kept], trained['label'][kept])
    assert np.array_equal(held['condition'], held['label'])


def test_without_classes_nobody_is_told_one_and_none_is_measured():
    task = dataclasses.replace(POINTS, conditional=False)
    batch = batch_of(task, range(9), train=False)
    assert np.all(batch['label'] == 8) and np.all(batch['condition'] == 8)
    held = task.data['test']
    measured = task.measure()({'sample': held['point'], 'label': held['label']}, None)
    assert measured['modes'] == 8 and 'class_accuracy' not in measured


@pytest.mark.parametrize('task', [POINTS, DIGITS], ids=['points', 'digits'])
def test_a_generator_is_the_data_prediction_of_the_network_on_the_same_variables(task):
    batch = batch_of(task, range(3), train=True)
    inputs = batch['prior'], batch['start'], batch['label']
    network, generator = task.network(task.student), task.model(task.student)
    variables = jax.tree.map(lambda s: 0.1 * jnp.ones(s.shape, s.dtype), jax.eval_shape(network.init, KEY, inputs))
    made = jax.jit(functools.partial(generator.apply, key=KEY, train=False))(variables, inputs)[0].prediction
    denoiser = task.denoiser(lambda inputs: network.apply(variables, inputs, key=KEY, train=False)[0], 'student')
    np.testing.assert_allclose(made, jax.jit(denoiser.data)(*inputs), rtol=1e-4, atol=1e-4)
    assert made.shape == (3, *task.shape)
    assert np.abs(batch['prior']).max() > 40  # start_sigma times noise
    again = generator.under(dtype='bfloat16', remat=True)
    said = jax.eval_shape(functools.partial(again.apply, key=KEY, train=False), variables, inputs)[0]
    assert (said.taps['bottleneck'].dtype, said.prediction.dtype) == (jnp.bfloat16, jnp.float32)


def test_the_exact_teacher_agrees_with_the_law_and_beats_no_information():
    """Its raw outputs have the least error there is: below that of zero, which is 1."""
    batch = batch_of(POINTS, range(2000), train=True)
    exact = POINTS.exact_denoiser()
    assert exact.predicts == PREDICTS
    raw = jax.jit(exact.raw)(batch['noised'], batch['time'], batch['label'])
    blind = jax.jit(exact.raw)(batch['noised'], batch['time'], jnp.full(2000, POINTS.classes, jnp.int32))
    errors = [float(jnp.mean(losses.hint_mse(x, batch['target']))) for x in (raw, blind, 0 * raw)]
    assert errors[0] < errors[1] < 0.8 * errors[2]
    points = POINTS.data['test']['point'][:50]
    np.testing.assert_allclose(
        POINTS.law.log_density(jnp.asarray(points)), POINTS.data.log_density(points), rtol=1e-4, atol=1e-3
    )


def test_samples_of_the_exact_teacher_are_measured_as_the_data_is():
    """Held-out data of the law and 24 steps of DPM-Solver++ on its exact score, of the classes asked for."""
    held = POINTS.data['test']
    truth = measure(POINTS.data, POINTS.bins, {'sample': held['point'], 'label': held['label']})
    batch, times = batch_of(POINTS, range(2000), train=False, split='test'), jnp.linspace(1.0, 0.0, 25)
    draw = jax.jit(
        lambda noise, label: DPMSolver()(POINTS.exact_denoiser(), POINTS.schedule.prior(noise), times, label)
    )
    made = {'sample': np.asarray(draw(batch['noise'], batch['label'])), 'label': held['label']}
    found = measure(POINTS.data, POINTS.bins, made)
    assert truth['modes'] == found['modes'] == 8
    assert abs(truth['kl_to_data']) < 0.06 and found['kl_to_data'] < 0.1
    assert found['class_accuracy'] > 0.99
    lost = measure(POINTS.data, POINTS.bins, {'sample': held['point'][held['label'] < 4], 'label': np.zeros(1)})
    assert lost['modes'] == 4 and lost['kl_to_data'] == pytest.approx(np.log(2), abs=0.1)


def everybody(task):
    """An arm that learns, and samplers with and without guidance."""
    guided = Guidance(2.0, 'from_null')
    return {
        'regression': task.arm(term(losses.hint_mse, 'student', 'batch.data'), start=task.trained_teacher.variables),
        'heun': heun(task, 3),
        'guided': sampler_arm(task, 'guided', fixed(evenly(DPMSolver(), 2)), metric='', guidance=guided),
    }


@pytest.mark.parametrize('task', [POINTS, DIGITS], ids=['points', 'digits'])
def test_arms_and_samplers_trace_from_end_to_end(task):
    abstract, arms = Abstract(), everybody(task)
    arrays, metrics = abstract.train(arms['regression'])
    assert arrays['predictions']['test']['sample'].shape == (len(task.data['test']), *task.shape)
    assert {'student/hint_mse', 'student/loss'} <= set(metrics)
    for name in ('heun', 'guided'):
        assert abstract.arrays(arms[name])['samples']['test'].shape == (len(task.data['test']), *task.shape)
    cost = arms['regression'].cost()
    assert cost['parameters'] > 0 and cost['student_flops'] > 0


@pytest.mark.parametrize('teacher', ['exact_teacher', 'live_teacher'])
def test_a_game_of_a_generator_and_a_fake_score_traces_from_end_to_end(teacher):
    terms, bound = Terms(POINTS.denoiser), getattr(POINTS, teacher)()
    stage = POINTS.matched(terms.distribution_matching(), terms.denoising(), bound, terms=terms, moves=2)
    arrays, metrics = Abstract().train(stage)
    assert {'fake/denoising', 'student/distribution_matching'} <= set(metrics)
    assert set(arrays['variables']) == {'fake', 'student'}
    assert arrays['predictions']['test']['sample'].shape == (2000, 2)
    assert (stage.cost()['teacher_queries'] > 0) == (teacher == 'live_teacher')


def test_a_sampler_measures_each_split_and_counts_its_evaluations():
    guidance = Guidance(2.0, 'from_null')
    stage = sampler_arm(POINTS, 'Heun in 3', fixed(evenly(Heun(), 3)), metric='', guidance=guidance)
    variables = jax.jit(POINTS.network('points-16-2').init)(KEY, POINTS.example())
    arrays, info = stage.call({'teacher': variables}, key=KEY)
    assert arrays['samples']['test'].shape == (2000, 2)
    assert info['metrics']['test']['nfe'] == 2 * 5
    assert set(info['metrics']['validation']) == set(info['metrics']['test'])
    assert np.isfinite(list(info['metrics']['test'].values())).all()


def test_real_digits_are_near_real_digits_and_noise_is_not():
    judged = DIGITS.reference()
    assert isinstance(judged, Output)
    variables = jax.jit(DIGITS.trained_judge.model.init)(KEY, jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32))
    reference = judged.stage.call({'judge': variables}, key=KEY)['test']
    assert reference['features'].shape == (500, 16)
    held = DIGITS.data['test']
    images = np.asarray(DIGITS.scaled({'image': held['image']}))
    real = DIGITS.measure()({'sample': images, 'label': held['label']}, reference)
    noise = np.random.default_rng(0).standard_normal(images.shape).astype(np.float32)
    other = DIGITS.measure()({'sample': noise, 'label': held['label']}, reference)
    assert real['frechet'] < 0.1 * other['frechet']
    assert real['coverage'] == 1.0 > other['coverage']
    np.testing.assert_allclose(DIGITS.pictures(images), held['image'], atol=1e-5)


@pytest.mark.slow
def test_a_trained_teacher_samples_the_modes_in_a_few_steps(tmp_path):
    task = dataclasses.replace(POINTS, teacher='points-64-3', teacher_steps=1500)
    executor = Executor(Store(tmp_path), module='kdjax.tasks.generating')
    learned = executor.run(task.trained_teacher.variables.stage, 0).info['metrics']['test']
    assert learned['denoising'] < 0.25  # 1 without learning, 0.13 at best
    found = executor.run(sampler_arm(task, 'in 16', fixed(evenly(DPMSolver(), 16)), metric=''), 0).info['metrics'][
        'test'
    ]
    assert found['modes'] == 8 and found['in_modes'] > 0.85 and found['class_accuracy'] > 0.98
    assert found['kl_to_data'] < 0.3
