"""Task `byte LM`: bytes of Python source, a teacher that read much of it, students that read little."""

from __future__ import annotations

import dataclasses
import functools

from kdjax import data
from kdjax.data.dataset import first_rows
from kdjax.data.text import TextDataset
from kdjax.tasks.language import Language


@dataclasses.dataclass(frozen=True)
class ByteLM(Language):
    """A corpus as in `kdjax.data.load_text`. rows: of the train split, which students see; the teacher sees all.

    evaluation_rows: of validation and of test.
    """

    corpus: str = 'stdlib'
    tokenizer: str = 'bytes'
    row: int = 128
    limit_bytes: int = 4_000_000
    rows: int = 1024
    evaluation_rows: int = 128
    steps: int = 400
    teacher_steps: int = 1500

    @functools.cached_property
    def teacher_data(self) -> TextDataset:
        return data.load_text(
            self.corpus, tokenizer=self.tokenizer, length=self.row, limit_bytes=self.limit_bytes,
            evaluation_rows=self.evaluation_rows,
        )  # fmt: skip

    @functools.cached_property
    def data(self) -> TextDataset:
        return first_rows(self.teacher_data, self.rows)

    @property
    def vocabulary(self) -> int:
        return self.teacher_data.vocabulary

    @property
    def length(self) -> int:
        return self.row
