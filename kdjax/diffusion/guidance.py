"""Classifier-free guidance as a typed value: a scale means nothing without its form."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.checks import over
from kdjax.errors import unknown

Form = Literal['from_null', 'beyond_condition']
Scale = Float[Array, '...'] | float | int


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How far a conditional prediction is pushed away from the unconditional one.

    form              prediction                    plain at   used by
    from_null         null + scale (cond - null)    1          Stable Diffusion's pipelines, ProlificDreamer's training,
                                                               threestudio's VSD
    beyond_condition  cond + scale (cond - null)    0          the first publication, LCM, threestudio's SDS

    So scale s of the first is scale s - 1 of the second. The same public numbers (7.5, 100) mean different guidance.

    scale: a number, or an array: one, or one for each example.
    Raises UserError on another form.
    Source: arXiv 2207.12598, equation 6 (beyond_condition).
    """

    scale: Scale
    form: str

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise unknown('form of guidance', self.form, get_args(Form))

    @property
    def plain(self) -> bool:
        """Known to be the conditional prediction, so that the null branch is not needed."""
        neutral = 1 if self.form == 'from_null' else 0
        return isinstance(self.scale, (int, float)) and self.scale == neutral

    def combined(
        self, conditional: Float[Array, 'batch *event'], null: Float[Array, 'batch *event']
    ) -> Float[Array, 'batch *event']:
        """The guided prediction; of any prediction in the table, as all are affine in one another."""
        scale = self.scale if isinstance(self.scale, jax.Array) else jnp.asarray(self.scale, conditional.dtype)
        start = null if self.form == 'from_null' else conditional
        return start + over(scale, conditional) * (conditional - null)
