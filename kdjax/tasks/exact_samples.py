"""What an exact prior itself draws from the noise of the particles: the ceiling of every method."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.diffusion import DDIM, Guidance
from kdjax.streams import stream


def drawn_by_ddim(task: Any, steps: int, guidance: Guidance | None, inputs: Any, *, key: jax.Array):
    """The call of a `Compute`: samples of the task's prior, one for each view of each held-out particle, measured."""
    del inputs
    model, times = task.model(task.student), jnp.linspace(1.0, 0.0, steps + 1)
    prior = task.prior if guidance is None else task.prior.guided(guidance, task.null)

    @jax.jit
    def draw(variables: Any, label: jax.Array, particle: jax.Array, view: jax.Array, condition: jax.Array) -> jax.Array:
        noise = model.apply(variables, (label, particle, view), key=key, train=False)[0].taps['noise']
        return DDIM()(prior, prior.schedule.prior(noise), times, condition, to_data=True)

    variables = model.init(stream(key, 'student/init'), None)
    metrics = {}
    for split in ('validation', 'test'):
        rows = task.prepared()(task.data[split].take(np.arange(len(task.data[split]))), key=key, train=False)
        given = [jnp.asarray(rows[name]) for name in ('label', 'particle', 'view', 'condition')]
        said = {'picture': np.asarray(draw(variables, *given)), **{n: np.asarray(rows[n]) for n in rows}}
        metrics[split] = task.measure()(said) | {'nfe': float(DDIM().nfe(prior, times, to_data=True))}
    return {}, {'metrics': metrics}
