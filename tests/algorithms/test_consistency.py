"""Objectives of consistency, on a Gaussian whose paths are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_paths import (
    KARRAS,
    KEY,
    SCALE,
    S,
    data_of_jump,
    grid_factor,
    mean_and_error,
    over,
    points,
    saying,
    teacher,
)

from kdjax import diffusion, losses
from kdjax.algorithms.consistency_adversarial import adversarial_consistency, consistency_critic
from kdjax.algorithms.consistency_continuous import (
    continuous_consistency,
    log_normal_times,
    tangent_of,
    tangents_of,
    trigflow,
    warming,
)
from kdjax.algorithms.consistency_discrete import consistency_distillation
from kdjax.algorithms.consistency_regularised import follows_rollouts, rollout, score_regularisation
from kdjax.algorithms.consistency_segmented import segment_start, segmented_consistency
from kdjax.algorithms.trajectory import grid_times
from kdjax.errors import UserError
from kdjax.streams import stream
from kdjax.view import View

STEPS = 8


def to_segment(steps, segments):
    """The student whose jump to the start of its segment is DDIM's path on the grid."""

    def data(x, t):
        n = jnp.round(t * steps).astype(jnp.int32)
        start = segment_start(jnp.maximum(n, 1), steps, segments)
        data = data_of_jump(grid_factor(n, start, steps), KARRAS.sigma(t), KARRAS.sigma(start / steps))
        return over(jnp.where(n == start, 1.0, data), x)

    return saying(data)


def to_data(x, t):
    """The exact map to the noise level at time 0."""
    level, least = KARRAS.sigma(t), KARRAS.sigma(0.0)
    return over(jnp.sqrt((S**2 + least**2) / (S**2 + level**2)), x)


def test_consistency_distillation_is_zero_at_the_end_of_the_path():
    def exact(x, t):
        n = jnp.round(t * STEPS).astype(jnp.int32)
        return over(grid_factor(n, 0 * n, STEPS), x)

    x, _ = points()

    def value(student, steps=STEPS, order=1):
        return consistency_distillation(
            x, None, student, student, teacher(), key=KEY, steps=steps, order=order, distance='squared'
        )

    assert jnp.max(value(saying(exact))) < 1e-6 < 1e-3 < jnp.max(value(teacher()))
    errors = [float(jnp.mean(value(saying(to_data), steps, order))) for steps, order in ((64, 1), (64, 2))]
    assert errors[1] < 0.1 * errors[0] < 1e-3


def test_consistency_training_has_no_teacher_and_steps_may_be_weighed():
    x, _ = points()
    student = saying(to_data)
    plain, weighted = (
        consistency_distillation(x, None, student, student, None, key=KEY, steps=64, weighted=w) for w in (False, True)
    )
    assert plain.shape == (64,) and jnp.mean(plain) < 0.1
    n, t = grid_times(64, 64, key=stream(KEY, 'time'))
    np.testing.assert_allclose(weighted, plain / (KARRAS.sigma(t) - KARRAS.sigma((n - 1) / 64)), rtol=1e-3)


def test_a_segment_starts_below_every_point_of_the_grid():
    n = jnp.arange(1, 9)
    assert segment_start(n, 8, 4).tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    assert segment_start(n, 8, 1).tolist() == [0] * 8
    with pytest.raises(UserError, match='3 segments of a grid of 8 steps: one or more, that divide the steps'):
        segment_start(n, 8, 3)


@pytest.mark.parametrize('segments', [8, 2, 1])
def test_segmented_consistency_is_zero_where_jumps_follow_the_path(segments):
    x, _ = points()

    def value(student, **options):
        return segmented_consistency(
            x, None, student, student, teacher(), key=KEY, segments=segments, steps=STEPS, **options
        )

    exact = to_segment(STEPS, segments)
    assert jnp.max(value(exact, fixed_end=True)) < 1e-6
    assert (jnp.max(value(exact)) < 1e-6) == (segments == STEPS)  # ends in between ask for another prediction
    assert jnp.max(value(saying(lambda x, t: 0.5 * x))) > 1e-3


def exact_output(x_t, t):
    """F of the map to the data, sigma_data SCALE, written so that t = 0 divides nothing by 0."""
    angle = np.pi / 2 * t
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    root = jnp.sqrt((S * cos) ** 2 + (SCALE * sin) ** 2)
    return over(sin * ((SCALE * cos) ** 2 - S**2 * (1 + cos**2)) / (SCALE * root * (cos * root + S)), x_t)


TRIG = diffusion.TrigFlow(SCALE)


def exact_student(factor=1.0, turn=0.0):
    return diffusion.Denoiser(
        lambda x, t, c: factor * exact_output(x, t) + turn * jnp.sin(3 * t)[:, None] * jnp.tanh(x), TRIG, 'trigflow'
    )


def test_the_exact_consistency_function_has_no_tangent():
    x, noise = points()
    t = jnp.linspace(0.02, 0.98, len(x))
    x_t = TRIG.noised(x, noise, t)
    taught = saying(teacher(TRIG_KARRAS).data, TRIG_KARRAS)
    velocity = SCALE * trigflow(taught).raw(x_t, t)
    _, g = tangent_of(exact_student(), x_t, t, velocity, normalise=False)
    _, off = tangent_of(exact_student(1.1), x_t, t, velocity, normalise=False)
    assert jnp.max(jnp.abs(g)) < 1e-4 < 1e-2 < jnp.max(jnp.abs(off))
    drawn = tangents_of(x, None, exact_student(), taught, key=jax.random.key(0))
    assert drawn.shape == x.shape and jnp.max(jnp.abs(drawn)) < 1e-3


TRIG_KARRAS = diffusion.Karras(1e-3, 1e3)
"""Wide enough that TrigFlow's times lie within it."""


def test_continuous_consistency_from_pairs_has_no_expected_gradient_at_the_exact_function():
    x, _ = points(8192)

    @jax.jit
    def gradient(factor):
        def values(factor):
            student = exact_student(factor)
            return continuous_consistency(x, None, student, None, key=KEY, normalise=False)

        return mean_and_error(jax.jvp(values, (factor,), (1.0,))[1])

    (mean, error), (wrong, _) = gradient(1.0), gradient(1.3)
    assert abs(mean) < 3 * error < 0.5 * abs(wrong)


def test_its_gradient_is_that_of_a_finite_difference_along_the_path():
    """g = cos(t) df/dt, the difference taken through the whole of f at two points of the teacher's path."""
    with jax.enable_x64(True):
        x = jnp.asarray(points(16)[0], float)
        exact = diffusion.isotropic([[0.0, 0.0]], S).denoiser(TRIG)
        taught = diffusion.Denoiser(exact.network, TRIG, 'data', sigma_data=SCALE)

        def through(turn):
            student, options = exact_student(1.1, turn), {'normalise': False, 'weight_by_noise': True}
            return jnp.mean(continuous_consistency(x, None, student, taught, key=KEY, **options))

        t = log_normal_times(16, SCALE, mean=-1.0, deviation=1.4, key=stream(KEY, 'time'))
        x_t = TRIG.noised(x, jax.random.normal(stream(KEY, 'noise'), x.shape, x.dtype), t)
        velocity = 2 / np.pi * taught.velocity(x_t, t)  # in the angle

        def data(step):
            student = exact_student(1.1, 0.4)
            return student.data(x_t + step * velocity, t + 2 / np.pi * step)

        angle, h = np.pi / 2 * t, 1e-5
        g = jnp.cos(angle)[:, None] * (data(h) - data(-h)) / (2 * h)
        weight = -jnp.log(SCALE * jnp.tan(angle))

        def differences(turn):
            output = exact_student(1.1, turn).raw(x_t, t)
            return jnp.mean(losses.tangent_matching(output, g, weight))

        np.testing.assert_allclose(jax.grad(through)(0.4), jax.grad(differences)(0.4), rtol=1e-5)


def test_forms_agree_without_warm_up_and_a_warm_up_rises_to_one():
    x, _ = points(8)

    def slope(form):
        def value(turn):
            return jnp.mean(continuous_consistency(x, None, exact_student(1.1, turn), None, key=KEY, form=form))

        return jax.grad(value)(0.4)

    np.testing.assert_allclose(slope('scm'), slope('rcm'), rtol=1e-4)
    risen = [float(warming(4).apply({}, {}, View({}, {}, step), key=KEY).prediction) for step in (0, 1, 9)]
    assert risen == [0.0, 0.25, 1.0]
    with pytest.raises(UserError, match='a warm-up of 0 steps'):
        warming(0)
    with pytest.raises(UserError, match="'denoiser' has no sigma_data, which TrigFlow needs"):
        trigflow(teacher_without_scale())


def teacher_without_scale():
    return diffusion.Denoiser(lambda x, t, c: x, KARRAS, 'data')


def test_gradients_of_a_rollout_pass_its_last_step_alone():
    _, noise = points(32)

    def made(factor):
        return rollout(noise, None, saying(lambda x, t: factor * x), key=KEY, steps=3)

    value, slope = jax.jvp(made, (0.5,), (1.0,))
    np.testing.assert_allclose(slope, value / 0.5, rtol=1e-5)  # of factor * x, where x is a constant
    one = rollout(noise, None, saying(lambda x, t: 0.5 * x), key=KEY, steps=1)
    np.testing.assert_allclose(one, 0.5 * KARRAS.prior(noise), rtol=1e-6)
    with pytest.raises(UserError, match='a rollout of 0 steps'):
        rollout(noise, None, teacher(), key=KEY, steps=0)


def test_score_regularisation_moves_samples_towards_the_teacher_and_stops_there():
    _, noise = points(64)

    def slope(place, fake):
        def value(place):
            student = saying(lambda x, t: place + 0 * x)
            return jnp.mean(score_regularisation(noise, None, student, teacher(), fake, key=KEY, steps=2))

        return float(jax.grad(value)(place))

    def at(place):
        return saying(lambda x, t: place + 0 * x)  # the exact fake score of samples that are all there

    assert slope(1.0, at(1.0)) > 0.1 and slope(-1.0, at(-1.0)) < -0.1
    assert slope(1.0, teacher()) == 0.0


def test_the_fake_score_is_at_rest_where_it_knows_the_samples():
    _, noise = points(64)
    student = saying(lambda x, t: 1.0 + 0 * x)

    def value(place):
        fake = saying(lambda x, t: place + 0 * x)
        return jnp.mean(follows_rollouts(noise, None, student, fake, key=KEY, steps=2))

    assert value(1.0) == 0.0 < value(1.1)
    moved = jax.grad(lambda p: jnp.mean(follows_rollouts(
        noise, None, saying(lambda x, t: p + 0 * x), saying(lambda x, t: 0.5 * x), key=KEY, steps=2
    )))(1.0)  # fmt: skip
    assert moved == 0.0  # it trains the fake, not the student


def test_the_critic_and_the_student_are_on_two_sides():
    x, _ = points(64)
    label = jnp.arange(64) % 3

    def critic(slope):
        return lambda x_t, t, condition: slope * x_t

    def fooling(place):
        student = saying(lambda x, t: place + 0 * x)
        return jnp.mean(adversarial_consistency(x, label, student, critic(2.0), key=KEY))

    assert float(jax.grad(fooling)(0.3)) == pytest.approx(-2.0, rel=1e-5)
    student = saying(lambda x, t: 0.3 + 0 * x)
    np.testing.assert_allclose(consistency_critic(x, label, student, critic(0.0), key=KEY), 1.0)
    trained = jax.grad(lambda p: jnp.mean(consistency_critic(
        x, label, saying(lambda x, t: p + 0 * x), critic(0.1), key=KEY
    )))(0.3)  # fmt: skip
    assert trained == 0.0

    def by_class(x_t, t, condition):
        return (condition == label).astype(x_t.dtype)[:, None] * jnp.ones_like(x_t)

    plain, other = (consistency_critic(x, label, student, by_class, key=KEY, mismatched=m) for m in (False, True))
    assert jnp.mean(plain) == 1.0 > jnp.mean(other)  # it tells a neighbour's class
