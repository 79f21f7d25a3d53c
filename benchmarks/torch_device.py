"""Where the PyTorch peers run: two threads of the CPU, or the GPU, with the same arithmetic as ours there."""

from __future__ import annotations

from collections.abc import Callable

import jax
import torch

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def ready(*, seed: int, threads: int, tf32: bool = True) -> dict[str, str]:
    """Seed and threads; what the record says of a GPU's arithmetic.

    There matrix products and convolutions of float32 are in TF32 in both, as JAX has them unless told otherwise, or in
    neither, and cuDNN tries its algorithms out, as XLA does. Raises SystemExit where only one of the two has a GPU.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    if (jax.default_backend() == 'cpu') != (DEVICE == 'cpu'):
        raise SystemExit(f'JAX runs on {jax.default_backend()}, PyTorch on {DEVICE}: they cannot be compared')
    if DEVICE == 'cpu':
        return {}
    if not tf32:
        jax.config.update('jax_default_matmul_precision', 'highest')
    torch.set_float32_matmul_precision('high' if tf32 else 'highest')
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    return {'cuda': str(torch.version.cuda), 'arithmetic': 'tf32 in both' if tf32 else 'float32 in both'}


def wait() -> None:
    """Until the device has done what it was asked."""
    if DEVICE == 'cuda':
        torch.cuda.synchronize()


def watch_allocated() -> Callable[[], int]:
    """From now on; then the bytes of the GPU that PyTorch had at most beyond those that it has now."""
    wait()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return lambda: torch.cuda.max_memory_allocated() - before
