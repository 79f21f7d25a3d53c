"""Speculative decoding: what comes out is what the target alone would say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_decoders import chi_square, law, logits, numbered, tiny

from kdjax.decoding import (
    GREEDY,
    PLAIN,
    Sampling,
    acceptance_rate,
    expected_block_length,
    generate,
    pad_prompts,
    speculate,
    speculative,
    verify,
)
from kdjax.decoding.sampling import draw, row_keys, step_keys
from kdjax.errors import UserError

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [2, 2]]


def pair(vocabulary=4, depth=2):
    """A target, and a smaller draft of other weights."""
    return *tiny(vocabulary, depth=depth), *tiny(vocabulary, width=8, depth=1, seed=1)


def shallow():
    """With a vocabulary in which ties and chance hits are rare; quick to compile."""
    return pair(23, depth=1)


def tables(rows, drafts, vocabulary, seed=0):
    """Distributions of target and draft at each place, the same in all rows."""
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.full(vocabulary, 0.6), n).astype(np.float32) for n in (drafts + 1, drafts))
    return p, q, *(jnp.tile(x, (rows, 1, 1)) for x in (p, q))


def test_verified_blocks_have_the_law_of_the_target():
    """The first token of a block; and where the first two stand, the third, drawn by the target alone."""
    rows, drafts, vocabulary = 30000, 2, 4
    p, q, target, draft = tables(rows, drafts, vocabulary)
    keys = row_keys(jax.random.key(0), rows)
    tokens = jnp.stack([draw(step_keys(keys, i), draft[:, i]) for i in range(drafts)], axis=1)
    verdict = jax.jit(verify)(row_keys(jax.random.key(1), rows), target, draft, tokens)
    accepted, token = np.asarray(verdict.accepted), np.asarray(verdict.token)
    first = np.where(accepted > 0, tokens[:, 0], token)
    assert chi_square(p[0].astype(float) / p[0].sum(dtype=float), first) > 1e-3
    second = np.where(accepted > 1, tokens[:, 1], token)[accepted > 0]
    assert chi_square(p[1].astype(float) / p[1].sum(dtype=float), second) > 1e-3
    assert chi_square(p[2].astype(float) / p[2].sum(dtype=float), token[accepted == 2]) > 1e-3
    alpha = np.minimum(p[0], q[0]).sum()
    assert abs(np.mean(accepted > 0) - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / rows)


def test_equal_distributions_are_always_accepted_and_disjoint_ones_never():
    _, _, target, _ = tables(500, 3, 5)
    drawn = jnp.stack([draw(row_keys(jax.random.key(i), 500), target[:, i]) for i in range(3)], axis=1)
    same = verify(row_keys(jax.random.key(7), 500), target, target[:, :-1], drawn)
    np.testing.assert_array_equal(same.accepted, 3)
    left, right = jnp.array([0.5, 0.5, 0.0, 0.0]), jnp.array([0.0, 0.0, 0.3, 0.7])
    rows = jnp.tile(left, (500, 2, 1)), jnp.tile(right, (500, 1, 1)), jnp.full((500, 1), 3, jnp.int32)
    apart = verify(row_keys(jax.random.key(8), 500), *rows)
    np.testing.assert_array_equal(apart.accepted, 0)
    assert set(np.asarray(apart.token).tolist()) == {0, 1}


@pytest.mark.parametrize('sampling', [PLAIN, Sampling(0.5, top_k=3)], ids=['plain', 'cut'])
def test_texts_have_the_law_of_the_target(sampling):
    """Three tokens with two drafts a round: residuals, whole blocks, and rows that drift apart."""
    target, weights, draft, draft_weights = pair()
    said = speculate(
        target, weights, draft, draft_weights, pad_prompts([[2, 1]] * 8000),
        key=jax.random.key(3), max_new=3, drafts=2, sampling=sampling,
    )  # fmt: skip
    assert 0.05 < said.acceptance < 0.95
    assert chi_square(law(target, weights, [2, 1], 3, sampling), numbered(said.tokens, 4)) > 1e-3


def noisy(weights, scale):
    return jax.tree.map(lambda w: w + scale * jax.random.normal(jax.random.key(1), w.shape), weights)


@pytest.mark.parametrize('drafts', [1, 4])
def test_greedy_is_what_the_target_alone_says(drafts):
    """Whatever the draft, prompts of different lengths, and rows that accept different numbers in each round."""
    target, weights, *_ = shallow()
    prompts, options = pad_prompts(PROMPTS), {'key': jax.random.key(0), 'max_new': 20, 'sampling': GREEDY}
    alone = generate(target, weights, prompts, **options)
    acceptances = []
    for scale in (0.0, 0.2, 2.0):
        said = speculate(target, weights, target, noisy(weights, scale), prompts, drafts=drafts, **options)
        np.testing.assert_array_equal(said.tokens, alone.tokens)
        np.testing.assert_array_equal(said.lengths, 20)
        acceptances.append(float(said.acceptance))
        if not scale:
            np.testing.assert_array_equal(said.passes, -(-20 // (drafts + 1)))
    assert acceptances[0] == 1
    assert 1 > acceptances[1] > acceptances[2]


def test_a_draft_of_another_size_serves_as_well():
    target, weights, draft, draft_weights = shallow()
    options = {'key': jax.random.key(0), 'max_new': 20, 'sampling': GREEDY}
    alone = generate(target, weights, pad_prompts(PROMPTS), **options)
    said = speculate(target, weights, draft, draft_weights, pad_prompts(PROMPTS), drafts=3, **options)
    np.testing.assert_array_equal(said.tokens, alone.tokens)


def test_caches_are_squeezed_when_they_are_full(monkeypatch):
    """Of many rows some row is always lucky, and the others' closed slots pile up: nothing changes but the place."""
    target, weights, *_ = shallow()
    squeezed, times, texts = speculative._squeezed, [], []

    def counted(caches):
        jax.debug.callback(lambda: times.append(1))
        return squeezed(caches)

    monkeypatch.setattr(speculative, '_squeezed', counted)
    for spare in (50, 1):
        monkeypatch.setattr(speculative, 'SPARE', spare)
        speculative._speculate.clear_cache()
        said = speculate(
            target, weights, target, noisy(weights, 0.2), pad_prompts(PROMPTS * 6),
            key=jax.random.key(0), max_new=41, drafts=4,
        )  # fmt: skip
        jax.effects_barrier()
        texts.append((said.tokens, len(times)))
    assert texts[0][1] == 1
    assert texts[1][1] > 2
    np.testing.assert_array_equal(texts[0][0], texts[1][0])


def test_what_is_counted_adds_up():
    target, weights, *_ = shallow()
    said = speculate(
        target, weights, target, noisy(weights, 0.1), pad_prompts(PROMPTS), key=jax.random.key(0), max_new=30, drafts=3
    )
    assert 0.2 < said.acceptance < 1
    assert (np.asarray(said.accepted) <= np.asarray(said.tested)).all()
    emitted = np.asarray(said.accepted) + np.asarray(said.passes)
    assert ((np.asarray(said.lengths) <= emitted) & (emitted <= np.asarray(said.lengths) + 1)).all()
    assert said.block_length == 120 / np.sum(said.passes)


def test_stop_tokens_end_a_row_inside_a_block():
    target, weights, *_ = shallow()
    prompts, options = pad_prompts(PROMPTS), {'key': jax.random.key(0), 'max_new': 20, 'sampling': GREEDY}
    free = generate(target, weights, prompts, **options)
    stop = tuple({int(free.tokens[0, 3]), int(free.tokens[2, 5])})
    alone = generate(target, weights, prompts, stop=stop, **options)
    assert len(set(alone.lengths.tolist())) > 1
    for scale in (0.0, 0.2):
        said = speculate(target, weights, target, noisy(weights, scale), prompts, stop=stop, **options)
        np.testing.assert_array_equal(said.tokens, alone.tokens)
        np.testing.assert_array_equal(said.lengths, alone.lengths)


def test_a_row_does_not_depend_on_the_others():
    target, weights, draft, draft_weights = shallow()
    options = {'key': jax.random.key(2), 'max_new': 12}
    both = speculate(target, weights, draft, draft_weights, pad_prompts(PROMPTS), **options)
    alone = speculate(target, weights, draft, draft_weights, pad_prompts(PROMPTS[:1]), **options)
    np.testing.assert_array_equal(both.tokens[0], alone.tokens[0])
    assert (both.passes[0], both.accepted[0]) == (alone.passes[0], alone.accepted[0])


def test_acceptance_is_the_overlap():
    target, weights, draft, draft_weights = pair()
    rows = jnp.array([[2, 1, 0, 3]])
    both = logits(target, weights, rows), logits(draft, draft_weights, rows)
    p, q = (np.asarray(jax.nn.softmax(x / 0.7), np.float64) for x in both)
    wanted = np.minimum(p, q).sum(-1)
    np.testing.assert_allclose(acceptance_rate(*both, Sampling(0.7)), wanted, rtol=1e-5)
    agree = np.argmax(p, -1) == np.argmax(q, -1)
    np.testing.assert_array_equal(acceptance_rate(*both, GREEDY), agree.astype(np.float32))


def test_expected_block_length():
    alpha = jnp.array([0.0, 0.5, 0.8, 1.0])
    wanted = [1.0, (1 - 0.5**5) / 0.5, (1 - 0.8**5) / 0.2, 5.0]
    np.testing.assert_allclose(expected_block_length(alpha, 4), wanted, rtol=1e-6)


def test_what_cannot_be_verified_is_refused():
    target, weights, draft, draft_weights = pair()
    other, other_weights = tiny(5)
    prompts, key = pad_prompts([[1]]), jax.random.key(0)
    with pytest.raises(UserError, match='the target has 4 tokens, the draft 5: both need the same vocabulary'):
        speculate(target, weights, other, other_weights, prompts, key=key, max_new=3)
    with pytest.raises(UserError, match='drafts is 0: draft at least one token a round'):
        speculate(target, weights, draft, draft_weights, prompts, key=key, max_new=3, drafts=0)
    with pytest.raises(UserError, match='exceed the context of 64'):
        speculate(target, weights, draft, draft_weights, prompts, key=key, max_new=65)
