"""What each loss of data-set distillation must reproduce; see `loss_identities`."""

import jax.numpy as jnp
from loss_identities import EXACT, normal

from kdjax import losses


def gradient_cosine(rng):
    s, t = normal(rng, 4, 2, 3), normal(rng, 4, 2, 3)
    value = losses.gradient_cosine(1e4 * s, 1e4 * t)
    yield 'of long rows, lengths do not matter', losses.gradient_cosine(3e4 * s, 1e4 * t), value, 1e-9
    units = [x / jnp.linalg.norm(x, axis=(1, 2), keepdims=True) for x in (s, t)]
    half = 0.5 * jnp.sum((units[0] - units[1]) ** 2, (1, 2))
    yield 'half the squared distance of unit rows', value, half, 1e-9
    yield 'the other way round is 2', losses.gradient_cosine(1e4 * s, -1e4 * s), 2 * jnp.ones(4), 1e-9


def trajectory_distance(rng):
    end, target, start = normal(rng, 3, 4, 5)
    yield 'who has not moved', losses.trajectory_distance(start, target, start), jnp.ones(4), EXACT
    half = losses.trajectory_distance((start + target) / 2, target, start)
    yield 'half of the way', half, 0.25 * jnp.ones(4), EXACT
    scaled = losses.trajectory_distance(3 * end, 3 * target, 3 * start)
    yield 'no unit', scaled, losses.trajectory_distance(end, target, start), EXACT


def characteristic_distance(rng):
    s_re, s_im, t_re, t_im = normal(rng, 4, 4)
    plain = jnp.sqrt(((s_re - t_re) ** 2 + (s_im - t_im) ** 2) / 2)
    yield 'equal weights: the complex distance', losses.characteristic_distance(s_re, s_im, t_re, t_im), plain, EXACT
    only = losses.characteristic_distance(s_re, s_im, t_re, t_im, amplitude=1.0, phase=0.0)
    yield 'amplitude alone', only, jnp.abs(jnp.hypot(s_re, s_im) - jnp.hypot(t_re, t_im)), EXACT
    turned = losses.characteristic_distance(s_re, s_im, -s_im, s_re, amplitude=1.0, phase=0.5)
    yield 'a quarter turn leaves the phase', turned, jnp.hypot(s_re, s_im), EXACT


CONDENSATION_IDENTITIES = {f.__name__: f for f in (gradient_cosine, trajectory_distance, characteristic_distance)}
