"""What a teacher cache keeps of each token: the likeliest classes, a sample, both, or the hidden state."""

from __future__ import annotations

import dataclasses
from typing import Any

from kdjax.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class TopK:
    """The k likeliest classes, their probabilities on a grid of 2^bits levels. Exact there, silent about the rest.

    temperature: all kinds keep softmax(logits / temperature); the student's temperature has to be the same.
    """

    k: int
    bits: int = 12
    temperature: float | int = 1.0


@dataclasses.dataclass(frozen=True)
class Sampled:
    """RSKD (arXiv 2503.16870): `draws` classes, independent, from q ~ p^power, each with the weight p / (q draws).

    With power 1 weights are counts / draws, kept exactly. Unbiased: E[weight] = p for every class.
    """

    draws: int
    power: float | int = 1.0
    temperature: float | int = 1.0


@dataclasses.dataclass(frozen=True)
class Hybrid:
    """Classes of at least 1 / (slots - 1) exactly, the others sampled at 1 / (slots - 1) each. Unbiased.

    With t = 1 / (slots - 1) a class of p < t is kept with the chance p / t, and then stands for t. No unbiased choice
    of as many entries on average has a smaller sum of variances: the optimal resampling of Fearnhead and Clifford
    (J. R. Stat. Soc. B 65, 2003), here with one threshold for all tokens, so that uncertain ones get more entries.
    slots: most entries of a token; peaked ones need a few. bits: of the exact probabilities, rounded at random so that
    they stay unbiased.
    """

    slots: int
    bits: int = 8
    temperature: float | int = 1.0

    @property
    def threshold(self) -> float:
        return 1.0 / (self.slots - 1)


@dataclasses.dataclass(frozen=True)
class Hidden:
    """The hidden state that the teacher's head multiplies, in bfloat16: exact up to its rounding, given the head."""

    width: int


Kind = TopK | Sampled | Hybrid | Hidden

KINDS: dict[str, type[Any]] = {'top_k': TopK, 'sampled': Sampled, 'hybrid': Hybrid, 'hidden': Hidden}
MOST_BITS = 16


def entries(kind: Kind, vocabulary: int) -> int:
    """Most classes that are kept of a token: the length of `ids` and `probs`."""
    if isinstance(kind, Hidden):
        return 0
    if isinstance(kind, Hybrid):
        return min(kind.slots, vocabulary)
    return kind.k if isinstance(kind, TopK) else kind.draws


def check_kind(kind: Kind, vocabulary: int) -> None:
    """`UserError` for a kind that cannot be kept at this vocabulary."""
    sizes = {name: value for name, value in dataclasses.asdict(kind).items() if name not in ('temperature', 'power')}
    for name, value in sizes.items():
        least = 2 if (isinstance(kind, Hybrid) and name == 'slots') else 1
        if value < least:
            raise UserError(f'{kind}: {name} has to be at least {least}')
    if isinstance(kind, TopK) and kind.k > vocabulary:
        raise UserError(f'{kind}: the vocabulary has {vocabulary} classes; take k up to that')
    if sizes.get('bits', 1) > MOST_BITS:
        raise UserError(f'{kind}: probabilities are kept in at most {MOST_BITS} bits')
    if not isinstance(kind, Hidden) and not kind.temperature > 0:
        raise UserError(f'{kind}: temperature has to be above 0')
    if isinstance(kind, Sampled) and not kind.power > 0:
        raise UserError(f'{kind}: power has to be above 0')


def described(kind: Kind) -> dict[str, Any]:
    """The kind as JSON: `{'kind': 'top_k', 'k': 16, ...}`."""
    name = next(name for name, cls in KINDS.items() if isinstance(kind, cls))
    return {'kind': name, **dataclasses.asdict(kind)}


def from_description(description: dict[str, Any]) -> Kind:
    """The inverse of `described`."""
    rest = dict(description)
    name = rest.pop('kind')
    if name not in KINDS:
        raise unknown('kind of teacher cache', name, KINDS)
    return KINDS[name](**rest)
