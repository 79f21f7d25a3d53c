"""The special case or limit that each loss of the language-model literature must reproduce; see `loss_identities`."""

import jax
import jax.numpy as jnp
from loss_identities import EXACT, gradient, logits, normal

from kdjax import losses


def kl_estimate(rng):
    """Means over every token, each weighted by the student's probability: exact, no sampling."""
    s, t, _ = logits(rng)
    log_p = jax.nn.log_softmax(t)

    def mean(form, draws):
        def of(s):
            log_s = jax.nn.log_softmax(s)
            values = losses.kl_estimate(log_s, log_p, form=form)
            weight = jnp.exp(log_s)
            return jnp.sum((weight if draws else jax.lax.stop_gradient(weight)) * values, axis=-1)

        return of

    for form in ('k1', 'k3'):
        yield f'the mean of {form} is KL(s || p)', mean(form, True)(s), losses.kl_reverse(s, t), EXACT

    def slope(form):
        return jax.grad(lambda s: jnp.sum(mean(form, False)(s)))(s)

    forward, reverse = gradient(losses.kl_forward, s, t), gradient(losses.kl_reverse, s, t)
    yield 'the mean gradient of k1 is 0', slope('k1'), jnp.zeros_like(s), EXACT
    yield 'the mean gradient of k2 is that of KL(s || p)', slope('k2'), reverse, EXACT
    yield 'the mean gradient of k3 is that of KL(p || s)', slope('k3'), forward, EXACT


def policy_gradient(rng):
    s, t, _ = logits(rng)
    log_p = jax.nn.log_softmax(t)

    def mean(behaviour):
        """Over every token that `behaviour(log_s)` may draw, with the advantage log p - log s."""

        def of(s):
            log_s = jax.nn.log_softmax(s)
            drawn_by = behaviour(jax.lax.stop_gradient(log_s))
            values = losses.policy_gradient(log_s, log_p - log_s, drawn_by)
            return jnp.sum(jnp.exp(drawn_by) * values)

        return jax.grad(of)(s)

    wanted = gradient(losses.kl_reverse, s, t)
    yield 'advantage log p - log s: the gradient of KL(s || p)', mean(lambda log_s: log_s), wanted, EXACT
    mixed = mean(lambda log_s: losses.log_mixture(log_s, log_p, alpha=0.3))
    yield 'also where a mixture with the teacher drew', mixed, wanted, EXACT
    log_s, advantage = normal(rng, 4), normal(rng, 4)
    got, plain = (
        jax.grad(lambda x, b=b: jnp.sum(losses.policy_gradient(x, advantage, b)))(log_s) for b in (log_s, None)
    )
    yield 'without a behaviour: its own draws', got, plain, EXACT
    held = losses.policy_gradient(log_s + 1, jnp.abs(advantage), log_s, clip=0.2)
    yield 'a good token gains no more than the clip', held, -1.2 * jnp.abs(advantage), EXACT


def dpo(rng):
    chosen, rejected, first, second = normal(rng, 4, 6)
    both = jnp.stack([0.3 * (chosen - first), 0.3 * (rejected - second)], axis=-1)
    got = losses.dpo(chosen, rejected, first, second, beta=0.3)
    yield 'cross-entropy of choosing the first', got, losses.cross_entropy(both, jnp.zeros(6, int)), EXACT
    slope = jax.grad(lambda c: jnp.sum(losses.dpo(c, rejected, first, second, beta=0.3)))(chosen)
    yield 'its slope: -beta times the odds of being wrong', slope, -0.3 * jax.nn.softmax(both)[:, 1], EXACT


def advantage_expectation(rng):
    s, t, _ = logits(rng)
    r = normal(rng, 4, 5)
    got = losses.advantage_expectation(s, t, r)
    yield 'KL(s || p) - KL(s || r)', got, losses.kl_reverse(s, t) - losses.kl_reverse(s, r), EXACT
    yield 'zero without a preference', losses.advantage_expectation(s, t, t + 3), jnp.zeros(4), EXACT
    log_s, advantage = jax.nn.log_softmax(s), jax.nn.log_softmax(t) - jax.nn.log_softmax(r)
    sampled = jax.grad(
        lambda s: jnp.sum(jnp.exp(log_s) * losses.policy_gradient(jax.nn.log_softmax(s), advantage))
    )(s)
    slope = gradient(losses.advantage_expectation, s, t, r)
    yield 'the mean of sampled policy gradients', slope, sampled, EXACT


def taid(rng):
    s, t, _ = logits(rng)
    mixed = 0.3 * t + 0.7 * s
    slope = jax.nn.softmax(s) - jax.nn.softmax(mixed)
    yield 'gradient = s - q', gradient(losses.taid, s, t, 0.3), slope, EXACT
    yield 'KL(q || s) + H(q)', losses.taid(s, t, 0.3), losses.kl_forward(s, mixed) + losses.entropy(mixed), EXACT
    yield 't = 1: the gradient of KL', gradient(losses.taid, s, t, 1), gradient(losses.kl_forward, s, t), EXACT
    yield 't = 0: no gradient', gradient(losses.taid, s, t, 0.0), jnp.zeros_like(s), EXACT
    padded = [jnp.pad(z, ((0, 0), (0, 2)), constant_values=-jnp.inf) for z in (s, t)]
    yield 'classes at -inf do not exist', losses.taid(*padded, 0.3), losses.taid(s, t, 0.3), EXACT


def adaptive_kl(rng):
    s, t, _ = logits(rng)
    everything = losses.adaptive_kl(s, t, mu=1.0)
    yield 'mu = 1: all is head, KL(p || s)', everything, losses.kl_forward(s, t), EXACT
    sure = 9 * jax.nn.one_hot(jnp.arange(4), 5)
    alone = losses.adaptive_kl(s, sure, mu=0.0)
    gap = jnp.abs(jax.nn.softmax(s) - jax.nn.softmax(sure))
    w = jnp.max(gap * jax.nn.one_hot(jnp.arange(4), 5), axis=-1) / jnp.sum(gap, axis=-1)
    wanted = w * losses.kl_forward(s, sure) + (1 - w) * losses.kl_reverse(s, sure)
    yield 'mu = 0: the head is the likeliest class', alone, wanted, EXACT
    forward, reverse = (gradient(f, s, sure) for f in (losses.kl_forward, losses.kl_reverse))
    slope = gradient(losses.adaptive_kl, s, sure, mu=0.0)
    yield 'weights are constants', slope, w[:, None] * forward + (1 - w)[:, None] * reverse, EXACT


def adaspec(rng):
    s, t, _ = logits(rng)
    r = normal(rng, 4, 5)
    yield 'keep = 1: KL(p || s)', losses.adaspec(s, t, r, keep=1), losses.kl_forward(s, t), EXACT
    delta = losses.kl_forward(s, t) - losses.kl_forward(r, t)
    largest = jnp.where(delta == jnp.max(delta), losses.kl_forward(s, t), 0.0)
    yield 'keep = 0: the largest difference alone', losses.adaspec(s, t, r, keep=0), largest, EXACT


def calibrated_top_k(rng):
    s, t, _ = logits(rng)
    ids = jnp.argsort(-t, axis=-1)
    p = jnp.take_along_axis(jax.nn.softmax(t), ids, axis=-1)
    full = losses.calibrated_top_k(s, ids, p, scale=0.3)
    again = losses.kl_forward(jax.nn.softmax(s), jax.nn.softmax(t), temperature=0.3)
    yield 'k = V: KL of probabilities taken for logits', full, again, EXACT
    sharp = losses.calibrated_top_k(s, ids, p, scale=1e-3, form='linear')
    hard = losses.cross_entropy(s, ids[:, 0])
    yield 'scale -> 0, linear, k = V: cross-entropy of the likeliest', sharp, hard, 1e-4


def alm(rng):
    u, v = jnp.abs(normal(rng, 2, 6)) + 0.1
    limit = (v - u) + u * jnp.log(u / v)
    yield 'T -> inf: T times it', 1e5 * losses.alm(-v, -u, temperature=1e5), limit, 0.1
    slope = jax.grad(lambda v: jnp.sum(1e3 * losses.alm(-v, -u, temperature=1e3)))(v)
    yield 'its slope there is 1 - u / v', slope, 1 - u / v, 1e-2
    both = [jnp.stack([-x, jnp.log(-jnp.expm1(-x))], axis=-1) for x in (v, u)]
    yield 'T = 1: KL of this chunk against the rest', losses.alm(-v, -u, temperature=1), losses.kl_forward(*both), 1e-4


def uld(rng):
    s, t, _ = logits(rng)
    other = s[:, rng.permutation(5)]
    yield 'zero for the same tokens in another order', losses.uld(other, s), jnp.zeros(4), EXACT
    ranked = [jnp.sort(z, axis=-1) for z in (s, t)]
    yield 'sorted alike: twice the total variation', losses.uld(s, t), 2 * losses.total_variation(*ranked), EXACT
    absent = jnp.pad(s, ((0, 0), (0, 3)), constant_values=-jnp.inf)
    yield 'a longer vocabulary of absent tokens', losses.uld(absent, t), losses.uld(s, t), EXACT


def student_space(rng):
    s, t, y = logits(rng)
    got = losses.student_space(s, t, y, correct_only=False)
    yield 'DSKD: both terms everywhere', got, losses.cross_entropy(t, y) + losses.kl_forward(s, t), EXACT
    wrong = jnp.argmin(t, axis=-1)
    labels_alone = losses.cross_entropy(t, wrong)
    yield 'where the teacher is wrong: labels alone', losses.student_space(s, t, wrong), labels_alone, EXACT
    slope = jax.grad(lambda t: jnp.sum(losses.student_space(s, t, y, correct_only=False)))(t)
    wanted = gradient(losses.cross_entropy, t, y)
    yield 'the projector learns from labels alone', slope, wanted, EXACT


def attention_relation(rng):
    sq, sk, tq, tk = normal(rng, 4, 2, 5, 2, 3)
    got = losses.attention_relation(sq, sk, tq, tk)
    scores = [jnp.einsum('bqhd,bkhd->bqhk', q, k) / jnp.sqrt(3.0) for q, k in ((sq, sk), (tq, tk))]
    yield 'KL of attention, averaged over heads', got, jnp.mean(losses.kl_forward(*scores), axis=-1), EXACT
    turned = losses.attention_relation(2 * sq, sk / 2, tq, tk)
    yield 'only the product of queries and keys matters', turned, got, EXACT
    causal = losses.attention_relation(sq, sk, tq, tk, causal=True)
    yield 'causal: the first token sees itself alone', causal[:, 0], jnp.zeros(2), EXACT
    front = [x[:, :3] for x in (sq, sk, tq, tk)]
    yield 'causal: a prefix is on its own', causal[:, :3], losses.attention_relation(*front, causal=True), EXACT
    segments = jnp.array([[1, 1, 2, 2, 2]] * 2)
    packed = losses.attention_relation(sq, sk, tq, tk, segments, causal=True)
    parts = [
        losses.attention_relation(*(x[:, part] for x in (sq, sk, tq, tk)), causal=True)
        for part in (slice(0, 2), slice(2, 5))
    ]
    yield 'packed documents are apart', packed, jnp.concatenate(parts, axis=1), EXACT
    shared = losses.attention_relation(sq, sk[:, :, :1], tq, tk)
    repeated = losses.attention_relation(sq, jnp.repeat(sk[:, :, :1], 2, axis=2), tq, tk)
    yield 'grouped queries share a key', shared, repeated, EXACT


def value_relation(rng):
    s, t = normal(rng, 2, 5, 2, 3), normal(rng, 2, 5, 2, 3)
    yield 'values to values', losses.value_relation(s, t), losses.attention_relation(s, s, t, t), EXACT
    turned = jnp.flip(s, axis=-1) * jnp.broadcast_to(jnp.array([1.0, -1.0, 1.0]), s.shape)
    yield 'a rotation of the values changes nothing', losses.value_relation(turned, s), jnp.zeros((2, 5)), EXACT
    wide = jnp.concatenate([t, jnp.zeros_like(t)], axis=-1) * 2**0.25
    yield 'each side has its own width', losses.value_relation(wide, t), jnp.zeros((2, 5)), EXACT
    whole = losses.value_relation(s.reshape(2, 5, 1, 6), t.reshape(2, 5, 1, 6))
    yield 'heads split anew', losses.value_relation(s, t, heads=1), whole, EXACT


LANGUAGE_IDENTITIES = {name: globals()[name] for name in losses.__all__ if name in globals()}
