"""A message that can be answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import force_setattr

from aiozpat.errors import UsageError
from aiozpat.message import FrameLike, Message, to_frames


class Answers(Protocol):
    """What a request needs of the endpoint that received it."""

    async def _answer(self, identity: bytes, parts: Sequence[bytes], timeout: float | None) -> None: ...


class Request(Message, frozen=True, gc=True):  # gc: it refers to the endpoint that may hold it
    """A message received by a `Router` or `Replier`; equal to itself only: another peer may have sent the same frames.

    Attributes:
        identity: The routing id of the peer that sent it, for `router.send(identity, ...)`.
        envelope: The frames that came before its own, up to and with the empty delimiter; empty if there was none.
    """

    _endpoint: Answers
    identity: bytes
    envelope: tuple[bytes, ...] = ()
    _answered: bool = False

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def answered(self) -> bool:
        """Whether `reply` was called."""
        return self._answered

    @property
    def expects_reply(self) -> bool:
        """Whether the peer is one that waits for exactly one reply, as REQ does: it sent a delimiter."""
        return bool(self.envelope)

    async def reply(self, *frames: FrameLike, timeout: float | None = None) -> None:
        """Answer it, to the peer that asked and in that peer's own framing.

        A peer that expects exactly one reply (REQ) can be answered once; others as often as you like. Cancelled,
        nothing was sent.

        Args:
            frames: The reply's frames; text becomes UTF-8.
            timeout: Seconds to wait while the peer's queue is full; `None` waits for ever.

        Raises:
            PeerUnreachable: The peer is gone.
            TimedOut: Its queue had no room in time; nothing was sent.
            UsageError: It is answered already.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str.
            ValueError: There is no frame, or one over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed.
        """
        parts = to_frames(frames)
        if self._answered and self.expects_reply:
            raise UsageError(f"{self!r} is answered already; a REQ peer takes one reply")
        before = self._answered
        force_setattr(self, "_answered", True)
        try:
            await self._endpoint._answer(self.identity, [*self.envelope, *parts], timeout)
        except BaseException:
            force_setattr(self, "_answered", before)
            raise
        if not self._answered:  # another one, sent meanwhile in vain, has undone it
            force_setattr(self, "_answered", True)
