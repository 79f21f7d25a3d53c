"""Denoisers: their methods against the analytic mixture, other schedules, guidance, derivatives and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, THREE, TIMES, states, two_classes

from kdjax import diffusion
from kdjax.errors import UserError

MIXTURE = two_classes()
PAIRS = [(a, b) for a in SCHEDULES for b in ('flow', 'karras', 'trigflow') if a != b]
LABELS = jnp.array([0, 1, 2, 1, 0])


def network_for(prediction, schedule, sigma_data=0.5, mixture=MIXTURE):
    """The exact network of a prediction, written by hand from the mixture's posterior mean."""
    exact = mixture.under(schedule)

    def network(x_t, t, condition):
        alpha, sigma = (level[:, None] for level in schedule.levels(t))
        data = exact.data(x_t, t, condition)
        noise = (x_t - alpha * data) / sigma
        spread = jnp.hypot(alpha * sigma_data, sigma)
        return {
            'noise': noise,
            'data': data,
            'v': alpha * noise - sigma * data,
            'flow': noise - data,
            'edm': (data - alpha * sigma_data**2 / spread**2 * x_t) * spread / (sigma * sigma_data),
            'trigflow': (alpha * sigma_data**2 / spread**2 * x_t - data) * spread / (sigma * sigma_data),
        }[prediction]

    return network


@pytest.mark.parametrize('name', THREE)
@pytest.mark.parametrize('prediction', diffusion.PREDICTIONS)
def test_every_prediction_says_the_same(name, prediction):
    schedule = SCHEDULES[name]
    with jax.enable_x64(True):
        network = network_for(prediction, schedule, mixture=two_classes())
        denoiser = diffusion.Denoiser(network, schedule, prediction, sigma_data=0.5)
        exact, x_t, times = two_classes().under(schedule), jnp.asarray(states(), float), jnp.asarray(TIMES, float)
        alpha, sigma = (level[:, None] for level in schedule.levels(times))
        data, score = exact.data(x_t, times, LABELS), exact.score(x_t, times, LABELS)
        rate_alpha, rate_sigma = (rate[:, None] for rate in schedule.rates(times))
        noise = (x_t - alpha * data) / sigma
        close = {'rtol': 1e-8, 'atol': 1e-8}
        np.testing.assert_allclose(denoiser.data(x_t, times, LABELS), data, **close)
        np.testing.assert_allclose(denoiser.noise(x_t, times, LABELS), noise, **close)
        np.testing.assert_allclose(denoiser.score(x_t, times, LABELS), score, **close)
        velocity = rate_alpha * data + rate_sigma * noise
        np.testing.assert_allclose(denoiser.velocity(x_t, times, LABELS), velocity, **close)


def test_velocity_of_a_flow_network_is_its_output():
    schedule = SCHEDULES['flow']
    denoiser = diffusion.Denoiser(network_for('flow', schedule), schedule, 'flow')
    np.testing.assert_array_equal(denoiser.velocity(states(), TIMES), denoiser.raw(states(), TIMES))


@pytest.mark.parametrize(('own', 'other'), PAIRS)
def test_under_another_schedule_it_is_the_same_function(own, other):
    """The data prediction of the mixture under the other schedule, at every time within both."""
    schedule = SCHEDULES[other]
    ratio = schedule.log_snr(TIMES)
    within = (ratio < SCHEDULES[own].log_snr(0.0)) & (ratio > SCHEDULES[own].log_snr(1.0))
    moved = MIXTURE.denoiser(SCHEDULES[own]).under(schedule)
    assert moved.schedule == schedule and within.sum() >= 2
    exact = MIXTURE.under(schedule).data(states(), TIMES, LABELS)
    found = moved.data(states(), TIMES, LABELS)
    np.testing.assert_allclose(found[within], exact[within], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('prediction', diffusion.PREDICTIONS)
def test_the_answer_keeps_its_meaning_under_another_schedule(prediction):
    flow, trig = SCHEDULES['flow'], SCHEDULES['trigflow']
    moved = diffusion.Denoiser(network_for(prediction, flow), flow, prediction, sigma_data=0.5).under(trig)
    assert (moved.predicts, moved.sigma_data) == (prediction, 0.5)
    wanted = network_for(prediction, trig)(states(), TIMES, LABELS)
    np.testing.assert_allclose(moved.raw(states(), TIMES, LABELS), wanted, rtol=2e-3, atol=2e-3)


def test_from_flow_to_trigflow_is_the_published_conversion():
    """SANA-Sprint's equations: t_flow = sin / (sin + cos), x_flow = x_trig * sqrt(t^2 + (1 - t)^2), for unit data."""
    flow, trig = SCHEDULES['flow'], diffusion.TrigFlow(1.0)
    network = network_for('flow', flow)
    angle, x_t = trig.angle(TIMES), states()
    t = jnp.sin(angle) / (jnp.sin(angle) + jnp.cos(angle))
    scale = jnp.sqrt(t**2 + (1 - t) ** 2)
    x_flow = x_t * scale[:, None]
    v = network(x_flow, t, LABELS)
    published = ((1 - 2 * t)[:, None] * x_flow + (1 - 2 * t + 2 * t**2)[:, None] * v) / scale[:, None]
    found = diffusion.Denoiser(network, flow, 'flow').under(trig).predicting('trigflow').raw(x_t, TIMES, LABELS)
    np.testing.assert_allclose(found, published, rtol=1e-4, atol=1e-4)


def test_under_its_own_schedule_it_is_itself():
    denoiser = MIXTURE.denoiser(SCHEDULES['cosine'])
    assert denoiser.under(diffusion.Cosine()) is denoiser


def test_beyond_the_ends_it_answers_at_its_own_end():
    """At t = 1 a flow has no data left; EDM's ladder ends at 80. The data expected is nearly the mean there."""
    moved = MIXTURE.denoiser(SCHEDULES['karras']).under(SCHEDULES['flow'])
    found = moved.data(states(), 1.0)
    np.testing.assert_allclose(found, np.broadcast_to(MIXTURE.mean(), found.shape), atol=0.05)


def test_edm_networks_are_told_their_own_coordinates():
    """Under another schedule too: x_t / alpha at sigma / alpha."""
    seen = {}

    def network(x, c_noise, condition):
        seen.update(x=x, told=c_noise)
        return x

    for name in ('karras', 'flow'):
        schedule = SCHEDULES[name]
        diffusion.preconditioned(network, schedule, 0.5)(states(), TIMES, None)
        alpha, sigma = schedule.levels(TIMES)
        np.testing.assert_allclose(seen['told'], np.log(sigma / alpha) / 4, rtol=1e-5)
        wanted = states() / np.sqrt(sigma**2 + 0.25 * alpha**2)[:, None]
        np.testing.assert_allclose(seen['x'], wanted, rtol=1e-5)


@pytest.mark.parametrize('of', ['raw', 'data', 'velocity'])
def test_tangent_is_a_finite_difference(of):
    with jax.enable_x64(True):
        denoiser = two_classes().denoiser(SCHEDULES['trigflow'])
        x_t, t = jnp.asarray(states(), float), jnp.asarray(TIMES, float)
        dx, dt = jnp.flip(x_t, axis=0), jnp.linspace(0.5, 1.5, len(TIMES))
        value, rate = diffusion.tangent(denoiser, x_t, t, dx, dt, LABELS, of=of)
        method, width = getattr(denoiser, of), 1e-6
        ahead = method(x_t + width * dx, t + width * dt, LABELS)
        behind = method(x_t - width * dx, t - width * dt, LABELS)
        np.testing.assert_allclose(value, method(x_t, t, LABELS), rtol=1e-12)
        np.testing.assert_allclose(rate, (ahead - behind) / (2 * width), rtol=1e-5, atol=1e-6)


def test_tangent_takes_one_time_for_all():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    one = diffusion.tangent(denoiser, states(), 0.5, states(key=1), 1.0)
    many = diffusion.tangent(denoiser, states(), jnp.full(5, 0.5), states(key=1), jnp.ones(5))
    np.testing.assert_array_equal(one, many)


def test_scale_of_one_form_is_one_more_than_of_the_other():
    denoiser = MIXTURE.denoiser(SCHEDULES['cosine'])
    first = denoiser.guided(diffusion.Guidance(3.0, 'from_null'), null=2)
    second = denoiser.guided(diffusion.Guidance(2.0, 'beyond_condition'), null=2)
    np.testing.assert_allclose(
        first.score(states(), TIMES, LABELS), second.score(states(), TIMES, LABELS), rtol=1e-4, atol=1e-4
    )
    assert (first.calls, second.calls) == (2, 2)


@pytest.mark.parametrize('of', ['data', 'noise', 'score', 'velocity'])
def test_guidance_is_the_same_on_every_prediction(of):
    denoiser = MIXTURE.denoiser(SCHEDULES['cosine'])
    found = getattr(denoiser.guided(diffusion.Guidance(3, 'from_null'), null=2), of)(states(), TIMES, LABELS)
    null = jnp.full(5, 2)
    conditional, free = (getattr(denoiser, of)(states(), TIMES, labels) for labels in (LABELS, null))
    np.testing.assert_allclose(found, free + 3 * (conditional - free), rtol=1e-3, atol=1e-3)


def test_a_scale_for_each_example():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    scales = jnp.arange(5.0)
    whole = denoiser.guided(diffusion.Guidance(scales, 'beyond_condition'), null=2).data(states(), TIMES, LABELS)
    for i in range(5):
        alone = denoiser.guided(diffusion.Guidance(float(i), 'beyond_condition'), null=2)
        one = alone.data(states()[i : i + 1], TIMES[i], LABELS[i : i + 1])
        np.testing.assert_allclose(whole[i], one[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('scale', 'form'), [(1.0, 'from_null'), (0, 'beyond_condition')])
def test_plain_guidance_is_the_conditional_prediction_itself(scale, form):
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    assert denoiser.guided(diffusion.Guidance(scale, form), null=None) is denoiser


def test_no_guidance_from_null_is_the_unconditional_prediction():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    free = denoiser.guided(diffusion.Guidance(0.0, 'from_null'), null=2)
    np.testing.assert_allclose(free.data(states(), TIMES, LABELS), denoiser.data(states(), TIMES), rtol=1e-5, atol=1e-6)


def test_low_precision_in_float32_out():
    def network(x_t, t, condition):
        return x_t

    denoiser = diffusion.Denoiser(network, SCHEDULES['cosine'], 'noise')
    for method in (denoiser.raw, denoiser.data, denoiser.score, denoiser.velocity):
        assert method(states().astype(jnp.bfloat16), TIMES).dtype == jnp.float32


def test_under_jit_and_grad():
    denoiser = MIXTURE.denoiser(SCHEDULES['cosine']).guided(diffusion.Guidance(2.0, 'from_null'), null=2)
    slope = jax.grad(lambda x: jnp.sum(denoiser.under(SCHEDULES['flow']).data(x, TIMES, LABELS)))
    np.testing.assert_allclose(jax.jit(slope)(states()), slope(states()), rtol=1e-3, atol=1e-4)
    assert np.isfinite(slope(states())).all()


def test_guidance_without_an_unconditional_branch_is_refused():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'], name='teacher')
    with pytest.raises(
        UserError, match=r"guidance of 'teacher' with scale 5\.0 needs an unconditional branch: pass null="
    ):
        denoiser.guided(diffusion.Guidance(5.0, 'from_null'), null=None)


def test_guidance_without_a_condition_is_refused():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'], name='teacher').guided(diffusion.Guidance(5.0, 'from_null'), null=2)
    with pytest.raises(UserError, match="'teacher' is guided but was given no condition"):
        denoiser.data(states(), TIMES)


def test_a_form_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="unknown form of guidance 'cfg'"):
        diffusion.Guidance(5.0, 'cfg')


def test_labels_outside_the_classes_are_refused():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'], name='teacher')
    with pytest.raises(
        UserError, match="label 3 is outside the classes of 'teacher': they are 0 to 1, and 2 is the null"
    ):
        denoiser.data(states(), TIMES, LABELS + 1)


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(UserError, match="the condition of 'teacher' has dtype float32"):
        MIXTURE.denoiser(SCHEDULES['flow'], name='teacher').data(states(), TIMES, LABELS.astype(jnp.float32))


def test_an_answer_of_another_shape_is_refused():
    denoiser = diffusion.Denoiser(lambda x, t, c: x[:, :1], SCHEDULES['flow'], 'data', name='fake')
    with pytest.raises(UserError, match=r"'fake' answers x_t of shape \(5, 2\) with \(5, 1\)"):
        denoiser.data(states(), TIMES)


def test_scores_that_are_not_finite_name_the_player():
    score = states().at[3, 1].set(jnp.nan)
    with pytest.raises(
        UserError, match=r"the score of 'fake' is not finite in 1 of 5 examples, first in example 3 \(t = 0.8\)"
    ):
        diffusion.finite('fake', score, TIMES)
    diffusion.finite('fake', states(), TIMES)


def test_a_derivative_of_nothing_is_refused():
    with pytest.raises(UserError, match="tangent of 'x0': choose"):
        diffusion.tangent(MIXTURE.denoiser(SCHEDULES['flow']), states(), 0.5, states(), 1.0, of='x0')
