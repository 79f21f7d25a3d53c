"""Generation: the law of the texts, their ends, and what a row depends on."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_decoders import chi_square, law, logits, numbered, tiny

from kdjax.decoding import GREEDY, PLAIN, Prompts, Sampling, generate, generate_mixture, log_distribution, pad_prompts
from kdjax.errors import UserError

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
FORMS = {'llama': {}, 'gpt2': {'positions': 'learned', 'norm': 'layer', 'mlp': 'gelu'}}


def wide(**options):
    return tiny(23, **options)


def by_hand(model, variables, prompt, new):
    """Greedy, each time from the whole text."""
    text = list(prompt)
    for _ in range(new):
        text.append(int(jnp.argmax(logits(model, variables, [text])[0, -1])))
    return text[len(prompt) :]


@pytest.mark.parametrize('form', FORMS)
def test_greedy_is_the_likeliest_token_of_the_whole_text(form):
    model, variables = wide(**FORMS[form])
    said = generate(model, variables, pad_prompts(PROMPTS), key=jax.random.key(0), max_new=5, sampling=GREEDY)
    for row, prompt in enumerate(PROMPTS):
        assert said.tokens[row].tolist() == by_hand(model, variables, prompt, 5)
    np.testing.assert_array_equal(said.lengths, 5)
    np.testing.assert_array_equal(said.sampled_log_probs, 0.0)


@pytest.mark.parametrize('sampling', [PLAIN, Sampling(0.6, top_k=3)], ids=['plain', 'cut'])
def test_texts_have_the_law_of_the_model(sampling):
    model, variables = tiny()
    rows = 8000
    said = generate(
        model, variables, pad_prompts([[2, 1]] * rows), key=jax.random.key(5), max_new=3, sampling=sampling
    )
    probs = law(model, variables, [2, 1], 3, sampling)
    assert abs(probs.sum() - 1) < 1e-5
    assert chi_square(probs, numbered(said.tokens, 4)) > 1e-3


def test_log_probs_are_those_of_the_whole_text():
    model, variables = wide()
    sampling = Sampling(0.8, top_k=5)
    said = generate(model, variables, pad_prompts(PROMPTS), key=jax.random.key(1), max_new=6, sampling=sampling)
    for row, prompt in enumerate(PROMPTS):
        new = np.asarray(said.tokens[row])
        whole = logits(model, variables, [[*prompt, *new]])[0, len(prompt) - 1 : -1]
        for got, by in ((said.log_probs, PLAIN), (said.sampled_log_probs, sampling)):
            wanted = np.asarray(log_distribution(whole, by))[np.arange(6), new]
            np.testing.assert_allclose(got[row], wanted, atol=2e-5)


def test_a_row_does_not_depend_on_the_others():
    """Nor on how far it is padded; its place in the batch names its stream."""
    model, variables = wide()
    first = generate(model, variables, pad_prompts(PROMPTS), key=jax.random.key(9), max_new=8)
    others = generate(model, variables, pad_prompts([PROMPTS[0], [3, 3], [7]]), key=jax.random.key(9), max_new=8)
    alone = generate(model, variables, pad_prompts(PROMPTS[:1]), key=jax.random.key(9), max_new=8)
    for said in (others, alone):
        np.testing.assert_array_equal(said.tokens[0], first.tokens[0])
    assert (first.tokens[1] != others.tokens[1]).any()


def test_rows_and_steps_draw_anew():
    model, variables = wide()
    said = generate(model, variables, pad_prompts([[1]] * 64), key=jax.random.key(0), max_new=2)
    assert len({tuple(row) for row in said.tokens.tolist()}) > 32
    again = generate(model, variables, pad_prompts([[1]] * 64), key=jax.random.key(0), max_new=2)
    np.testing.assert_array_equal(said.tokens, again.tokens)


def test_a_stop_token_ends_its_row_only():
    model, variables = wide()
    free = generate(model, variables, pad_prompts(PROMPTS), key=jax.random.key(4), max_new=9)
    stop = (int(free.tokens[1, 2]), 22)
    said = generate(model, variables, pad_prompts(PROMPTS), key=jax.random.key(4), max_new=9, stop=stop)
    for row in range(3):
        ends = np.flatnonzero(np.isin(free.tokens[row], stop))
        length = ends[0] + 1 if len(ends) else 9
        assert said.lengths[row] == length
        for got, wanted in zip(said.__dict__.values(), free.__dict__.values(), strict=True):
            if got.ndim == 2:
                np.testing.assert_array_equal(got[row, :length], wanted[row, :length])
                np.testing.assert_array_equal(got[row, length:], 0)


def test_it_ends_when_all_rows_have():
    """Early: each reading of a token is counted."""
    model, variables = tiny()
    steps = []

    def counted(*args, **options):
        jax.debug.callback(lambda: steps.append(1))
        return model.model.apply(*args, **options)

    watched = dataclasses.replace(model, model=dataclasses.replace(model.model, apply=counted))
    said = generate(
        watched, variables, pad_prompts([[1], [2]]), key=jax.random.key(0), max_new=50, stop=(0, 1, 2, 3)
    )
    jax.block_until_ready(said)
    jax.effects_barrier()
    np.testing.assert_array_equal(said.lengths, 1)
    assert len(steps) == 1


def mixed(weights, prompts, **options):
    (first, first_weights), (other, other_weights) = tiny(), tiny(width=8, depth=1, seed=1)
    models = (first, other), (first_weights, other_weights)
    return generate_mixture(*models, jnp.asarray(weights), prompts, **options)


def test_texts_of_a_mixture_have_its_law():
    """Token by token, not text by text: at each place sum_m w_m p_m."""
    said = mixed([0.3, 0.7], pad_prompts([[2, 1]] * 8000), key=jax.random.key(5), max_new=2)
    texts = np.array(list(itertools.product(range(4), repeat=2)))
    rows = np.concatenate([np.tile([2, 1], (16, 1)), texts], axis=1)
    pair = tiny(), tiny(width=8, depth=1, seed=1)
    each = [np.asarray(jax.nn.softmax(logits(*one, rows)[:, 1:-1]), np.float64) for one in pair]
    probs = np.take_along_axis(0.3 * each[0] + 0.7 * each[1], texts[..., None], axis=-1)[..., 0].prod(axis=1)
    outcomes = numbered(said.tokens, 4)
    assert chi_square(probs, outcomes) > 1e-3
    np.testing.assert_allclose(np.exp(said.sampled_log_probs).prod(axis=1), probs[outcomes], rtol=1e-4)
    for model, log_probs in zip(each, said.log_probs, strict=True):
        wanted = np.take_along_axis(model, texts[..., None], axis=-1)[..., 0].prod(axis=1)
        np.testing.assert_allclose(np.exp(log_probs).prod(axis=1), wanted[outcomes], rtol=1e-4)


def test_a_mixture_of_one_is_that_one():
    prompts, options = pad_prompts([[1, 2], [3]]), {'key': jax.random.key(0), 'max_new': 6}
    model, variables = tiny()
    alone = generate(model, variables, prompts, **options)
    for said in (
        mixed([1.0, 0.0], prompts, **options),
        generate_mixture((model,), (variables,), jnp.ones(1), prompts, **options),
    ):
        np.testing.assert_array_equal(said.tokens, alone.tokens)
        np.testing.assert_allclose(said.log_probs[0], alone.log_probs, atol=1e-5)


def test_models_of_different_vocabularies_do_not_mix():
    (first, first_weights), (other, other_weights) = tiny(), tiny(5)
    with pytest.raises(UserError, match=r'the models have \[4, 5\] tokens'):
        generate_mixture(
            (first, other), (first_weights, other_weights), jnp.array([0.5, 0.5]), pad_prompts([[1]]),
            key=jax.random.key(0), max_new=1,
        )  # fmt: skip


def test_a_cache_in_bfloat16_hardly_matters():
    model, variables = wide()
    options = {'key': jax.random.key(0), 'max_new': 6, 'sampling': GREEDY}
    exact = generate(model, variables, pad_prompts(PROMPTS), **options)
    short = generate(model, variables, pad_prompts(PROMPTS), cache_dtype=jnp.bfloat16, **options)
    same = np.cumprod(np.asarray(exact.tokens == short.tokens), axis=1).astype(bool)
    np.testing.assert_allclose(np.where(same, exact.log_probs - short.log_probs, 0), 0, atol=0.1)


def test_prompts_are_padded_on_the_left():
    prompts = pad_prompts([[1, 2, 3], np.array([4])])
    np.testing.assert_array_equal(prompts.tokens, [[1, 2, 3], [0, 0, 4]])
    np.testing.assert_array_equal(prompts.given, [[True] * 3, [False, False, True]])


@pytest.mark.parametrize(
    ('length', 'new', 'says'),
    [
        (65, 1, 'a prompt has 65 tokens, the context of the model is 64: shorten the prompt'),
        (60, 6, 'a prompt of 60 tokens and 6 new ones exceed the context of 64: ask for at most 5 new tokens'),
        (3, 0, 'max_new is 0: ask for at least one token'),
    ],
)
def test_what_does_not_fit_is_refused(length, new, says):
    model, variables = tiny()
    with pytest.raises(UserError, match=says):
        generate(model, variables, pad_prompts([[1] * length]), key=jax.random.key(0), max_new=new)


def test_empty_prompts_are_refused():
    with pytest.raises(UserError, match='prompt 1 is empty: give it at least one token'):
        pad_prompts([[1], []])
    with pytest.raises(UserError, match='no prompts'):
        pad_prompts([])


def test_prompts_are_a_pytree():
    prompts = pad_prompts([[1, 2]])
    assert isinstance(jax.tree.map(lambda x: x, prompts), Prompts)
