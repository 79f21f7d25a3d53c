"""What is kept of a teacher's distribution: exact where it says so, unbiased where it says so, and in few bits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.data.teacher_cache import (
    Hidden,
    Hybrid,
    Sampled,
    TopK,
    best_kind,
    bytes_per_token,
    compress,
    expected_bytes,
    fitted,
    grids,
    keep_hidden,
)
from kdjax.data.teacher_cache.bits import BitReader, BitWriter
from kdjax.data.teacher_cache.codec import decode, encode
from kdjax.data.teacher_cache.intervals import intervals
from kdjax.data.teacher_cache.sizes import expected_variance
from kdjax.errors import UserError

KEY = jax.random.key(3)
UNBIASED = [
    Sampled(20), Sampled(12, power=0.7), Sampled(12, power=1.4, temperature=2.0), Hybrid(11), Hybrid(6, temperature=2.0)
]  # fmt: skip


def zipf(tokens, vocabulary, seed=0):
    """Logits like those of a language model: power laws in a random order, from a flat to a peaked one."""
    rng = np.random.default_rng(seed)
    rank = rng.permuted(np.tile(np.arange(1.0, vocabulary + 1), (tokens, 1)), axis=1)
    return jnp.asarray(-np.linspace(0.8, 2.5, tokens)[:, None] * np.log(rank), jnp.float32)


def dense(sparse, vocabulary):
    """The weights as a matrix `[tokens, vocabulary]`."""
    hits = jax.nn.one_hot(sparse.ids, vocabulary)
    return jnp.sum(sparse.probs[..., None] * hits, axis=-2)


def fields(sparse):
    return {name: np.asarray(getattr(sparse, name)) for name in sparse.__dataclass_fields__}


def said(kind, logits, key=KEY):
    return jax.jit(lambda z: compress(kind, z, key=key))(logits)


def test_bits_come_back_in_order():
    rng = np.random.default_rng(0)
    streams = [(rng.integers(2**width, size=(5, 3)), width) for width in (1, 7, 16, 31)]
    writer = BitWriter()
    for values, width in streams:
        writer.put(values, width)
    data = writer.bytes()
    assert len(data) == math.ceil(15 * (1 + 7 + 16 + 31) / 8)
    reader = BitReader(data)
    for values, width in streams:
        np.testing.assert_array_equal(reader.get(15, width), values.reshape(-1))
    with pytest.raises(ValueError, match='9 numbers of 5 bits are missing: the data end'):
        reader.get(9, 5)


@pytest.mark.parametrize('values', [[4], [-1]])
def test_a_number_too_large_for_its_bits_is_refused(values):
    with pytest.raises(ValueError, match='do not fit into 2 bits'):
        BitWriter().put(np.array(values), 2)


def test_rounding_at_random_keeps_the_mean():
    """To three standard errors, on both grids, from 0 to 1 and beyond."""
    p = jnp.array([0.0, 1e-3, 0.2, 0.7, 0.9999, 1.0])
    for rounded, x in (
        (lambda key: grids.at_random(p, 4, key=key), p),
        (lambda key: grids.weight_at_random(3.7 * p, key=key), 3.7 * p),
    ):
        draws = np.asarray(jax.vmap(rounded)(jax.random.split(KEY, 20_000)), np.float64)
        error = draws.std(axis=0) / math.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - x) <= 3 * error + 2e-7 * np.asarray(x)).all()


def test_top_k_is_the_largest_to_half_a_level():
    logits = zipf(6, 300)
    kept = said(TopK(5), logits)
    p = np.asarray(jax.nn.softmax(logits))
    order = np.argsort(-p, axis=-1)[:, :5]
    np.testing.assert_array_equal(kept.ids, order)
    np.testing.assert_allclose(kept.probs, np.take_along_axis(p, order, axis=-1), atol=1 / (2**12 - 1))
    np.testing.assert_array_equal(kept.exact, 5)


def test_the_normaliser_and_the_entropy_are_those_of_all_classes():
    logits = zipf(6, 300) + 7
    for kind in (TopK(2, temperature=2.0), Hybrid(3, temperature=2.0)):
        kept = said(kind, logits)
        np.testing.assert_allclose(kept.log_normalizer, jax.nn.logsumexp(logits / 2, axis=-1), rtol=1e-6)
        np.testing.assert_allclose(kept.entropy, losses.entropy(logits, temperature=2.0), rtol=1e-5)


@pytest.mark.parametrize('kind', [TopK(9, bits=16), Hybrid(100_000, bits=16)], ids=str)
def test_where_every_class_is_kept_the_loss_is_the_full_divergence(kind):
    teacher, student = zipf(4, 9), zipf(4, 9, seed=1)
    kept = said(kind, teacher)
    value = losses.sparse_kl(student, kept.ids, kept.probs, kept.entropy)
    np.testing.assert_allclose(value, losses.kl_forward(student, teacher), atol=2e-3)


def test_a_tail_bucket_never_exceeds_the_full_divergence():
    teacher, student = zipf(64, 200), zipf(64, 200, seed=1)
    full = np.asarray(losses.kl_forward(student, teacher))
    last = np.zeros(64)
    for k in (1, 16, 200):
        kept = said(TopK(k, bits=16), teacher)
        bound = np.asarray(losses.tail_bucket_kl(student, kept.ids, kept.probs))
        assert (bound <= full + 1e-3).all()
        assert (bound >= last - 1e-3).all()
        last = bound
    np.testing.assert_allclose(last, full, atol=2e-3)


@pytest.mark.parametrize('kind', UNBIASED, ids=str)
def test_gradient_and_value_are_unbiased(kind):
    """The mean of many draws is the full gradient and divergence, to three standard errors (all coordinates: four)."""
    teacher, student = zipf(1, 12, seed=4), zipf(1, 12, seed=5)
    draws = 4000

    def one(key):
        kept = compress(kind, teacher, key=key)

        def loss(s):
            value = losses.sparse_kl(s, kept.ids, kept.probs, kept.entropy, temperature=kind.temperature)
            return jnp.sum(value)

        return jax.value_and_grad(loss)(student)

    values, slopes = jax.jit(jax.vmap(one))(jax.random.split(KEY, draws))
    full = jax.value_and_grad(lambda s: jnp.sum(losses.kl_forward(s, teacher, temperature=kind.temperature)))(student)
    for got, wanted, errors in ((values, full[0], 3), (slopes, full[1], 4)):
        got = np.asarray(got, np.float64)
        error = got.std(axis=0) / math.sqrt(draws)
        assert (np.abs(got.mean(axis=0) - wanted) <= errors * error + 1e-6).all()
    direction = np.asarray(full[1]) / np.linalg.norm(full[1])
    along = np.sum(np.asarray(slopes, np.float64) * direction, axis=(1, 2))
    assert abs(along.mean() - np.linalg.norm(full[1])) <= 3 * along.std() / math.sqrt(draws)


def test_the_check_sees_the_bias_of_top_k():
    """The same test, at a kind that is biased: it fails by far."""
    teacher, student = zipf(1, 12, seed=4), zipf(1, 12, seed=5)
    kept = said(TopK(3), teacher)
    slope = jax.grad(lambda s: jnp.sum(losses.sparse_cross_entropy(s, kept.ids, kept.probs)))(student)
    full = jax.grad(lambda s: jnp.sum(losses.kl_forward(s, teacher)))(student)
    assert np.linalg.norm(slope - full) > 0.02


def test_hybrid_keeps_the_likely_exactly_and_samples_the_rest_at_the_threshold():
    logits = zipf(50, 400)
    kept, p = said(Hybrid(21), logits), np.asarray(jax.nn.softmax(logits))
    there = np.asarray(kept.ids) >= 0
    np.testing.assert_array_equal(kept.exact, (p >= 0.05).sum(axis=1))
    rows = (np.asarray(a) for a in (kept.ids, kept.probs, kept.exact, p, there))
    for ids, probs, exact, row, present in zip(*rows, strict=True):
        assert set(ids[:exact]) == set(np.flatnonzero(row >= 0.05))
        np.testing.assert_allclose(probs[:exact], row[ids[:exact]], atol=2 / 255)
        assert (row[ids[exact:][present[exact:]]] < 0.05).all()
        np.testing.assert_allclose(probs[exact:][present[exact:]], 0.05)
        assert not present[present.sum() :].any()
    np.testing.assert_allclose(np.asarray(kept.probs).sum(axis=1), 1, atol=0.05 + 0.02)


def test_hybrid_has_less_variance_than_independent_draws_in_the_same_bytes():
    logits = zipf(16, 300)
    p = np.asarray(jax.nn.softmax(logits))
    spread = {}
    for kind in (fitted(Sampled, 32, p), fitted(Hybrid, 32, p)):
        weights = jax.jit(jax.vmap(lambda key, kind=kind: dense(compress(kind, logits, key=key), 300)))
        spread[type(kind)] = np.mean(np.sum((np.asarray(weights(jax.random.split(KEY, 40))) - p) ** 2, axis=-1))
    assert spread[Hybrid] < 0.7 * spread[Sampled]


def test_the_variance_of_a_hybrid_is_the_one_expected():
    logits = zipf(8, 40)
    p, kind = np.asarray(jax.nn.softmax(logits)), Hybrid(9, bits=5)
    weights = jax.jit(jax.vmap(lambda key: dense(compress(kind, logits, key=key), 40)))
    draws = np.asarray(weights(jax.random.split(KEY, 2000)), np.float64)
    measured = np.mean(np.sum(draws.var(axis=0), axis=-1))
    assert measured == pytest.approx(expected_variance(kind, p), rel=0.05)


def test_the_best_kind_spends_its_bytes_where_they_help():
    """Few bytes buy classes, many buy digits: in the end every class, in 16 bits."""
    p = np.asarray(jax.nn.softmax(zipf(64, 257)))
    chosen = [best_kind(size, p) for size in (24, 48, 300, 900)]
    assert [kind.bits for kind in chosen] == sorted(kind.bits for kind in chosen)
    assert chosen[0].bits <= 8
    assert chosen[-1].bits == 16
    for size, kind in zip((24, 48, 300, 900), chosen, strict=True):
        assert expected_bytes(kind, p) <= size
    spread = [expected_variance(kind, p) for kind in chosen]
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize('classes', [3, 64, 700])
def test_an_interval_holds_as_many_of_evenly_spaced_points_as_it_is_long(classes):
    """Also between classes of length 0, of which none is ever hit, whole blocks of them among those."""
    lengths = np.array(zipf(1, classes)[0]) ** 2 * (np.arange(classes) % 3 > 0) * (np.arange(classes) // 64 != 1)
    line, count = intervals(jnp.asarray(lengths, jnp.float32)), 50_000
    points = (np.arange(count) + 0.5) / count * lengths.sum()
    hit = np.asarray(line.at(jnp.asarray(points, jnp.float32)))
    assert (np.diff(hit) >= 0).all()
    assert (lengths[hit] > 0).all()
    shares = np.bincount(hit, minlength=classes) / count
    np.testing.assert_allclose(shares, lengths / lengths.sum(), atol=1.1 / count)


def test_points_at_and_beyond_the_end_are_in_the_last_class_there_is():
    line = intervals(jnp.array([0.0, 0.25, 0.5, 0.0]))
    assert line.at(jnp.array([0.0, 0.2499, 0.25, 0.75, 9.0])).tolist() == [1, 1, 2, 2, 2]


@pytest.mark.parametrize('kind', [Sampled(2000), Hybrid(2000)], ids=str)
def test_a_class_of_probability_zero_is_never_drawn(kind):
    """However the cumulative sums round: padding of a vocabulary has -inf on both sides, and would cost infinity."""
    absent = jnp.arange(20_000)[None] % 3 == 0
    logits = jnp.where(absent, -jnp.inf, zipf(1, 20_000))
    kept = said(kind, jnp.tile(logits, (8, 1)))
    drawn = np.asarray(kept.ids)
    assert (drawn[drawn >= 0] % 3 > 0).all()
    assert np.isfinite(losses.sparse_cross_entropy(jnp.tile(logits, (8, 1)), kept.ids, kept.probs)).all()


def test_tokens_draw_for_themselves():
    kept = said(Sampled(4), jnp.zeros((2, 3, 1000)))
    assert kept.ids.shape == (2, 3, 4)
    assert len({tuple(ids) for ids in np.asarray(kept.ids).reshape(6, 4)}) == 6


@pytest.mark.parametrize('vocabulary', [2, 257])
@pytest.mark.parametrize('kind', [TopK(2), TopK(2, bits=16), *UNBIASED], ids=str)
def test_what_is_packed_comes_back(kind, vocabulary):
    row = fields(said(kind, zipf(7, vocabulary)))
    data = encode(kind, vocabulary, row)
    back = decode(kind, vocabulary, 7, data)
    np.testing.assert_array_equal(back['ids'], row['ids'])
    np.testing.assert_allclose(back['probs'], row['probs'], rtol=2e-5, atol=1e-7)
    for name in ('log_normalizer', 'entropy'):
        np.testing.assert_allclose(back[name], row[name], rtol=1e-3, atol=1e-3)
    assert len(data) <= math.ceil(7 * bytes_per_token(kind, vocabulary))
    with pytest.raises(ValueError, match='the data end'):
        decode(kind, vocabulary, 7, data[:-2])


def test_hidden_states_come_back_in_bfloat16():
    hidden = jax.random.normal(KEY, (7, 6))
    row = fields(keep_hidden(hidden, jnp.zeros((7, 4))))
    data = encode(Hidden(6), 4, row)
    assert len(data) == 7 * bytes_per_token(Hidden(6), 4) == 7 * 16
    back = decode(Hidden(6), 4, 7, data)
    np.testing.assert_array_equal(back['hidden'], np.asarray(hidden.astype(jnp.bfloat16)))
    np.testing.assert_allclose(back['entropy'], math.log(4), rtol=1e-3)


@pytest.mark.parametrize('kind', [Sampled, Hybrid, TopK])
def test_48_bytes_at_a_vocabulary_of_49152(kind):
    """A kind fitted to a size takes it, on other tokens of the same teacher; a longer one would not fit."""
    pilot, others = (np.asarray(jax.nn.softmax(zipf(64, 49152, seed=s))) for s in (0, 1))
    chosen = fitted(kind, 48, pilot)
    spent = len(encode(chosen, 49152, fields(said(chosen, jnp.log(others))))) / 64
    assert 44 < spent < 50
    assert spent == pytest.approx(expected_bytes(chosen, others), rel=0.06)
    size = {TopK: 'k', Sampled: 'draws', Hybrid: 'slots'}[kind]
    assert expected_bytes(kind(getattr(chosen, size) + 1), pilot) > 48


REFUSED = {
    'k': (lambda: said(TopK(13), zipf(1, 12)), r'TopK\(k=13, .*the vocabulary has 12 classes'),
    'slots': (lambda: said(Hybrid(1), zipf(1, 12)), r'slots has to be at least 2'),
    'draws': (lambda: said(Sampled(0), zipf(1, 12)), r'draws has to be at least 1'),
    'bits': (lambda: said(TopK(3, bits=17), zipf(1, 12)), 'in at most 16 bits'),
    'temperature': (lambda: said(TopK(3, temperature=0.0), zipf(1, 12)), 'temperature has to be above 0'),
    'power': (lambda: said(Sampled(3, power=0.0), zipf(1, 12)), 'power has to be above 0'),
    'size': (lambda: fitted(TopK, 5, np.ones((1, 4096)) / 4096), r'k=2.* takes 10.0 bytes a token: 5 are too few'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case):
    attempt, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        attempt()
