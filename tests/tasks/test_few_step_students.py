"""What few-step students share: samples by steps, pairs, trajectories, samplers chosen on the validation split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.diffusion import DDIM, DPMSolver, Guidance
from kdjax.models.model import Outputs
from kdjax.tasks.few_step_students import in_steps, measuring, off_path, students_steps, tangents
from kdjax.tasks.guided_trajectories import recorded_trajectories
from kdjax.tasks.mixtures_2d import Mixtures2D
from kdjax.tasks.recorded_pairs import recorded_pairs
from kdjax.tasks.samplers import best_of, evenly, sampler_arm
from kdjax.view import View

KEY = jax.random.key(0)
TASK = Mixtures2D(rows=300, evaluation_rows=40, student='points-8-1', teacher='points-8-1')


def exact_view(task, rows=8):
    """A step in which the student is the exact teacher."""
    batch = task.prepared()(task.data['test'].take(np.arange(rows)), key=KEY, train=False)
    exact = task.exact_denoiser()

    def function(view):
        return lambda inputs, key=None: Outputs(exact.raw(*inputs))

    return View({}, batch, 0, functions={'student': function, 'teacher': function}, key=KEY)


def test_samples_by_steps_have_names_and_more_steps_come_nearer_the_end_of_the_path():
    view = exact_view(TASK)

    plain = jax.jit(lambda: students_steps(TASK, (1, 2, 12))(view))()
    assert set(plain) == {'sample', 'sample_2', 'sample_12'}
    errors = [float(jnp.mean(off_path(TASK, view, plain[name]))) for name in ('sample', 'sample_2', 'sample_12')]
    assert errors[0] > errors[1] > errors[2]


def test_tangents_have_a_size_for_each_row_and_two_quantiles():
    found = np.asarray(jax.jit(lambda: tangents(TASK, exact_view(TASK), TASK.exact_denoiser()))()['tangent'])
    assert found.shape == (8,) and (found > 0).all()
    metrics = measuring(lambda said, reference: {})({'tangent': np.arange(101.0)})
    assert metrics == {'tangent_median': 50.0, 'tangent_p95': 95.0}


def test_one_step_with_fresh_noise_is_the_data_expected():
    exact, noise = TASK.exact_denoiser(), jax.random.normal(KEY, (4, 2))
    label = jnp.arange(4)
    found = in_steps(exact, noise, label, 1, key=KEY, renoise=True)
    np.testing.assert_allclose(found, exact.data(TASK.schedule.prior(noise), 1.0, label))
    two = [in_steps(exact, noise, label, 2, key=jax.random.key(k), renoise=True) for k in (0, 0, 1)]
    np.testing.assert_array_equal(two[0], two[1])
    assert not np.array_equal(two[0], two[2])


def test_metrics_of_more_steps_have_their_number_and_errors_their_mean():
    said = {'sample': np.zeros(2), 'sample_4': np.ones(2), 'error_path': np.array([1.0, 3.0]), 'label': np.zeros(2)}
    found = measuring(lambda said, reference: {'size': float(np.sum(said['sample']))})(said, None)
    assert found == {'size': 0.0, 'size_4': 2.0, 'error_path': 2.0}


def teacher_variables(task):
    return jax.jit(task.network(task.teacher).init)(KEY, task.example())


def test_pairs_and_trajectories_belong_to_the_rows():
    variables = teacher_variables(TASK)
    pairs = recorded_pairs(TASK, TASK.trained_teacher, DDIM(), 3, name='pairs')
    stage = pairs.inputs['pairs'].stage
    made = stage.call({'teacher': variables}, key=KEY)
    shapes = stage.shapes({})
    assert {n: a.shape for n, a in made.items()} == {n: s.shape for n, s in shapes.items()}
    teacher = TASK.teacher_denoiser(variables)
    label = jnp.asarray(TASK.data['train'].take(np.arange(9))['label'])
    noise = jnp.asarray(made['noise'][:9])
    again = DDIM()(teacher, TASK.schedule.prior(noise), jnp.linspace(1.0, 0.0, 4), label)
    np.testing.assert_allclose(made['sample'][:9], again, rtol=1e-4, atol=1e-5)
    view = View({}, {'index': jnp.array([7, 2])}, 0)
    said = pairs.teacher.apply({}, {'pairs': made}, view, key=KEY)
    np.testing.assert_array_equal(said.prediction, made['sample'][[7, 2]])
    np.testing.assert_array_equal(said.taps['noise'], made['noise'][[7, 2]])

    stored = recorded_trajectories(TASK, (1.0, 0.6, 0.0), low=1.0, high=3.0)
    stage = stored.inputs['trajectories'].stage
    made = stage.call({'teacher': variables}, key=KEY)
    assert {n: a.shape for n, a in made.items()} == {n: s.shape for n, s in stage.shapes({}).items()}
    assert 1.0 <= made['scale'].min() < 1.5 < 2.5 < made['scale'].max() <= 3.0
    said = stored.teacher.apply({}, {'trajectories': made}, view, key=KEY)
    np.testing.assert_allclose(said.taps['times'], [[1.0, 0.6]] * 2)
    np.testing.assert_array_equal(said.taps['states'], made['states'][[7, 2]])


def test_a_sampler_is_chosen_on_the_validation_split_and_costs_what_it_says():
    task = dataclasses.replace(TASK, rows=301)
    chosen = []

    def choose(denoiser, measure):
        values = {n: measure(evenly(DPMSolver(), n)) for n in (1, 8)}
        chosen.append(min(values, key=values.get))
        return evenly(DPMSolver(), chosen[-1])

    arm = sampler_arm(task, 'chosen', choose, metric='kl_to_data', exact=task.exact_denoiser())
    assert arm.inputs == {}
    arrays, info = arm.call({}, key=KEY)
    assert chosen == [8] and info['metrics']['test']['nfe'] == 8.0
    assert arrays['samples']['test'].shape == (40, 2)
    guided = sampler_arm(
        task, 'guided', lambda *_: evenly(DDIM(), 2), metric='kl_to_data', guidance=Guidance(2.0, 'from_null')
    )
    assert guided.call({'teacher': teacher_variables(task)}, key=KEY)[1]['metrics']['test']['nfe'] == 4.0


def test_the_best_sampler_of_so_many_evaluations_has_them():
    exact = TASK.exact_denoiser()
    found = best_of(2)(exact, lambda sampler: sampler.times[-1] + len(sampler.times))
    assert found.nfe(exact) == 2
