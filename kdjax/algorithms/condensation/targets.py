"""A set without classes: images, and the vector that a teacher's representation should be at each, both learned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.condensation.regression import regression_error
from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Variables
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher
from kdjax.view import View


def target_set(image_shape: tuple[int, ...], *, examples: int, width: int) -> Model:
    """`examples` images with a target of `width` numbers each, as a Model without inputs.

    Prediction: images `[examples, *image_shape]`, as networks see them; tap `target` `[examples, width]`. Both are
    parameters, `image` and `target`, and start as standard normal noise; `paired(...)` starts them elsewhere.
    Raises UserError on a set of nothing. Source: KRR-ST, arXiv 2310.06511, section 3.2.
    """
    if examples < 1 or width < 1:
        raise UserError(f'a set of {examples} images with targets of width {width}: at least 1 of each')

    def init(key: jax.Array, example: Any) -> Variables:
        del example
        image = jax.random.normal(stream(key, 'image'), (examples, *image_shape), jnp.float32)
        return paired(image, jax.random.normal(stream(key, 'target'), (examples, width), jnp.float32))

    def apply(variables, inputs, *, key, train):
        del inputs, key, train
        params = variables['params']
        return Outputs(params['image'], {'target': params['target']}), variables

    return Model(init, apply, f'targets-{examples}(width={width}, image_shape={tuple(image_shape)})')


def paired(image: Any, target: Any) -> Variables:
    """Variables of a set of these images and targets."""
    return {
        'params': {'image': jnp.asarray(image, jnp.float32), 'target': jnp.asarray(target, jnp.float32)},
        'stats': {},
    }


def representation_matching(
    images: jax.Array,
    targets: jax.Array,
    real: jax.Array,
    wanted: jax.Array,
    variables: Variables,
    *,
    model: Model,
    key: jax.Array,
    tap: str = 'pooled',
    ridge: float = 1e-6,
) -> jax.Array:
    """KRR-ST: half the squared error of a readout that was fitted to the set, at real images, one value for each.

    images, targets: of the set, differentiated. real `[batch, *image]`, wanted `[batch, width]`: what the teacher says
    of them; both constants, like the network, which answers as in evaluation. The readout is kernel ridge regression
    on its features and a column of ones. Source: arXiv 2310.06511, equation 6, and algorithms/distill.py.
    """
    constants = jax.lax.stop_gradient(variables)

    def features(x, name):
        return model.apply(constants, x, key=stream(key, name), train=False)[0].taps[tap]

    return regression_error(features(images, 'set'), targets, features(real, 'real'), wanted, ridge=ridge)


def fitted_to(variables: Variables, view: View, *, key: jax.Array, model: Model, node: str) -> jax.Array:
    """The mean squared error of a network on the whole set `node`: what each network of the pool learns.

    Nothing is drawn: no minibatch, no augmentation. The argument of `networks.pool`.
    """
    said = model.apply(variables, view[node], key=key, train=True)[0].prediction
    return jnp.mean(jnp.square(said - view[f'{node}.target']))


def learned_from_targets(model: Model, *, name: str, batch: int) -> Teacher:
    """Minibatches of a stored set: the prediction is images, the tap `target` theirs; drawn without repeats.

    model: of the set; name: of its variables in `frozen`. A batch larger than the set is all of it.
    """

    def apply(memory, frozen, view, *, key):
        del memory, view
        said, _ = model.apply(frozen[name], None, key=key, train=False)
        images, targets = said.prediction, said.taps['target']
        rows = jax.random.permutation(stream(key, 'rows'), len(images))[: min(batch, len(images))]
        return Outputs(images[rows], {'target': targets[rows]})

    return Teacher(apply)
