"""Score matching of a generator, by identities that replace its unknown score; gradients run through both networks.

`real` and `fake` predict x from the same x_t = alpha x + sigma eps, the teacher's law and the generator's. Their
PARAMETERS are constants, their outputs are not: x reaches them through x_t, and stopping it there gives another, wrong
gradient. So networks are called on x as it stands, and nothing but a normaliser is stopped here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples


def score_identity(
    x: Float[Array, 'batch ...'],
    real: Float[Array, '...'],
    fake: Float[Array, '...'],
    *,
    alpha: float | int = 1.2,
    normaliser: str = 'sample',
    floor: float = 1e-5,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """The sum over features of (real - fake) ((real - x) - alpha (real - fake)) / n, n = sg(mean |x - real|).

    alpha: 1 leaves the cross term (real - fake) (fake - x), half the gradient of |fake - real|^2 under a sampling law
    that stands still; 0 is the plain Fisher term; the paper takes 1.2 or 1.
    normaliser: 'sample', at least `floor`, or 'none'.

    Range R, 0 where real = fake: it hovers about 0 and measures no progress. Raises ValueError on different shapes and
    on another normaliser. Source: SiD, arXiv 2404.04057, and its code (training/sid_loss.py).
    """
    _checks.one_of('normaliser', normaliser, ('sample', 'none'))
    x, real, fake = _samples.samples(where, x=x, real=real, fake=fake)
    gap = real - fake
    values = _samples.sums(gap * ((real - x) - alpha * gap))
    if normaliser == 'sample':
        values = values / jax.lax.stop_gradient(jnp.maximum(_samples.means(jnp.abs(x - real)), floor))
    return _rows.kept(values, where)


def score_implicit_matching(
    x: Float[Array, 'batch ...'],
    real: Float[Array, '...'],
    fake: Float[Array, '...'],
    scale: Float[Array, '*scales'] | None = None,
    *,
    distance: str = 'pseudo_huber',
    c: float | int = 1.0,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """-d'(y) . u with y = scale (fake - real) and u = scale (fake - x), summed over features.

    Its gradient is that of the mean of d(y) under a sampling law that stands still.
    distance: 'squared' is d = |y|^2 / 2, which is `score_identity` at alpha = 1 without a normaliser; 'pseudo_huber' is
        d = sqrt(|y|^2 + c^2) - c, with the norm over the whole sample, a step that normalises itself.
    scale: of each sample, a constant: the unit of y, and so of c. 1 where it is left out: y in units of x.
        alpha / sigma^2: y is a difference of scores.

    Range R, 0 where real = fake. Raises ValueError on different shapes, another distance and a c not above 0.
    Source: after SIM, arXiv 2410.16794, section 3; derived, as neither its equations nor its training code were read.
    """
    _checks.one_of('distance', distance, ('squared', 'pseudo_huber'))
    _checks.positive('c', c)
    x, real, fake = _samples.samples(where, x=x, real=real, fake=fake)
    scale = _samples.along(_samples.weights(x, where, scale), x)
    y = scale * (fake - real)
    if distance == 'pseudo_huber':
        y = y / jnp.sqrt(_samples.along(_samples.sums(jnp.square(y)), x) + c**2)
    return _rows.kept(_samples.sums(-y * scale * (fake - x)), where)
