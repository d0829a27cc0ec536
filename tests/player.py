"""Plays one side of a recorded session to a living other side, and compares what that says with what was said then.

What need not be equal, and why, is in `may_differ` of `vectors/sessions.json`; each of its rules has its place here,
named by its first words.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from tests.apps.record_sessions import readable
from tests.raw import ACK, CREDIT, ERROR, HELLO, ITEM, PATIENCE, PING, REFUSED, REPLY, REQUEST, header

SMALLEST_WINDOW = 64 * 1024  # bytes
ACK_AT = SMALLEST_WINDOW // 4
STREAM = 64  # units of credit, where a server says nothing
SHORT = 64  # bytes; of longer values a digest is compared, since somebody has to read what differs


class End(Protocol):
    """One end of a connection."""

    async def send(self, *frames: bytes) -> None:
        """Send a message."""

    async def receive(self) -> list[bytes]:
        """The next message."""


class Flow:
    """The credit of one stream of items.

    Args:
        credit: Units that it begins with.
    """

    def __init__(self, credit: int) -> None:
        self._credit = credit
        self.granted = 0
        self.used = 0

    @property
    def left(self) -> int:
        """Units that may be used now."""
        return self._credit + self.granted - self.used

    def use(self, items: list[Any], buffers: Sequence[bytes]) -> None:
        """Count a record of items."""
        self.used += len(items) + (len(msgspec.msgpack.encode(items)) + sum(map(len, buffers))) // 4096


class Words:
    """What one side has said, by what it was about: each call, and the session.

    Args:
        codec: What values are encoded with.

    Attributes:
        said: All that must be equal, in its order.
        ids: Of the calls, in the order of their requests.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self.said: dict[str, list[str]] = defaultdict(list)
        self.ids: list[int] = []

    def hear(self, record: list[Any], buffers: Sequence[bytes]) -> None:
        """Take a record, with its own buffers."""
        for topic, *what in self._essence(record, buffers):
            self.said[topic].append(json.dumps(readable(what), ensure_ascii=False, sort_keys=True))

    def _essence(self, record: list[Any], buffers: Sequence[bytes]) -> Iterator[list[Any]]:
        """What must be equal. Elements at the end: those of today are read. Texts: none is read."""
        match record:
            case [0, _session, versions, codec, *_]:  # Name and limits
                yield ["session", "hello", versions, codec]
            case [2, token, *_]:
                yield ["pongs", token]
            case [3 | 4 as tag, *_]:
                yield ["session", tag]
            case [6, code, *_]:
                yield ["session", "reset", code]
            case [10, number, _, method, timeout, params, *rest]:
                metadata, opening = (*rest, None, None)[:2]
                seconds = round(timeout / 1000)  # The time left
                params = self._value(params, buffers)
                yield [self._topic(number), "request", method, seconds, params, metadata or {}, opening]
            case [11, number, _, result, *_]:
                yield [self._topic(number), "reply", self._value(result, buffers)]
            case [12, number, _, code, _, details, *_]:
                yield [self._topic(number), "error", code, details]
            case [13, number, _, code, _, *rest]:
                yield [self._topic(number), "refused", code, *(rest[:1] or [{}])]
            case [20, number, _, items, *_]:
                for item in items:  # How records are divided
                    yield [self._topic(number), "item", self._value(item, buffers)]
            case [14 | 21 as tag, number, *_]:
                yield [self._topic(number), tag]
            case _:
                assert record[0] in (PING, ACK, CREDIT), f"there is no such record: {record}"

    def _topic(self, number: int) -> str:
        """The call of an id. Ids of calls, and the order of records about different ones."""
        return f"call {self.ids.index(number) + 1}" if number in self.ids else f"no call {number}"

    def _value(self, value: Any, buffers: Sequence[bytes]) -> Any:
        """A value as it was meant. Where bytes travel, and the spelling."""
        if self._codec == "json":
            return json.loads(value)
        match value:
            case msgspec.msgpack.Ext(code=1):
                return self._value(buffers[msgspec.msgpack.decode(value.data)], ())
            case bytes() if len(value) > SHORT:
                return [len(value), hashlib.sha256(value).hexdigest()]
            case list():
                return [self._value(one, buffers) for one in value]
            case dict():
                return {key: self._value(one, buffers) for key, one in value.items()}
        return value


class Player:
    """One side of a recorded session; a `Wire` for the dialogue that is played with it.

    It says nothing before it has heard all that it had heard then.

    Args:
        session: The recording.
        side: "client" or "server".
        end: Its end of the connection.

    Attributes:
        draining: Set where the server was told to end.
    """

    def __init__(self, session: Any, side: str, end: End) -> None:
        self._messages = session["messages"]
        self._is_client = side == "client"
        self._side = side
        self._end = end
        first = self._messages[0]["records"][0]
        codec = first[3] if first[0] == HELLO else "msgpack"
        self._then, self._now = Words(codec), Words(codec)
        self._out: dict[int, Flow] = {}  # streams from this side, by the id of now
        self._in: dict[int, Flow] = {}  # streams to this side
        self._session = b""
        self._windows: list[int] = []  # of the hellos that name one
        self._stream = STREAM
        self._sent = self._acked = self._received = self._acknowledged = 0  # bytes
        self._passed: Counter[int] = Counter()
        self._news = asyncio.Event()
        self.draining = asyncio.Event()

    async def saw(self, tag: int, times: int = 1) -> None:
        """See `Wire`."""
        while self._passed[tag] < times:
            self._news.clear()
            await self._news.wait()

    async def drain(self) -> None:
        """See `Wire`; the server that is played does it by its messages."""

    async def play(self) -> None:
        """Play all of it."""
        for message in self._messages:
            if "does" in message:
                self.draining.set()
            elif message["from"] == self._side:
                await self._say(*_frames(message))
            else:
                await self._expect(*_frames(message))
        assert self._now.said == self._then.said
        for flow in self._out.values():
            assert flow.granted <= flow.used, "credit for what can't have been used"

    # What the other side says

    async def _expect(self, head: bytes, *buffers: bytes) -> None:
        """Wait until all has come that had come by then."""
        for record, own in _records(head, buffers):
            if record[0] == REQUEST and record[1] > 0:
                self._then.ids.append(record[1])
            self._then.hear(record, own)
        while missing := self._missing():
            await self._read(missing)

    def _missing(self) -> str | None:
        """What is to come next, if anything is.

        Raises:
            AssertionError: Something else has come.
        """
        missing = None
        for topic, then in self._then.said.items():
            now = self._now.said[topic]
            assert now[: len(then)] == then[: len(now)], topic
            if len(now) < len(then):
                missing = f"{topic}: {then[len(now)]}"
        return missing

    async def _read(self, awaited: str) -> None:
        """Take the next message."""
        try:
            async with asyncio.timeout(PATIENCE / 1000):
                head, *buffers = await self._end.receive()
        except TimeoutError:
            raise AssertionError(f"it did not come: {awaited}") from None
        self._received += len(head) + sum(map(len, buffers))
        for record, own in _records(head, buffers):
            self._take(record, own)
            self._now.hear(record, own)
            self._note(record)
        if self._received - self._acknowledged >= ACK_AT:  # Acks
            self._acknowledged = self._received
            await self._send(header([ACK, self._received]))

    def _take(self, record: list[Any], buffers: Sequence[bytes]) -> None:
        """Count what a peer has to count of a record."""
        match record:
            case [0, session, _, _, _, limits, *_]:
                assert session == self._session or not self._is_client, "the hello of another session"
                self._greeted(session, limits)
            case [5, received, *_]:
                self._acked = max(self._acked, min(received, self._sent))
            case [6, _, _, versions, *_]:
                assert 1 in versions  # The versions
            case [10, number, *rest] if number > 0:
                self._now.ids.append(number)
                self._opened(number, rest)
            case [20, number, _, items, *_]:
                assert self._in[number].left >= len(items), "items without credit"
                self._in[number].use(items, buffers)
            case [22, number, units, *_]:
                self._out[number].granted += units

    def _greeted(self, session: bytes, limits: dict[str, int]) -> None:
        self._session = session
        self._stream = limits.get("stream", STREAM)  # of the server's, which comes last
        if "window" in limits:
            self._windows.append(limits["window"])

    def _opened(self, number: int, request: list[Any]) -> None:
        opening = request[5] if len(request) > 5 else None
        of_server = Flow(opening[0] if opening else 0)
        of_client = Flow(self._stream)
        self._in[number], self._out[number] = (of_server, of_client) if self._is_client else (of_client, of_server)

    # What this side says

    async def _say(self, head: bytes, *buffers: bytes) -> None:
        """Say it once more, as soon as the other side's window and credit allow."""
        then = _records(head, buffers)
        now = [(self._ours(record), own) for record, own in then if record[0] != ACK]
        for record, own in now:
            if record[0] == ITEM:
                flow, items = self._out[record[1]], record[3]
                while flow.left < len(items):  # Credit
                    await self._read(f"credit for {len(items)} items")
                flow.use(items, own)
            elif record[0] == CREDIT and record[1] in self._in:
                self._in[record[1]].granted += record[2]
            self._note(record)
        while self._sent - self._acked >= max(SMALLEST_WINDOW, min(self._windows, default=0)):
            await self._read("an ack")
        if now == then:
            await self._send(head, *buffers)
        elif now:
            await self._send(header(*(record for record, _ in now)), *buffers)

    def _ours(self, record: list[Any]) -> list[Any]:
        """A record of then as it is said now."""
        match record:
            case [0, session, versions, codec, name, limits, *more]:
                if self._is_client:
                    self._session = session
                self._greeted(self._session, limits)
                return [HELLO, self._session, versions, codec, name, limits, *more]
            case [10, number, *rest] if number > 0 and self._is_client:
                for words in (self._then, self._now):
                    words.ids.append(number)
                self._opened(number, rest)
            case [tag, number, *rest] if tag >= REQUEST and not self._is_client and number in self._then.ids:
                return [tag, self._now.ids[self._then.ids.index(number)], *rest]  # Ids of calls
        return record

    async def _send(self, *frames: bytes) -> None:
        self._sent += sum(map(len, frames))
        await self._end.send(*frames)

    def _note(self, record: list[Any]) -> None:
        self._passed[record[0]] += 1
        self._news.set()


def _frames(message: Any) -> list[bytes]:
    """The frames of a recorded message."""
    buffers = [
        bytes.fromhex(buffer) if isinstance(buffer, str) else bytes.fromhex(buffer["hex"]) * buffer["times"]
        for buffer in message.get("buffers", ())
    ]
    return [bytes.fromhex(message["header"]), *buffers]


def _records(head: bytes, buffers: Sequence[bytes]) -> list[tuple[list[Any], Sequence[bytes]]]:
    """The records of a message, each with its own buffers."""
    assert head[0] == 0xC1
    found, taken = [], 0
    for record in msgspec.msgpack.decode(head[2:]):
        count = record[2] if record[0] in (REQUEST, REPLY, ERROR, REFUSED, ITEM) else 0
        found.append((record, buffers[taken : taken + count]))
        taken += count
    assert taken == len(buffers)
    return found
