"""What a student minimises, read from a line of text: 'jsd:beta=0.5+labels:0.5'."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kdjax import losses
from kdjax.errors import UserError, unknown
from kdjax.losses.pointwise import NAMED, Pointwise
from kdjax.objectives import Objective, term

FORM = 'NAME[:PARAMETER=VALUE,...][+NAME...][+labels[:WEIGHT]]'
OWN = ('weight', 'temperature', 't_squared')
"""Parameters that every divergence takes: of the term, not of the divergence."""
LABELS = 'labels'

Cut = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(student's head, teacher's head) -> both with the rows that are compared."""


@dataclasses.dataclass(frozen=True)
class Divergence:
    """One divergence from the teacher. name: as it was written, without its weight."""

    name: str
    pointwise: Pointwise
    weight: float = 1.0
    temperature: float = 1.0
    t_squared: bool = False


@dataclasses.dataclass(frozen=True)
class Spec:
    """A sum of divergences, and of the cross-entropy with the labels times `labels`."""

    divergences: tuple[Divergence, ...]
    labels: float = 0.0

    def objective(self, *, softcaps: tuple[float | None, float | None], cut: Cut | None = None) -> Objective:
        """Of `student` and `teacher`, fused: nobody's logits of a whole batch are made.

        softcaps: of the student's logits and the teacher's. cut: where the vocabularies are not the same. Labels stand
        in the term of the first divergence where they can, which makes logits once for both.
        """
        together = bool(self.divergences) and cut is None
        parts = [self._labels(softcaps[0])] if self.labels and not together else []
        for i, each in enumerate(self.divergences):
            hard = self.labels if together and not i else 0.0
            parts.append(each.weight * _term(each, hard / each.weight, softcaps, cut))
        return functools.reduce(Objective.__add__, parts)

    def _labels(self, softcap: float | None) -> Objective:
        own = 'student.hidden', 'student.head', 'batch.label'
        return self.labels * term(losses.fused_divergence, *own, name=LABELS, hard_weight=1.0, softcaps=(softcap,))


def _term(
    divergence: Divergence, hard_weight: float, softcaps: tuple[float | None, float | None], cut: Cut | None
) -> Objective:
    return term(
        functools.partial(_compared, cut) if cut else losses.fused_divergence,
        'student.hidden', 'student.head', 'batch.label', 'teacher.hidden', 'teacher.head',
        name=divergence.name + f'+{LABELS}' * bool(hard_weight), divergence=divergence.pointwise,
        hard_weight=hard_weight, temperature=divergence.temperature, t_squared=divergence.t_squared,
        softcaps=softcaps,
    )  # fmt: skip


def read_objective(text: str) -> Spec:
    """From text of the form `FORM`, with the names of `kdjax.losses.pointwise.NAMED`.

    Parameters are those of the divergence (`beta`, `convention`, `alpha`) and `weight`, `temperature`, `t_squared`
    (true or false) of its term: 'kl_forward:temperature=2,weight=0.9+labels:0.1'. 'labels' alone needs no teacher.
    Raises UserError that names what it cannot read or what is out of range, and what is known.
    """
    divergences, labels = [], 0.0
    for part in text.split('+'):
        name, colon, rest = part.strip().partition(':')
        if name == LABELS and labels:
            raise UserError(f"objective '{text}': labels stand there twice")
        if name == LABELS:
            labels = _number(text, 'labels', rest) if colon else 1.0
        elif name in NAMED:
            divergences.append(_divergence_of(text, part.strip(), name, rest))
        else:
            raise unknown(f"divergence of the objective '{text}'", name, (*NAMED, LABELS))
    return Spec(_once_each(divergences), labels)


def _divergence_of(text: str, written: str, name: str, rest: str) -> Divergence:
    own = inspect.signature(NAMED[name]).parameters
    given: dict[str, Any] = {}
    for pair in rest.split(',') if rest else ():
        key, equals, value = pair.strip().partition('=')
        if key not in (*own, *OWN):
            raise unknown(f"parameter of '{name}' in the objective '{text}'", key, (*own, *OWN))
        if not equals or key in given:
            raise UserError(f"objective '{text}': '{pair.strip()}' is not {key}=VALUE, once: the form is {FORM}")
        given[key] = _value(text, key, value)
    term_of = {key: given.pop(key) for key in OWN if key in given}
    try:
        pointwise = NAMED[name](**given)
    except ValueError as error:
        raise UserError(f"objective '{text}': {error}") from error
    return Divergence(_without_weight(written), pointwise, **term_of)


def _without_weight(written: str) -> str:
    name, _, rest = written.partition(':')
    kept = [pair.strip() for pair in rest.split(',') if pair and not pair.strip().startswith('weight=')]
    return ':'.join([name, *([','.join(kept)] if kept else [])])


def _value(text: str, key: str, value: str) -> Any:
    if key == 'convention':
        return value
    if key == 't_squared':
        if value not in ('true', 'false'):
            raise UserError(f"objective '{text}': t_squared={value}: give true or false")
        return value == 'true'
    return _number(text, key, value)


def _number(text: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UserError(f"objective '{text}': {key} is '{value}', which is no number") from None
    if key in ('weight', 'temperature', LABELS) and not 0 < number < float('inf'):
        raise UserError(f"objective '{text}': {key} is {value}: it has to be positive")
    return number


def _once_each(divergences: Sequence[Divergence]) -> tuple[Divergence, ...]:
    for i, each in enumerate(divergences):
        if any(each.name == other.name for other in divergences[:i]):
            raise UserError(f"'{each.name}' stands twice in one objective: give it once, with the sum of the weights")
    return tuple(divergences)


def _compared(
    cut: Cut, hidden: jax.Array, head: jax.Array, label: jax.Array, taught: jax.Array, their_head: jax.Array,
    *, where: jax.Array, **options: Any,
) -> jax.Array:  # fmt: skip
    """The fused divergence over the words that both have; no label is read."""
    head, their_head = cut(head, their_head)
    return losses.fused_divergence(hidden, head, label, taught, their_head, where=where, **options)
