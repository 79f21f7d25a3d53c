"""The special case or limit that each loss must reproduce.

An identity has the name of its loss, takes a numpy generator and yields (what it says, one side, the other
side, tolerance). It is evaluated in float64.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses

EXACT = 1e-9


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


def logits(rng, classes=5):
    return (
        2 * normal(rng, 4, classes),
        2 * normal(rng, 4, classes),
        jnp.asarray(rng.integers(classes, size=4)),
    )


def gradient(loss, student, *args, **options):
    return jax.grad(lambda s: jnp.sum(loss(s, *args, **options)))(student)


def rotation(rng, size):
    return jnp.asarray(np.linalg.qr(rng.normal(size=(size, size)))[0])


def centred(z):
    return z - jnp.mean(z, axis=-1, keepdims=True)


def cross_entropy(rng):
    s, t, y = logits(rng)
    hard, uniform = losses.cross_entropy(s, y), losses.cross_entropy(s, jnp.full_like(s, 1 / 5))
    yield 'ids are one-hot distributions', hard, losses.cross_entropy(s, jax.nn.one_hot(y, 5)), EXACT
    smooth = losses.cross_entropy(s, y, smoothing=0.1)
    yield 'smoothing mixes in the uniform distribution', smooth, 0.9 * hard + 0.1 * uniform, EXACT
    soft = losses.cross_entropy(s, jax.nn.softmax(t))
    yield 'CE(p, s) = KL(p || s) + H(p)', soft, losses.kl_forward(s, t) + losses.entropy(t), EXACT


def entropy(rng):
    s, *_ = logits(rng)
    yield 'H(p) = CE(p, p)', losses.entropy(s), losses.cross_entropy(s, jax.nn.softmax(s)), EXACT
    cold = losses.entropy(s, temperature=1e3)
    yield 'a high temperature makes it uniform', cold, jnp.full(4, math.log(5)), 1e-4


def kl_forward(rng):
    s, t, _ = logits(rng)
    got = gradient(losses.kl_forward, s, t, temperature=4.0, t_squared=True)
    yield 'gradient = T (s - p)', got, 4 * (jax.nn.softmax(s / 4) - jax.nn.softmax(t / 4)), EXACT
    hot = gradient(losses.kl_forward, s, t, temperature=1e5, t_squared=True)
    yield 'T -> inf: gradient of centred logits', hot, (centred(s) - centred(t)) / 5, 1e-4
    absent = jnp.full((4, 2), -jnp.inf)
    padded = losses.kl_forward(*(jnp.concatenate([z, absent], axis=1) for z in (s, t)))
    yield 'classes at -inf on both sides do not exist', padded, losses.kl_forward(s, t), EXACT
    slope = gradient(
        losses.kl_forward, jnp.concatenate([s, absent], axis=1), jnp.concatenate([t, absent], axis=1)
    )
    yield (
        'nor have they a gradient',
        slope,
        jnp.pad(gradient(losses.kl_forward, s, t), ((0, 0), (0, 2))),
        EXACT,
    )


def kl_reverse(rng):
    s, t, _ = logits(rng)
    yield 'KL with the sides exchanged', losses.kl_reverse(s, t), losses.kl_forward(t, s), EXACT
    value, p = losses.kl_reverse(s, t), jax.nn.softmax(s)
    wanted = p * (jax.nn.log_softmax(s) - jax.nn.log_softmax(t) - value[:, None])
    yield 'gradient = s (log s / p - KL)', gradient(losses.kl_reverse, s, t), wanted, EXACT


def jensen_shannon(rng):
    s, t, _ = logits(rng)
    value = losses.jensen_shannon(s, t)
    yield 'symmetric', value, losses.jensen_shannon(t, s), EXACT
    middle = jnp.log(0.5 * (jax.nn.softmax(s) + jax.nn.softmax(t)))
    yield (
        'H(m) - mean H',
        value,
        losses.entropy(middle) - 0.5 * (losses.entropy(s) + losses.entropy(t)),
        EXACT,
    )
    far = losses.jensen_shannon(jnp.array([[1e4, 0.0]]), jnp.array([[0.0, 1e4]]))
    yield 'log 2 at most', far, jnp.array([math.log(2)]), EXACT


def generalized_jsd(rng):
    s, t, _ = logits(rng)
    jsd = losses.generalized_jsd
    forward, reverse = losses.kl_forward(s, t), losses.kl_reverse(s, t)
    yield 'beta = 1/2', jsd(s, t, beta=0.5), losses.jensen_shannon(s, t), EXACT
    yield 'beta = 0, normalised', jsd(s, t, beta=0, normalized=True), forward, EXACT
    yield 'beta = 1, normalised', jsd(s, t, beta=1.0, normalized=True), reverse, EXACT
    yield 'no jump at 0', jsd(s, t, beta=1e-3, normalized=True), forward, 0.05
    yield 'no jump at 1', jsd(s, t, beta=1 - 1e-3, normalized=True), reverse, 0.05
    yield 'D / beta -> forward KL', jsd(s, t, beta=1e-3) / 1e-3, forward, 0.05
    yield 'D / (1 - beta) -> reverse KL', jsd(s, t, beta=1 - 1e-3) / 1e-3, reverse, 0.05
    yield 'sides exchanged: 1 - beta', jsd(s, t, beta=0.2), jsd(t, s, beta=0.8), EXACT


def skew_kl(rng):
    s, t, _ = logits(rng)
    yield 'alpha = 0: forward KL', losses.skew_kl(s, t, alpha=0), losses.kl_forward(s, t), EXACT
    yield 'alpha -> 0', losses.skew_kl(s, t, alpha=1e-7), losses.kl_forward(s, t), 1e-4
    yield 'alpha = 1: nothing', losses.skew_kl(s, t, alpha=1), jnp.zeros(4), EXACT
    both = losses.skew_kl(s, t, alpha=0.5) + losses.skew_kl_reverse(s, t, alpha=0.5)
    yield 'both at 1/2: Jensen-Shannon', both / 2, losses.jensen_shannon(s, t), EXACT


def skew_kl_reverse(rng):
    s, t, _ = logits(rng)
    yield 'alpha = 0: reverse KL', losses.skew_kl_reverse(s, t, alpha=0), losses.kl_reverse(s, t), EXACT
    yield 'skew KL with the sides exchanged', losses.skew_kl_reverse(s, t), losses.skew_kl(t, s), EXACT


def total_variation(rng):
    s, t, _ = logits(rng)
    overlap = jnp.sum(jnp.minimum(jax.nn.softmax(s), jax.nn.softmax(t)), axis=-1)
    yield '1 - overlap', losses.total_variation(s, t), 1 - overlap, EXACT
    bound = jnp.sqrt(losses.kl_forward(s, t) / 2)
    yield 'Pinsker: at most sqrt(KL / 2)', jnp.maximum(losses.total_variation(s, t), bound), bound, EXACT


def negative_log_acceptance(rng):
    s, t, y = logits(rng)
    alpha = 1 - losses.total_variation(s, t)
    value, slope = losses.negative_log_acceptance(s, t), gradient(losses.negative_log_acceptance, s, t)
    yield '-log(1 - total variation)', value, -jnp.log(alpha), EXACT
    wanted = gradient(losses.total_variation, s, t) / alpha[:, None]
    yield 'gradient = that of total variation / alpha', slope, wanted, EXACT
    certain = jnp.where(jax.nn.one_hot(y, 5, dtype=bool), 0.0, -jnp.inf)
    got = losses.negative_log_acceptance(s, certain)
    yield 'a certain teacher: cross-entropy', got, losses.cross_entropy(s, y), EXACT
    far = losses.negative_log_acceptance(jnp.array([[1e3, 0.0]]), jnp.array([[0.0, 1e3]]))
    yield 'no overlap: still finite', far, jnp.array([1e3 - math.log(2)]), EXACT


def hybrid_acceptance(rng):
    s, t, _ = logits(rng)
    forward, variation = losses.kl_forward(s, t), losses.total_variation(s, t)
    yield 'eta -> 0: forward KL', losses.hybrid_acceptance(s, t, eta=1e-9), forward, 1e-6
    yield 'eta -> inf: total variation', losses.hybrid_acceptance(s, t, eta=1e9), variation, EXACT
    weight = jnp.exp(-3.0 * (1 - variation))
    yield 'eta = 3', losses.hybrid_acceptance(s, t), weight * forward + (1 - weight) * variation, EXACT
    parts = [gradient(loss, s, t) for loss in (losses.kl_forward, losses.total_variation)]
    wanted = weight[:, None] * parts[0] + (1 - weight[:, None]) * parts[1]
    yield 'no gradient through the weight', gradient(losses.hybrid_acceptance, s, t), wanted, EXACT


def alpha_divergence(rng):
    s, t, _ = logits(rng)
    p, q = jax.nn.softmax(t), jax.nn.softmax(s)
    at = losses.alpha_divergence
    yield 'alpha = 1: forward KL', at(s, t, alpha=1), losses.kl_forward(s, t), EXACT
    yield 'alpha = 0: reverse KL', at(s, t, alpha=0.0), losses.kl_reverse(s, t), EXACT
    yield 'alpha -> 1, digits kept', at(s, t, alpha=1 - 1e-8), losses.kl_forward(s, t), 1e-6
    yield 'alpha -> 0, digits kept', at(s, t, alpha=1e-8), losses.kl_reverse(s, t), 1e-6
    hellinger = jnp.sum(jnp.square(jnp.sqrt(p) - jnp.sqrt(q)), axis=-1)
    yield 'alpha = 1/2: twice the Hellinger sum', at(s, t, alpha=0.5), 2 * hellinger, EXACT
    yield 'alpha = 2: half of chi-square', at(s, t, alpha=2), 0.5 * jnp.sum((p - q) ** 2 / q, axis=-1), EXACT
    yield 'sides exchanged: 1 - alpha', at(s, t, alpha=0.2), at(t, s, alpha=0.8), EXACT


def mse_logits(rng):
    s, t, _ = logits(rng)
    hot = losses.kl_forward(s, t, temperature=1e4, t_squared=True)
    yield 'T^2 KL -> MSE of centred logits / 2', hot, 0.5 * losses.mse_logits(centred(s), centred(t)), 1e-3


def cosine_logits(rng):
    s, t, _ = logits(rng)
    value = losses.cosine_logits(s, t)
    unit = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (s, t))
    yield 'half the squared distance of directions', value, 2.5 * losses.mse_logits(*unit), EXACT
    yield 'lengths do not matter', losses.cosine_logits(3 * s, 0.1 * t), value, EXACT


def pearson(rng):
    s, t, _ = logits(rng)
    value = losses.pearson(s, t)
    yield 'cosine of what is centred', value, losses.cosine_logits(centred(s), centred(t)), EXACT
    standard = losses.mse_logits(losses.standardize(s), losses.standardize(t))
    yield 'MSE of what is standardised', value, standard * 5 / 8, 1e-6
    yield 'shift and scale do not matter', losses.pearson(3 * s + 1, 0.1 * t - 2), value, EXACT


def dist(rng):
    s, t, _ = logits(rng)
    p, q = jax.nn.softmax(t / 2), jax.nn.softmax(s / 2)
    inter = losses.dist(s, t, gamma=0, temperature=2)
    yield 'gamma = 0: correlation within examples', inter, losses.pearson(q, p), EXACT
    intra = losses.dist(s, t, beta=0, temperature=2)
    yield 'beta = 0: correlation within classes', jnp.mean(intra), jnp.mean(losses.pearson(q.T, p.T)), EXACT
    both = losses.dist(s, t, beta=3, gamma=2, temperature=2, t_squared=True)
    yield 'the parts add', both, 4 * (3 * inter + 2 * intra), EXACT


def tckd(rng):
    s, t, y = logits(rng)
    p, q = (jnp.take_along_axis(jax.nn.softmax(z), y[:, None], axis=1)[:, 0] for z in (t, s))
    wanted = p * jnp.log(p / q) + (1 - p) * jnp.log((1 - p) / (1 - q))
    yield 'KL of two outcomes', losses.tckd(s, t, y), wanted, EXACT
    two, other, label = logits(rng, classes=2)
    yield 'two classes: all of KD', losses.tckd(two, other, label), losses.kl_forward(two, other), EXACT


def nckd(rng):
    s, t, _ = logits(rng)
    wanted = losses.kl_forward(s[:, 1:], t[:, 1:])
    yield 'KL with the label deleted', losses.nckd(s, t, jnp.zeros(4, jnp.int32)), wanted, EXACT
    two, other, label = logits(rng, classes=2)
    yield 'two classes: nothing', losses.nckd(two, other, label), jnp.zeros(4), EXACT


def dkd(rng):
    s, t, y = logits(rng)
    p_y = jnp.take_along_axis(jax.nn.softmax(t / 3), y[:, None], axis=1)[:, 0]
    options = {'temperature': 3.0, 't_squared': True}
    kd = losses.kl_forward(s, t, **options)
    yield 'KD = TCKD + (1 - p_y) NCKD', losses.dkd(s, t, y, alpha=1, beta=1 - p_y, **options), kd, EXACT
    slope = gradient(losses.dkd, s, t, y, alpha=1, beta=1 - p_y, **options)
    yield 'and its gradient', slope, gradient(losses.kl_forward, s, t, **options), EXACT
    parts = 2 * losses.tckd(s, t, y, **options) + 7 * losses.nckd(s, t, y, **options)
    yield 'the parts add', losses.dkd(s, t, y, alpha=2, beta=7, **options), parts, EXACT


def plackett_luce(rng):
    s, t, y = logits(rng)
    pl = losses.plackett_luce
    first = jnp.eye(5)[0]
    yield 'weights (1, 0, ..): cross-entropy', pl(s, t, y, weights=first), losses.cross_entropy(s, y), EXACT
    yield (
        'a sure and right teacher: too',
        pl(s, 1e4 * jax.nn.one_hot(y, 5), y),
        losses.cross_entropy(s, y),
        EXACT,
    )
    yield 'a constant does not matter', pl(s + 3, t, y), pl(s, t, y), EXACT
    same_order = pl(s, t, y, temperature=1e6)
    yield 'T -> inf: ListMLE, order unchanged', same_order, pl(s, t, y, weights='uniform'), 1e-4
    orders = jnp.array(list(itertools.permutations(range(3))), jnp.float64)
    label = jnp.argmax(orders, axis=1)
    probabilities = jnp.exp(-3 * pl(jnp.tile(s[:1, :3], (6, 1)), orders, label, weights='uniform'))
    yield 'all orders together have probability 1', jnp.sum(probabilities), 1.0, EXACT
    yield 'gradient', gradient(pl, s, t, y), plackett_luce_gradient(s, t, y), EXACT


def plackett_luce_gradient(s, t, y):
    """sum_c w_c (softmax over the classes not ranked before c, minus onehot(c))."""
    key = jnp.where(jax.nn.one_hot(y, 5, dtype=bool), jnp.inf, t)
    left = key[:, None, :] <= key[:, :, None]
    rest = jax.nn.softmax(jnp.where(left, s[:, None, :], -jnp.inf))
    return jnp.einsum('bc,bcd->bd', jax.nn.softmax(t), rest - jnp.eye(5)[None])


def ofa(rng):
    s, t, y = logits(rng)
    soft, hard = losses.cross_entropy(s, jax.nn.softmax(t)), losses.cross_entropy(s, y)
    yield 'gamma = 1: soft cross-entropy', losses.ofa(s, t, y), soft, EXACT
    yield "the paper's form has the labels inside", losses.ofa(s, t, y, form='paper'), soft + hard, EXACT
    two = losses.ofa(s[:, :2], jnp.array([[0, -1e4]] * 4), jnp.zeros(4, jnp.int32), gamma=2.0)
    yield (
        'sure teacher, gamma = 2: 3 CE',
        two,
        3 * losses.cross_entropy(s[:, :2], jnp.zeros(4, jnp.int32)),
        EXACT,
    )


def binary_cross_entropy(rng):
    x, t = normal(rng, 4, 1), jnp.asarray(rng.uniform(size=(4, 1)))
    two = losses.cross_entropy(jnp.concatenate([x, 0 * x], axis=1), jnp.concatenate([t, 1 - t], axis=1))
    yield 'cross-entropy of the logits (x, 0)', losses.binary_cross_entropy(x, t), two, EXACT
    slope = gradient(losses.binary_cross_entropy, x, t)
    yield 'gradient = sigmoid(x) - t', slope, jax.nn.sigmoid(x) - t, EXACT


def hint_mse(rng):
    s, t, _ = logits(rng)
    yield 'of logits', losses.hint_mse(s, t), losses.mse_logits(s, t), EXACT
    a, b = normal(rng, 4, 3, 2), normal(rng, 4, 3, 2)
    tokens = losses.hint_mse(a, b, axis=-1)
    yield 'mean of its tokens', losses.hint_mse(a, b), jnp.mean(tokens, axis=1), EXACT
    yield 'axes may be several', losses.hint_mse(a, b, axis=(1, 2)), losses.hint_mse(a, b), EXACT


def attention_transfer(rng):
    a, b = normal(rng, 4, 2, 3, 5), normal(rng, 4, 2, 3, 7)
    code, paper = losses.attention_transfer(a, b), losses.attention_transfer(a, b, form='paper')
    yield 'paper^2 = places * code', paper**2, 6 * code, EXACT
    yield 'scale does not matter', losses.attention_transfer(3 * a, 0.1 * b), code, EXACT
    yield 'nor do sign and order of channels', losses.attention_transfer(-a[..., ::-1], b), code, EXACT
    fine = jnp.repeat(jnp.repeat(b, 2, axis=1), 3, axis=2)
    yield 'finer maps are averaged', losses.attention_transfer(a, fine), code, EXACT


def unmoved(name, rng, *, shift):
    """Rotation and scale (and shift) of either side leave the loss as it is."""
    loss, a, b = getattr(losses, name), normal(rng, 5, 3), normal(rng, 5, 4)
    moved = 3 * a @ rotation(rng, 3) + (2.0 if shift else 0.0), 0.1 * b @ rotation(rng, 4)
    yield 'rotation and scale', loss(*moved), loss(a, b), EXACT
    yield 'zero between a set and its image', loss(moved[0], a), jnp.zeros(5), EXACT


def similarity_preserving(rng):
    yield from unmoved('similarity_preserving', rng, shift=False)
    orthogonal = losses.similarity_preserving(jnp.eye(3), jnp.ones((3, 3)))
    yield 'no similarities against full ones', orthogonal, jnp.full(3, (2 - 2 / math.sqrt(3)) / 3), EXACT


def rkd_distance(rng):
    yield from unmoved('rkd_distance', rng, shift=True)
    pair = losses.rkd_distance(normal(rng, 2, 3), normal(rng, 2, 3))
    yield 'two points have one distance', pair, jnp.zeros(2), EXACT


def rkd_angle(rng):
    yield from unmoved('rkd_angle', rng, shift=True)
    right, line = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), jnp.array([[0.0], [1.0], [2.0]])
    half = (1 / math.sqrt(2) - 1) ** 2 / 2
    # Cosines of the triangle: 0 at the corner, 1 / sqrt 2 elsewhere; of the line: 1 at its ends, -1 within.
    wanted = jnp.array([2 * 0.5, 2 * (1 + 1 / math.sqrt(2) - 0.5), 2 * half]) / 9
    yield 'a right angle against a line', losses.rkd_angle(right, line), wanted, EXACT


def pkt(rng):
    yield from unmoved('pkt', rng, shift=False)
    a, b = normal(rng, 5, 3), normal(rng, 5, 4)
    lengths = jnp.arange(1.0, 6.0)[:, None]
    yield 'length of each row', losses.pkt(lengths * a, b / lengths), losses.pkt(a, b), EXACT


def cka(rng):
    a, b = normal(rng, 5, 3), normal(rng, 5, 4)
    moved = losses.cka(3 * a @ rotation(rng, 3) + 2, b)
    yield 'rotation, scale, shift', moved, losses.cka(a, b), EXACT
    yield 'symmetric', losses.cka(a, b), losses.cka(b, a), EXACT
    one, other = a[:, :1], b[:, :1]
    r = 1 - losses.pearson(one.T, other.T)
    yield 'of single features: squared correlation', jnp.mean(losses.cka(one, other)), 1 - r[0] ** 2, EXACT
    yield 'zero between a set and its image', jnp.mean(losses.cka(2 * a + 1, a)), 0.0, EXACT


def vid(rng):
    a, b, rho = normal(rng, 4, 3, 2), normal(rng, 4, 3, 2), normal(rng, 2)
    one = jnp.full(2, math.log(math.expm1(1 - 1e-5)))
    yield 'unit variance: half the hint loss', losses.vid(a, b, one), 0.5 * losses.hint_mse(a, b), EXACT
    sigma = jnp.sqrt(jax.nn.softplus(rho) + 1e-5)[None, None]
    nll = -jax.scipy.stats.norm.logpdf(b, a, sigma) - 0.5 * math.log(2 * math.pi)
    yield 'a Gaussian log-likelihood', losses.vid(a, b, rho), jnp.mean(nll, axis=(1, 2)), EXACT
    v = jnp.mean(jnp.square(a - b), axis=(0, 1))
    best = jnp.log(jnp.expm1(v - 1e-5))
    slope = jax.grad(lambda r: jnp.sum(losses.vid(a, b, r)))(best)
    yield 'the best variance is the mean squared error', slope, jnp.zeros(2), EXACT


def in_batch_nce(rng):
    a, b = normal(rng, 5, 3), normal(rng, 5, 3)
    a, b = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    rows = losses.cross_entropy(a @ b.T / 0.5, jnp.arange(5))
    columns = losses.cross_entropy(b @ a.T / 0.5, jnp.arange(5))
    yield 'cross-entropy of finding oneself', losses.in_batch_nce(a, b, temperature=0.5), rows, EXACT
    both = losses.in_batch_nce(a, b, temperature=0.5, symmetric=True)
    yield 'symmetric: of rows and of columns', both, (rows + columns) / 2, EXACT
    yield 'T -> inf: log n', losses.in_batch_nce(a, b, temperature=1e9), jnp.full(5, math.log(5)), 1e-7


def memory_nce(rng):
    scores, log_z = normal(rng, 4, 6), jnp.asarray(0.4)
    odds = scores - log_z - math.log(5 / 9)
    targets = jnp.tile(jnp.eye(6)[0], (4, 1))
    wanted = 6 * losses.binary_cross_entropy(odds, targets)
    yield 'six binary cross-entropies', losses.memory_nce(scores, log_z, bank_size=9), wanted, EXACT
    shifted = losses.memory_nce(scores + 2, log_z + 2, bank_size=9)
    yield 'a constant goes into Z', shifted, losses.memory_nce(scores, log_z, bank_size=9), EXACT


def crd(rng):
    a, b = normal(rng, 4, 3), normal(rng, 4, 3)
    rows = normal(rng, 2, 4, 6, 3)
    log_z = jnp.array([0.1, 0.7])
    value = losses.crd(a, b, rows[0], rows[1], log_z, bank_size=9)
    swapped = losses.crd(b, a, rows[1], rows[0], log_z[::-1], bank_size=9)
    yield 'the two sides are alike', value, swapped, EXACT
    a, b = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    parts = (
        losses.memory_nce(losses.memory_scores(x, r), z, bank_size=9)
        for x, r, z in ((a, rows[1], log_z[0]), (b, rows[0], log_z[1]))
    )
    yield 'NCE in both banks', value, sum(parts), EXACT


def every_class(teacher, **options):
    """A sparse teacher that knows all of them, in another order, and some padding."""
    order = jnp.argsort(-teacher, axis=-1)
    p = jnp.take_along_axis(jax.nn.softmax(teacher), order, axis=-1)
    return (
        jnp.pad(order, ((0, 0), (0, 2)), constant_values=-1),
        jnp.pad(p, ((0, 0), (0, 2)), constant_values=0.1),
    )


def sparse_cross_entropy(rng):
    s, t, _ = logits(rng)
    known = every_class(t)
    full = losses.cross_entropy(s, jax.nn.softmax(t))
    yield 'k = V: the full cross-entropy', losses.sparse_cross_entropy(s, *known), full, EXACT
    doubled = tuple(jnp.concatenate([a, a], axis=-1) for a in (known[0], known[1] / 2))
    yield 'an id may come twice', losses.sparse_cross_entropy(s, *doubled), full, EXACT


def sparse_kl(rng):
    s, t, _ = logits(rng)
    got = losses.sparse_kl(s, *every_class(t), losses.entropy(t))
    yield 'k = V: the full KL', got, losses.kl_forward(s, t), EXACT
    slope = gradient(losses.sparse_kl, s, *every_class(t / 3), losses.entropy(t / 3), temperature=3.0, t_squared=True)
    wanted = gradient(losses.kl_forward, s, t, temperature=3.0, t_squared=True)
    yield 'of a teacher known at the temperature', slope, wanted, EXACT


def truncated_kl(rng):
    s, t, _ = logits(rng)
    yield 'k = V: the full KL', losses.truncated_kl(s, *every_class(t)), losses.kl_forward(s, t), EXACT
    ids, p = (a[:, :2] for a in every_class(t))
    slope = gradient(losses.truncated_kl, s, ids, p)
    hits = jnp.sum(p[..., None] * jax.nn.one_hot(ids, 5), axis=1)
    wanted = jnp.sum(p, axis=-1, keepdims=True) * jax.nn.softmax(s) - hits
    yield 'k < V: its gradient is P s - p', slope, wanted, EXACT


def renormalized_kl(rng):
    s, t, _ = logits(rng)
    full, known = losses.kl_forward(s, t), every_class(t)
    for both in (False, True):
        yield 'k = V: the full KL', losses.renormalized_kl(s, *known, both=both), full, EXACT
    ids, p = (a[:, :2] for a in known)
    among = tuple(jnp.take_along_axis(z, ids, axis=-1) for z in (s, t))
    got = losses.renormalized_kl(s, ids, p, both=True)
    yield 'both: the KL of the logits selected', got, losses.kl_forward(*among), EXACT
    at_teacher = losses.renormalized_kl(t, ids, p)
    yield 'teacher alone: -log P where student = teacher', at_teacher, -jnp.log(jnp.sum(p, axis=-1)), EXACT


def tail_bucket_kl(rng):
    s, t, _ = logits(rng)
    full, known = losses.kl_forward(s, t), every_class(t)
    yield 'k = V: the full KL', losses.tail_bucket_kl(s, *known), full, EXACT
    ids, p = known
    yield 'k = V - 1: too, a bucket of one class', losses.tail_bucket_kl(s, ids[:, :4], p[:, :4]), full, EXACT
    one = losses.tail_bucket_kl(s, ids[:, :1], p[:, :1])
    yield 'k = 1: TCKD of the likeliest class', one, losses.tckd(s, t, ids[:, 0]), EXACT
    bounds = [losses.tail_bucket_kl(s, ids[:, :k], p[:, :k]) for k in range(1, 6)]
    steps = jnp.diff(jnp.stack([jnp.zeros(4), *bounds, full]), axis=0)
    yield 'a lower bound that rises with k', jnp.minimum(steps, 0.0), jnp.zeros((6, 4)), EXACT


IDENTITIES = {name: globals()[name] for name in losses.__all__ if name in globals()}
