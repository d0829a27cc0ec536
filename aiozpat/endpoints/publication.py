"""What a subscriber gets: a message with a topic, and a body that may have a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from aiozpat.codec import described
from aiozpat.errors import InvalidBody
from aiozpat.message import FrameLike, Message, to_frame

T = TypeVar("T")

# `Subscriber.ready` subscribes to this and sixteen bytes of its own, and our Publisher sends them back.
ECHO: Final = b"\0aiozpat.ready\0"
ECHO_BYTES: Final = len(ECHO) + 16


def is_echo(topic: bytes) -> bool:
    """Whether a topic is such a question, or the answer to it."""
    return len(topic) == ECHO_BYTES and topic.startswith(ECHO)


def topic_bytes(topic: FrameLike) -> bytes:
    """A topic as it is on the wire.

    Raises:
        TypeError: It is neither text nor bytes-like.
    """
    if not isinstance(topic, (str, bytes, bytearray, memoryview)):
        raise TypeError(f'a topic is text or bytes, as in "weather" or b"weather"; got {topic!r}')
    return to_frame(topic)


class Publication(Message, Generic[T], frozen=True, gc=False):
    """A message received by a `Subscriber`; one frame is topic and body at once."""

    _decode: Callable[[bytes], Any]

    @property
    def topic(self) -> bytes:
        """The first frame."""
        return self.frames[0]

    @property
    def value(self) -> T:
        """The body as the subscriber's `body_type`, decoded from MessagePack each time.

        Raises:
            InvalidBody: It is not of that type; this message only, the others are not touched.
        """
        try:
            value: T = self._decode(self.body)
        except Exception as error:  # also what a type's own validation raises
            raise InvalidBody(
                f"the body of a message on {self.topic[:100]!r} is not what was asked for: {described(error)}"
            ) from error
        return value
