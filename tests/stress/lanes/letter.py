"""Messages of a lane: each says whose it is and what belongs to it, so that none can be taken for another."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.stress.data import is_payload, payload, size_of

MARK = b"letter "  # what a topic begins with
_HEAD = struct.Struct("<7sqqqqq")


class Letter(NamedTuple):
    """What a message's first frame says.

    Args:
        source: Whose; numbers count for each source.
        number: Its number there.
        stamp: When it was sent if it should be quick, nanoseconds of the system's monotonic clock; else 0.
    """

    source: int
    number: int
    stamp: int


def write(letter: Letter, random_of: random.Random, most: int) -> list[bytes]:
    """The frames: the head, and up to three payloads."""
    sizes = [size_of(random_of, most) for _ in range(random_of.choice([0, 0, 1, 1, 1, 2, 3]))]
    salt = letter.source * 1_000_003 + letter.number
    return [
        _HEAD.pack(MARK, *letter, len(sizes), sum(sizes)),
        *(payload(salt, index, size) for index, size in enumerate(sizes)),
    ]


def read(frames: Sequence[bytes]) -> Letter:
    """What the frames say.

    Raises:
        ValueError: They are not those of one message.
    """
    if not frames or len(frames[0]) != _HEAD.size:
        raise ValueError(f"no head: frames of {[len(frame) for frame in frames]} bytes")
    _, source, number, stamp, count, total = _HEAD.unpack(frames[0])
    body = frames[1:]
    salt = source * 1_000_003 + number
    if len(body) != count or sum(map(len, body)) != total:
        raise ValueError(f"message {number} of {source}: {count} frames, {total} bytes, came as {[*map(len, body)]}")
    if not all(is_payload(frame, salt, index, len(frame)) for index, frame in enumerate(body)):
        raise ValueError(f"message {number} of {source}: a frame is not what was sent")
    return Letter(source, number, stamp)


def stamp() -> int:
    """Now, for a letter that should be quick."""
    return time.monotonic_ns()
