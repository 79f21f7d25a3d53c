"""A checkpoint distilled into a checkpoint: the algorithm, what it starts from, and what is left at the end."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import data, teachers
from kdjax.algorithms import Algorithm, Player, play
from kdjax.data import corpora
from kdjax.data.dataset import in_rows
from kdjax.data.text import TextDataset
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError
from kdjax.models.checkpoints import write_checkpoint
from kdjax.models.model import Model, Variables
from kdjax.streams import stream
from kdjax.surgery.lora import adapted, lora, merged
from kdjax.tasks.checkpoints import Loaded
from kdjax.tasks.measuring import token_measures
from kdjax.tasks.objective_text import Spec
from kdjax.tasks.words import Words, check_cuts, check_known
from kdjax.view import View

HELD_OUT = ('validation', 'test')
CLIP = 1.0
"""The largest norm of a gradient: AdamW at b2 = 0.95 and this clip are what language models are trained with."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Distillation:
    """Who teaches whom, on what, towards what.

    adapters: the rank of low-rank adapters that are trained in place of all weights; 0 for none.
    """

    teacher: Loaded
    student: Loaded
    words: Words
    data: TextDataset
    spec: Spec
    steps: int
    batch: int
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    adapters: int = 0

    @property
    def model(self) -> Model:
        """What is trained."""
        return lora(self.student.model, rank=self.adapters) if self.adapters else self.student.model

    @functools.cached_property
    def algorithm(self) -> Algorithm:
        player = Player(
            self.model, self.spec.objective(softcaps=self._softcaps, cut=self._cut), self._optimizer(),
            _reads('tokens'), held='held' if self.adapters else None,
        )  # fmt: skip
        reads = _reads('tokens' if self.words.teacher_ids is None else 'teacher_tokens')
        teacher = teachers.live(self.teacher.model, reads=reads)
        return play({'student': player}, teachers={'teacher': teacher}, prepare=self._prepare, evaluates=self._evaluate)

    def start(self, key: jax.Array) -> Variables:
        """What the student's part of the state is at step 0, `params` and `stats`."""
        variables = self.student.variables
        if self.adapters:
            variables = adapted(variables, key=stream(key, 'student/init'), rank=self.adapters)
        return {kind: variables[kind] for kind in ('params', 'stats')}

    def frozen(self) -> dict[str, Any]:
        """What is read and not trained."""
        held = {'held': self.student.variables['params']} if self.adapters else {}
        return {'teacher': self.teacher.variables} | held

    def export(self, variables: Variables, folder: Path) -> Path:
        """Write the student, and its tokenizer, as a checkpoint that `transformers` loads."""
        if self.adapters:
            variables = merged(variables | {'held': self.student.variables['params']})
        own = self.words.tokenizer
        special = {'bos_token_id': own.bos, 'eos_token_id': own.eos, 'pad_token_id': own.pad}
        return write_checkpoint(self.student.config, variables, folder, settings=special, beside=own.save)

    @property
    def _softcaps(self) -> tuple[float | None, float | None]:
        return self.student.config.logit_cap, self.teacher.config.logit_cap

    @property
    def _cut(self) -> Any:
        return None if self.words.vocab == 'error' else self.words.cut

    def _optimizer(self) -> optax.GradientTransformation:
        """AdamW, 5 % of the steps warming up, then a cosine to zero."""
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, self.steps // 20, self.steps)
        return optax.chain(
            optax.clip_by_global_norm(CLIP), optax.adamw(schedule, b2=0.95, weight_decay=self.weight_decay)
        )

    def _prepare(self, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        del key, train
        read = prepare_text(batch)
        if self.words.teacher_ids is None:
            return read
        table = jnp.asarray(np.maximum(self.words.teacher_ids, 0))
        return read | {'teacher_tokens': table[read['tokens']], 'teacher_label': table[read['label']]}

    def _evaluate(self, view: View) -> dict[str, jax.Array]:
        ids = None if self.words.ids is None else (jnp.asarray(self.words.ids[0]), jnp.asarray(self.words.ids[1]))
        return token_measures(view, softcaps=self._softcaps, vocab=self.words.vocab, ids=ids)


def _reads(tokens: str) -> tuple[str, str, str]:
    return f'batch.{tokens}', 'batch.segment', 'batch.position'


def load_data(said: str, teacher: Loaded, student: Loaded, words: Words, *, length: int, rows: int) -> TextDataset:
    """Rows of `length` tokens of a corpus, or of a file, with `rows` of validation and of test, evenly spaced.

    said: as `kdjax.data.load_text`, or the path of a text file, a .jsonl file or a folder of them.
    Raises UserError for rows longer than a context, and as `load_text`, `check_cuts` and `check_known`.
    """
    for role, model in (('teacher', teacher), ('student', student)):
        if length > model.config.context:
            raise UserError(
                f"length={length}: the context of the {role} '{model.said}' is {model.config.context} tokens: "
                'choose a length of at most that'
            )
    spec = _corpus(said)
    if words.teacher_ids is not None:
        assert teacher.tokenizer is not None, 'only two tokenizers intersect'
        check_cuts(words, teacher.tokenizer, corpora.load(spec).splits['validation'])
    loaded = data.load_text(spec, tokenizer=words.tokenizer, length=length)
    if words.teacher_ids is not None:
        check_known(words, loaded)
    return _with_fewer(loaded, rows)


def _corpus(said: str) -> str:
    place = Path(said).expanduser()
    if not place.exists():
        return said
    lines = place.suffix == '.jsonl' or (place / 'train.jsonl').is_file()
    return f'{"jsonl" if lines else "file"}:{said}'


def _with_fewer(loaded: TextDataset, rows: int) -> TextDataset:
    splits = dict(loaded.splits)
    for split in HELD_OUT:
        here = len(splits[split])
        splits[split] = in_rows(splits[split], np.arange(min(rows, here)) * here // min(rows, here))
    return dataclasses.replace(loaded, splits=splits)
