"""A whole step of distillation between Llamas with the generalised JSD, beta = 1/2, on the CPU: tokens a second.

Teacher 8 blocks of width 512, student 4 of 256, 32000 words, 4 x 512 tokens, float32, AdamW, random weights. kdjax with
the teacher live, and with its hidden states in the batch as a cache of them gives; against `transformers` models with
TRL's GKD loss in PyTorch on two threads. Ratios are seconds a step, theirs / ours.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from language import distillation, llama, sentences, weights
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax.algorithms import Algorithm, Player, play
from kdjax.losses.pointwise import jsd
from kdjax.objectives import fused
from kdjax.teachers import stored_hidden

SEED, THREADS, BETA, LEARNING_RATE, WEIGHT_DECAY = 0, 2, 0.5, 1e-4, 1e-4
PEERS = ('torch', 'transformers', 'trl')
FULL = {'words': 32000, 'teacher': (512, 8), 'student': (256, 4), 'rows': 4, 'length': 512}
SMOKE = {'words': 64, 'teacher': (128, 2), 'student': (64, 1), 'rows': 2, 'length': 8}
GOALS = {'live_teacher': '>= 4.5', 'hidden_state_cache': '>= 6'}


def models(setting: dict[str, Any]) -> tuple[Any, Any]:
    """Student and teacher."""
    student, teacher = (llama(*setting[who], vocabulary=setting['words']) for who in ('student', 'teacher'))
    return student, teacher


def live_teacher(setting: dict[str, Any], batch: dict[str, jax.Array]) -> Contestant:
    student, teacher = models(setting)
    frozen = {'teacher': weights(teacher), 'start': weights(student)}
    return trained(distillation(student, teacher, fused(divergence=jsd(BETA))), frozen, batch)


def hidden_state_cache(setting: dict[str, Any], batch: dict[str, jax.Array]) -> Contestant:
    """The teacher speaks once, before; its head comes with the cache."""
    student, teacher = models(setting)
    key = jax.random.key(SEED)
    said = jax.jit(lambda variables: teacher.apply(variables, batch['tokens'], key=key, train=False)[0].taps)
    taps = said(weights(teacher))
    nothing = jnp.zeros(batch['label'].shape)
    kept = {'teacher_hidden': taps['hidden'], 'teacher_entropy': nothing, 'teacher_log_normalizer': nothing}
    player = Player(
        student, fused(divergence=jsd(BETA)), optax.adamw(LEARNING_RATE), reads=('batch.tokens',), start='start'
    )
    algorithm = play({'student': player}, teachers={'teacher': stored_hidden()})
    return trained(algorithm, {'teacher_head': taps['head'], 'start': weights(student)}, batch | kept)


def trained(algorithm: Algorithm, frozen: dict[str, Any], batch: dict[str, jax.Array]) -> Contestant:
    key = jax.random.key(SEED)
    held = [jax.jit(algorithm.init)(key, frozen, batch)]
    step = jax.jit(algorithm.step, donate_argnums=0).lower(held[0], frozen, batch, key).compile()

    def once() -> None:
        held[0], metrics = step(held[0], frozen, batch, key)
        jax.block_until_ready((held[0], metrics))

    return timed(once)


def peer(setting: dict[str, Any], batch: dict[str, jax.Array]) -> Contestant:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.experimental.gkd import GKDTrainer

    def network(width: int, depth: int) -> Any:
        hidden, heads = -(-8 * width // (3 * 64)) * 64, width // 64
        return LlamaForCausalLM(LlamaConfig(
            vocab_size=setting['words'], hidden_size=width, intermediate_size=hidden, num_hidden_layers=depth,
            num_attention_heads=heads, tie_word_embeddings=True, use_cache=False,
        ))  # fmt: skip

    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    student, teacher = network(*setting['student']), network(*setting['teacher']).eval()
    assert sum(x.numel() for x in student.parameters()) == parameters(setting)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    tokens, label = (torch.tensor(np.asarray(batch[name]), dtype=torch.long) for name in ('tokens', 'label'))

    def once() -> None:
        with torch.no_grad():
            target = teacher(tokens).logits
        loss = GKDTrainer.generalized_jsd_loss(student(tokens).logits, target, label, beta=BETA)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(once)


def parameters(setting: dict[str, Any]) -> int:
    """Of our student."""
    shapes = jax.eval_shape(lambda: models(setting)[0].init(jax.random.key(SEED), jnp.zeros((1, 8), jnp.int32)))
    return sum(x.size for x in jax.tree.leaves(shapes['params']))


def main() -> None:
    options = arguments(__doc__, repeats=5)
    sys.modules.setdefault('torchvision', None)  # of another build than torch it breaks transformers, which needs none
    try:
        versions = {name: importlib.metadata.version(name) for name in PEERS}
    except importlib.metadata.PackageNotFoundError as missing:
        sys.exit(f'{missing}: pip install {" ".join(PEERS)}')
    setting = SMOKE if options.smoke else FULL
    batch = sentences(setting['rows'], setting['length'], setting['words'])
    makers = {'live_teacher': live_teacher, 'hidden_state_cache': hidden_state_cache, 'torch and trl': peer}
    contestants = {name: make(setting, batch) for name, make in makers.items()}
    seconds = interleaved(contestants, steps=1, repeats=options.repeats, warm_up=1)
    for name, values in seconds.items():
        print(f'  {name:<24} {batch["tokens"].size / min(values):10.0f} tokens a second at best', flush=True)
    conclude(
        'lm_step',
        ratios={name: ratio(seconds['torch and trl'], seconds[name]) for name in GOALS},
        goals=GOALS,
        versions=versions,
    )


if __name__ == '__main__':
    main()
