"""Score distillation where the right direction is known: Gaussians, exact paths, and what methods reduce to."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.scores import (
    ClassifierOnly,
    Drawn,
    FromSeed,
    Given,
    Inverted,
    LessBefore,
    LessFake,
    LessNext,
    LessNoise,
    LessNothing,
    LessSource,
    Posterior,
    ScoreDistillation,
    Times,
    annealed,
    narrowed,
    noise_share,
    of_particles,
    uniform,
)
from kdjax.diffusion import Denoiser, Discrete, Guidance, LinearGenerator, isotropic
from kdjax.diffusion.round import round_mixture
from kdjax.errors import UserError

KEY = jax.random.key(0)
SCHEDULE = Discrete.from_betas(np.linspace(0.01, 0.25, 20))
PLAIN = Guidance(1, 'from_null')
GUIDED = Guidance(3.0, 'from_null')
MEAN, DEVIATION = np.array([0.5, -1.0]), 0.4


def gaussian_prior() -> Denoiser:
    return round_mixture(MEAN[None], DEVIATION, [[1.0], [1.0]]).denoiser(SCHEDULE, classes=1)


def two_classes() -> Denoiser:
    means = [[1.0, 0.0], [0.4, 0.9], [-1.0, 0.2]]
    return round_mixture(means, 0.3, [[0.7, 0.3, 0], [0, 0, 1], [1, 1, 1], [1, 1, 2]]).denoiser(SCHEDULE, classes=3)


def pictures(count: int = 6):
    x, own = (jax.random.normal(jax.random.fold_in(KEY, i), (count, 2)) for i in (1, 2))
    return x, own, jnp.arange(count) % 2


def given(prior=None, guidance=PLAIN, **more) -> Given:
    x, own, condition = pictures()
    if prior is None:
        prior, condition = gaussian_prior(), 0 * condition
    return Given(x, condition, prior, guidance, 2 if prior.classes == 3 else 1, **{'own': own, **more})


def direction(method: ScoreDistillation, given: Given, step: int = 0, key=KEY):
    return jax.jit(lambda: method.direction_of(given, key=key, step=step))()


def score_slope(t: float):
    """d guided noise / dx_t of the Gaussian prior: sigma / (alpha^2 s^2 + sigma^2)."""
    alpha, sigma = (float(level) for level in SCHEDULE.levels(t))
    return sigma / (alpha**2 * DEVIATION**2 + sigma**2)


def test_the_expected_direction_of_sds_at_a_gaussian():
    """E (noise predicted - noise) = slope alpha (x - mean), over 4000 draws, within five standard errors."""
    t, draws = 0.4, 4000
    method = ScoreDistillation(PLAIN, 1, uniform(t, t))
    case = given()
    every = jax.jit(jax.vmap(lambda k: method.direction_of(case, key=k, step=0)[0]))(jax.random.split(KEY, draws))
    alpha, sigma = (float(level) for level in SCHEDULE.levels(t))
    right = score_slope(t) * alpha * (np.asarray(case.x) - MEAN[None])
    spread = abs(score_slope(t) * sigma - 1) / draws**0.5
    np.testing.assert_allclose(np.mean(every, axis=0), right, atol=5 * spread)
    np.testing.assert_allclose(direction(method, case)[1], sigma**2, rtol=1e-5)
    variance = 2 * draws * spread**2
    known = variance / (np.sum(right**2, axis=1) + variance)
    np.testing.assert_allclose(noise_share(every), known, rtol=0.1)
    np.testing.assert_allclose(noise_share(every[:1].repeat(3, axis=0)), 0, atol=1e-12)


def test_the_gradient_is_the_weighted_direction_and_that_of_stable_dreamers_regression():
    """x - x_hat = sigma / alpha (guided - noise), so SDS is 1/2 w' |x - sg(x_hat)|^2 with w' = w alpha / sigma."""
    t = 0.4
    method, case = ScoreDistillation(GUIDED, 1, uniform(t, t), Drawn(0)), given(two_classes(), GUIDED)
    alpha, sigma = SCHEDULE.levels(t)

    def surrogate(x):
        return jnp.sum(method(dataclasses.replace(case, x=x), key=KEY, step=0))

    def regression(x):
        x_t = SCHEDULE.noised(x, case.own, t)
        target = jax.lax.stop_gradient(case.guided.data(x_t, t, case.condition))
        return sigma**2 * alpha / sigma * 0.5 * jnp.sum(jnp.square(x - target))

    gradient = jax.jit(jax.grad(surrogate))(case.x)
    moved, weight = direction(method, case)
    np.testing.assert_allclose(gradient, np.asarray(weight)[:, None] * moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(regression))(case.x), rtol=1e-4, atol=1e-5)


def test_vsd_with_the_score_of_a_gaussian_generator_follows_the_divergence():
    """E direction = sigma / alpha d KL(q_t || p_t) / d shift for a linear generator; fake = prior has no direction."""
    t = 0.5
    generator = LinearGenerator(jnp.array([[0.5, 0.1], [0.0, 0.3]]), jnp.array([-0.3, 0.2]))
    fake, count = generator.constant().denoiser(SCHEDULE), 4000
    x = generator(jax.random.normal(KEY, (count, 2)))
    case = Given(x, jnp.zeros(count, jnp.int32), gaussian_prior(), PLAIN, 1, fake=fake)
    method = ScoreDistillation(PLAIN, 1, uniform(t, t), direction=LessFake())
    moved = np.asarray(direction(method, case)[0])
    alpha, _ = SCHEDULE.levels(t)
    right = score_slope(t) * float(alpha) * (np.asarray(generator.shift) - MEAN)
    error = moved.std(0) / count**0.5
    assert (error < 0.05 * np.abs(right)).all()
    np.testing.assert_array_less(np.abs(moved.mean(0) - right), 5 * error)
    still = direction(method, dataclasses.replace(case, fake=case.prior))[0]
    np.testing.assert_allclose(still, 0, atol=1e-6)


def test_one_particle_without_width_is_sds():
    """The score of one point says what the noise was; and particles of another label do not count."""
    x = jnp.array([[0.3, 0.1], [2.0, 1.0]])
    labels = jnp.array([0, 1])
    method = ScoreDistillation(PLAIN, 1, uniform(0.5, 0.5), direction=LessFake())
    fake = of_particles(x, labels, SCHEDULE, width=1e-4)
    case = Given(x, 0 * labels, gaussian_prior(), PLAIN, 1, fake=fake)
    plain = dataclasses.replace(method, direction=LessNoise())
    np.testing.assert_allclose(direction(method, case)[0], direction(plain, case)[0], atol=1e-4)


def followed(method, times, guidance, start, noise_of=None):
    """x := x - direction * weight at these times, one after another."""
    case = dataclasses.replace(given(two_classes(), guidance), x=start)
    for k, t in enumerate(times):
        case = dataclasses.replace(case, own=noise_of(k, case) if noise_of else case.own)
        moved, weight = direction(dataclasses.replace(method, times=uniform(t, t), guidance=guidance), case)
        case = dataclasses.replace(case, x=case.x - weight[:, None] * moved)
    return case.x


@pytest.fixture(scope='module')
def path():
    """DDIM by hand from the pictures' own noise: (times, data expected and noise predicted at each)."""
    case, times = given(two_classes(), GUIDED), [1.0, 0.7, 0.4, 0.2]
    z, found = SCHEDULE.prior(case.own), []
    for t, to in zip(times, [*times[1:], 0.1], strict=True):
        data, noise = case.guided.data(z, t, case.condition), case.guided.noise(z, t, case.condition)
        found.append((data, noise))
        z = SCHEDULE.noised(data, noise, to)
    return times, found


def test_sdi_with_the_noise_that_was_predicted_last_is_ddim(path):
    times, found = path
    method = ScoreDistillation(GUIDED, 1, noise=Drawn(0), weight='data')
    last = followed(method, times[1:], GUIDED, found[0][0], lambda k, case: found[k][1])
    np.testing.assert_allclose(last, found[-1][0], atol=2e-5)


def test_dsd_that_follows_its_path_exactly_is_ddim(path):
    """One step an interval, weight sigma / alpha, the same guidance on both sides: x stays the data expected."""
    times, found = path

    @dataclasses.dataclass(frozen=True)
    class Known:
        k: int

        def __call__(self, case, t, *, key):
            return found[self.k][1], jnp.full_like(t, times[self.k])

    case = dataclasses.replace(given(two_classes(), GUIDED), x=found[0][0])
    for k, t in enumerate(times[1:]):
        method = ScoreDistillation(GUIDED, 1, uniform(t, t), Known(k), LessBefore(GUIDED), 'data')
        moved, weight = direction(method, case)
        case = dataclasses.replace(case, x=case.x - weight[:, None] * moved)
    np.testing.assert_allclose(case.x, found[-1][0], atol=2e-5)


def test_the_noise_of_a_seed_is_what_ddim_predicts_on_its_way(path):
    """On its own grid 1, .75, .5, .25: at t' = t = .5 the third prediction, by hand."""
    case = given(two_classes(), GUIDED)
    z = SCHEDULE.prior(case.own)
    for t, to in ((1.0, 0.75), (0.75, 0.5)):
        z = SCHEDULE.noised(case.guided.data(z, t, case.condition), case.guided.noise(z, t, case.condition), to)
    found, at = jax.jit(lambda: FromSeed(4, 0.0)(case, jnp.full(6, 0.5), key=KEY))()
    np.testing.assert_allclose(found, case.guided.noise(z, 0.5, case.condition), atol=1e-5)
    np.testing.assert_array_equal(at, 0.5)
    _, later = FromSeed(1, 0.5)(dataclasses.replace(case, least=0.1), jnp.full(6, 0.5), key=KEY)
    assert (later > 0.5).all() and (later <= 0.5 + 0.5 * 0.4).all()


def test_inversion_without_guidance_or_eta_is_the_ode():
    """Of a Gaussian, whose map is known: error of 200 steps below 1 %, and four times that with 50."""
    prior, case, t = isotropic(MEAN[None], DEVIATION).under(SCHEDULE), given(), jnp.full(6, 0.6)
    alpha, sigma = SCHEDULE.levels(0.6)
    right = (prior.ode_map(case.x, 0.0, 0.6) - alpha * case.x) / sigma

    def error(steps):
        found, at = jax.jit(lambda: Inverted(steps, PLAIN, beyond=0.0, eta=0.0)(case, t, key=KEY))()
        np.testing.assert_array_equal(at, t)
        return np.abs(found - right).max()

    fine = error(400)
    assert fine < 0.02 * np.abs(right).max()
    assert 2 < error(100) / fine < 8


def test_inversion_draws_as_told():
    case, t = given(), jnp.full(6, 0.6)
    draw = jax.jit(lambda key: Inverted(5, PLAIN)(case, t, key=key))
    (first, at), (second, _) = draw(KEY), draw(jax.random.key(1))
    assert (at >= 0.6).all() and (at <= 0.7).all() and len(set(np.asarray(at).tolist())) > 1
    assert np.abs(first - second).min() > 0


def test_constant_noise_is_the_ode(path):
    """CFD: x_t / alpha = x + level n, so dx = (guided noise - n) d level is the ODE; in finite steps it is DDIM."""
    times, found = path
    case = given(two_classes(), GUIDED)
    x = jnp.zeros_like(case.x)
    for t, to in itertools.pairwise(times):
        method = ScoreDistillation(GUIDED, 1, uniform(t, t), Drawn(0), weight='data')
        moved, level = direction(method, dataclasses.replace(case, x=x))
        alpha, sigma = SCHEDULE.levels(to)
        x = x - (1 - sigma / alpha / level)[:, None] * level[:, None] * moved
    z = SCHEDULE.noised(x, case.own, times[-1])
    np.testing.assert_allclose(case.guided.data(z, times[-1], case.condition), found[-1][0], atol=2e-5)


def test_consistent3d_contracts_towards_a_gaussian_and_its_literal_loss_expands():
    """The direction is a positive multiple of z_t - mean; and nothing moves where the prior is a point."""
    method = ScoreDistillation(PLAIN, 1, uniform(0.3, 0.3), Drawn(0), LessNext(0.2, 0.2), 'uniform')
    case = given()
    moved, weight = direction(method, case)
    np.testing.assert_array_equal(weight, 1)
    alpha, sigma = SCHEDULE.levels(0.5)
    off = np.asarray(case.x + sigma / alpha * case.own) - MEAN[None]
    share = np.asarray(moved) / off
    assert (share > 0).all() and np.ptp(share) < 1e-3 * share.mean()
    point = dataclasses.replace(case, prior=round_mixture(MEAN[None], 1e-3, [[1.0]]).denoiser(SCHEDULE))
    assert np.abs(direction(method, point)[0]).max() < 1e-3

    def literal(x):
        later, next_ = jnp.full(6, 0.5), jnp.full(6, 0.3)
        x_t = SCHEDULE.noised(x, case.own, later)
        data, noise = case.prior.data(x_t, later, case.condition), case.prior.noise(x_t, later, case.condition)
        target = case.prior.data(SCHEDULE.noised(data, noise, next_), next_, case.condition)
        return jax.lax.stop_gradient(data - target)  # the gradient under an identity Jacobian

    assert (np.asarray(literal(case.x)) * np.asarray(moved) < 0).all()


def test_pds_holds_the_source_only_with_two_steps():
    """Back one step psi is 0: a picture under its source's condition and noise has no direction, wherever it is."""
    x, _, condition = pictures()
    case = given(two_classes(), GUIDED, source=x - 0.5, source_condition=condition)
    flat = Denoiser(lambda x_t, t, c: jnp.zeros_like(x_t), SCHEDULE, 'noise', classes=3)
    case = dataclasses.replace(case, prior=flat)
    step = 1 / 19

    def moved(back):
        return direction(ScoreDistillation(GUIDED, 1, uniform(0.5, 0.5), direction=Posterior(step, back)), case)[0]

    np.testing.assert_allclose(moved(step), 0, atol=2e-5)
    assert (np.asarray(moved(2 * step)) > 1e-3).all()


def test_pds_of_one_step_is_dds_up_to_a_weight():
    x, _, condition = pictures()
    case = given(two_classes(), GUIDED, source=x - 0.5, source_condition=1 - condition)
    methods = (
        ScoreDistillation(GUIDED, 1, uniform(0.5, 0.5), direction=choice)
        for choice in (Posterior(1 / 19, 1 / 19), LessSource())
    )
    pds, dds = (np.asarray(direction(method, case)[0]) for method in methods)
    ratio = pds / dds
    assert (ratio > 0).all()
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)


def test_nfsd_above_its_threshold_without_guidance_is_conditional_less_negative():
    case = given(two_classes(), PLAIN)
    x_t = SCHEDULE.noised(case.x, case.own, 0.5)
    at = jnp.full(6, 0.5)

    def moved(t, guidance=PLAIN):
        method = ScoreDistillation(guidance, 1, uniform(t, t), Drawn(0), LessNothing(3))
        return direction(method, dataclasses.replace(case, guidance=guidance))[0]

    said = {c: case.prior.noise(x_t, at, jnp.full(6, c)) for c in (2, 3)}
    conditional = case.prior.noise(x_t, at, case.condition)
    np.testing.assert_allclose(moved(0.5), conditional - said[3], atol=1e-5)
    right = said[2] - said[3] + 4.0 * (conditional - said[2])
    np.testing.assert_allclose(moved(0.5, Guidance(3.0, 'beyond_condition')), right, atol=1e-5)
    low = SCHEDULE.noised(case.x, case.own, 0.1)
    np.testing.assert_allclose(moved(0.1), case.prior.noise(low, 0.1, case.condition), atol=1e-5)


def test_guidance_is_the_prior_and_the_classifier():
    """SDS at scale s = SDS at 0 (the unconditional prior) + s CSD."""
    case = given(two_classes(), GUIDED)
    at = uniform(0.5, 0.5)
    csd = direction(ScoreDistillation(GUIDED, 1, at, Drawn(0), ClassifierOnly()), case)[0]
    by_scale = [
        direction(ScoreDistillation(g, 1, at, Drawn(0)), dataclasses.replace(case, guidance=g))[0]
        for g in (GUIDED, Guidance(0.0, 'from_null'))
    ]
    np.testing.assert_allclose(by_scale[0] - by_scale[1], 3 * csd, atol=1e-5)


def test_noise_is_mixed_with_unit_variance():
    x = jnp.zeros((1, 20_000))
    case = dataclasses.replace(given(), x=x, own=jax.random.normal(jax.random.key(3), x.shape))
    mixed, _ = Drawn(0.36)(case, jnp.full(1, 0.5), key=KEY)
    assert float(jnp.std(mixed)) == pytest.approx(1, abs=5 / 200)
    assert np.corrcoef(mixed[0], case.own[0])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_times_move_with_progress():
    times = Times(((0.0, 0.5, 0.9), (0.5, 0.1, 0.5), (1.0, 0.1, 0.1)))
    for progress, ends in ((0.0, (0.5, 0.9)), (0.25, (0.3, 0.7)), (0.75, (0.1, 0.3)), (1.0, (0.1, 0.1))):
        np.testing.assert_allclose(times.ends(jnp.asarray(progress)), ends, atol=1e-6)
    drawn = times.draw(500, jnp.asarray(0.25), key=KEY)
    assert 0.3 <= drawn.min() < 0.32 and 0.68 < drawn.max() <= 0.7
    root = annealed(0.9, 0.1, power=0.5)
    np.testing.assert_allclose(root.ends(jnp.asarray(0.25)), 0.5, atol=1e-6)
    np.testing.assert_allclose(narrowed(0.1, 0.9, to=0.5).ends(jnp.asarray(1.0)), (0.1, 0.5), atol=1e-6)
    assert times.least == 0.1


def test_the_step_reaches_the_objective():
    """Through a term, as a player sees it: the time falls with the step of the view."""
    from kdjax.view import View

    method = ScoreDistillation(PLAIN, 10, annealed(0.9, 0.1), Drawn(0), weight='variance')
    x, own, condition = pictures()
    prior = gaussian_prior()
    objective = method.objective(lambda f: f, 1, x='batch.x', own='batch.own', teacher='batch.prior')

    def value(step):
        batch = {'x': x, 'own': own, 'label': 0 * condition, 'prior': prior}
        return float(objective(View({}, batch, step, key=KEY))['score_distillation'].mean)

    case = Given(x, 0 * condition, prior, PLAIN, 1, own=own)
    for step in (0, 7):
        assert value(step) == pytest.approx(float(jnp.mean(method(case, key=KEY, step=step))), rel=1e-5)
    assert value(0) != pytest.approx(value(7), rel=1e-2)


def test_what_is_refused():
    with pytest.raises(UserError, match='noise that stays needs `own` and was given none: name its address, `own='):
        Drawn(0)(dataclasses.replace(given(), own=None), jnp.full(6, 0.5), key=KEY)
    with pytest.raises(UserError, match='an edit needs `source`'):
        LessSource()(given(), jnp.full(6, 0.5), (given().own, jnp.full(6, 0.5)), key=KEY)
    with pytest.raises(UserError, match='2 of the noise cannot be fresh'):
        Drawn(2)
    with pytest.raises(UserError, match=r'times from 0\.9 to 0\.1: 0 <= low <= high <= 1'):
        uniform(0.9, 0.1)
    with pytest.raises(UserError, match=r'times with knots at \[0.5\]'):
        Times(((0.5, 0.1, 0.2),))
    with pytest.raises(UserError, match='score distillation over 0 steps'):
        ScoreDistillation(PLAIN, 0)
    with pytest.raises(UserError, match='0 < step <= back'):
        Posterior(0.02, 0.01)
    with pytest.raises(UserError, match='one number as the scale of guidance'):
        method = ScoreDistillation(Guidance(jnp.ones(6), 'from_null'), 1, direction=LessNothing(3))
        method.direction_of(given(two_classes(), method.guidance), key=KEY, step=0)
    with pytest.raises(ValueError, match="weight is 'nothing'"):
        ScoreDistillation(PLAIN, 1, weight='nothing').direction_of(given(), key=KEY, step=0)
