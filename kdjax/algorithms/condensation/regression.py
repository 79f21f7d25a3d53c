"""Kernel ridge regression on a set: what a linear readout of features, trained to the end on it, says elsewhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.errors import UserError


def with_ones(features: jax.Array) -> jax.Array:
    """`[rows, width]` with a column of ones: the bias of the readout."""
    return jnp.concatenate([features, jnp.ones((len(features), 1), features.dtype)], axis=1)


def kernel_ridge(
    support: jax.Array, targets: jax.Array, query: jax.Array, *, ridge: float = 1e-6, constant_ridge: bool = True
) -> jax.Array:
    """K_qs (K_ss + lambda I)^-1 targets, `[queries, outputs]`, with inner products K and lambda = ridge times tr(K_ss).

    support `[rows, width]`: features of the set; targets `[rows, outputs]`; query `[queries, width]`: of real data.
    The ridge is relative to the trace, so that features have no unit; with `constant_ridge` it is a constant (KRR-ST;
    FRePo differentiates it, and divides the trace by the rows). 1e-6 of the trace is near the limit of float32: the
    kernel is solved by Cholesky with one step of refinement.
    Raises UserError on features or rows that do not go together.
    Sources: KRR-ST, arXiv 2310.06511, equation 5; FRePo, arXiv 2206.00719, equation 6.
    """
    if support.ndim != 2 or query.ndim != 2 or support.shape[1] != query.shape[1] or len(support) != len(targets):
        raise UserError(
            f'support features {support.shape}, targets {targets.shape}, query features {query.shape}: support and '
            'query need one width, support and targets as many rows'
        )
    kernel = support @ support.T
    scale = jnp.trace(kernel)
    scale = jax.lax.stop_gradient(scale) if constant_ridge else scale
    damped = kernel + ridge * scale * jnp.eye(len(kernel), dtype=kernel.dtype)
    factor = jax.scipy.linalg.cho_factor(damped)
    weights = jax.scipy.linalg.cho_solve(factor, targets)
    weights = weights + jax.scipy.linalg.cho_solve(factor, targets - damped @ weights)
    return query @ (support.T @ weights)


def regression_error(
    support: jax.Array, targets: jax.Array, query: jax.Array, wanted: jax.Array, *, ridge: float = 1e-6
) -> jax.Array:
    """Half the squared error of `kernel_ridge`, summed over outputs, for each query, `[queries]`. `wanted` is constant.

    Arguments as there; features are given a column of ones. Source: KRR-ST, arXiv 2310.06511, equation 6.
    """
    said = kernel_ridge(with_ones(support), targets, jax.lax.stop_gradient(with_ones(query)), ridge=ridge)
    return 0.5 * jnp.sum(jnp.square(said - jax.lax.stop_gradient(wanted)), axis=1)
