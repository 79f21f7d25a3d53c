"""Expectations under categorical distributions given by log-probabilities."""

import jax
import jax.numpy as jnp

from . import _checks, _rows


def expectation(log_p, values):
    """sum_c p_c v_c over the last axis; 0 from classes with p_c = 0, whatever v_c is there.

    Padded classes carry logits of -inf on both sides: -inf - -inf must not become NaN, nor its gradient.
    """
    inside = log_p > -jnp.inf
    p = jnp.where(inside, jnp.exp(log_p), 0.0)
    return jnp.sum(p * jnp.where(inside, values, 0.0), axis=-1)


def kl(log_p, log_q):
    """KL(p || q) over the last axis, in nats."""
    return expectation(log_p, log_p - log_q)


def log_probs(student, teacher, temperature, axis: int, where):
    """log softmax(logits / temperature) of student and teacher, classes last."""
    _checks.positive('temperature', temperature)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    return jax.nn.log_softmax(student / temperature), jax.nn.log_softmax(teacher / temperature)


def scaled(values, temperature, t_squared: bool, where):
    """The values times T^2 where that was asked for, 0 under the mask."""
    return _rows.kept(values * temperature**2 if t_squared else values, where)
