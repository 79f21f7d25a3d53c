"""Score distillation: a picture follows a direction that a frozen score network gives. One surrogate serves them all.

With eps the noise of x_t = alpha x + sigma eps, the methods are a prediction, what is subtracted from it, and a weight:

    method          prediction                   subtracted                                        weight
    SDS             guided eps                   the fresh noise                                   'variance'
    StableDreamer   guided eps                   the fresh noise: a regression onto x              'data'
    VSD             guided eps                   the eps of a score network of the particles       'variance'
    SDI             guided eps                   the noise that inverts the picture                'data'
    CFD             guided eps                   noise that stays on the object                    'data'
    Consistent3D    guided eps at t              guided eps at the Euler step to t' < t            'uniform'
    DSD             guided eps at t              unguided eps at t' > t on a seed's own path       'variance'
    NFSD            `noise_free_direction`       nothing                                           'variance'
    PDS             `posterior_direction`        nothing                                           'uniform'

    distilled_score(x, prediction - subtracted, score_weight(alpha, sigma, weight='variance'))

No network is differentiated: `score_identity` does that. Sources are in kdjax's catalogue and in each function.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples

WEIGHTS = ('variance', 'uniform', 'data', 'signal_variance')


def distilled_score(
    x: Float[Array, 'batch ...'],
    direction: Float[Array, '...'],
    weight: Float[Array, '*weights'] | None = None,
    *,
    clip: float | int | None = None,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """1/2 the sum over features of (x - sg(x - weight * direction))^2, whose gradient in x is weight * direction.

    direction: what descends, a constant. weight: of each sample, see `score_weight`; 1 where it is left out.
    clip: the largest absolute value of an entry of weight * direction.
    The value is 1/2 |weight direction|^2: it says nothing about quality. A sum, so that the step does not depend on the
    number of pixels. Raises ValueError on different shapes and on a clip not above 0.
    Source: SDS, arXiv 2209.14988, equation 3, as a surrogate (threestudio).
    """
    if clip is not None:
        _checks.positive('clip', clip)
    x, direction = _samples.samples(where, x=x, direction=direction)
    step = _samples.along(_samples.weights(x, where, weight), x) * direction
    if clip is not None:
        step = jnp.clip(step, -clip, clip)
    moved = x - jax.lax.stop_gradient(x) + jax.lax.stop_gradient(step)
    return _rows.kept(_samples.sums(0.5 * jnp.square(moved)), where)


def score_weight(
    alpha: Float[Array, '*batch'], sigma: Float[Array, '*levels'], *, weight: str = 'variance'
) -> Float[Array, '*batch']:
    """w of each noise level, for errors of eps; not a loss.

    'variance': sigma^2 (1 - alpha-bar). 'uniform': 1. 'data': sigma / alpha, which makes eps differences differences of
    x: the gradient of 1/2 |x - sg(x_hat)|^2. 'signal_variance': alpha sigma^2 (Fantasia3D).
    Raises ValueError on another weight and on different shapes.
    """
    _checks.one_of('weight', weight, WEIGHTS)
    if sigma.shape != alpha.shape:
        raise ValueError(f'sigma has shape {sigma.shape}, alpha {alpha.shape}: give one of each for each example')
    alpha, sigma = _rows.widened(alpha, sigma)
    if weight == 'uniform':
        return jnp.ones_like(alpha)
    if weight == 'data':
        return sigma / alpha
    return jnp.square(sigma) * (alpha if weight == 'signal_variance' else 1.0)


def noise_free_direction(
    unconditional: Float[Array, 'batch ...'],
    conditional: Float[Array, '...'],
    negative: Float[Array, '...'],
    t: Float[Array, '*times'],
    *,
    scale: float | int = 7.5,
    threshold: float | int = 0.2,
) -> Float[Array, 'batch ...']:
    """NFSD's direction: domain + scale (conditional - unconditional), without any sampled noise; not a loss.

    All three predict eps from one x_t; `negative` under a condition that describes bad pictures. The domain is
    `unconditional` below the threshold of t in [0, 1], where its noise is taken to be small, and above it
    unconditional - negative, in which the noise cancels.
    Raises ValueError on different shapes. Source: NFSD, arXiv 2310.17590, section 4.
    """
    unconditional, conditional, negative = _samples.samples(
        None, unconditional=unconditional, conditional=conditional, negative=negative
    )
    (t,) = _samples.levels(negative, None, t=t)
    domain = unconditional - jnp.where(t < threshold, 0.0, 1.0) * negative
    return domain + scale * (conditional - unconditional)


def posterior_direction(
    x: Float[Array, 'batch ...'],
    source: Float[Array, '...'],
    prediction: Float[Array, '...'],
    source_prediction: Float[Array, '...'],
    alpha: Float[Array, '*alphas'],
    alpha_before: Float[Array, '*before'],
    beta: Float[Array, '*betas'],
) -> Float[Array, 'batch ...']:
    """PDS's direction: the difference of two stochastic latents, psi (x - source) + chi (eps - eps_source); not a loss.

    x, prediction: the edited picture and its guided eps; source, source_prediction: the picture it came from, under its
        own condition, noised by the SAME two noises. Variance-preserving: sigma^2 = 1 - alpha^2.
    alpha_before: at the earlier time of the posterior. beta: of the one step that ends at alpha.
    With alpha^2 = (1 - beta) alpha_before^2, a true step, psi is 0 and nothing holds the picture to its source (DDS up
    to a weight); the released code goes back two steps and keeps the beta of one, from which psi > 0 comes.
    Raises ValueError on different shapes. Source: PDS, arXiv 2311.13831, section 4, and its code.
    """
    x, source, prediction, source_prediction = _samples.samples(
        None, x=x, source=source, prediction=prediction, source_prediction=source_prediction
    )
    alpha, before, beta = _samples.levels(x, None, alpha=alpha, alpha_before=alpha_before, beta=beta)
    noise, noise_before = 1 - jnp.square(alpha), 1 - jnp.square(before)
    of_data = before * beta / noise
    of_x_t = jnp.sqrt(1 - beta) * noise_before / noise
    deviation = jnp.sqrt(noise_before / noise * beta)
    psi = (before - of_data - of_x_t * alpha) / deviation
    chi = of_data * jnp.sqrt(noise) / (alpha * deviation)
    return psi * (x - source) + chi * (prediction - source_prediction)
