"""What devices tell each other in a compiled program, read from the text of its HLO."""

from __future__ import annotations

import dataclasses
import math
import re

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute', 'collective-broadcast')

_LINE = re.compile(rf'= (?P<types>.+?) (?P<kind>{"|".join(KINDS)})(?P<end>-done)?\((?P<rest>.*)')
_ARRAY = re.compile(r'\b(?P<dtype>pred|bf16|[a-z]\d+[a-z0-9]*)\[(?P<dims>[\d,]*)\]')
_LISTED = re.compile(r'replica_groups=\{\{([\d,]*)\}')
_COUNTED = re.compile(r'replica_groups=\[\d+,(\d+)\]<=')
_OF_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of a device. dtype: as HLO writes it, such as 'f32'."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = int(re.sub(r'\D.*', '', self.dtype.lstrip('bfscu')) or 8)
        return math.prod(self.shape) * max(bits, 8) // 8


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction, counted once however often a loop runs it.

    arrays: what each device holds afterwards. group: how many devices take part together, 0 where it does not say.
    name: where it comes from in the program that was traced.
    """

    kind: str
    arrays: tuple[Array, ...]
    group: int
    name: str

    @property
    def bytes(self) -> int:
        """Of the whole arrays: as gathered, or as reduced before every device takes its part."""
        held = sum(array.bytes for array in self.arrays)
        return held * self.group if self.kind == 'reduce-scatter' else held


def collectives(text: str) -> list[Collective]:
    """All in the text of a compiled module, `compiled.as_text()`. Of a pair of start and done, the second counts."""
    return [_read(found) for found in map(_LINE.search, text.splitlines()) if found]


def total_bytes(found: list[Collective], *kinds: str) -> int:
    """Bytes of those of some kinds."""
    return sum(one.bytes for one in found if one.kind in kinds)


def _read(found: re.Match[str]) -> Collective:
    arrays = tuple(
        Array(a['dtype'], tuple(map(int, filter(None, a['dims'].split(','))))) for a in _ARRAY.finditer(found['types'])
    )
    name = _NAME.search(found['rest'])
    return Collective(found['kind'], arrays, _group(found['rest']), name[1] if name else '')


def _group(rest: str) -> int:
    if listed := _LISTED.search(rest):
        return len(listed[1].split(','))
    if meshed := _OF_MESH.search(rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", meshed[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", meshed[2]))
    counted = _COUNTED.search(rest)
    return int(counted[1]) if counted else 0
