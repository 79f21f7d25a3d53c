"""Frequencies of characteristic functions, drawn from a normal law; `models.frequency_sampler` learns to scale them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.models.model import Outputs
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher


def normal_frequencies(number: int, width: int) -> Teacher:
    """Standard normal `[number, width]`, drawn anew at every step and shared by all classes.

    Tap: `noise` `[number, width]`, another draw, for a sampler. Source: NCFM.py (CFLossFunc), which draws for each
    class.
    """

    def apply(memory, frozen, view, *, key):
        del memory, frozen, view
        draws = (jax.random.normal(stream(key, name), (number, width), jnp.float32) for name in ('normal', 'noise'))
        frequencies, noise = draws
        return Outputs(frequencies, {'noise': noise})

    return Teacher(apply)
