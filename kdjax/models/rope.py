"""Rotary positions: pairs of features turn with the position, so that attention sees differences of positions."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class LlamaScaling:
    """How Llama 3.1 stretches the slow rotations to a longer context (its `rope_type: llama3`).

    Wavelengths above `original_context / low` are stretched by `factor`, those below `original_context / high` stay,
    and between the two the frequency is mixed linearly in the number of turns within the original context.
    """

    factor: float
    low: float
    high: float
    original_context: int


def frequencies(head_width: int, theta: float, scaling: LlamaScaling | None = None) -> np.ndarray:
    """theta^(-2i / head_width) for i < head_width / 2: radians per position, float32 `[head_width / 2]`."""
    turning = theta ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    if scaling is not None:
        turns = scaling.original_context * turning / (2 * math.pi)
        kept = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)
        turning = kept * turning + (1 - kept) * turning / scaling.factor
    return turning.astype(np.float32)


def rotation(
    position: Int[Array, 'batch tokens'], turning: np.ndarray
) -> tuple[Float[Array, 'batch tokens half'], Float[Array, 'batch tokens half']]:
    """Cosine and sine of each position and frequency, float32."""
    angle = position.astype(jnp.float32)[..., None] * jnp.asarray(turning).reshape(1, 1, -1)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: jax.Array, turned: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns features i and i + head_width / 2 of `[batch, tokens, heads, head_width]` (arXiv 2104.09864, eq. 34).

    The pairs are those of Hugging Face's checkpoints; the original code and GGUF pair features 2i and 2i + 1.
    """
    cos, sin = (each[:, :, None, :] for each in turned)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
