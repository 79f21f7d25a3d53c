"""What a graph of stages would leave, as shapes: experiments are checked end to end, nothing is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from kdjax import renderers
from kdjax.data import augment
from kdjax.models import convnet, decoder, dit, encoder, mlp, point_denoiser, resnet, seam, unet, vit
from kdjax.models.model import Model
from kdjax.stage import Compute, Output, Stage, Train
from kdjax.tasks import flat_scenes
from kdjax.tasks.condensing import matched

KEY = jax.random.key(0)
EVALUATION = 8


NETWORKS = convnet, decoder, dit, encoder, mlp, point_denoiser, resnet, unet, vit
TRACED: dict[str, tuple[Any, Any]] = {}
"""By the name of a network, which says all that it is built from: its functions, whose traces JAX keeps."""

REPEATED = {
    (flat_scenes, 'on_canvas'): jax.jit(renderers.on_canvas, static_argnums=(2, 3), static_argnames='wrap'),
    (flat_scenes, 'view_noise'): jax.jit(renderers.view_noise),
    (flat_scenes, 'render_each'): jax.jit(renderers.render_each, static_argnums=0),
    (matched, 'siamese'): jax.jit(matched.siamese, static_argnames='strategy'),
    (augment, 'shift'): jax.jit(augment.shift, static_argnames='reach'),
}
"""What arms do alike, by the module that calls it: JAX keeps the traces of these too."""


def traced_once(monkeypatch: Any) -> None:
    """From now on networks of one name are traced once in a process, whichever arm or experiment builds them.

    So are augmentation and the views of scenes.
    """

    def from_nnx(build: Any, *, name: str, **rest: Any) -> Model:
        made = seam.from_nnx(build, name=name, **rest)
        if name not in TRACED:
            TRACED[name] = jax.jit(lambda key: made.init(key, None)), jax.jit(made.apply, static_argnames='train')
        init, apply = TRACED[name]
        return dataclasses.replace(made, init=lambda key, example: init(key), apply=apply)

    for module in NETWORKS:
        monkeypatch.setattr(module, 'from_nnx', from_nnx)
    for (module, name), call in REPEATED.items():
        monkeypatch.setattr(module, name, call)


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree)


def resized(tree: Any, examples: int) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((examples, *a.shape[1:]), a.dtype), tree)


class Abstract:
    """Arrays of stages as `jax.ShapeDtypeStruct`s; each stage is traced once."""

    def __init__(self):
        self._arrays: dict[int, tuple[Stage, Any]] = {}

    def read(self, output: Output) -> Any:
        return output.of(self.arrays(output.stage))

    def arrays(self, stage: Stage) -> Any:
        if id(stage) not in self._arrays:
            made = self.train(stage)[0] if isinstance(stage, Train) else self.compute(stage)
            self._arrays[id(stage)] = stage, made
        return self._arrays[id(stage)][1]

    def frozen(self, stage: Stage) -> dict[str, Any]:
        return {name: self.read(output) for name, output in stage.inputs.items()}

    def compute(self, stage: Stage) -> Any:
        assert isinstance(stage, Compute)
        if stage.shapes is not None:
            return stage.shapes(self.frozen(stage))
        try:
            made = jax.eval_shape(lambda inputs: stage.call(inputs, key=KEY), self.frozen(stage))
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise AssertionError(f"stage '{stage.name}' computes on the host: give it shapes=") from error
        return made[0] if isinstance(made, tuple) else made

    def train(self, stage: Train) -> tuple[dict[str, Any], dict[str, Any]]:
        """(arrays, metrics of a step), by tracing; the state must keep its shapes and types."""
        frozen = self.frozen(stage)
        example = shapes_of(stage.data['train'].take(np.arange(stage.batch) % len(stage.data['train'])))
        state = jax.eval_shape(stage.algorithm.init, KEY, frozen, example)
        after, metrics = jax.eval_shape(stage.algorithm.step, state, frozen, example, KEY)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert shapes_of(after) == shapes_of(state), 'a step changes a shape or a type of the state'
        said = jax.eval_shape(stage.algorithm.evaluate, state, frozen, resized(example, EVALUATION), KEY)
        predictions = {}
        for split in ('validation', 'test'):
            size = len(stage.data[split])
            label = jax.ShapeDtypeStruct((size,), np.int32)
            predictions[split] = {**resized(said, size), 'label': label}
        return {'variables': state['variables'], 'predictions': predictions}, metrics
