"""Models, data, stages and experiments small enough to compile in a blink."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.algorithms import supervised
from kdjax.data.assemble import from_splits
from kdjax.data.dataset import ImageDataset, Origin
from kdjax.experiment import Experiment
from kdjax.metrics import classification
from kdjax.models.model import Model, Outputs, from_functions
from kdjax.objectives import hard_labels, kl
from kdjax.stage import Compute, Output, Train
from kdjax.teachers import cached

CLASSES = 3


def mlp(width: int = 8, classes: int = CLASSES) -> Model:
    """Flatten, one hidden layer (the tap `hidden`), logits."""

    def init(key, example):
        a, b = jax.random.split(key)
        inputs = int(np.prod(example.shape[1:]))
        return {
            'a': jax.random.normal(a, (inputs, width)) / inputs**0.5,
            'b': jax.random.normal(b, (width, classes)) / width**0.5,
        }

    def apply(params, x):
        hidden = jnp.tanh(x.reshape(len(x), -1) @ params['a'])
        return Outputs(hidden @ params['b'], {'hidden': hidden})

    return from_functions(init, apply, name=f'tiny-mlp-{width}')


def counting(model: Model, calls: list[str], name: str) -> Model:
    """The same model; every forward pass in Python adds `name` to `calls`."""

    def apply(variables, inputs, *, key, train):
        calls.append(name)
        return model.apply(variables, inputs, key=key, train=train)

    return dataclasses.replace(model, apply=apply)


def with_statistics(model: Model) -> Model:
    """The model on centred images: minus the batch mean in training, minus its running average otherwise."""

    def init(key, example):
        stats = {'mean': jnp.zeros(example.shape[1:]), 'batches': jnp.zeros((), jnp.int32)}
        return {'params': model.init(key, example)['params'], 'stats': stats}

    def apply(variables, inputs, *, key, train):
        stats = variables['stats']
        mean = jnp.mean(inputs, axis=0) if train else stats['mean']
        said, _ = model.apply(variables, inputs - mean[None], key=key, train=train)
        if train:
            stats = {'mean': 0.5 * stats['mean'] + 0.5 * mean, 'batches': stats['batches'] + 1}
        return said, {'params': variables['params'], 'stats': stats}

    return Model(init, apply, f'{model.name}+statistics')


def linear_like(inputs, target) -> Model:
    """A learned projection to the width of `target`: the simplest projector."""
    shape = (inputs.shape[-1], target.shape[-1])
    return from_functions(
        lambda key, x: {'w': 0.1 * jax.random.normal(key, shape)}, lambda p, x: x @ p['w'], name='linear'
    )


def images(examples: int, seed: int, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images [N, 2, 2, 1] in 0..1 whose brightness pattern tells the class."""
    rng = np.random.default_rng(seed)
    label = (np.arange(examples) % classes).astype(np.int32)
    patterns = np.random.default_rng(0).uniform(0.2, 0.8, (classes, 2, 2, 1))
    image = np.clip(patterns[label] + 0.15 * rng.standard_normal((examples, 2, 2, 1)), 0, 1)
    return image.astype(np.float32), label


def dataset(examples: int = 24) -> ImageDataset:
    """Three splits of blobs; 12 examples in each held-out one."""
    splits = {'train': images(examples, 1), 'validation': images(12, 2), 'test': images(12, 3)}
    return from_splits(
        'blobs',
        splits,
        class_names=('a', 'b', 'c'),
        flip_ok=False,
        crop_padding=0,
        origin=Origin('a test', 'none', 'tiny'),
    )


def batch(size: int = 6) -> dict[str, np.ndarray]:
    """The first examples of the training split."""
    return dataset()['train'].take(np.arange(size))


def measure(said, reference):
    return classification(said['student'], said['label'], reference)


def cost() -> dict[str, float]:
    return {'parameters': 1.0, 'forward_flops': 1.0, 'student_flops': 1.0, 'teacher_flops': 0.0}


def train(algorithm, *, name='arm', steps=6, module=__name__, data=None, **fields) -> Train:
    """A stage that trains on the blobs."""
    return Train(
        name=name,
        module=module,
        config={},
        algorithm=algorithm,
        data=data or dataset(),
        batch=4,
        steps=steps,
        evaluate_every=steps,
        measure=measure,
        cost=cost,
        **fields,
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """The configuration of the made-up experiment."""

    steps: int = 6
    learning_rate: float = 0.1
    temperature: float = 2.0


def teacher_stage(settings: Settings) -> Train:
    return train(supervised(mlp(16), hard_labels(), optax.sgd(0.5)), name='teacher', steps=20, shared=True)


def table(inputs, *, key):
    """What a cache holds: the teacher's predictions, for the training split and as a reference."""
    model, source = mlp(16), dataset()
    return {
        split: np.asarray(
            model.apply(inputs['model'], source[split]['image'], key=key, train=False)[0].prediction
        )
        for split in source.splits
    }


def arms(settings: Settings) -> dict[str, Train]:
    """Labels only against KD from a cached teacher."""
    said = Output(
        Compute(
            name='said',
            module=__name__,
            config={},
            inputs={'model': teacher_stage(settings)['variables']['student']},
            shared=True,
            call=table,
        )
    )
    common = {'steps': settings.steps, 'reference': said}
    optimizer = optax.sgd(settings.learning_rate)
    kd = hard_labels() + 4.0 * kl(temperature=settings.temperature)
    return {
        'labels': train(supervised(mlp(), hard_labels(), optimizer), **common),
        'kd': train(
            supervised(mlp(), kd, optimizer, teachers={'teacher': cached()}),
            inputs={'teacher': said['train']},
            **common,
        ),
    }


experiment = Experiment(
    title='Made up for tests',
    config=Settings(),
    arms=arms,
    claims=('kd > labels on accuracy',),
    systems=(999,),
    seeds=2,
)
