"""Task `oracle LM`: a language whose next-token distribution is known, so that divergences to the truth are exact."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax import losses, teachers
from kdjax.data.dataset import first_rows
from kdjax.data.markov import Markov, markov
from kdjax.models.model import Outputs
from kdjax.tasks.language import Language, said_of_tokens
from kdjax.tasks.task import Bound
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class OracleLM(Language):
    """A Markov language, see `kdjax.data.markov`. rows: that students see; teacher_rows: that the teacher sees.

    Beside what `Language` measures: `kl_truth`, KL(truth || student).
    """

    tokens: int = 24
    order: int = 2
    sharpness: float = 2.5
    row: int = 32
    rows: int = 256
    teacher_rows: int = 8192
    evaluation_rows: int = 256
    student: str = 'llama-32-2'
    teacher: str = 'llama-64-2'
    batch: int = 64
    steps: int = 600
    teacher_steps: int = 1500

    @functools.cached_property
    def data(self) -> Markov:
        return self._drawn(self.rows)

    @functools.cached_property
    def teacher_data(self) -> Markov:
        return self._drawn(self.teacher_rows)

    def _drawn(self, rows: int) -> Markov:
        """All of one language, and with the same text to be measured on."""
        whole = markov(
            vocabulary=self.tokens, order=self.order, sharpness=self.sharpness, length=self.row,
            rows=max(self.rows, self.teacher_rows), evaluation_rows=self.evaluation_rows,
        )  # fmt: skip
        return first_rows(whole, rows)

    @property
    def vocabulary(self) -> int:
        return self.tokens

    @property
    def length(self) -> int:
        return self.row

    def oracle(self) -> Bound:
        """The language itself as a teacher: its logits are the true log-probabilities."""
        return Bound(teachers.oracle(lambda batch: Outputs(self.data.truth(batch['tokens']))), {})

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        def said(view: View) -> dict[str, jax.Array]:
            truth = self.data.truth(jnp.asarray(view['batch.tokens']))
            return said_of_tokens(view) | {'kl_truth': losses.kl_forward(view['student'], truth)}

        return said
