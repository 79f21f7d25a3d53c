"""Task `led digits`: sets of 8x8 digits that lead a dense student along its experts."""

from __future__ import annotations

import dataclasses
from typing import Any

from kdjax.stage import Output, Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.experts import experts
from kdjax.tasks.condensing.matched import dm
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.trajectories import Follow, accumulated


@dataclasses.dataclass(frozen=True)
class LedDigits(CondensedImages):
    """`CondensedImages` whose student is dense, as inner training of a ConvNet takes hours on two cores.

    experts, expert_epochs, expert_rate: of a buffer; radius, weight: of flat ones, see `flat_gradient`.
    led_steps: updates of a set along experts; inner_steps, ahead, last, inner_rate, image_rate, rate_rate, label_rate
    and longest: see `Follow`. Inner steps see no augmentation, nor do experts. means_rate: of DM, for each image of a
    class; at the authors' 1 it diverges on one image, as a dense network has no norm.
    """

    student: str = 'mlp-32'
    transfer: tuple[str, ...] = ()
    set_steps: int = 300
    led_steps: int = 200
    experts: int = 10
    expert_epochs: int = 20
    expert_rate: float = 0.1
    radius: float = 0.01
    weight: float = 0.3
    inner_steps: int = 15
    ahead: int = 2
    last: int = 10
    inner_rate: float = 0.1
    image_rate: float = 5.0
    rate_rate: float = 0.1
    label_rate: float = 2.0
    longest: float = 1.0
    means_rate: float = 0.1

    def buffer(self, name: str = 'experts', *, count: int = 1, **flat: Any) -> Output:
        """Experts under a name, `count` times as many as the task has; flat: `radius` and `weight`."""
        return experts(
            self, count=count * self.experts, epochs=self.expert_epochs, rate=self.expert_rate, name=name, **flat
        )

    def flat_buffer(self) -> Output:
        """As FTD trains them."""
        return self.buffer('flat_experts', radius=self.radius, weight=self.weight)

    def follow(self, **changes: Any) -> Follow:
        """How sets of this task are led, but for the changes."""
        follow = Follow(
            self.inner_steps, ahead=self.ahead, last=self.last, batch=100, rate=self.inner_rate,
            image_rate=self.image_rate, rate_rate=self.rate_rate, label_rate=self.label_rate, augmented=False,
            updates=self.led_steps, longest=self.longest,
        )  # fmt: skip
        return dataclasses.replace(follow, **changes)

    def by_means(self, **options: Any) -> Made:
        """DM."""
        return dm(self, rate=self.means_rate * self.per_class, **options)

    def led(self, made: Made, buffer: Output, name: str) -> Train:
        """The arm of a set that followed a buffer: with its `accumulated_error` along that."""
        arm = self.measured(made)
        error = accumulated(self, made, buffer, self.follow(), name=name)
        return dataclasses.replace(arm, facts={**arm.facts, 'accumulated_error': error})
