"""A multipart message: immutable frames, and what to call them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

FrameLike: TypeAlias = bytes | str | bytearray | memoryview
"""What may be sent as one frame; text becomes UTF-8."""

Payload: TypeAlias = FrameLike | Sequence[FrameLike]
"""What a handler may answer: one frame or several."""


def to_frame(part: FrameLike) -> bytes:
    """One frame as bytes, copied if it could change later.

    Raises:
        TypeError: It is neither bytes, bytearray, memoryview nor str.
    """
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, (bytearray, memoryview)):
        return bytes(part)
    raise TypeError(_no_frame(part))


def _no_frame(part: object) -> str:
    text = f"a frame is bytes, bytearray, memoryview or str; got {type(part).__name__}"
    if isinstance(part, (list, tuple)):
        return text + "; several frames are several arguments, as in send(*frames)"
    return text + _array_hint(part)


def _array_hint(part: object) -> str:
    """What to do with an array, or whatever else has a buffer; nothing for other things."""
    try:
        memoryview(part)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, BufferError):
        return ""
    return "; the bytes of an array are a frame as memoryview(array)"


def to_frames(parts: Sequence[FrameLike]) -> Sequence[bytes]:
    """The frames of one message, all of them checked before any is sent.

    Raises:
        TypeError: One is neither bytes, bytearray, memoryview nor str.
        ValueError: There is none.
    """
    if not parts:
        raise ValueError("a message has at least one frame; send(b'') sends an empty one")
    for part in parts:
        if type(part) is not bytes:
            return [to_frame(part) for part in parts]
    return tuple(parts)  # type: ignore[arg-type]  # all are bytes, as nearly always


def payload_frames(payload: Payload) -> Sequence[bytes]:
    """The frames of a payload: one, or the sequence that was given.

    Raises:
        TypeError: One is neither bytes, bytearray, memoryview nor str.
        ValueError: There is none.
    """
    if isinstance(payload, (bytes, str, bytearray, memoryview)):
        return [to_frame(payload)]
    if isinstance(payload, (tuple, list)):  # nearly always; asking for a Sequence costs as much as sending
        return to_frames(payload)
    parts: Sequence[FrameLike] = payload
    hint = _array_hint(payload)  # an array.array is a sequence too, of numbers
    if hint or not isinstance(payload, Sequence):
        text = f"a message is one frame (bytes, str, ...) or a sequence of them; got {type(payload).__name__}"
        raise TypeError(text + hint)
    return to_frames(parts)


class Message(msgspec.Struct, frozen=True, gc=False, eq=False):  # a Struct: a fifth of the time of a plain class
    """A message as it was received.

    Attributes:
        frames: All of its frames, without envelope and delimiter.
    """

    frames: tuple[bytes, ...]

    def __repr__(self) -> str:
        shown = ", ".join(repr(frame) if len(frame) <= 40 else f"<{len(frame)} bytes>" for frame in self.frames[:8])
        return f"<aiozpat.{type(self).__name__} {shown}{', ...' if len(self.frames) > 8 else ''}>"

    def __len__(self) -> int:
        return len(self.frames)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.frames == other.frames

    def __hash__(self) -> int:
        return hash(self.frames)

    @property
    def body(self) -> bytes:
        """The last frame."""
        return self.frames[-1] if self.frames else b""

    @property
    def header(self) -> tuple[bytes, ...]:
        """The frames before the body."""
        return self.frames[:-1]

    def text(self) -> str:
        """The body as UTF-8.

        Raises:
            UnicodeDecodeError: It is not.
        """
        return self.body.decode()
