"""The two sides of a generative adversarial game, from the logits of a discriminator: positive for real."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples


def adversarial_generator(
    fake: Float[Array, 'batch ...'], *, form: str = 'softplus', where: Bool[Array, '...'] | None = None
) -> Float[Array, 'batch']:
    """The mean over heads or patches of softplus(-l), the non-saturating loss, or of -l; l of generated samples.

    form: 'softplus' (DMD2; arXiv 1406.2661, section 3), range [0, inf), log 2 at l = 0; 'hinge' is -l (LADD).
    Raises ValueError on another form.
    """
    _checks.one_of('form', form, ('softplus', 'hinge'))
    (fake,) = _logits(where, fake=fake)
    return _rows.kept(_samples.means(-fake if form == 'hinge' else jax.nn.softplus(-fake)), where)


def adversarial_discriminator(
    real: Float[Array, 'batch ...'],
    fake: Float[Array, '...'],
    *,
    form: str = 'softplus',
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """The mean over heads or patches of softplus(-l_real) + softplus(l_fake), or of the hinge.

    form: 'softplus' (DMD2), range [0, inf), 2 log 2 at l = 0, least at l = log(p / q); 'hinge':
        (relu(1 - l_real) + relu(1 + l_fake)) / 2 (LADD, SANA-Sprint).
    Raises ValueError on another form and on different shapes.
    """
    _checks.one_of('form', form, ('softplus', 'hinge'))
    real, fake = _logits(where, real=real, fake=fake)
    if form == 'hinge':
        return _rows.kept(_samples.means(0.5 * (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake))), where)
    return _rows.kept(_samples.means(jax.nn.softplus(-real) + jax.nn.softplus(fake)), where)


def _logits(where, **logits):
    """At least `[batch, 1]`."""
    return _samples.samples(
        where, **{n: jnp.reshape(x, (*x.shape, 1)) if x.ndim == 1 else x for n, x in logits.items()}
    )
