"""The past self as teacher: what the student said of each example when it last saw it (PS-KD, arXiv 2006.12000)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.models.model import Outputs
from kdjax.teachers.teacher import Teacher


def past_self(*, examples: int, classes: int, of: str = 'student') -> Teacher:
    """A table of log-probabilities `[examples, classes]`, overwritten after every step with the prediction just made.

    An example that was never seen is answered with its own label, as in the first epoch of the paper's code.
    The recorded prediction is that of the training pass itself: augmented view, training mode, weights before the
    update.
    """

    def init(frozen, example, variables):
        return {'seen': jnp.zeros((examples,), bool), 'log_probs': jnp.zeros((examples, classes), jnp.float32)}

    def apply(memory, frozen, view, *, key):
        index = view['batch.index']
        label = jnp.log(jax.nn.one_hot(view['batch.label'], classes) + jnp.finfo(jnp.float32).tiny)
        said = jnp.where(memory['seen'][index][:, None], memory['log_probs'][index], label)
        return Outputs(jax.lax.stop_gradient(said))

    def update(memory, view, variables):
        index = view['batch.index']
        log_probs = jax.nn.log_softmax(jax.lax.stop_gradient(view[of]).astype(jnp.float32))
        return {
            'seen': memory['seen'].at[index].set(True),
            'log_probs': memory['log_probs'].at[index].set(log_probs),
        }

    return Teacher(apply, init, update)
