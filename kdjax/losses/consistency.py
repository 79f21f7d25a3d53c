"""Consistency: one network says the same along a path to the data, at discrete times or by its derivative."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples


def consistency(
    prediction: Float[Array, 'batch ...'],
    target: Float[Array, '...'],
    weight: Float[Array, '*weights'] | None = None,
    *,
    distance: str = 'pseudo_huber',
    c: float | int | None = None,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """weight * d(prediction - sg(target)): the target, nearer to the data on the same path, is a constant.

    target: what the network (or its average) says at the earlier time, from the same noise and with the same key.
    distance: 'pseudo_huber' is sqrt(|y|^2 + c^2) - c with the norm over the whole sample; 'squared' the mean of y^2.
    c: 0.00054 sqrt(features) unless given, for data scaled to [-1, 1].
    Range [0, inf), 0 where both agree. Raises ValueError on different shapes, another distance and a c not above 0.
    Source: arXiv 2303.01469, section 4; the pseudo-Huber distance arXiv 2310.14189, section 3.3.
    """
    _checks.one_of('distance', distance, ('pseudo_huber', 'squared'))
    prediction, target = _samples.samples(where, prediction=prediction, target=target)
    weight = _samples.weights(target, where, weight)
    squares = jnp.square(prediction - jax.lax.stop_gradient(target))
    if distance == 'squared':
        return _rows.kept(weight * _samples.means(squares), where)
    c = 0.00054 * math.sqrt(math.prod(target.shape[1:])) if c is None else c
    _checks.positive('c', c)
    return _rows.kept(weight * (jnp.sqrt(_samples.sums(squares) + c**2) - c), where)


def boundary(
    sigma: Float[Array, '*batch'], *, sigma_data: float | int = 0.5, sigma_min: float | int = 0.002
) -> tuple[Float[Array, '*batch'], Float[Array, '*batch']]:
    """(c_skip, c_out) of f(x, sigma) = c_skip x + c_out F, which is x itself at sigma_min; not a loss.

    sigma is that of variance-exploding noise: sigma / alpha elsewhere. Raises ValueError where sigma_data or sigma_min
    is not above 0. Source: arXiv 2303.01469, appendix C.
    """
    _checks.positive('sigma_data', sigma_data)
    _checks.positive('sigma_min', sigma_min)
    (sigma,) = _rows.widened(sigma)
    above = sigma - sigma_min
    skip = sigma_data**2 / (jnp.square(above) + sigma_data**2)
    return skip, sigma_data * above * jax.lax.rsqrt(jnp.square(sigma) + sigma_data**2)


def consistency_tangent(
    output: Float[Array, 'batch ...'],
    velocity: Float[Array, '...'],
    derivative: Float[Array, '...'],
    x_t: Float[Array, '...'],
    t: Float[Array, '*times'],
    *,
    warmup: float | int | Float[Array, ''] = 1.0,
    form: str = 'scm',
    sigma_data: float | int = 1.0,
    constant: float | int = 0.1,
    normalise: bool = True,
) -> Float[Array, 'batch ...']:
    """The tangent g of continuous-time consistency in TrigFlow, x_t = cos(t) x + sin(t) z; not a loss, a constant.

    output: F; f = cos(t) x_t - sin(t) sigma_data F is the network's x. velocity: dx_t/dt, of the teacher (sigma_data F
        of it) or of a pair x, z. derivative: cos(t) sin(t) dF/dt, the jvp of F at (x_t / sigma_data, t) along
        (cos(t) sin(t) velocity / sigma_data, cos(t) sin(t)), which stays finite at both ends.
    t: angle in radians, from 0 (data) to pi / 2 (noise).
    warmup: r, from 0 to 1 over the first steps. At r = 1, g = cos(t) df/dt, and both forms agree.
        'scm' (as in the paper): r scales x_t and the derivative;
        'rcm' (as in the code of rCM): r scales x_t alone, and cos^2 t is cos(t) sqrt(1 - r^2 sin^2 t).
    normalise: g / (|g| + constant), with the norm over the whole sample: the constant depends on the resolution.

    Raises ValueError on different shapes and on another form.
    Source: sCM, arXiv 2410.11081, algorithm 1; rCM, arXiv 2510.08431, and its code.
    """
    _checks.one_of('form', form, ('scm', 'rcm'))
    _checks.positive('sigma_data', sigma_data)
    output, velocity, derivative, x_t = _samples.samples(
        None, output=output, velocity=velocity, derivative=derivative, x_t=x_t
    )
    (t,) = _samples.levels(x_t, None, t=t)
    r = jnp.asarray(warmup, x_t.dtype)
    cos, sin = jnp.cos(t), jnp.sin(t)
    change = sigma_data * derivative
    if form == 'scm':
        towards, drift = jnp.square(cos), r * (cos * sin * x_t + change)
    else:
        towards, drift = cos * jnp.sqrt(1 - jnp.square(r * sin)), r * cos * sin * x_t + change
    g = -towards * (sigma_data * output - velocity) - drift
    if normalise:
        g = g / (_samples.along(jnp.sqrt(_samples.sums(jnp.square(g))), g) + constant)
    return jax.lax.stop_gradient(g)


def tangent_matching(
    output: Float[Array, 'batch ...'],
    tangent: Float[Array, '...'],
    log_weight: Float[Array, '*weights'] | None = None,
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """exp(w) times the mean over features of (F - sg(F) - g)^2, minus w; its gradient in F is -2 exp(w) g / features.

    tangent: g of `consistency_tangent`, a constant. log_weight: w of each sample, learned or not; 0 where it is left
    out. A learned w tends to minus the logarithm of the mean of g^2 at its noise level.
    Raises ValueError on different shapes. Source: sCM, arXiv 2410.11081, algorithm 1.
    """
    output, tangent = _samples.samples(where, output=output, tangent=tangent)
    change = output - jax.lax.stop_gradient(output) - jax.lax.stop_gradient(tangent)
    squares = _samples.means(jnp.square(change))
    if log_weight is None:
        return _rows.kept(squares, where)
    w = _samples.levels(output, where, log_weight=log_weight)[0].reshape(-1)
    return _rows.kept(jnp.exp(w) * squares - w, where)
