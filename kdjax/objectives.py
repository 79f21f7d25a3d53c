"""Objectives: losses of named outputs, weighted and added.

    hard_labels() + 9.0 * kl(temperature=4.0)
    hard_labels() + 100.0 * hint('student.stage3', 'teacher.stage3', projector=heads.conv1x1)

An objective is data: a tuple of terms, and the learned parts that those terms read. It is evaluated on a View; every
term is reduced in one place (`Reduced`), as a sum and a count over the global batch, so that masks, accumulation and
sharding cannot turn a mean into a mean of means.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.errors import UserError
from kdjax.models.model import Model
from kdjax.streams import stream
from kdjax.view import View

Weight = float | Callable[[jax.Array], jax.Array]
"""A number, or a schedule: step -> scalar (any optax schedule)."""

Loss = Callable[..., jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]]
"""Arrays -> values `[batch, ...]`, alone or with scalars for the log, by name."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A learned piece of an objective: a projector, an exit branch, a critic, a memory bank.

    reads: the addresses of the model's inputs; several are given as a tuple.
    build(*shapes) -> Model: called with the `jax.ShapeDtypeStruct` of everything in `reads`, then in `like`, so that
    sizes
        are never typed twice.
    like: addresses whose shapes alone matter, e.g. the teacher tap that a projector must match.

    Its variables live in the train state, beside the player whose objective reads it, and are trained with it.
    """

    name: str
    build: Callable[..., Model]
    reads: tuple[str, ...]
    like: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss, on the outputs it reads: `loss(*[view[a] for a in reads], **options)` -> values `[batch, ...]`."""

    name: str
    loss: Loss
    reads: tuple[str, ...]
    options: Mapping[str, Any]
    weights: tuple[Weight, ...] = ()
    where: str | None = None

    def weight(self, step: Any) -> jax.Array:
        """The product of the weights at this step."""
        total = jnp.ones((), jnp.float32)
        with jax.numpy_dtype_promotion('standard'):  # schedules mix integer steps with floats
            for w in self.weights:
                total = total * jnp.asarray(w(step) if callable(w) else w, jnp.float32)
        return total


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reduced:
    """A term over the batch: the sum of its values, how many there were, its weight, and scalars for the log."""

    sum: jax.Array
    count: jax.Array
    weight: jax.Array
    said: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> jax.Array:
        """The mean over the values that count; 0 where none does."""
        return self.sum / jnp.maximum(self.count, 1.0)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A weighted sum of terms. `a + b`, `2.0 * a`, `schedule * a`; `objective(view)` evaluates it."""

    terms: tuple[Term, ...]
    parts: tuple[Part, ...] = ()

    def __post_init__(self):
        for kind, items in (('term', self.terms), ('part', self.parts)):
            names = [item.name for item in items]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise UserError(f"two {kind}s of one objective are called '{twice[0]}': give one of them name='...'")

    def __add__(self, other: Objective) -> Objective:
        shared = tuple(p for p in other.parts if p not in self.parts)
        return Objective(self.terms + other.terms, self.parts + shared)

    def __mul__(self, weight: Weight) -> Objective:
        scaled = (dataclasses.replace(t, weights=(*t.weights, weight)) for t in self.terms)
        return Objective(tuple(scaled), self.parts)

    __rmul__ = __mul__

    @property
    def addresses(self) -> tuple[str, ...]:
        """Everything that its terms and parts read."""
        reads = [*(t.reads for t in self.terms), *(p.reads for p in self.parts)]
        return tuple(address for group in reads for address in group)

    def __call__(self, view: View) -> dict[str, Reduced]:
        return {term.name: reduce(term, view) for term in self.terms}


def reduce(term: Term, view: View) -> Reduced:
    """Evaluate a term and reduce it. The mask is `term.where`, else the batch's own `where`, else everything counts.

    A loss that has more to tell returns its values and scalars by name, which are logged.
    """
    mask = view[term.where] if term.where else view.batch.get('where')
    options, takes = dict(term.options), inspect.signature(term.loss).parameters
    if mask is not None and 'where' in takes:
        options['where'] = mask
    if 'key' in takes and 'key' not in options:
        options['key'] = _drawn(term, view)
    if 'step' in takes and 'step' not in options:
        options['step'] = view.step
    try:
        values = term.loss(*(view[address] for address in term.reads), **options)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"term '{term.name}' ({', '.join(term.reads)}): {error}") from error
    said: Mapping[str, jax.Array] = {}
    if isinstance(values, tuple):
        values, said = values
    weight = term.weight(view.step)
    if jnp.ndim(values) == 0:
        raise UserError(f"term '{term.name}' returned a scalar: a loss returns one value per example, without a mean")
    if mask is None:
        return Reduced(jnp.sum(values), jnp.full((), values.size, jnp.float32), weight, said)
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    return Reduced(jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask, dtype=jnp.float32), weight, said)


def _drawn(term: Term, view: View) -> jax.Array:
    if view.key is None:
        raise UserError(f"term '{term.name}' draws, and this view has no key: give it one, View(..., key=...)")
    return stream(view.key, term.name)


def total(reduced: Mapping[str, Reduced]) -> jax.Array:
    """The objective's value: weighted means, added. Raises `UserError` where there is nothing to add."""
    if not reduced:
        raise UserError('an objective of no terms cannot be minimised: add a term that reads its learned parts')
    return sum((r.weight * r.mean for r in reduced.values()), jnp.zeros((), jnp.float32))


def term(loss: Loss, *reads: str, name: str | None = None, where: str | None = None, **options: Any) -> Objective:
    """Any loss as an objective: `term(losses.dkd, 'student', 'teacher', 'batch.label', beta=8.0)`.

    Args:
        loss: `loss(*arrays, **options)` -> one value per example (or token), at least `[batch]`. If it takes
            `where=`, it gets the mask; if it takes `key=`, a key of its own at every step; if `step=`, its number.
        reads: the addresses of its arrays, in its argument order; `'teacher()'` gives the network as a function.
        name: how the term is logged; the loss's own name unless given.
        where: address of a boolean mask `[batch, ...]`; default is the batch's own `where`, if it has one.
    """
    own = loss.func if isinstance(loss, functools.partial) else loss
    called = name or getattr(own, '__name__', 'loss').strip('<>')
    return Objective((Term(called, loss, reads, options, where=where),))


def hard_labels(student: str = 'student', *, smoothing: float = 0.0, name: str = 'hard_labels') -> Objective:
    """Cross-entropy with the labels of the batch."""
    return term(losses.cross_entropy, student, 'batch.label', smoothing=smoothing, name=name)


def kl(
    student: str = 'student',
    teacher: str = 'teacher',
    *,
    temperature: float = 1.0,
    t_squared: bool = True,
    name: str = 'kl',
) -> Objective:
    """Hinton's distillation term: T^2 KL(teacher || student) at temperature T (arXiv 1503.02531, sec. 2)."""
    return term(losses.kl_forward, student, teacher, temperature=temperature, t_squared=t_squared, name=name)


def fused(*teachers: str, student: str = 'student', name: str = 'fused', **options: Any) -> Objective:
    """`kdjax.losses.fused_divergence` of a language model from its teachers; without names, from `teacher`.

    Reads hidden states and heads, so that nobody's logits of a whole batch are made; `options` are that loss's.
    """
    own, *others = ((f'{node}.hidden', f'{node}.head') for node in (student, *(teachers or ('teacher',))))
    taught = itertools.chain.from_iterable(others)
    return term(losses.fused_divergence, *own, 'batch.label', *taught, name=name, **options)


def hint(student: str, teacher: str, *, projector: Callable[..., Model], name: str = 'hint') -> Objective:
    """FitNets: mean squared error of a teacher tap and a learned projection of a student tap (arXiv 1412.6550, eq. 3).

    projector: `(student_shape, teacher_shape) -> Model`, e.g. `kdjax.models.heads.conv1x1_like`.
    """
    part = Part(f'{name}_projector', projector, (student,), like=(teacher,))
    return learned(part) + term(losses.hint_mse, part.name, teacher, name=name)


def learned(*parts: Part) -> Objective:
    """An objective of no terms that brings learned parts along: `learned(part) + term(loss, part.name, 'teacher')`."""
    return Objective((), parts)
