"""Publish-subscribe, the subscribing end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable
from typing import Any, Generic, TypeVar, overload

from aiozpat.codec import Decoder
from aiozpat.endpoints.peers import Watching, is_inproc
from aiozpat.endpoints.publication import ECHO, ECHO_BYTES, Publication, is_echo, topic_bytes
from aiozpat.endpoints.receiver import BatchReceiver
from aiozpat.errors import TimedOut, UsageError
from aiozpat.message import FrameLike
from aiozpat.transport import Context, Socket, SocketKind, SocketOptions

T = TypeVar("T")
Topics = FrameLike | Iterable[FrameLike]

_TOPIC_BYTES = 4000  # a `Publisher` cuts off who sends more, to keep libzmq's table of subscriptions small
_ASK_AGAIN = 0.3  # seconds after which an answer is taken for lost: a queue was full, or too many asked at once
_ECHO_SECONDS = 1.0  # in which a publisher of ours answers; after it, it is a plain PUB


class Subscriber(BatchReceiver[Publication[T]], Watching, Generic[T]):
    """Receives what is published under the topics that it has subscribed to.

    A topic is a prefix: `"weather"` takes in `weather.snow`, and `""` everything. What was published before the
    subscription reached the publisher is gone: `ready` waits for that. Where messages come faster than they are taken,
    ZeroMQ's queue fills up and the publisher decides what is left out.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        topics: What to subscribe to from the start; must be given.
        body_type: What `message.value` decodes the body into, from MessagePack; by default whatever that gives.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        UsageError: No topic is given.
        TypeError: A topic is neither text nor bytes.
        ValueError: A topic is longer than 4000 bytes.
    """

    _kind = SocketKind.SUB

    @overload
    def __init__(
        self: Subscriber[Any],
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        topics: Topics,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        topics: Topics,
        body_type: type[T],
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None: ...

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        topics: Topics = (),
        body_type: Any = Any,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, linger=0, options=options, context=context)
        given = (topics,) if isinstance(topics, (str, bytes, bytearray, memoryview)) else topics
        if not isinstance(given, Iterable):
            raise TypeError(f'topics are text or bytes, as in topics=["weather"]; got {topics!r}')
        self._topics = {_prefix(topic) for topic in given}
        if not self._topics:
            raise UsageError(
                'a Subscriber receives nothing without a topic: topics=["weather"], or topics=[""] for all'
            )
        self._decode = Decoder(body_type).plain
        self._answers: dict[bytes, int] = {}  # to the questions of `ready`

    @property
    def topics(self) -> frozenset[bytes]:
        """What it has subscribed to."""
        return frozenset(self._topics)

    def subscribe(self, topic: FrameLike) -> None:
        """Subscribe to one more topic; on its way to the publishers when this returns.

        Raises:
            TypeError: It is neither text nor bytes.
            ValueError: It is longer than 4000 bytes.
            Closed: The endpoint is closed.
        """
        prefix, socket = _prefix(topic), self._usable()
        if prefix not in self._topics:
            self._topics.add(prefix)
            socket.subscribe(prefix)

    def unsubscribe(self, topic: FrameLike) -> None:
        """Take a subscription back; what has arrived already is still handed out.

        Raises:
            TypeError: It is neither text nor bytes.
            UsageError: It has not subscribed to exactly that.
            Closed: The endpoint is closed.
        """
        prefix, socket = topic_bytes(topic), self._usable()
        if prefix not in self._topics:
            raise UsageError(f"{self!r} has not subscribed to {topic!r}")
        self._topics.remove(prefix)
        socket.unsubscribe(prefix)

    async def ready(self, timeout: float | None = None) -> bool:
        """Wait until it is connected, and its subscriptions have reached the publishers.

        Cancelling ends the waiting only.

        Args:
            timeout: Seconds to wait; `None` waits for ever.

        Returns:
            True if every publisher that it is connected to has confirmed them, as `Publisher` does: nothing that is
            published from now on is missed. Answers are counted, and do not say where they come from: behind a proxy
            the first of the publishers there confirms for all, and where it is connected to others too, a second answer
            from there stands for one of theirs. False if some did not answer within a second: a plain PUB can't, a
            `Publisher` may be held up, or so many messages wait here that no more are read. Then all that is known is
            that it is connected.

        Raises:
            TimedOut: It was not connected to every endpoint in time.
            Closed: The endpoint is closed, or was while this waited.
        """
        loop = asyncio.get_running_loop()
        self._usable()
        start = loop.time()
        # Each once: libzmq connects to one endpoint once, however often it is told to.
        connects = {address.endpoint for address in self._addresses if not address.is_bind}
        inproc = sum(map(is_inproc, connects))  # libzmq doesn't tell of those connections
        told = len(connects) - inproc or (0 if inproc else 1)
        await self._conditions.until(
            lambda: self.peers >= told,
            timeout,
            lambda: f"{self._nowhere()}{self.peers} of {told} publishers were connected",
        )
        wanted = max(1, len(connects))
        patience = _ECHO_SECONDS if timeout is None else min(_ECHO_SECONDS, max(0.0, timeout - loop.time() + start))
        end = loop.time() + patience
        while not await self._confirmed(wanted, min(_ASK_AGAIN, max(0.0, end - loop.time()))):
            if loop.time() >= end:
                return False
        return True

    async def _confirmed(self, wanted: int, timeout: float) -> bool:
        """Ask all publishers once; whether all have answered in time."""
        question = ECHO + os.urandom(ECHO_BYTES - len(ECHO))
        self._answers[question] = 0
        socket = self._usable()
        socket.subscribe(question)
        try:
            await self._conditions.until(
                lambda: self._answers[question] >= max(wanted, self.peers), timeout, lambda: "not all had answered"
            )
        except TimedOut:
            return False
        finally:
            del self._answers[question]
            if not socket.closed:
                socket.unsubscribe(question)
        return True

    def _set_up(self, socket: Socket) -> None:
        super()._set_up(socket)
        for topic in self._topics:
            socket.subscribe(topic)

    def _messages(self, batch: list[tuple[bytes, ...]]) -> Collection[Publication[T]]:
        decode = self._decode
        # Nearly all topics are past this; slicing off the first byte would take twice as long.
        return [Publication(frames, decode) for frames in batch if frames[0] >= b"\1" or not self._is_answer(frames)]

    def _is_answer(self, frames: tuple[bytes, ...]) -> bool:
        """Whether a message is for `ready`, of this or another subscriber, and not for the user."""
        if len(frames) != 1 or not is_echo(frames[0]):
            return False
        if frames[0] in self._answers:
            self._answers[frames[0]] += 1
            self._conditions.changed()
        return True


def _prefix(topic: FrameLike) -> bytes:
    """A topic that a `Publisher` takes."""
    prefix = topic_bytes(topic)
    if len(prefix) > _TOPIC_BYTES:
        raise ValueError(f"a topic of {len(prefix)} bytes; {_TOPIC_BYTES} is the most that publishers take")
    return prefix
