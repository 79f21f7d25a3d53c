"""Multi-draft verification: the prefix dual against a linear program, verifiers below it, and the law they emit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from tiny_decoders import chi_square

from kdjax.decoding import multi_draft, multi_draft_verifiers, verify
from kdjax.decoding.sampling import draw, row_keys


def dirichlet_pair(rng, vocabulary, concentration=0.5):
    return rng.dirichlet(np.full(vocabulary, concentration)), rng.dirichlet(np.full(vocabulary, concentration))


def sets_drawn(q, drafts, *, replaced):
    """The probability of each set of drafted tokens, by enumeration."""
    probs = {}
    for drawn in itertools.product(range(len(q)), repeat=drafts):
        probability, left = 1.0, 1.0
        for place, token in enumerate(drawn):
            again = token in drawn[:place]
            probability *= q[token] if replaced else 0.0 if again else q[token] / left
            left -= q[token]
        probs[frozenset(drawn)] = probs.get(frozenset(drawn), 0.0) + probability
    return probs


def sets_greedy(q, drafts):
    top, rest = multi_draft.greedy_law(q, drafts)
    return {frozenset([*top.tolist(), i]): rest[i] for i in np.flatnonzero(rest).tolist()}


DRAWN = {
    'with_replacement': lambda q, n: sets_drawn(q, n, replaced=True),
    'without_replacement': lambda q, n: sets_drawn(q, n, replaced=False),
    'greedy': sets_greedy,
}


def linear_program(p, sets):
    """max P(emitted token is a draft) over all couplings of the drafted set and a token of law p."""
    pairs = [(place, token) for place, drawn in enumerate(sets) for token in drawn]
    rows = np.zeros((len(sets) + len(p), len(pairs)))
    for column, (place, token) in enumerate(pairs):
        rows[place, column] = rows[len(sets) + token, column] = 1
    tight = {'primal_feasibility_tolerance': 1e-10, 'dual_feasibility_tolerance': 1e-10}
    found = optimize.linprog(-np.ones(len(pairs)), A_ub=rows, b_ub=[*sets.values(), *p], method='highs', options=tight)
    return -found.fun


@pytest.mark.parametrize('name', DRAWN)
def test_the_prefix_dual_is_the_linear_program(name):
    rng = np.random.default_rng(0)
    for drafts, vocabulary in [(1, 5), (2, 6), (2, 8), (3, 6), (3, 8), (4, 5)] * 3:
        p, q = dirichlet_pair(rng, vocabulary)
        got = getattr(multi_draft, name)(p, q, drafts)
        assert abs(got - linear_program(p, DRAWN[name](q, drafts))) < 1e-9, (drafts, vocabulary)


@pytest.mark.parametrize('name', DRAWN)
def test_tokens_that_one_side_never_says(name):
    p = np.array([0.0, 0.5, 0.2, 0.3, 0.0, 0.0])
    q = np.array([0.4, 0.0, 0.2, 0.3, 0.1, 0.0])
    for drafts in (1, 2, 3):
        got = getattr(multi_draft, name)(p, q, drafts)
        assert abs(got - linear_program(p, DRAWN[name](q, drafts))) < 1e-9


def test_one_draft_is_the_overlap_whatever_the_way():
    p, q = dirichlet_pair(np.random.default_rng(1), 50)
    overlap = np.minimum(p, q).sum()
    for name in DRAWN:
        assert getattr(multi_draft, name)(p, q, 1) == pytest.approx(overlap, abs=1e-12)
    for acceptance in ACCEPTANCES.values():
        assert acceptance(p, q, 1) == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_prefixes_without_replacement_for_many_drafts(temperature):
    """Against sums over ordered tuples, for a peaked distribution too."""
    logits = np.random.default_rng(2).normal(size=9)
    q = np.exp(logits / temperature)
    q /= q.sum()
    for drafts in (2, 3, 4):
        sets = sets_drawn(q, drafts, replaced=False)
        wanted = [sum(w for s, w in sets.items() if s <= set(range(k))) for k in range(1, 10)]
        np.testing.assert_allclose(multi_draft.prefixes_without_replacement(q, drafts), wanted, atol=1e-11)


ACCEPTANCES = {
    'rrs': multi_draft_verifiers.rrs_acceptance,
    'rrs_without': multi_draft_verifiers.rrs_without_replacement_acceptance,
    'k_seq': multi_draft_verifiers.k_seq_acceptance,
}


def test_verifiers_stay_below_their_optimum_and_different_drafts_help():
    rng = np.random.default_rng(3)
    means = []
    for _ in range(20):
        p, q = dirichlet_pair(rng, 30)
        for drafts in (2, 3):
            rrs, without, k_seq = (acceptance(p, q, drafts) for acceptance in ACCEPTANCES.values())
            best = multi_draft.with_replacement(p, q, drafts), multi_draft.without_replacement(p, q, drafts)
            assert max(rrs, k_seq) <= best[0] + 1e-12
            assert without <= best[1] + 1e-12
            assert best[0] <= best[1] + 1e-12
            means.append((rrs, k_seq, best[0], without, best[1]))
    rrs, k_seq, best, without, best_without = np.mean(means, axis=0)
    assert rrs < best - 0.005
    assert k_seq < best - 0.005
    assert without < best_without - 0.005


def test_greedy_drafts_are_best_at_a_low_temperature():
    logits = np.random.default_rng(4).normal(size=(2, 40)) * 2
    p, q = (np.exp(z / 0.2) / np.exp(z / 0.2).sum() for z in (logits[0], logits[0] + 0.2 * logits[1]))
    assert multi_draft.greedy(p, q, 3) > multi_draft.without_replacement(p, q, 3)


ROWS = 30000


def drafted(way, key, q, drafts):
    """`[rows, drafts]`."""
    keys = row_keys(key, ROWS)
    if way == 'rrs_without':
        return jax.vmap(lambda k: multi_draft_verifiers.drawn_without_replacement(k, q, drafts))(keys)
    each = [draw(row_keys(jax.random.fold_in(key, i), ROWS), jnp.tile(q, (ROWS, 1))) for i in range(drafts)]
    return jnp.stack(each, axis=1)


def verifier(way, p, q, drafts):
    if way == 'k_seq':
        rho = jnp.float32(multi_draft_verifiers.k_seq_rho(np.asarray(p), np.asarray(q), drafts))
        return lambda key, p, q, tokens: multi_draft_verifiers.k_seq(key, p, q, tokens, rho)
    return {
        'rrs': multi_draft_verifiers.rrs,
        'rrs_without': multi_draft_verifiers.rrs_without_replacement,
    }[way]


@pytest.mark.parametrize('way', ACCEPTANCES)
def test_emitted_tokens_have_the_law_of_the_target(way):
    """And as many are drafts as the exact acceptance says."""
    exact_p, exact_q = dirichlet_pair(np.random.default_rng(5), 6, 0.8)
    p, q, drafts = jnp.asarray(exact_p, jnp.float32), jnp.asarray(exact_q, jnp.float32), 3
    tokens = drafted(way, jax.random.key(0), q, drafts)
    each = jax.jit(jax.vmap(verifier(way, p, q, drafts), (0, None, None, 0)))
    token, which = each(row_keys(jax.random.key(1), ROWS), p, q, tokens)
    assert chi_square(exact_p, np.asarray(token)) > 1e-3
    exact = ACCEPTANCES[way](exact_p, exact_q, drafts)
    assert abs(np.mean(np.asarray(which) < drafts) - exact) < 4 * np.sqrt(exact * (1 - exact) / ROWS)


def test_greedy_drafts_are_verified_as_one():
    """The emitted law is p, and a draft, one of the top or the random one, is emitted as often as the optimum."""
    exact_p, exact_q = dirichlet_pair(np.random.default_rng(6), 6, 0.8)
    top, rest = multi_draft.greedy_law(exact_q, 3)
    p, law = jnp.tile(jnp.asarray(exact_p, jnp.float32), (ROWS, 2, 1)), jnp.asarray(rest, jnp.float32)
    random = draw(row_keys(jax.random.key(0), ROWS), jnp.tile(law, (ROWS, 1)))
    verdict = verify(row_keys(jax.random.key(1), ROWS), p, jnp.tile(law, (ROWS, 1, 1)), random[:, None])
    token = np.where(verdict.accepted == 1, random, verdict.token)
    assert chi_square(exact_p, token) > 1e-3
    exact = multi_draft.greedy(exact_p, exact_q, 3)
    hit = np.mean((token == random) | np.isin(token, top))
    assert abs(hit - exact) < 4 * np.sqrt(exact * (1 - exact) / ROWS)


def test_what_is_no_distribution_is_refused():
    even = np.full(4, 0.25)
    with pytest.raises(ValueError, match=r'q sums to 1\.5'):
        multi_draft.with_replacement(even, 1.5 * even, 2)
    with pytest.raises(ValueError, match='p has shape'):
        multi_draft.greedy(np.full(3, 1 / 3), even, 2)
    with pytest.raises(ValueError, match='0 drafts'):
        multi_draft.with_replacement(even, even, 0)
    with pytest.raises(ValueError, match='probability to 2 tokens, too few for 3 different drafts'):
        multi_draft.without_replacement(even, np.array([0.5, 0.5, 0.0, 0.0]), 3)
