"""What each loss of generators and scores must reproduce, in closed form; see `loss_identities`.

Data, teacher and generator are Gaussians in one dimension: x = m + s z. Means over z and the added noise are
Gauss-Hermite sums, exact for polynomials. Gradients are in (m, s) of the generator.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from loss_identities import EXACT, normal

from kdjax import losses

CLOSE = 1e-6
TEACHER = (0.4, 1.5)
STUDENT = (-0.3, 0.8)
ALPHA, SIGMA = 0.8, 0.6


@functools.cache
def nodes(count=40):
    """(weights, z, noise) of the product rule, flat."""
    z, w = np.polynomial.hermite_e.hermegauss(count)
    pairs = np.meshgrid(z, z, indexing='ij')
    weights = np.outer(w, w) / (2 * np.pi)
    return weights.ravel(), pairs[0].ravel(), pairs[1].ravel()


def law(m, s):
    """Mean and variance at the noise level."""
    return ALPHA * m, (ALPHA * s) ** 2 + SIGMA**2


def log_density(x_t, m, s):
    mean, variance = law(m, s)
    return -0.5 * (x_t - mean) ** 2 / variance - 0.5 * jnp.log(2 * jnp.pi * variance)


def score(x_t, m, s):
    mean, variance = law(m, s)
    return (mean - x_t) / variance


def denoised(x_t, m, s):
    return (x_t + SIGMA**2 * score(x_t, m, s)) / ALPHA


def kl(m, s):
    """KL of the generator's noised law from the teacher's."""
    (mean, variance), (mean_, variance_) = law(m, s), law(*TEACHER)
    return 0.5 * (variance / variance_ + (mean - mean_) ** 2 / variance_ - 1 - jnp.log(variance / variance_))


def slopes(of, *point):
    return jnp.stack(jax.grad(of, argnums=(0, 1))(*(point or STUDENT)))


def constant(value):
    return jnp.full(len(nodes()[0]), value)


def expected(loss, stopped=False):
    """The gradient in (m, s) of the mean of loss(x, real, fake), with the fake score exact and its parameters held.

    stopped: with the gradient stopped where x enters the two networks.
    """
    weights, z, noise = map(jnp.asarray, nodes())

    def mean(m, s):
        x = m + s * z
        x_t = ALPHA * x + SIGMA * noise
        x_t = jax.lax.stop_gradient(x_t) if stopped else x_t
        real, fake = denoised(x_t, *TEACHER), denoised(x_t, *STUDENT)
        return jnp.sum(weights * loss(x[:, None], real[:, None], fake[:, None]))

    return slopes(mean)


def fisher(distance):
    """The gradient in (m, s) of the mean of d(fake - real) where the law of x_t stands still."""
    weights, z, noise = map(jnp.asarray, nodes())
    x_t = ALPHA * (STUDENT[0] + STUDENT[1] * z) + SIGMA * noise

    def mean(m, s):
        return jnp.sum(weights * distance(denoised(x_t, m, s) - denoised(x_t, *TEACHER)))

    return slopes(mean)


def apart(wrong, right):
    """Are they further from each other than a tenth of the right one?"""
    return jnp.linalg.norm(wrong - right) > 0.1 * jnp.linalg.norm(right)


def distribution_matching(rng):
    matched = functools.partial(losses.distribution_matching, normaliser='none')
    snr = constant(ALPHA**2 / SIGMA**2)
    got = expected(lambda x, real, fake: matched(x, real, fake, snr))
    yield 'weighed by the SNR its gradient is that of KL(q_t || p_t)', got, slopes(kl), EXACT
    x, real, fake = normal(rng, 3, 4, 5)
    size = jnp.mean(jnp.abs(x - real), axis=-1)
    divided = losses.distribution_matching(x, real, fake)
    yield 'the normaliser is a weight', divided, matched(x, real, fake, 1 / size), EXACT
    for side, fixed in (('real', lambda r: losses.distribution_matching(x, r, fake)), ('fake',
                        lambda f: losses.distribution_matching(x, real, f))):  # fmt: skip
        slope = jax.grad(lambda a, fixed=fixed: jnp.sum(fixed(a)))(real)
        yield f'no gradient reaches {side}', slope, jnp.zeros_like(real), EXACT


def em_distillation(rng):
    """One Langevin step of the noise, z held: the mean over the step's own noise is 0, so it is left out."""
    weights, z, noise = map(jnp.asarray, nodes())
    size = 0.1
    x_t = ALPHA * (STUDENT[0] + STUDENT[1] * z) + SIGMA * noise
    moved = noise + size * (SIGMA * (score(x_t, *TEACHER) - score(x_t, *STUDENT)) - noise)

    def mean(m, s):
        end = ALPHA * (STUDENT[0] + STUDENT[1] * z) + SIGMA * moved
        x = (m + s * z)[:, None]
        return jnp.sum(weights * losses.em_distillation(x, end[:, None], constant(ALPHA), constant(SIGMA)))

    yield 'K = 1: the step times the gradient of KL(q_t || p_t)', slopes(mean), size * slopes(kl), EXACT


def score_identity(rng):
    plain = functools.partial(losses.score_identity, normaliser='none')
    got = expected(functools.partial(plain, alpha=1))
    half = fisher(lambda y: 0.5 * y**2)
    yield 'alpha = 1: half the gradient of |fake - real|^2, the law standing still', got, half, EXACT
    wrong = expected(functools.partial(plain, alpha=1), stopped=True)
    yield 'stopped at the networks it is another gradient', apart(wrong, half), True, EXACT
    x, real, fake = normal(rng, 3, 4, 5)
    fisher_term = -jnp.sum((real - fake) * (x - real), axis=-1)
    yield 'alpha = 0: (real - fake) (real - x)', plain(x, real, fake, alpha=0), fisher_term, EXACT
    same = losses.score_implicit_matching(x, real, fake, distance='squared')
    yield 'alpha = 1 is squared score implicit matching', plain(x, real, fake, alpha=1), same, EXACT


def score_implicit_matching(rng):
    scale = ALPHA / SIGMA**2
    for name, distance in (('squared', lambda y: 0.5 * y**2), ('pseudo_huber', lambda y: jnp.sqrt(y**2 + 1) - 1)):
        loss = functools.partial(losses.score_implicit_matching, distance=name)
        yield f'{name}: the gradient of its distance, the law standing still', expected(loss), fisher(distance), CLOSE
        scaled = expected(lambda x, real, fake, loss=loss: loss(x, real, fake, constant(scale)))
        of_scores = fisher(lambda y, distance=distance: distance(scale * y))
        yield f'{name}: in units of scores', scaled, of_scores, CLOSE
        wrong = expected(loss, stopped=True)
        yield f'{name}: stopped at the networks it is another gradient', apart(wrong, fisher(distance)), True, EXACT
    x, real, fake = normal(rng, 3, 4, 5)
    wide = 1e4 * losses.score_implicit_matching(x, real, fake, c=1e4)
    yield (
        'c -> inf: c times it is the squared one',
        wide,
        losses.score_implicit_matching(x, real, fake, distance='squared'),
        1e-6,
    )


def denoising(rng):
    """The posterior mean is where it is least, and units are those of what a network predicts."""
    weights, z, noise = map(jnp.asarray, nodes())
    x = TEACHER[0] + TEACHER[1] * z
    x_t = ALPHA * x + SIGMA * noise

    def mean(m, s):
        said = denoised(x_t, m, s)
        return jnp.sum(weights * losses.denoising(said[:, None], x[:, None], constant(ALPHA), constant(SIGMA)))

    yield 'the exact denoiser has no gradient', slopes(mean, *TEACHER), jnp.zeros(2), EXACT
    a, s = jnp.asarray([0.6, 0.8]), jnp.asarray([0.8, 0.6])
    snr = a**2 / s**2
    stated = {
        'v': 1 / s**2,
        'noise': snr,
        'data': jnp.ones(2),
        'edm': 4 + snr,
        'truncated_snr': jnp.maximum(snr, 1),
    }
    for unit, value in stated.items():
        yield f'weight of {unit}', losses.denoising_weight(a, s, unit=unit), value, EXACT
    v = losses.denoising_weight(a, s, unit='v')
    yield 'v: SNR + 1 where variance is preserved', v, snr + 1, EXACT


def flow_matching(rng):
    velocity, x, noise = normal(rng, 3, 4, 5)
    t = jnp.full(4, 0.3)
    said = (0.7 * x + 0.3 * noise) - 0.3 * velocity
    same = losses.denoising(said, x, 1 - t, t, unit='flow')
    yield 'denoising in the unit of the flow', losses.flow_matching(velocity, x, noise), same, EXACT


def flow_of(x, t):
    """TrigFlow of N(0, s^2), sigma_data = 1: the consistency function f and the velocity of its ODE."""
    s = TEACHER[1]
    spread = jnp.sqrt((jnp.cos(t) * s) ** 2 + jnp.sin(t) ** 2)
    speed = jnp.cos(t) * jnp.sin(t) * (1 - s**2) / spread**2
    return x * s / spread, x * speed


def tangent(network, x, t, **options):
    """g of a network F(x, t), with the exact velocity."""
    column = t[:, None]
    velocity = flow_of(x, column)[1]
    weight = jnp.cos(column) * jnp.sin(column)
    output, derivative = jax.jvp(network, (x, column), (weight * velocity, weight))
    return output, velocity, derivative, losses.consistency_tangent(output, velocity, derivative, x, t, **options)


def tangent_matching(rng):
    x, t = normal(rng, 4, 1), jnp.asarray([0.2, 0.6, 1.0, 1.4])

    def exact(x, t):
        s = TEACHER[1]
        spread = jnp.sqrt((jnp.cos(t) * s) ** 2 + jnp.sin(t) ** 2)
        return (jnp.cos(t) * x - x * s / spread) / jnp.sin(t)

    *_, still = tangent(exact, x, t, normalise=False)
    yield 'the consistency function of a Gaussian has tangent 0', still, jnp.zeros_like(x), EXACT

    def other(x, t):
        return jnp.sin(x + t) * x

    output, velocity, derivative, g = tangent(other, x, t, normalise=False)
    f_dot = jax.jvp(
        lambda x, t: jnp.cos(t) * x - jnp.sin(t) * other(x, t),
        (x, t[:, None]), (velocity, jnp.ones((4, 1))),
    )[1]  # fmt: skip
    yield 'g = cos(t) df/dt', g, jnp.cos(t)[:, None] * f_dot, EXACT
    rcm = losses.consistency_tangent(output, velocity, derivative, x, t, form='rcm', normalise=False)
    yield 'both forms agree at the end of the warm-up', rcm, g, EXACT
    halves = [
        losses.consistency_tangent(output, velocity, derivative, x, t, warmup=0.5, form=form, normalise=False)
        for form in ('scm', 'rcm')
    ]
    yield 'and not within it', jnp.linalg.norm(halves[0] - halves[1]) > 0.1, True, EXACT
    wide = losses.consistency_tangent(0.5 * output, velocity, 0.5 * derivative, x, t, sigma_data=2.0, normalise=False)
    yield 'sigma_data scales the output', wide, g, EXACT
    slope = jax.grad(lambda o: jnp.sum(losses.tangent_matching(o, g)))(output)
    yield 'its gradient is -2 g', slope, -2 * g, EXACT
    unit = losses.consistency_tangent(output, velocity, derivative, x, t)
    yield 'normalised: g / (|g| + 0.1)', unit, g / (jnp.abs(g) + 0.1), EXACT


def consistency(rng):
    s, t = normal(rng, 2, 4, 5)
    w = jnp.asarray([0.5, 1.0, 2.0, 3.0])
    norm = jnp.linalg.norm(s - t, axis=-1)
    yield 'c -> 0 is the distance', losses.consistency(s, t, c=1e-9), norm, 1e-8
    squared = losses.consistency(s, t, distance='squared')
    yield '2 c times it, c -> inf, is the square', 2e4 / 5 * losses.consistency(s, t, c=1e4), squared, 1e-5
    yield 'a weight multiplies', losses.consistency(s, t, w), w * losses.consistency(s, t), EXACT
    slope = jax.grad(lambda t: jnp.sum(losses.consistency(s, t)))(t)
    yield 'the target is a constant', slope, jnp.zeros_like(t), EXACT
    skip, out = losses.boundary(jnp.asarray([0.002, 0.502]))
    yield 'at sigma_min f is its input', jnp.stack([skip[0], out[0]]), jnp.asarray([1.0, 0.0]), EXACT
    yield 'c_skip is a half one sigma_data above', skip[1], 0.5, EXACT


def mean_flow(rng):
    """The straight flow of N(0, s^2) to N(0, 1): x_t is spread(t) times what it was at 0, by spread(0)."""
    s = TEACHER[1]

    def spread(t):
        return jnp.sqrt(((1 - t) * s) ** 2 + t**2)

    def velocity(x, t):
        return x * jax.vmap(jax.grad(lambda t: jnp.log(spread(t))))(t[:, 0])[:, None]

    def mean_velocity(x, r, t):
        return (x - x * spread(r) / spread(t)) / (t - r)

    x, r, t = normal(rng, 4, 1), jnp.asarray([[0.0], [0.2], [0.5], [0.7]]), jnp.asarray([[0.9], [0.4], [0.8], [0.95]])
    v = velocity(x, t)
    u, derivative = jax.jvp(mean_velocity, (x, r, t), (v, jnp.zeros_like(r), jnp.ones_like(t)))
    target = losses.mean_flow_target(v, derivative, (t - r)[:, 0])
    yield 'the mean velocity of a Gaussian flow is its own target', u, target, 1e-8
    yield 'where it has no loss', losses.mean_flow(u, target), jnp.zeros(4), 1e-9
    said, data, noise = normal(rng, 3, 4, 5)
    instant = losses.mean_flow_target(noise - data, said, jnp.zeros(4))
    matched = 5 * losses.flow_matching(said, data, noise)
    yield 'r = t, without the weight: flow matching', losses.mean_flow(said, instant, power=0), matched, EXACT
    slope, plain = (jax.grad(lambda a, p=p: jnp.sum(losses.mean_flow(a, instant, power=p)))(said) for p in (1.0, 0.0))
    yield 'the weight is a constant', slope, plain / (matched + 0.01)[:, None], EXACT


def ddim(x_t, x, alpha, sigma, alpha_next, sigma_next):
    return alpha_next * x + sigma_next * (x_t - alpha * x) / sigma


def boot(rng):
    signal, data, noise = normal(rng, 3, 4, 5)
    a, s, a_, s_ = (jnp.full(4, v) for v in (0.6, 0.8, 0.8, 0.6))
    x_next = ddim(0.6 * signal + 0.8 * noise, data, 0.6, 0.8, 0.8, 0.6)
    there = (x_next - 0.6 * noise) / 0.8
    zero = losses.boot(there, signal, data, a, s, a_, s_)
    yield 'its target is one DDIM step, whatever the noise', zero, jnp.zeros(4), EXACT
    end = losses.boot(signal, signal, data, a, s, jnp.ones(4), jnp.zeros(4))
    yield 'a step to the end has the data as its target', end, jnp.mean((signal - data) ** 2, axis=-1), EXACT
    middle = ddim(0.6 * signal + 0.8 * noise, data, 0.6, 0.8, 0.7, 0.7)
    other = ddim(middle, signal, 0.7, 0.7, 0.8, 0.6)
    start = 0.6 * signal + 0.8 * noise
    one = losses.progressive_target(start, other, a, s, a_, s_)
    yield 'progressive_target: one step lands where two did', ddim(start, one, 0.6, 0.8, 0.8, 0.6), other, EXACT
    last = losses.progressive_target(start, other, a, s, jnp.ones(4), jnp.zeros(4))
    yield 'progressive_target: at the data it is the end', last, other, EXACT


def distilled_score(rng):
    weights, _, noise = map(jnp.asarray, nodes())
    w = losses.score_weight(constant(ALPHA), constant(SIGMA))

    def sds(x):
        x_t = ALPHA * x + SIGMA * noise
        eps = -SIGMA * score(x_t, *TEACHER)
        values = losses.distilled_score(jnp.full((len(noise), 1), x), (eps - noise)[:, None], w)
        return jnp.sum(weights * values)

    kl_of_picture = SIGMA**3 / ALPHA * jax.grad(lambda x: kl(x, 0.0))(0.7)
    yield (
        'SDS: sigma w / alpha times the gradient of KL(N(alpha x, sigma^2) || p_t)',
        jax.grad(sds)(0.7),
        kl_of_picture,
        EXACT,
    )
    x, eps, own = normal(rng, 3, 4, 5)
    a, s = jnp.asarray([0.6, 0.28, 0.8, 0.96]), jnp.asarray([0.8, 0.96, 0.6, 0.28])
    x_t = a[:, None] * x + s[:, None] * own
    hat = jax.lax.stop_gradient((x_t - s[:, None] * eps) / a[:, None])
    pulled = jax.grad(lambda x: 0.5 * jnp.sum((x - hat) ** 2))(x)
    got = jax.grad(lambda x: jnp.sum(losses.distilled_score(x, eps - own, losses.score_weight(a, s, weight='data'))))(x)
    yield 'SDS is a regression onto the denoised picture, weighed by sigma / alpha', got, pulled, EXACT
    real, fake = ((x_t - s[:, None] * e) / a[:, None] for e in (eps, own))
    matched = 5 * losses.distribution_matching(x, real, fake, normaliser='none')
    by_noise = losses.distilled_score(x, eps - own, s / a)
    yield 'VSD is distribution matching', by_noise, matched, EXACT
    slope = jax.grad(lambda d: jnp.sum(losses.distilled_score(x, d, s)))(eps)
    yield 'no gradient reaches the networks', slope, jnp.zeros_like(eps), EXACT
    yield from _directions(x, eps, own, a)


def _directions(x, eps, own, a):
    bad = jnp.sin(eps)
    early, late = jnp.full(4, 0.1), jnp.full(4, 0.5)
    one = losses.noise_free_direction(own, eps, bad, late, scale=1)
    yield 'NFSD at scale 1, at high noise: conditional - negative', one, eps - bad, EXACT
    low = losses.noise_free_direction(own, eps, bad, early)
    yield 'NFSD at low noise: classifier-free guidance', low, own + 7.5 * (eps - own), EXACT
    beta = jnp.full(4, 0.02)
    true_step = losses.posterior_direction(x, own, eps, bad, a, a / jnp.sqrt(1 - beta), beta)
    away = losses.posterior_direction(x + 1, own, eps, bad, a, a / jnp.sqrt(1 - beta), beta)
    yield 'PDS by a true step does not see the source', true_step, away, EXACT
    two = losses.posterior_direction(x, own, eps, eps, a, a / (1 - beta), beta)
    yield 'PDS by two steps and the beta of one goes back to it', jnp.all(two * (x - own) > 0), True, EXACT


def adversarial_generator(rng):
    logits = normal(rng, 4, 5)
    slope = jax.grad(lambda logits: jnp.sum(losses.adversarial_generator(logits)))(logits)
    yield 'its gradient is that of the odds', slope, -jax.nn.sigmoid(-logits) / 5, EXACT
    sure = losses.adversarial_generator(logits - 50) - losses.adversarial_generator(logits - 50, form='hinge')
    yield 'where it is found out it is linear', sure, jnp.zeros(4), EXACT


def adversarial_discriminator(rng):
    weights, z, _ = map(jnp.asarray, nodes())
    samples = [m + s * z for m, s in (TEACHER, STUDENT)]

    def value(shift, scale):
        ratio = [jax.scipy.stats.norm.logpdf(x, *TEACHER) - jax.scipy.stats.norm.logpdf(x, *STUDENT) for x in samples]
        real, fake = ((scale * r + shift)[:, None] for r in ratio)
        return jnp.sum(weights * losses.adversarial_discriminator(real, fake))

    yield 'least at the log ratio of the densities', slopes(value, 0.0, 1.0), jnp.zeros(2), 1e-4
    logits = normal(rng, 4, 5)
    generator = losses.adversarial_generator(logits)
    both = losses.adversarial_discriminator(logits, -logits)
    yield 'softplus of both sides', both, 2 * generator, EXACT


GENERATOR_IDENTITIES = {
    loss.__name__: loss
    for loss in (
        denoising,
        flow_matching,
        distribution_matching,
        em_distillation,
        score_identity,
        score_implicit_matching,
        consistency,
        tangent_matching,
        mean_flow,
        boot,
        distilled_score,
        adversarial_generator,
        adversarial_discriminator,
    )
}
