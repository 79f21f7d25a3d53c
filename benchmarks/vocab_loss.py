"""Divergences of 2048 tokens over 131072 words from hidden states and heads of width 1024, float32, on the CPU.

Forward and backward, the mean over tokens, `kdjax.losses.fused_divergence` against: a scan over chunks of tokens with
the gradient taken in the forward pass; dense logits in JAX and in PyTorch; Liger's and TRL's chunked losses. Ratios are
seconds, theirs / ours; `temporaries` are bytes that the compiled program holds beside its arguments and results, dense
JAX / ours. Peers have no loss of two teachers: there they are called for each. The paper's JSD, beta = 1/2.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import arguments, conclude, interleaved, ratio, timed

from kdjax import losses
from kdjax.losses import pointwise

SEED, THREADS, LIGER_CHUNK = 0, 2, 256
PEERS = ('torch', 'transformers', 'liger-kernel', 'trl')
FULL = {'tokens': 2048, 'width': 1024, 'words': 131072, 'scan_chunk': 128}
SMOKE = {'tokens': 32, 'width': 8, 'words': 128, 'scan_chunk': 16}
CASES: dict[str, dict[str, Any]] = {
    'kl_forward': {'ours': pointwise.kl_forward, 'dense': losses.kl_forward, 'beta': 0.0, 'teachers': 1},
    'kl_reverse': {'ours': pointwise.kl_reverse, 'dense': losses.kl_reverse, 'beta': 1.0, 'teachers': 1},
    'jsd': {'ours': pointwise.jsd(0.5), 'dense': losses.jensen_shannon, 'beta': 0.5, 'teachers': 1},
    'two_teachers': {'ours': pointwise.kl_forward, 'dense': losses.kl_forward, 'beta': 0.0, 'teachers': 2},
}
BOUNDS = {'scan': '>= 1.0', 'liger': '>= 2', 'trl': '>= 4', 'temporaries': '>= 8'}
GOALS = {f'{case}_{peer}': bound for case in CASES for peer, bound in BOUNDS.items()}

Arrays = tuple[np.ndarray, ...]
Loss = Callable[..., jax.Array]


def drawn(setting: dict[str, int], teachers: int) -> Arrays:
    """Hidden states and head of the student, then of each teacher; logits of standard deviation 2."""
    rng = np.random.default_rng(SEED)
    width, scales = setting['width'], {'tokens': 1.0, 'words': 2 * setting['width'] ** -0.5}
    return tuple(
        rng.standard_normal((setting[rows], width), np.float32) * np.float32(scale)
        for _ in range(1 + teachers)
        for rows, scale in scales.items()
    )


def ours(case: dict[str, Any], setting: dict[str, int]) -> Loss:
    label = jnp.zeros(setting['tokens'], jnp.int32)
    return lambda *args: jnp.mean(losses.fused_divergence(*args[:2], label, *args[2:], divergence=case['ours']))


def dense(case: dict[str, Any], setting: dict[str, int]) -> Loss:
    return lambda *args: summed(case, *args) / setting['tokens']


def summed(case: dict[str, Any], h: jax.Array, w: jax.Array, *teachers: jax.Array) -> jax.Array:
    pairs = zip(teachers[::2], teachers[1::2], strict=True)
    return sum((jnp.sum(case['dense'](h @ w.T, t @ u.T)) for t, u in pairs), jnp.zeros(()))


def scanned(case: dict[str, Any], setting: dict[str, int]) -> Loss:
    """The plain way to do without dense logits: a chunk's value and gradient at once, the head's added up."""

    def run(h, w, *teachers):
        def one(carry, rows):
            value, (of_h, of_w) = jax.value_and_grad(chunk, (0, 1))(rows[0], w, *rows[1:])
            return (carry[0] + value, carry[1] + of_w), of_h

        def chunk(h, w, *hidden):
            paired = (x for pair in zip(hidden, teachers[1::2], strict=True) for x in pair)
            return summed(case, h, w, *paired) / setting['tokens']

        rows = tuple(x.reshape(-1, setting['scan_chunk'], x.shape[-1]) for x in (h, *teachers[::2]))
        (value, of_w), of_h = jax.lax.scan(one, (jnp.zeros(()), jnp.zeros_like(w)), rows)
        return value, (of_h.reshape(h.shape), of_w, teachers)

    def backward(kept, g):
        of_h, of_w, teachers = kept
        return g * of_h, g * of_w, *map(jnp.zeros_like, teachers)

    loss = jax.custom_vjp(lambda *args: run(*args)[0])
    loss.defvjp(run, backward)
    return loss


def compiled(loss: Loss, arrays: Arrays) -> tuple[Callable[[], float], int]:
    """(value and gradients are computed: the value, bytes of temporaries)."""
    on_device = tuple(map(jnp.asarray, arrays))
    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*on_device).compile()

    def call() -> float:
        return float(jax.block_until_ready(program(*on_device))[0])

    return call, program.memory_analysis().temp_size_in_bytes


def torch_peers(case: dict[str, Any], arrays: Arrays) -> dict[str, Callable[[], float]]:
    """Forward and backward of each peer; the student's arrays are its parameters."""
    import torch
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    from torch.nn import functional as F
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    torch.set_num_threads(THREADS)
    h, w, *teachers = map(torch.from_numpy, arrays)
    student = h.requires_grad_(), w.requires_grad_()
    label, beta = torch.zeros(len(h), dtype=torch.long), case['beta']
    liger_loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False, chunk_size=LIGER_CHUNK
    )

    def plain(h, w, t, u):
        log_s, log_p = F.log_softmax(h @ w.T, -1), F.log_softmax(t @ u.T, -1)
        kl = functools.partial(F.kl_div, reduction='batchmean', log_target=True)
        if beta in (0, 1):
            return kl(log_p, log_s) if beta else kl(log_s, log_p)
        log_m = torch.logsumexp(torch.stack([log_s, log_p]), 0) + np.log(0.5)
        return 0.5 * kl(log_m, log_p) + 0.5 * kl(log_m, log_s)

    def liger(h, w, t, u):
        return liger_loss(h, w, t, u, label)

    def trl(h, w, t, u):
        return _chunked_divergence_loss(h[None], t[None], w, u, torch.ones(1, len(h), dtype=torch.long), beta)[0]

    def call(loss: Callable[..., Any]) -> float:
        for x in student:
            x.grad = None
        value = sum(loss(*student, *teachers[i : i + 2]) for i in range(0, len(teachers), 2))
        value.backward()
        return float(value.detach())

    return {name: functools.partial(call, loss) for name, loss in (('torch', plain), ('liger', liger), ('trl', trl))}


def measured(name: str, setting: dict[str, int], *, repeats: int) -> dict[str, float]:
    """All ratios of a case; ends where a peer does not compute what we do."""
    case = CASES[name]
    arrays = drawn(setting, case['teachers'])
    calls, held = {}, {}
    for who, make in (('ours', ours), ('scan', scanned), ('dense', dense)):
        calls[who], held[who] = compiled(make(case, setting), arrays)
    calls |= torch_peers(case, arrays)
    values: dict[str, float] = {}
    noted = {who: functools.partial(note, values, who, call) for who, call in calls.items()}
    print(f'{name}: temporaries in GB', {who: round(size / 1e9, 3) for who, size in held.items()}, flush=True)
    seconds = interleaved({who: timed(call) for who, call in noted.items()}, steps=1, repeats=repeats, warm_up=0)
    for who, value in values.items():
        if not np.isclose(value, values['ours'], rtol=1e-3):
            sys.exit(f'{name}: {who} says {value}, we say {values["ours"]}: not the same loss')
    found = {f'{name}_{who}': ratio(times, seconds['ours']) for who, times in seconds.items() if who != 'ours'}
    return found | {f'{name}_temporaries': held['dense'] / held['ours']}


def note(values: dict[str, float], who: str, call: Callable[[], float]) -> float:
    values[who] = call()
    return values[who]


def main() -> None:
    options = arguments(__doc__, repeats=3)
    sys.modules.setdefault('torchvision', None)  # of another build than torch it breaks transformers, which needs none
    try:
        versions = {peer: importlib.metadata.version(peer) for peer in PEERS}
    except importlib.metadata.PackageNotFoundError as missing:
        sys.exit(f'{missing}: pip install {" ".join(PEERS)}')
    setting = SMOKE if options.smoke else FULL
    found: dict[str, float] = {}
    for name in CASES:
        found |= measured(name, setting, repeats=options.repeats)
    conclude('vocab_loss', ratios=found, goals=GOALS, versions=versions)


if __name__ == '__main__':
    main()
