"""Payloads of which each byte can be checked: whoever gets another's, or a part of one, notices."""

from __future__ import annotations

import random
import struct
import zlib

_MOST = 4 * 1024 * 1024
_SHIFTS = 1 << 16
_WHO = struct.Struct("<qq")
_BLOB = random.Random(7).randbytes(_MOST + _SHIFTS)
_ALL = memoryview(_BLOB)

checksum = zlib.crc32


def payload(number: int, index: int, size: int) -> bytes:
    """Bytes that no other call's, and no other item of that call, has.

    Args:
        number: Of the call.
        index: Of the item.
        size: Bytes, up to 4 MiB; of fewer than 16, one may look like another.
    """
    shift = (number * 31 + index * 37) % _SHIFTS
    return (_WHO.pack(number, index) + _ALL[shift : shift + max(0, size - _WHO.size)])[:size]


def is_payload(data: bytes | bytearray | memoryview, number: int, index: int, size: int) -> bool:
    """Whether it is that payload."""
    return bytes(data) == payload(number, index, size)


def size_of(random_of: random.Random, most: int) -> int:
    """A size at which something may go wrong: nothing at all, around each threshold, anything between."""
    way = random_of.random()
    if way < 0.3:
        size = random_of.choice([0, 1, 15, 16, 17, 64, 100])
    elif way < 0.6:
        size = int(2 ** random_of.uniform(0, 14))
    elif way < 0.8:
        size = random_of.choice([4095, 4096, 32_768, 65_535, 65_536, 65_537, 131_072, 262_144, 262_145])
    else:
        size = int(2 ** random_of.uniform(10, 21))
    return min(size, most)
