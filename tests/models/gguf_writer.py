"""A writer of small GGUF files, made from the format's description and not from our reader."""

from __future__ import annotations

import struct

import numpy as np

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
TYPES = {'F32': 0, 'F16': 1, 'Q4_0': 2, 'Q4_1': 3, 'Q8_0': 8, 'BF16': 30}


def text(value: str) -> bytes:
    return struct.pack('<Q', len(value.encode())) + value.encode()


def said(value) -> bytes:
    """A value of the metadata, with its kind before it."""
    if isinstance(value, str):
        return struct.pack('<I', STRING) + text(value)
    if isinstance(value, list):
        return struct.pack('<IIQ', ARRAY, STRING, len(value)) + b''.join(map(text, value))
    return struct.pack('<If', FLOAT32, value) if isinstance(value, float) else struct.pack('<II', UINT32, value)


def quantised(array: np.ndarray, kind: str) -> bytes:
    """Blocks of 32 values of a row, rounded to the nearest."""
    if kind == 'F32':
        return array.astype('<f4').tobytes()
    if kind == 'F16':
        return array.astype('<f2').tobytes()
    if kind == 'BF16':
        return (array.astype('<f4').view('<u4') >> 16).astype('<u2').tobytes()
    return b''.join(block(values, kind) for values in array.reshape(-1, 32))


def block(values: np.ndarray, kind: str) -> bytes:
    largest = np.float16(np.abs(values).max())
    if kind == 'Q8_0':
        scale = np.float16(largest / 127)
        return scale.tobytes() + np.round(values / scale).astype(np.int8).tobytes()
    least = np.float16(values.min()) if kind == 'Q4_1' else np.float16(0)
    scale = np.float16((values.max() - least) / 15 if kind == 'Q4_1' else largest / 7)
    q = np.round((values - least) / scale) + (0 if kind == 'Q4_1' else 8)
    q = np.clip(q, 0, 15).astype(np.uint8)
    head = scale.tobytes() + (least.tobytes() if kind == 'Q4_1' else b'')
    return head + (q[:16] | q[16:] << 4).tobytes()


def gguf(metadata: dict, tensors: dict, version: int = 3) -> bytes:
    """A file of tensors given as name -> (array, kind)."""
    head = b'GGUF' + struct.pack('<IQQ', version, len(tensors), len(metadata))
    head += b''.join(text(key) + said(value) for key, value in metadata.items())
    data = b''
    for name, (array, kind) in tensors.items():
        sizes = array.shape[::-1]
        head += text(name) + struct.pack(f'<I{len(sizes)}QIQ', len(sizes), *sizes, TYPES[kind], len(data))
        data += quantised(array, kind)
        data += b'\0' * (-len(data) % 32)
    return head + b'\0' * (-len(head) % 32) + data
