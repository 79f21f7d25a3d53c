"""Task `digit diffusion`: generators of small images by class, measured by a classifier that nobody trains on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import data
from kdjax.data.augment import prepare
from kdjax.data.dataset import ImageDataset, Source, in_rows
from kdjax.metrics.samples import asked_classes, sample_metrics
from kdjax.models.model import Model
from kdjax.stage import Compute, Output
from kdjax.tasks.followers import judged, mean_gap
from kdjax.tasks.generating import HELD_OUT, Generating
from kdjax.tasks.small_images import SmallImages
from kdjax.tasks.task import Trained
from kdjax.view import View

AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class DigitDiffusion(Generating):
    """Digits of 8x8, or MNIST and Fashion-MNIST of 28x28; pixels are scaled to mean 0 and deviation 1.

    Measured of `samples` images for each held-out split, of the classes of its rows in turn, beside its real images:
    `metrics.samples.sample_metrics` on the last features of the judge, and `class_accuracy`, `class_nll` by its logits;
    and `discriminator_gap` where a head tells samples from data, see `tasks.followers`.

    judge: a classifier, trained once on labels, that no method learns from. real_examples: of a split, at most.
    """

    dataset: str = 'digits'
    train_examples: int | None = None
    teacher_steps: int = 1000
    student: str = 'unet-16-32'
    teacher: str = 'unet-16-32'
    judge: str = 'mlp-256-128'
    judge_steps: int = 600
    samples: int = 2000
    real_examples: int = 2000

    @functools.cached_property
    def real(self) -> ImageDataset:
        return data.load(self.dataset, train_examples=self.train_examples)

    @functools.cached_property
    def data(self) -> ImageDataset:
        """The real images, the rows of its held-out splits taken in turn until there are `samples` of them."""
        splits = dict(self.real.splits)
        for split in HELD_OUT:
            splits[split] = in_rows(splits[split], np.arange(self.samples) % len(splits[split]))
        identity = hashlib.sha256(f'{self.real.identity} {self.samples}'.encode()).hexdigest()
        return dataclasses.replace(self.real, splits=splits, identity=identity)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.real.image_shape

    @property
    def classes(self) -> int:
        return self.real.classes

    @property
    def sigma_data(self) -> float:
        return 1.0

    def scaled(self, batch: Mapping[str, Any]) -> jax.Array:
        return prepare(jnp.asarray(batch['image']), mean=self.real.mean, std=self.real.std)

    def pictures(self, samples: np.ndarray) -> np.ndarray:
        """Samples as images in 0..1, float32."""
        mean, std = (np.asarray(values, np.float32) for values in (self.real.mean, self.real.std))
        return np.clip(np.asarray(samples) * std + mean, 0.0, 1.0)

    # The judge.

    @functools.cached_property
    def trained_judge(self) -> Trained:
        """Trained once on labels, one for all seeds; it reads images on the scale of samples."""
        task = SmallImages(
            dataset=self.dataset, teacher_examples=self.train_examples, teacher_steps=self.judge_steps, norm='group'
        )
        return task.train_teacher('judge', self.judge)

    def reference(self) -> Output:
        """What the judge sees in the real images of each held-out split, and its variables."""
        return self._judged

    @functools.cached_property
    def _judged(self) -> Output:
        judge = self.trained_judge
        config = {'judge': judge.model.name, 'real_examples': self.real_examples}
        return Output(
            Compute(
                name='judged', module=__name__, config=config, inputs={'judge': judge.variables}, shared=True,
                call=self._judge_real, data=self.real, shapes=self._judged_shapes,
            )
        )  # fmt: skip

    def _judge_real(self, inputs: Any, *, key: jax.Array) -> dict[str, Any]:
        del key

        def judged(source: Source) -> dict[str, Any]:
            kept = min(len(source), self.real_examples)
            images = source.take(np.arange(kept) * len(source) // kept)['image']
            features, _ = judgement(
                self.trained_judge.model, inputs['judge'], np.asarray(self.scaled({'image': images}))
            )
            return {'features': features, 'judge': inputs['judge']}

        return {split: judged(self.real[split]) for split in HELD_OUT}

    def _judged_shapes(self, inputs: Any) -> dict[str, Any]:
        image = jax.ShapeDtypeStruct((1, *self.shape), np.float32)
        apply = functools.partial(self.trained_judge.model.apply, key=jax.random.key(0), train=False)
        width = jax.eval_shape(apply, inputs['judge'], image)[0].taps['pooled'].shape[-1]
        sizes = {split: (min(len(self.real[split]), self.real_examples), width) for split in HELD_OUT}
        return {
            split: {'features': jax.ShapeDtypeStruct(size, np.float32), 'judge': inputs['judge']}
            for split, size in sizes.items()
        }

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        plain = super().evaluated()

        def said(view: View) -> dict[str, jax.Array]:
            made = plain(view)
            return made | judged(self, view, made['sample'])

        return said

    def measure(self) -> Callable[..., dict[str, float]]:
        def measured(said: Mapping[str, np.ndarray], reference: Mapping[str, Any]) -> dict[str, float]:
            found = measure(self.trained_judge.model, said, reference, conditional=self.conditional)
            return found | mean_gap(said)

        return measured


@dataclasses.dataclass(frozen=True)
class SmallDigits(DigitDiffusion):
    """What experiments on 8x8 digits share: one small DiT, the teacher of all and the size of their students."""

    student: str = 'dit-64-2-p4'
    teacher: str = 'dit-64-2-p4'
    batch: int = 64
    teacher_steps: int = 4000


def measure(
    judge: Model, said: Mapping[str, np.ndarray], reference: Mapping[str, Any], *, conditional: bool = True
) -> dict[str, float]:
    """Metrics of the samples `sample`, of the classes `label` if `conditional`, else of those that the judge sees."""
    features, logits = judgement(judge, reference['judge'], said['sample'])
    label = np.asarray(said['label']) if conditional else logits.argmax(axis=-1)
    measured = sample_metrics(reference['features'], features, label)
    return measured | asked_classes(logits, label) if conditional else measured


def judgement(judge: Model, variables: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Last features and logits of a classifier on images of its own scale, `[images, ...]` each."""

    @jax.jit
    def look(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs, _ = judge.apply(variables, images, key=jax.random.key(0), train=False)
        return outputs.taps['pooled'], outputs.prediction

    parts = [look(variables, images[first : first + AT_ONCE]) for first in range(0, len(images), AT_ONCE)]
    features, logits = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2))
    return features, logits
