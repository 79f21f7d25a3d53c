"""Cross-entropy to labels: class ids or distributions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _categorical, _checks, _rows


def cross_entropy(
    logits: Float[Array, '*batch classes'],
    labels: Int[Array, '...'] | Float[Array, '...'],
    *,
    smoothing: float | int = 0.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Cross-entropy -sum_c q_c log softmax(logits)_c, in nats.

    q is onehot(labels) for class ids (one rank less than the logits), or `labels` themselves when they are
    distributions (the logits' shape); then q <- (1 - smoothing) q + smoothing / C.
    Range [0, inf); its least value is the entropy of q. For soft targets q = softmax(teacher / T) it has the
    gradient of `kl_forward`.

    Raises ValueError on labels of another shape, on a mask of another shape, and on smoothing outside [0, 1].
    Source: label smoothing as in Szegedy et al., arXiv 1512.00567, section 7.
    """
    _checks.between('smoothing', smoothing, 0, 1)
    labels = jnp.asarray(labels)
    if labels.ndim == logits.ndim:
        _checks.same_targets('labels', logits, labels)
        logits, targets = _rows.logit_rows(logits, labels, axis, where)
        log_p = jax.nn.log_softmax(logits)
        values = -jnp.sum(targets * jnp.where(targets > 0, log_p, 0.0), axis=-1)
    else:
        (logits,) = _rows.widened(logits)
        logits = jnp.moveaxis(logits, axis, -1)
        _checks.mask_shape(where, logits.shape[:-1])
        ids = _rows.label_rows(labels, where, logits.shape[:-1])
        log_p = jax.nn.log_softmax(_rows.blanked(logits, where))
        values = -jnp.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
    if smoothing:
        values = (1 - smoothing) * values - smoothing * jnp.mean(log_p, axis=-1)
    return _rows.kept(values, where)


def entropy(
    logits: Float[Array, '*batch classes'],
    *,
    temperature: _checks.Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Entropy -sum_c p_c log p_c of p = softmax(logits / temperature), in nats.

    Range [0, log C]. cross_entropy(z, softmax(z)) = entropy(z).
    Raises ValueError on a mask of another shape and on temperature <= 0.
    """
    log_p, _ = _categorical.log_probs(logits, logits, temperature, axis, where)
    return _rows.kept(-_categorical.expectation(log_p, log_p), where)
