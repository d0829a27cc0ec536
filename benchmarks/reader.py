"""The least that an asyncio program on pyzmq can do: a reader on the socket's FD and a future for each message.

No ids, no deadlines, no limits, no tasks, nobody else's messages: what a library adds is what it takes beyond this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import zmq
import zmq.backend

from benchmarks import child

_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class _Reader:
    """Calls `take` while messages are there.

    Awakened, it takes a message without asking whether there is one, since that takes as long; but then, and after
    each send, EVENTS has to be looked at, since the FD tells of changes only.
    """

    def __init__(self, socket: zmq.Socket[Any], take: Callable[[], None]) -> None:
        self._fd, self._take = socket.FD, take
        self._get = _backend(socket, "get")
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._loop.add_reader(self._fd, self._awakened)

    def _awakened(self) -> None:
        self.look()
        try:
            self._take()
        except zmq.Again:
            return

    def look(self) -> None:
        """Look at EVENTS in the next turn of the loop."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._all)

    def _all(self) -> None:
        self._due = False
        while self._get(_EVENTS) & _POLLIN:
            self._take()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)


def _backend(socket: zmq.Socket[Any], method: str) -> Any:
    """A method as Cython has it: half of what a small message costs is in Python's layer above."""
    return getattr(zmq.backend.Socket, method).__get__(socket)


async def serve(*, large: bool) -> None:
    """A ROUTER that sends each message of one frame back to where it came from; large ones as the frame that came."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.set_hwm(0)  # as for the other contenders: the load bounds what is in flight
        receive, send = _backend(socket, "recv"), _backend(socket, "send")

        def take() -> None:
            identity = receive(_NOBLOCK)
            body: Any = receive(_NOBLOCK, not large)
            send(identity, _MORE)
            send(body, _NOBLOCK, not large)

        reader = _Reader(socket, take)
        socket.bind(child.ANY_PORT)
        child.say(socket.get_string(zmq.LAST_ENDPOINT))
        try:
            await asyncio.Event().wait()
        finally:
            reader.close()


@contextlib.asynccontextmanager
async def client(endpoint: str, *, large: bool) -> AsyncIterator[Callable[[Any], asyncio.Future[Any]]]:
    """A DEALER; the replies come in the order of the requests, so none needs an id. Large ones are given as views."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.set_hwm(0)
        loop, receive, send = asyncio.get_running_loop(), _backend(socket, "recv"), _backend(socket, "send")
        waiting: deque[asyncio.Future[Any]] = deque()

        def take() -> None:
            reply: Any = receive(_NOBLOCK, not large)
            waiting.popleft().set_result(reply.buffer if large else reply)

        def ask(payload: Any) -> asyncio.Future[Any]:
            future = loop.create_future()
            waiting.append(future)
            send(payload, _NOBLOCK, not large)
            reader.look()
            return future

        reader = _Reader(socket, take)
        socket.connect(endpoint)
        try:
            yield ask
        finally:
            reader.close()
