"""Decoders small enough that the law of their texts can be written down."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from kdjax.decoding import LanguageModel, Sampling, log_distribution
from kdjax.models.decoder import decoder
from kdjax.models.decoder_config import DecoderConfig


@functools.cache
def tiny(vocabulary=4, width=16, depth=2, seed=0, context=64, **options):
    """An untied decoder with random weights, large enough that its distributions are far from uniform."""
    config = DecoderConfig(vocabulary, width, depth, 2, 2 * width, context=context, tied=False, **options)
    model = LanguageModel(decoder(config), config)
    variables = model.model.init(jax.random.key(seed), jnp.zeros((1, 2), jnp.int32))
    return model, jax.tree.map(lambda w: 8 * w if w.ndim == 2 else w, variables)


LONGEST = 16


def logits(model, variables, tokens):
    """`[rows, T, vocabulary]`, from whole rows without a cache. Padded: one program for all lengths."""
    tokens = np.asarray(tokens, np.int32)
    return _logits(model, variables, np.pad(tokens, ((0, 0), (0, LONGEST - tokens.shape[1]))))[:, : tokens.shape[1]]


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, variables, tokens):
    return model.model.apply(variables, tokens, key=jax.random.key(0), train=False)[0].prediction


def law(model, variables, prompt, new, sampling=Sampling()):  # noqa: B008
    """The probability of each text of `new` tokens after the prompt, in the order of `itertools.product`."""
    texts = np.array(list(itertools.product(range(model.config.vocabulary), repeat=new)))
    rows = np.concatenate([np.tile(prompt, (len(texts), 1)), texts], axis=1)
    log_probs = log_distribution(logits(model, variables, rows)[:, len(prompt) - 1 : -1], sampling)
    return np.exp(np.take_along_axis(np.asarray(log_probs, np.float64), texts[..., None], axis=-1).sum((1, 2)))


def chi_square(probs, outcomes):
    """The p-value of outcomes (indices) under a law; what the law forbids must not occur."""
    counts = np.bincount(outcomes, minlength=len(probs))
    assert counts[probs < 1e-12].sum() == 0
    rare = probs * len(outcomes) < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(probs[~rare], probs[rare].sum()) * len(outcomes)
    if expected[-1] < 5:
        observed, expected = observed[:-1] * 1.0, expected[:-1]
    return stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


def numbered(texts, vocabulary):
    """The index of each text in `itertools.product`."""
    return np.asarray(texts) @ vocabulary ** np.arange(texts.shape[1])[::-1]
