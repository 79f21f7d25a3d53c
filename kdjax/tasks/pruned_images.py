"""Task `pruned images`: a student learns from a kept part of the training images, from labels, a teacher, or both.

{'labels': task.taught(random(task.at(5)), 0.0), 'kd': task.taught(random(task.at(5)), 0.9)}
"""

from __future__ import annotations

import dataclasses

import jax

from kdjax import losses, teachers
from kdjax.algorithms import Player
from kdjax.algorithms.condensation.learning import learned_from
from kdjax.objectives import kl, term
from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.task import Bound, Trained
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class PrunedImages(CondensedImages):
    """`CondensedImages` whose sets are kept images, and whose arms are one student each, of equally many steps.

    The teacher learns from all training images, wrong labels among them. temperature: of its part of the loss.
    """

    dataset: str = 'mislabelled:0.1:digits'
    student: str = 'mlp-64'
    teacher: str = 'mlp-64'
    temperature: float = 4.0

    def taught(self, kept: Made | None, weight: float, *, teacher: Trained | None = None) -> Train:
        """A student of (1 - weight) CE with labels + weight T^2 KL of the teacher, both on the same shifted images.

        kept: the images; None for all of them. teacher: the task's unless given.
        """
        reads, labels = ('batch.image', 'batch.label') if kept is None else ('set', 'set.label')
        objective = (1 - weight) * term(losses.cross_entropy, 'student', labels, name='labels')
        trained = teacher or self.trained_teacher
        bound = {}
        if kept is not None:
            shifted = self.shifted if self.crop_padding else None
            source = learned_from(self.set_model(), name='set', batch=self.batch, augment=shifted, factor=kept.factor)
            bound['set'] = Bound(source, {'set': kept.set})
        if weight:
            objective = objective + weight * kl(temperature=self.temperature)
            judge = teachers.live(trained.model, weights='teacher', reads=reads)
            bound['teacher'] = Bound(judge, {'teacher': trained.variables}, (trained.model,))
        calls = {} if kept is None else {'student': 3.0}
        student = Player(self.model(self.student), objective, self.optimizer(), reads=(reads,), calls=calls)
        return self.play({'student': student}, bound, evaluates=_answer)


def _answer(view: View) -> dict[str, jax.Array]:
    return {'student': view['student()'](view['batch.image']).prediction}
