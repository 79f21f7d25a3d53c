"""Task `few digits`: 500 MNIST digits under shifts of two pixels, a small student, a teacher that saw all 3500."""

from __future__ import annotations

import dataclasses

from kdjax.tasks.small_images import SmallImages


@dataclasses.dataclass(frozen=True)
class FewDigits(SmallImages):
    """`SmallImages` where labels are scarce and the teacher has something to say that they do not hold."""

    dataset: str = 'mnist5k'
    train_examples: int | None = 500
    student: str = 'mlp-64'
    teacher: str = 'mlp-256-256'
    steps: int = 2000
    crop_padding: int = 2
    teacher_steps: int = 3000
    teacher_crop_padding: int = 2
