"""Networks that a set is matched through: fresh ones, or a pool that trains along and begins anew when it is old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Variables
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher

Loss = Callable[..., jax.Array]
"""`loss(variables, view, *, key) -> scalar`: what a network of a pool learns between two steps of the set."""


def fresh(model: Model, *, like: str = 'batch.image', axes: int = 1) -> Teacher:
    """A new network at every step, never trained: the prediction is its variables, `'name()'` the network itself.

    like: address of images whose shape the model is made for. axes: how many axes stand before those of one image.
    Sources: DM, arXiv 2110.04181, algorithm 1; DataDAM, arXiv 2310.00093.
    """

    def apply(memory, frozen, view, *, key):
        del memory, frozen
        return Outputs(model.init(stream(key, 'network'), _example(view[like], axes)))

    def function(memory, frozen, inputs, *, key):
        del memory, frozen
        variables = model.init(stream(key, 'network'), _example(inputs, 1))
        return model.apply(variables, inputs, key=key, train=False)[0]

    return Teacher(apply, function=function)


def pool(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    name: str,
    age: int,
    size: int = 1,
    updates: int = 1,
    like: str = 'batch.image',
    axes: int = 1,
) -> Teacher:
    """`size` networks, one of which is drawn at each step, given as its variables, and then trained a little.

    Args:
        loss: what it minimises, on the view of the step: the set before its update, or the real batch.
        name: the teacher's own name in `play`.
        age: steps (draws) after which a network begins anew, from a fresh initialisation. The first lives of a pool are
            shorter, evenly spread, so that it always holds networks of all ages.
        updates: of the network, after each step that drew it.

    Prediction: `{'params', 'stats'}` of the network; taps: what the update needs. A player that makes several moves
    sees one network for all of them, and then none is trained, as where nobody reads the pool: leave moves at 1.
    Raises UserError on an age, size or number of updates below 1.
    Sources: DC, arXiv 2006.05929, algorithm 1 (size 1); FRePo, arXiv 2206.00719; KRR-ST, arXiv 2310.06511 (size 10).
    """
    for what, value in (('age', age), ('size', size), ('updates', updates)):
        if value < 1:
            raise UserError(f'{what}={value} of a pool of networks: at least 1')

    def start(variables: Variables) -> Any:
        return {'variables': variables, 'optimizer': optimizer.init(variables['params'])}

    def init(frozen, example, variables):
        del frozen, variables
        images = _example(example[like.partition('.')[2]], axes)
        shapes = jax.eval_shape(lambda: start(model.init(jax.random.key(0), images)))
        empty = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), shapes)
        return {'networks': empty, 'left': jnp.zeros(size, jnp.int32), 'lives': jnp.zeros(size, jnp.int32)}

    def apply(memory, frozen, view, *, key):
        del frozen
        chosen = jax.random.randint(stream(key, 'choice'), (), 0, size, jnp.int32)
        old = jax.tree.map(lambda a: a[chosen], memory['networks'])
        new = start(model.init(stream(key, 'network'), _example(view[like], axes)))
        due = memory['left'][chosen] < 1
        network = jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)
        first = age * (chosen + 1) // size
        life = jnp.where(memory['lives'][chosen] == 0, jnp.maximum(first, 1), age)
        left = jnp.where(due, life, memory['left'][chosen])
        taps = {'network': network, 'chosen': chosen, 'left': left, 'due': due, 'key': stream(key, 'training')}
        return Outputs(network['variables'], taps)

    def update(memory, view, variables):
        del variables
        if name not in view:
            return memory
        taps = view.outputs(name).taps
        chosen = taps['chosen']

        def once(network, i):
            def value(params):
                return loss({**network['variables'], 'params': params}, view, key=jax.random.fold_in(taps['key'], i))

            params = network['variables']['params']
            with jax.numpy_dtype_promotion('standard'):  # optax raises floats to the power of integer counts
                change, state = optimizer.update(jax.grad(value)(params), network['optimizer'], params)
            params = optax.apply_updates(params, change)
            return {'variables': {**network['variables'], 'params': params}, 'optimizer': state}, None

        network, _ = jax.lax.scan(once, taps['network'], jnp.arange(updates, dtype=jnp.int32))
        return {
            'networks': jax.tree.map(lambda all_, one: all_.at[chosen].set(one), memory['networks'], network),
            'left': memory['left'].at[chosen].set(taps['left'] - 1),
            'lives': memory['lives'].at[chosen].add(taps['due'].astype(jnp.int32)),
        }

    return Teacher(apply, init, update)


def _example(images: Any, axes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *images.shape[axes:]), jnp.float32)
