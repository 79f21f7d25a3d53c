"""Text from a decoder, in one program: the prompt is read once, then each new token."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from kdjax.decoding.language_model import LanguageModel
from kdjax.decoding.prompts import Prompts, check_room
from kdjax.decoding.sampling import PLAIN, Sampling, draw, log_distribution, row_keys, step_keys
from kdjax.decoding.verification import ends_text
from kdjax.errors import UserError
from kdjax.models.cache import Cache
from kdjax.models.decoder import DecoderInputs, decoder_cache
from kdjax.models.model import Outputs, Variables
from kdjax.streams import stream


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Generated:
    """What follows the prompts.

    tokens: 0 from `lengths` on. lengths: new tokens of each row, the stop token among them.
    log_probs: of each token under the model itself; of several models, under each. sampled_log_probs: under the
        distribution that it was drawn from (temperature, top-k and top-p applied, models mixed). In nats, 0 from
        `lengths` on.
    """

    tokens: Int[Array, 'rows max_new']
    lengths: Int[Array, 'rows']
    log_probs: Float[Array, '*models rows max_new']
    sampled_log_probs: Float[Array, 'rows max_new']


def generate(
    decoder: LanguageModel,
    variables: Variables,
    prompts: Prompts,
    *,
    key: Key[Array, ''],
    max_new: int,
    sampling: Sampling = PLAIN,
    stop: tuple[int, ...] = (),
    cache_dtype: Any = jnp.float32,
) -> Generated:
    """Up to `max_new` tokens after each prompt, drawn one by one.

    A row ends with a token of `stop`; the program ends when all rows have. Row i draws from a stream of its own: its
    text is the same whatever stands in the other rows.
    Raises UserError where prompt and new tokens exceed the context.
    """
    weights = jnp.ones(1, jnp.float32)
    options = _Options(max_new, sampling, stop, jnp.dtype(cache_dtype))
    check_room(prompts, decoder.config.context, max_new)
    said = _generate((decoder,), options, (variables,), weights, prompts, key)
    return dataclasses.replace(said, log_probs=said.log_probs[0])


def generate_mixture(
    decoders: tuple[LanguageModel, ...],
    variables: tuple[Variables, ...],
    weights: Float[Array, 'models'],
    prompts: Prompts,
    *,
    key: Key[Array, ''],
    max_new: int,
    sampling: Sampling = PLAIN,
    stop: tuple[int, ...] = (),
    cache_dtype: Any = jnp.float32,
) -> Generated:
    """Each token drawn from sum_m w_m p_m, p_m as `sampling` makes it of model m (MiniLLM, arXiv 2306.08543, sec. 2.2).

    weights: those of the models, adding to 1; they may be traced, to follow a schedule. With one model, `generate`.
    Raises UserError on different vocabularies, and as `generate`.
    """
    sizes = {decoder.config.vocabulary for decoder in decoders}
    if len(sizes) > 1:
        raise UserError(f'the models have {sorted(sizes)} tokens: a mixture is over one vocabulary')
    check_room(prompts, min(decoder.config.context for decoder in decoders), max_new)
    options = _Options(max_new, sampling, stop, jnp.dtype(cache_dtype))
    return _generate(decoders, options, variables, weights, prompts, key)


@dataclasses.dataclass(frozen=True)
class _Options:
    max_new: int
    sampling: Sampling
    stop: tuple[int, ...]
    cache_dtype: Any


@functools.partial(jax.jit, static_argnums=range(2))
def _generate(
    decoders: tuple[LanguageModel, ...],
    options: _Options,
    variables: tuple[Variables, ...],
    weights: jax.Array,
    prompts: Prompts,
    key: jax.Array,
) -> Generated:
    rows, length = prompts.tokens.shape
    keys, sampling = row_keys(stream(key, 'generate'), rows), options.sampling
    models = tuple(zip(decoders, variables, strict=True))
    slots = length + options.max_new
    start = _Writing(
        _nothing(len(models), rows, options.max_new),
        tuple(read_prompts(*each, prompts, slots, options.cache_dtype) for each in models),
        prompts.tokens[:, -1],
        jnp.zeros(rows, bool),
        jnp.zeros((), jnp.int32),
    )
    places = jnp.sum(prompts.given, axis=1, dtype=jnp.int32) - 1

    def one_token(now: _Writing) -> _Writing:
        heard = [
            next_logits(*each, now.token, places + now.step, cache)
            for each, cache in zip(models, now.caches, strict=True)
        ]
        logits, caches = zip(*heard, strict=True)
        each_sampled = [log_distribution(one, sampling) for one in logits]
        log_sampled = _mixed(each_sampled, weights)
        token = draw(step_keys(keys, now.step), jnp.exp(log_sampled))
        log_models = each_sampled if sampling.plain else [jax.nn.log_softmax(one) for one in logits]
        log_probs = jnp.stack([_at(one, token) for one in log_models]), _at(log_sampled, token)
        said = _with_token(now.said, now.step, token, log_probs, now.ended)
        return _Writing(said, caches, token, now.ended | ends_text(token, options.stop), now.step + 1)

    return jax.lax.while_loop(lambda now: (now.step < options.max_new) & ~jnp.all(now.ended), one_token, start).said


def read_prompts(
    decoder: LanguageModel, variables: Variables, prompts: Prompts, slots: int, cache_dtype: Any
) -> Cache:
    """A cache of `slots` with all tokens of the prompts but the last, which is the first that is asked what follows."""
    cache = decoder_cache(decoder.config, prompts.tokens.shape[0], slots, cache_dtype)
    if prompts.tokens.shape[1] == 1:
        return cache
    tokens, given = prompts.tokens[:, :-1], prompts.given[:, :-1]
    position = jnp.maximum(jnp.cumsum(given, axis=1, dtype=jnp.int32) - 1, 0)
    inputs = DecoderInputs(tokens, given.astype(jnp.int32), position, cache)
    return _applied(decoder, variables, inputs).taps['cache']


def next_logits(
    decoder: LanguageModel,
    variables: Variables,
    tokens: Int[Array, '*rows_tokens'],
    position: Int[Array, '*rows_tokens'],
    cache: Cache,
) -> tuple[Float[Array, '*rows_tokens vocab'], Cache]:
    """What follows each of `tokens`, one of each row or several, which the cache then holds too."""
    row = tokens[:, None] if tokens.ndim == 1 else tokens
    inputs = DecoderInputs(row, jnp.ones_like(row), position.reshape(row.shape), cache)
    said = _applied(decoder, variables, inputs)
    return said.prediction.reshape(*tokens.shape, -1), said.taps['cache']


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Writing:
    said: Generated
    caches: tuple[Cache, ...]
    token: jax.Array
    ended: jax.Array
    step: jax.Array


def _nothing(models: int, rows: int, max_new: int) -> Generated:
    blank = jnp.zeros((rows, max_new), jnp.float32)
    return Generated(
        jnp.zeros((rows, max_new), jnp.int32), jnp.zeros(rows, jnp.int32), jnp.stack([blank] * models), blank
    )


def _mixed(log_probs: list[jax.Array], weights: jax.Array) -> jax.Array:
    if len(log_probs) == 1:
        return log_probs[0]
    return jax.nn.logsumexp(jnp.stack(log_probs) + jnp.log(weights)[:, None, None], axis=0)


def _with_token(said: Generated, step: jax.Array, token: jax.Array, log_probs: tuple, ended: jax.Array) -> Generated:
    def at_step(kept: jax.Array, new: jax.Array) -> jax.Array:
        silent = jnp.broadcast_to(ended, new.shape)
        return kept.at[..., step].set(jnp.where(silent, jnp.zeros_like(new), new))

    return Generated(
        at_step(said.tokens, token),
        said.lengths + (~ended).astype(jnp.int32),
        at_step(said.log_probs, log_probs[0]),
        at_step(said.sampled_log_probs, log_probs[1]),
    )


def _applied(decoder: LanguageModel, variables: Variables, inputs: DecoderInputs) -> Outputs:
    return decoder.model.apply(variables, inputs, key=jax.random.key(0), train=False)[0]


def _at(values: jax.Array, token: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, token[:, None], axis=1)[:, 0]
