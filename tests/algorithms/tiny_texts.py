"""Rows of text and two language models small enough that every text can be written down."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import teachers
from kdjax.algorithms import Player, play
from kdjax.data.text_batch import prepare_text
from kdjax.decoding import LanguageModel
from kdjax.models.decoder import DecoderConfig, decoder

WORDS, ROOM, PROMPT = 3, 4, 2
"""Words of the language, inputs of a row, tokens of its prompt: ROOM + 1 - PROMPT are drawn."""

READS = ('batch.tokens', 'batch.segment', 'batch.position')
ALL = np.array(list(itertools.product(range(WORDS), repeat=ROOM + 1 - PROMPT)), np.int32)
"""Every text that can follow a prompt."""


@functools.cache
def language_model(seed=0, positions='rope', words=WORDS, context=8):
    """An untied decoder whose distributions are far from uniform, and its variables."""
    config = DecoderConfig(words, 8, 1, 2, 8, context=context, tied=False, positions=positions)
    model = LanguageModel(decoder(config), config)
    variables = jax.jit(model.model.init)(jax.random.key(seed), jnp.zeros((1, 2), jnp.int32))
    return model, jax.tree.map(lambda w: 8 * w if w.ndim == 2 else w, variables)


STUDENT, START = language_model(0)
TEACHER, TAUGHT = language_model(1)
FROZEN = {'start': START, 'teacher': TAUGHT}


def stored(rows=4, *, room=ROOM, seed=0, segment=None, counted=None):
    """A batch of a text split: random words, one document a row unless given."""
    tokens = np.random.default_rng(seed).integers(0, WORDS, (rows, room + 1)).astype(np.int32)
    whole = np.ones_like(tokens)
    counted = whole.astype(bool) if counted is None else counted
    columns = {'tokens': tokens, 'segment': whole if segment is None else segment, 'counted': counted}
    return jax.tree.map(jnp.asarray, columns | {'index': np.arange(rows, dtype=np.int32)})


def prepare(batch, *, key, train):
    return prepare_text(batch)


def learns(objective, *, optimizer=None, **given):
    """A student of the language, beside a teacher."""
    player = Player(STUDENT.model, objective, optimizer or optax.sgd(0.1), READS, start='start')
    live = {'teacher': teachers.live(TEACHER.model, reads=READS)}
    return play({'student': player}, teachers=live, prepare=prepare, **given)


def lookup(name):
    return {'student': START, 'teacher': TAUGHT}[name]


def logits(model, variables, batch):
    """Of a batch's rows, as a training pass reads them."""
    inputs = tuple(batch[name] for name in ('tokens', 'segment', 'position'))
    return model.model.apply(variables, inputs, key=jax.random.key(0), train=True)[0].prediction


def log_probs(model, variables, batch):
    """Of its labels, `[B, T]`."""
    said = jax.nn.log_softmax(logits(model, variables, batch))
    return jnp.take_along_axis(said, batch['label'][..., None], axis=-1)[..., 0]
