"""What the fused vocabulary loss must reproduce: the losses of dense logits, value and gradient."""

import jax
import jax.numpy as jnp
from loss_identities import EXACT, normal

from kdjax import losses
from kdjax.losses import pointwise

DENSE = {
    'kl_forward': (pointwise.kl_forward, losses.kl_forward, {}),
    'kl_reverse': (pointwise.kl_reverse, losses.kl_reverse, {}),
    'jsd': (pointwise.jsd(), losses.jensen_shannon, {}),
    'jsd(0.2)': (pointwise.jsd(0.2), losses.generalized_jsd, {'beta': 0.2}),
    'normalized': (pointwise.jsd(0.2, 'normalized'), losses.generalized_jsd, {'beta': 0.2, 'normalized': True}),
    'continuous': (pointwise.jsd(0.5, 'continuous'), losses.jensen_shannon, {}),
    'skew_kl': (pointwise.skew_kl(0.3), losses.skew_kl, {'alpha': 0.3}),
    'skew_kl_reverse': (pointwise.skew_kl_reverse(0.3), losses.skew_kl_reverse, {'alpha': 0.3}),
    'total_variation': (pointwise.total_variation, losses.total_variation, {}),
}


def both(loss, hidden, head):
    """Values, and the gradients of a sum in which tokens weigh differently."""
    weights = jnp.arange(1.0, hidden.shape[0] + 1, dtype=hidden.dtype)
    values, back = jax.vjp(loss, hidden, head)
    return values, *back(weights)


def fused_divergence(rng):
    h, w, t, u = (normal(rng, *shape) for shape in ((5, 3), (7, 3), (5, 2), (7, 2)))
    label = jnp.asarray(rng.integers(7, size=5))

    def fused(*teachers, **options):
        return both(lambda h, w: losses.fused_divergence(h, w, label, *teachers, **options), h, w)

    def dense(loss):
        return both(lambda h, w: loss(h @ w.T), h, w)

    for name, (divergence, loss, options) in DENSE.items():
        wanted = dense(lambda s, loss=loss, options=options: loss(s, t @ u.T, **options))
        for got, value in zip(fused(t, u, divergence=divergence, chunk=2), wanted, strict=True):
            yield f'{name}: the loss of dense logits', got, value, EXACT

    def mixed(s):
        soft = losses.kl_reverse(s, t @ u.T, temperature=3.0, t_squared=True)
        return 0.4 * soft + 0.6 * losses.cross_entropy(s, label)

    options = {'weights': (0.4,), 'hard_weight': 0.6, 'temperature': 3.0, 't_squared': True}
    for got, value in zip(fused(t, u, divergence=pointwise.kl_reverse, **options), dense(mixed), strict=True):
        yield 'a mixture with the labels, which know no temperature', got, value, EXACT
    alone = fused(hard_weight=1.0, temperature=3.0)
    for got, value in zip(alone, dense(lambda s: losses.cross_entropy(s, label)), strict=True):
        yield 'no teacher: cross-entropy', got, value, EXACT

    def two(s):
        return 0.3 * losses.skew_kl(s, t @ u.T) + 0.7 * losses.skew_kl(s, t[:, ::-1] @ u.T)

    pair = fused(t, u, t[:, ::-1], u, divergence=pointwise.skew_kl(), weights=(0.3, 0.7))
    for got, value in zip(pair, dense(two), strict=True):
        yield 'two teachers: the weighted sum', got, value, EXACT

    def capped(s):
        return losses.kl_forward(2 * jnp.tanh(s / 2), 3 * jnp.tanh(t @ u.T / 3), temperature=1.5)

    for got, value in zip(fused(t, u, softcaps=(2.0, 3.0), temperature=1.5), dense(capped), strict=True):
        yield 'soft caps come before the temperature', got, value, EXACT
    padded = both(lambda h, w: losses.fused_divergence(h, w, label, t, u, vocabulary=5), h, w)
    few = both(lambda h, w: losses.kl_forward(h @ w[:5].T, t @ u[:5].T), h, w)
    for got, value in zip(padded, few, strict=True):
        yield 'padding of the vocabulary does not exist', got, value, EXACT
    for beta, limit in ((1e-3, losses.kl_forward), (1 - 1e-3, losses.kl_reverse)):
        got = losses.fused_divergence(h, w, label, t, u, divergence=pointwise.jsd(beta, 'continuous'))
        yield 'continuous: no jump at the ends', got, limit(h @ w.T, t @ u.T), 0.05
    for name in pointwise.NAMED:
        value, slope = pointwise.NAMED[name]()(*(jax.nn.log_softmax(x @ y.T) for x, y in ((t, u), (t, u))))
        yield f'{name}: nothing where both agree', jnp.stack([value, slope]), jnp.zeros((2, 5, 7)), EXACT
