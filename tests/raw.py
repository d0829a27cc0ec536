"""Peers that speak AZP/1 by hand over a plain ZeroMQ socket, and whatever else a test wants them to say."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

PATIENCE = 10_000  # milliseconds

HELLO, PING, PONG, GOAWAY, BYE, ACK, RESET = range(7)
REQUEST, REPLY, ERROR, REFUSED, CANCEL = range(10, 15)
ITEM, END, CREDIT = range(20, 23)


def header(*records: Any, version: int = 1) -> bytes:
    """A header frame of these records."""
    return bytes((0xC1, version)) + msgspec.msgpack.encode(records)


def hello(**changes: Any) -> list[Any]:
    """A hello that any server accepts, but for the changes."""
    fields = {"session": b"s" * 16, "versions": [1], "codec": "msgpack", "name": "raw", "limits": {}, **changes}
    return [HELLO, *fields.values()]


class RawPeer:
    """A DEALER that sends frames as they are and gives back the records that come."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER) -> None:
        self._context = zmq.asyncio.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self._records: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()
        self._context.term()

    async def send(self, *frames: bytes) -> None:
        """Send one message."""
        await self.socket.send_multipart(list(frames))

    async def records(self) -> list[Any]:
        """The records of the next message."""
        assert await self.socket.poll(PATIENCE), "nothing came"
        frames = await self.socket.recv_multipart()
        assert frames[0][0] == 0xC1
        records: list[Any] = msgspec.msgpack.decode(frames[0][2:])
        return [[*record, *([frames[1:]] if len(frames) > 1 else [])] for record in records]

    async def record(self, *tags: int) -> Any:
        """The next record with one of these tags; others are passed over."""
        while True:
            while self._records:
                record = self._records.pop(0)
                if record[0] in tags:
                    return record
            self._records = await self.records()

    async def open(self, **changes: Any) -> Any:
        """Say hello, and give the server's."""
        await self.send(header(hello(**changes)))
        return await self.record(HELLO, RESET)


class RawServer:
    """A ROUTER that opens every session, answers pings and byes, and leaves all else to the test.

    Args:
        limits: Those of its hellos.

    Attributes:
        endpoint: Where it listens.
        sessions: How many it has opened.
    """

    def __init__(self, **limits: int) -> None:
        self._limits = limits
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.sessions = 0
        self._client = b""
        self._records: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self._socket.close()
        self._context.term()

    async def _read(self) -> None:
        while True:
            self._client, frame, *_ = await self._socket.recv_multipart()
            for record in msgspec.msgpack.decode(frame[2:]):
                await self._take(record)

    async def _take(self, record: Any) -> None:
        if record[0] == HELLO:
            self.sessions += 1
            await self.send([HELLO, record[1], [1], "msgpack", "raw", self._limits])
        elif record[0] == PING:
            await self.send([PONG, record[1]])
        elif record[0] == BYE:
            await self.send([BYE, ""])
        else:
            self._records.put_nowait(record)

    async def send(self, *records: Any, buffers: tuple[bytes, ...] = ()) -> None:
        """Send one message to the client that was heard last."""
        await self._socket.send_multipart([self._client, header(*records), *buffers])

    def waiting(self) -> list[Any]:
        """The records that have come and were not asked for yet."""
        return [self._records.get_nowait() for _ in range(self._records.qsize())]

    async def record(self, *tags: int) -> Any:
        """The next record with one of these tags; others are passed over."""
        async with asyncio.timeout(PATIENCE / 1000):
            while True:
                record = await self._records.get()
                if record[0] in tags:
                    return record
