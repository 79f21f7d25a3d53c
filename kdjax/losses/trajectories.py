"""Targets along a teacher's path: mean velocities, two solver steps in one, the signal of a path from its noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples


def mean_flow_target(
    velocity: Float[Array, 'batch ...'], derivative: Float[Array, '...'], interval: Float[Array, '*intervals']
) -> Float[Array, 'batch ...']:
    """sg(v - (t - r) du/dt): what the mean velocity u(x_t, r, t) over [r, t] must equal; not a loss.

    velocity: v at (x_t, t), guided or not, of a teacher or of a pair (noise - x). derivative: the jvp of u in
        (x_t, r, t) along (v, 0, 1): mind the order of the network's arguments. interval: t - r, held within [0, 1].
    Raises ValueError on different shapes. Source: MeanFlow, arXiv 2505.13447, algorithm 1.
    """
    velocity, derivative = _samples.samples(None, velocity=velocity, derivative=derivative)
    (interval,) = _samples.levels(velocity, None, interval=interval)
    return jax.lax.stop_gradient(velocity - jnp.clip(interval, 0, 1) * derivative)


def mean_flow(
    prediction: Float[Array, 'batch ...'],
    target: Float[Array, '...'],
    *,
    power: float | int = 1.0,
    constant: float | int = 0.01,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """e / sg(e + constant)^power with e = |prediction - sg(target)|^2, summed over features.

    power: 0 is the plain squared error, 1 (as in the code) nearly the gradient of log(e + constant), 0.5 of a
    pseudo-Huber distance. Range [0, inf); with power 1 below 1, whatever the error.
    Raises ValueError on different shapes and on a constant not above 0.
    Source: MeanFlow, arXiv 2505.13447, section 4 (adaptive weighting).
    """
    _checks.positive('constant', constant)
    prediction, target = _samples.samples(where, prediction=prediction, target=target)
    error = _samples.sums(jnp.square(prediction - jax.lax.stop_gradient(target)))
    return _rows.kept(error / jax.lax.stop_gradient(error + constant) ** power, where)


def progressive_target(
    x_t: Float[Array, 'batch ...'],
    x_end: Float[Array, '...'],
    alpha: Float[Array, '*alphas'],
    sigma: Float[Array, '*sigmas'],
    alpha_end: Float[Array, '*end_alphas'],
    sigma_end: Float[Array, '*end_sigmas'],
) -> Float[Array, 'batch ...']:
    """The x for which one DDIM step from x_t, at (alpha, sigma), lands on x_end; not a loss, a constant.

    x_end: where two steps of the teacher arrived, at (alpha_end, sigma_end). At the data (1, 0) it is x_end itself.
    The student learns it by `denoising` with unit='truncated_snr'.
    Raises ValueError on different shapes. Source: arXiv 2202.00512, algorithm 2.
    """
    x_t, x_end = _samples.samples(None, x_t=x_t, x_end=x_end)
    alpha, sigma, alpha_end, sigma_end = _samples.levels(
        x_t, None, alpha=alpha, sigma=sigma, alpha_end=alpha_end, sigma_end=sigma_end
    )
    kept = sigma_end / sigma
    return jax.lax.stop_gradient((x_end - kept * x_t) / (alpha_end - kept * alpha))


def boot(
    prediction: Float[Array, 'batch ...'],
    signal: Float[Array, '...'],
    data: Float[Array, '...'],
    alpha: Float[Array, '*alphas'],
    sigma: Float[Array, '*sigmas'],
    alpha_next: Float[Array, '*next_alphas'],
    sigma_next: Float[Array, '*next_sigmas'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """The mean over features of ((prediction - sg(signal + step (data - signal))) / step)^2, one step of a signal ODE.

    prediction, signal: y(eps, t) = (x_t - sigma eps) / alpha as the student says it from the noise alone, at the next,
        less noisy time, and at this one. data: the teacher's x from x_t = alpha signal + sigma eps.
    step = 1 - (alpha sigma_next) / (sigma alpha_next), in (0, 1]: the target is one DDIM step of the teacher, in which
        the noise cancels. Dividing by it keeps small steps from counting for nothing.
    Range [0, inf). Signal and data are constants. Raises ValueError on different shapes.
    Source: after BOOT, arXiv 2306.05544, section 3; the weight is that of a re-implementation (yuanzhi-zhu/OFTSR).
    Its boundary loss at the noisiest time is `hint_mse`.
    """
    prediction, signal, data = _samples.samples(where, prediction=prediction, signal=signal, data=data)
    alpha, sigma = _samples.levels(data, where, alpha=alpha, sigma=sigma)
    alpha_next, sigma_next = _samples.levels(data, where, alpha_next=alpha_next, sigma_next=sigma_next)
    if where is not None:
        sigma_next = jnp.where(_rows.expanded(where, data.ndim), sigma_next, 0.0)
    step = 1 - alpha * sigma_next / (sigma * alpha_next)
    signal, data = jax.lax.stop_gradient(signal), jax.lax.stop_gradient(data)
    return _rows.kept(_samples.means(jnp.square((prediction - signal) / step - (data - signal))), where)
