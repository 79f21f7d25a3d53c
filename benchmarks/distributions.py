"""What real language models say: a teacher's logits, and a student's on the same tokens.

`smollm2`: SmolLM2-135M on the embedded corpus; its student is itself with 20 of its 30 blocks, far from it as at the
start of a training. `smollm2_near`: with 29 of them, near it as at the end.
`byte_lm`: a small byte model trained here for a minute, and a smaller one trained as long.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.data import assets
from kdjax.data.text import load_text
from kdjax.data.text_batch import prepare_text
from kdjax.data.tokenizers import BPETokenizer
from kdjax.losses import cross_entropy
from kdjax.models.checkpoints.gguf import gguf_config, read_gguf
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.models.model import Model, Outputs, Variables

ROWS, LENGTH = 4, 256
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Distributions:
    """Of `[tokens]`: teacher and student logits `[tokens, vocab]`; the student's hidden states `[tokens, width]` before
    its head; the teacher's, and its head.
    """

    name: str
    teacher: jax.Array
    student: jax.Array
    features: jax.Array
    teacher_hidden: jax.Array
    teacher_head: jax.Array


def smollm2_near(tokens: int) -> Distributions:
    """As `smollm2`, with a student close to it."""
    return smollm2(tokens, kept=29, name='smollm2_near')


def smollm2(tokens: int, *, kept: int = 20, name: str = 'smollm2') -> Distributions:
    """SmolLM2-135M-Instruct (4 bits), and its first `kept` blocks as student; `UserError` unless it was fetched."""
    model, variables, metadata = read_gguf(assets.path('smollm2-135m'))
    text = load_text('stdlib', tokenizer=BPETokenizer.from_gguf(metadata), length=LENGTH, limit_bytes=400_000)
    config = gguf_config(metadata)
    student = decoder(dataclasses.replace(config, depth=kept))
    shapes = jax.eval_shape(student.init, KEY, None)['params']
    params = _like(shapes, variables['params'])
    rows = text['test'].take(np.arange(ROWS))
    return _said(name, (model, variables), (student, {'params': params, 'stats': {}}), rows, tokens)


def byte_lm(tokens: int, *, steps: int = 250) -> Distributions:
    """Teacher 4 x 128, student 2 x 64, both trained on the bytes of the embedded corpus."""
    text = load_text('stdlib', tokenizer='bytes', length=128, limit_bytes=2_000_000)
    models = [
        decoder(DecoderConfig(vocabulary=text.vocabulary, width=width, depth=depth, heads=4, hidden=3 * width))
        for depth, width in ((4, 128), (2, 64))
    ]
    pairs = [(model, trained(model, text['train'], steps)) for model in models]
    return _said('byte_lm', *pairs, text['test'].take(np.arange(2 * ROWS)), tokens)


def made_up(tokens: int, vocabulary: int = 64) -> Distributions:
    """Made up, to try the benchmark in seconds: it measures nothing."""
    hidden, head = jax.random.normal(KEY, (tokens, 8)), jax.random.normal(KEY, (vocabulary, 8))
    teacher = hidden @ head.T
    student = teacher + jax.random.normal(jax.random.key(1), teacher.shape)
    return Distributions('made_up', teacher, student, hidden, hidden, head)


def trained(model: Model, source, steps: int) -> Variables:
    """Cross-entropy on batches of 16 rows, AdamW with a cosine schedule."""
    optimizer = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, steps))
    variables = model.init(KEY, None)

    def loss(params, batch):
        said, _ = model.apply({'params': params, 'stats': {}}, batch['tokens'], key=KEY, train=True)
        return jnp.mean(cross_entropy(said.prediction, batch['label'], where=batch['where']))

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, prepare_text(batch)), state, params)
        return optax.apply_updates(params, updates), state

    params, state = variables['params'], optimizer.init(variables['params'])
    for number in range(steps):
        rows = np.random.default_rng(number).integers(len(source), size=16)
        params, state = step(params, state, source.take(rows))
    return {'params': params, 'stats': {}}


def _like(shapes, tree):
    """The part of a tree that another has."""
    if not isinstance(shapes, dict):
        return tree
    return {name: _like(inner, tree[name]) for name, inner in shapes.items()}


def _said(name: str, teacher, student, rows, tokens: int) -> Distributions:
    """Both models on the rows, at `tokens` evenly spaced places that count."""
    batch = prepare_text(rows)
    places = np.flatnonzero(batch['where'])
    places = places[np.linspace(0, len(places) - 1, tokens).astype(int)]

    def at_places(x):
        return x.reshape(-1, x.shape[-1])[places]

    (t, s) = (outputs(*pair, batch['tokens']) for pair in (teacher, student))
    return Distributions(
        name,
        at_places(t.prediction),
        at_places(s.prediction),
        at_places(s.taps['hidden']),
        at_places(t.taps['hidden']),
        t.taps['head'],
    )


def outputs(model: Model, variables: Variables, tokens: jax.Array) -> Outputs:
    """What is used of a model's outputs, jitted."""

    def apply(variables, tokens):
        said, _ = model.apply(variables, tokens, key=KEY, train=False)
        return Outputs(said.prediction, {tap: said.taps[tap] for tap in ('hidden', 'head')})

    return jax.jit(apply)(variables, tokens)
