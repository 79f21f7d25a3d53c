"""A learned head on the inner tokens of a frozen network: a critic that knows what the network knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.models.heads import mlp_projector
from kdjax.models.model import Model, Outputs, Variables, under


def heads_on(network: Model, taps: Sequence[str], *, hidden: Sequence[int] = ()) -> Model:
    """A perceptron on some taps, side by side: inputs those of the network, prediction logits `[batch, places]`.

    taps: of equal shapes `[batch, places, width]` or `[batch, width]`, which is one place.
    hidden: widths of the perceptron, see `heads.mlp_projector`.
    The network's variables are `held`: a player names them in `frozen`, nobody trains them, and gradients reach the
    inputs. Source: LADD, arXiv 2403.12015, whose heads are convolutions.
    """

    def features(variables: Variables, inputs: Any, key: jax.Array) -> jax.Array:
        found = network.apply(variables, inputs, key=key, train=False)[0].taps
        return jnp.concatenate([found[tap].astype(jnp.float32) for tap in taps], axis=-1)

    def head(width: int) -> Model:
        return mlp_projector(jax.ShapeDtypeStruct((1, width), jnp.float32), features=1, hidden=hidden)

    def init(key: jax.Array, example: Any) -> Variables:
        held = network.init(key, example)
        seen = jax.eval_shape(features, held, example, key)
        return {**head(seen.shape[-1]).init(key, seen), 'held': held}

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        seen = features(variables['held'], inputs, key)
        own = {kind: variables[kind] for kind in ('params', 'stats')}
        said, own = head(seen.shape[-1]).apply(own, seen, key=key, train=train)
        return Outputs(said.prediction.reshape(len(seen), -1), {'features': seen}), {**variables, **own}

    name = f'heads_on({network.name}, taps={tuple(taps)}, hidden={tuple(hidden)})'
    return Model(init, apply, name, (), lambda **changes: heads_on(under(network, **changes), taps, hidden=hidden))
