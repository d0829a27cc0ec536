"""What correct peers never send on streams: a reset or the session's end that says why, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

import aiozpat
from aiozpat import Client, Limits, Server, errors
from aiozpat.protocol import outbox
from aiozpat.transport import Socket
from tests.raw import (
    ACK,
    BYE,
    CANCEL,
    CREDIT,
    END,
    ERROR,
    ITEM,
    PING,
    REFUSED,
    REPLY,
    REQUEST,
    RESET,
    RawPeer,
    RawServer,
    header,
)
from tests.support import LOOPBACK, PATIENCE, memory_of, until

WINDOW = 4  # of streams to the server
TOLERANCE = 16  # items past the credit that are borne
MOST = 65_536  # units of credit
MIB = 1024 * 1024
MANY = range(2, 202)  # calls


@dataclass
class Streams:
    """A service with streams, and what its handlers saw."""

    service: aiozpat.Service
    made: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)


@cache
def zeros(size: int) -> bytes:
    """An item that takes no memory of its own."""
    return bytes(size)


@pytest.fixture
def streams() -> Streams:
    """Streams of every direction."""
    service = aiozpat.Service("s")
    seen = Streams(service)

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def hold() -> None:
        await seen.gate.wait()

    @service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @service.method
    async def ignore(numbers: AsyncIterator[int]) -> None:
        await seen.gate.wait()

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @service.method
    async def endless(size: int) -> AsyncIterator[bytes]:
        while True:
            seen.made += 1
            yield zeros(size)

    return seen


def serving(streams: Streams, **limits: Any) -> Server:
    """A server that takes nobody for dead, however slow the machine is."""
    return Server(streams.service, bind=LOOPBACK, limits=Limits(stream_window=WINDOW, **limits), heartbeat=60)


def opening(
    number: int, method: str, *params: Any, credit: int = 0, sends: bool = False, idle: int = 0, buffers: int = 0
) -> Any:
    """A request record that opens a stream."""
    return [REQUEST, number, buffers, method, 60_000, params, None, [credit, sends, idle]]


def call(number: int, method: str = "s.add", *params: Any) -> Any:
    """A request record without streams."""
    return [REQUEST, number, 0, method, 60_000, params]


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Gives how many bytes Python holds more than at the beginning."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


async def items_of(peer: RawPeer, number: int, count: int) -> list[Any]:
    """So many items of one stream, or more if the last record brings them."""
    got: list[Any] = []
    while len(got) < count:
        record = await peer.record(ITEM)
        assert record[:3] == [ITEM, number, 0]
        got += record[3]
    return got


async def _serves_on(server: Server) -> None:
    async with Client(server.endpoint) as client:
        assert await client.call("s.add", 1, 2) == 3
        async with client.stream("s.count", 500) as numbers:
            assert [number async for number in numbers] == list(range(500))


# Hostile clients


async def test_a_stream_client_written_by_hand_is_served(streams: Streams) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        assert (await peer.open())[5]["stream"] == WINDOW
        await peer.send(header(opening(1, "s.count", 7, credit=4)))
        assert await items_of(peer, 1, 4) == [0, 1, 2, 3]
        await peer.send(header(call(2, "s.add", 1, 2)))
        assert (await peer.record(ITEM, REPLY))[0] == REPLY  # no item past the credit
        await peer.send(header([CREDIT, 1, 100]))
        assert await items_of(peer, 1, 3) == [4, 5, 6]
        assert await peer.record(END, ERROR) == [END, 1]
        await peer.send(header(opening(3, "s.total", sends=True), [ITEM, 3, 0, [1, 2]], [ITEM, 3, 0, [3]], [END, 3]))
        assert await peer.record(REPLY) == [REPLY, 3, 0, 6]
        assert server.statistics().running == 0


RUNNING = {  # call 1, which what follows is about
    "takes items": opening(1, "s.ignore", sends=True),
    "gives items": opening(1, "s.endless", 10, credit=1),
    "neither": call(1, "s.hold"),
}


@pytest.mark.parametrize(
    ("kind", "records"),
    [
        ("takes items", [[ITEM, 1, 0, [0] * (WINDOW + TOLERANCE + 1)]]),
        ("takes items", [[ITEM, 1, 0, [0] * WINDOW], [ITEM, 1, 0, [0] * (TOLERANCE + 1)]]),
        ("takes items", [[ITEM, 1, 0, [b"x" * 100_000]], [ITEM, 1, 0, [0]]]),
        ("takes items", [[ITEM, 1, 0, 5]]),
        ("takes items", [[ITEM, 1, 0, None]]),
        ("takes items", [[ITEM, 1, 0, "text"]]),
        ("takes items", [[ITEM, 1, 0, {"a": 1}]]),
        ("takes items", [[ITEM, 1, 1, [0]]]),
        ("takes items", [[ITEM, 1, -1, [0]]]),
        ("takes items", [[CREDIT, 1, 1]]),
        ("gives items", [[CREDIT, 1, 0]]),
        ("gives items", [[CREDIT, 1, -1]]),
        ("gives items", [[CREDIT, 1, MOST + 1]]),
        ("gives items", [[CREDIT, 1, 1 << 62]]),
        ("gives items", [[ITEM, 1, 0, [0]]]),
        ("gives items", [[END, 1]]),
        ("neither", [[CREDIT, 1, 1]]),
        ("neither", [[ITEM, 1, 0, [0]]]),
        ("neither", [[END, 1]]),
    ],
)
async def test_a_breach_on_a_running_call_ends_the_session(streams: Streams, kind: str, records: list[Any]) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(RUNNING[kind]))
        await until(lambda: server.statistics().running == 1)
        await peer.send(header(*records))
        reset = await peer.record(RESET)
        assert reset[1] == errors.StatusCode.INVALID_ARGUMENT
        assert reset[2]
        assert server.statistics().sessions == 0
        assert server.statistics().notices["reset"] == 1
        await until(lambda: server.statistics().running == 0)
        await _serves_on(server)


async def test_credit_that_is_hoarded_ends_the_session(streams: Streams) -> None:
    async with serving(streams, window_bytes=65_536) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(opening(1, "s.endless", 1000, credit=MOST)))  # it can't be used: nothing is read
        await until(lambda: streams.made > 0)
        await peer.send(header(*[[CREDIT, 1, MOST]] * 3))
        assert (await peer.record(RESET))[1] == errors.StatusCode.INVALID_ARGUMENT
        await until(lambda: server.statistics().running == 0)
        await _serves_on(server)


@pytest.mark.parametrize(
    "request_record",
    [
        opening(1, "s.endless", 1, credit=MOST + 1),
        opening(1, "s.endless", 1, credit=-1),
        opening(1, "s.endless", 1, credit=1, idle=-1),
        opening(0, "s.endless", 1, credit=1),
        opening(-7, "s.endless", 1, credit=1),
        opening(1, "s.total", credit=MOST + 1, sends=True),
        opening(0, "s.total", sends=True),
        [REQUEST, 1, 0, "s.endless", 60_000, [1], None, [1, 1, 0]],
        [REQUEST, 1, 0, "s.endless", 60_000, [1], None, [1]],
        [REQUEST, 1, 0, "s.endless", 60_000, [1], None, 5],
    ],
)
async def test_an_opening_that_cant_be_ends_the_session(streams: Streams, request_record: Any) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(request_record))
        assert (await peer.record(RESET))[1] == errors.StatusCode.INVALID_ARGUMENT
        assert server.statistics().sessions == 0
        assert server.statistics().running == 0
        assert streams.made == 0
        await _serves_on(server)


@pytest.mark.parametrize("idle", [1 << 31, 1 << 62])
async def test_an_endless_idle_is_as_good_as_none(streams: Streams, idle: int) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(opening(1, "s.total", sends=True, idle=idle)))
        await until(lambda: server.statistics().running == 1)
        await peer.send(header([ITEM, 1, 0, [5]], [END, 1]))
        assert await peer.record(REPLY, ERROR, RESET) == [REPLY, 1, 0, 5]


async def test_records_for_calls_that_there_are_not_are_ignored(streams: Streams) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        for number in (99, 0, -1):
            await peer.send(header([ITEM, number, 0, [1, 2]], [CREDIT, number, 5], [END, number]))
        await peer.send(header([ITEM, 98, 1, [1]], call(1, "s.add", 1, 2)), b"a buffer")
        assert await peer.record(REPLY, RESET) == [REPLY, 1, 0, 3]
        assert server.statistics().notices == {"late item": 4}


@pytest.mark.parametrize("buffers", [(), (b"a buffer",)])
async def test_a_stream_to_a_method_without_is_refused_with_what_follows(
    streams: Streams, buffers: tuple[bytes, ...]
) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(
            header(
                opening(1, "s.add", 1, 2, credit=10, sends=True),
                [ITEM, 1, len(buffers), [1, 2]],
                [CREDIT, 1, 5],
                [END, 1],
                opening(2, "s.nothing", credit=10, sends=True),
                [ITEM, 2, 0, [1, 2]],
                call(3, "s.add", 1, 2),
            ),
            *buffers,
        )
        assert (await peer.record(ERROR, RESET))[:4] == [ERROR, 1, 0, errors.StatusCode.UNIMPLEMENTED]
        assert (await peer.record(ERROR, RESET))[:4] == [ERROR, 2, 0, errors.StatusCode.UNIMPLEMENTED]
        assert await peer.record(REPLY, RESET) == [REPLY, 3, 0, 3]
        assert server.statistics().notices == {"bad request": 2, "late item": 2}


async def test_an_item_of_another_type_fails_its_call_alone(streams: Streams) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        for number, item in enumerate(("one", None, 1.5, [], {}, b"1", deep), 1):
            await peer.send(header(opening(number, "s.total", sends=True), [ITEM, number, 0, [1, item]]))
            error = await peer.record(ERROR, REPLY, RESET)
            assert error[:4] == [ERROR, number, 0, errors.StatusCode.INVALID_ARGUMENT]
            assert "an item is not what was asked for" in error[4]
        await peer.send(header(call(100, "s.add", 1, 2)))
        assert await peer.record(REPLY, RESET) == [REPLY, 100, 0, 3]


@pytest.mark.parametrize("size", [10, 1000, 100_000])
async def test_a_thousand_streams_that_nobody_reads_fill_no_memory(streams: Streams, size: int) -> None:
    limits = Limits()
    async with serving(streams) as server, Client(server.endpoint, heartbeat=60) as other:

        async def others_are_served() -> None:
            for number in range(100):
                assert await other.call("s.add", number, 2) == number + 2
                assert server.statistics().waiting_bytes <= 2 * limits.backlog_bytes
            async with other.stream("s.count", 500) as numbers:
                assert [number async for number in numbers] == list(range(500))

        await others_are_served()
        async with RawPeer(server.endpoint) as peer:
            await peer.open()
            before = memory_of(os.getpid())
            await peer.send(header(*(opening(number, "s.endless", size, credit=MOST) for number in range(1, 1001))))
            await until(lambda: server.statistics().running == 1000)
            made = -1
            while streams.made != made:  # until all stand still
                made = streams.made
                await others_are_served()
            assert memory_of(os.getpid()) - before < limits.window_bytes + 3 * limits.backlog_bytes
            await peer.send(header([BYE, ""]))
            await until(lambda: server.statistics().running == 0)
            assert server.statistics().waiting_bytes == 0


async def test_a_client_of_streams_that_reads_nothing_is_dropped(streams: Streams) -> None:
    limits = Limits(window_bytes=65_536, slow_peer_seconds=0.5)
    async with (
        Server(streams.service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint) as other,
        RawPeer(server.endpoint) as peer,
        asyncio.timeout(PATIENCE),
    ):
        await peer.open()
        await peer.send(header(*(opening(number, "s.endless", 1000, credit=MOST) for number in range(1, 11))))
        while "slow peer dropped" not in server.statistics().notices:
            assert await other.call("s.add", 1, 2) == 3
            await peer.send(header([PING, 1]))  # it does not look dead
        await until(lambda: server.statistics().running == 0)
        assert server.statistics().waiting_bytes == 0
        await _serves_on(server)


async def test_a_client_that_reads_no_credit_is_dropped_before_it_fills_the_memory(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_CONTROL_LEAST", 20)
    limits = {"max_calls_per_peer": 1, "slow_peer_seconds": 3600}
    async with serving(streams, **limits) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        assert server._listener is not None
        (session,) = server._listener.sessions.values()
        monkeypatch.setattr(Socket, "send_to", lambda *_: False)  # as if the peer's pipe were full
        await peer.send(header(opening(1, "s.total", sends=True)))
        for number in range(1, 25):
            await peer.send(header([ACK, session.outbox.sent], [ITEM, 1, 0, [0] * (WINDOW // 2)]))
            await until(lambda: session.outbox.controls == number)  # noqa: B023
        await peer.send(header([ITEM, 1, 0, [0] * (WINDOW // 2)]))
        await until(lambda: not server.statistics().sessions)
        assert (await peer.record(RESET))[1] == errors.StatusCode.RESOURCE_EXHAUSTED
        assert server.statistics().notices["slow peer dropped"] == 1
        monkeypatch.undo()
        await _serves_on(server)


async def test_who_reads_late_gets_every_item_and_the_end(streams: Streams) -> None:
    async with serving(streams, window_bytes=65_536) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(opening(1, "s.endless", 70_000, credit=1)))
        await peer.record(ITEM)  # it is not acknowledged: the window is full
        await peer.send(header([CANCEL, 1], *(opening(number, "s.count", 600, credit=MOST) for number in MANY)))
        await until(lambda: server.statistics().methods["s.count"].calls == len(MANY))
        await until(lambda: server.statistics().running == 0)  # all items have been made, and all wait
        got: dict[int, list[int]] = defaultdict(list)
        ended: list[int] = []
        while len(ended) < len(MANY):
            await peer.send(header([ACK, 1 << 60]))
            for record in await peer.records():
                assert record[0] in (ITEM, END)
                if record[0] == END:
                    ended.append(record[1])
                else:
                    assert record[3]
                    got[record[1]] += record[3]
        assert got == {number: list(range(600)) for number in MANY}
        assert sorted(ended) == list(MANY)


async def test_items_without_end_that_hold_nothing_fill_no_memory(streams: Streams) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(opening(1, "s.ignore", sends=True)))
        await until(lambda: server.statistics().running == 1)
        with traced() as growth:
            for _ in range(5):
                await peer.send(header(*[[ITEM, 1, 0, []]] * 16_000))
            await peer.send(header(call(2, "s.add", 1, 2)))
            await peer.record(REPLY, RESET)  # it has read them, or has had enough
            assert growth() < MIB
        await _serves_on(server)


async def test_random_records_of_streams_harm_nobody(streams: Streams) -> None:
    random_of = random.Random(5)
    methods = ["s.add", "s.hold", "s.total", "s.ignore", "s.count", "s.endless", "s.none"]

    def record() -> Any:
        number = random_of.randrange(-1, 5)
        kind = random_of.randrange(6)
        if kind == 0:
            return [ITEM, number, random_of.choice([0, 0, 0, 1]), [0] * random_of.randrange(8)]
        if kind == 1:
            return [random_of.choice([END, CANCEL]), number]
        if kind == 2:
            return [CREDIT, number, random_of.choice([1, 2, 100, MOST, random_of.randrange(-1, MOST)])]
        credit, sends = random_of.choice([0, 1, 300, MOST]), random_of.random() < 0.5
        return opening(random_of.randrange(1, 30), random_of.choice(methods), 5, credit=credit, sends=sends)

    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        for _ in range(30):
            async with RawPeer(server.endpoint) as peer:
                await peer.open()
                for _ in range(20):
                    await peer.send(header(*(record() for _ in range(random_of.randrange(1, 6)))))
            assert await client.call("s.add", 1, 2) == 3
        await until(lambda: server.statistics().sessions == 1)
        await until(lambda: server.statistics().running == 0)
        await _serves_on(server)


# Hostile servers


async def _reads_on(server: RawServer, client: Client, sessions: int) -> None:
    """A call of the client is answered, in a session that is its so many-th."""
    calling = asyncio.create_task(client.call("s.add", 1, 2, result_type=int))
    request = await server.record(REQUEST)
    await server.send([REPLY, request[1], 0, 3])
    assert await calling == 3
    assert server.sessions == sessions


async def test_a_stream_server_written_by_hand_is_understood() -> None:
    async with RawServer(stream=2) as server, Client(server.endpoint) as client:
        async with client.open("s.echo", "a", window=10, idle_timeout=3) as talk:
            request = await server.record(REQUEST)
            assert request[2:] == [0, "s.echo", request[4], ["a"], None, [10, True, 3000]]
            key = request[1]
            await talk.send(1)
            await talk.send("two")
            got = await server.record(ITEM)
            got = [*got[3], *(await server.record(ITEM))[3]] if len(got[3]) < 2 else got[3]
            assert got == [1, "two"]
            third = asyncio.create_task(talk.send(b"3" * 70_000))
            await _reads_on(server, client, sessions=1)
            assert not third.done()  # no credit
            await server.send([CREDIT, key, 5])
            await third
            assert (await server.record(ITEM))[:3] == [ITEM, key, 1]
            await server.send([ITEM, key, 0, [1, 2]], [ITEM, key, 0, [3]])
            assert [await anext(talk) for _ in range(3)] == [1, 2, 3]
            await talk.end()
            assert await server.record(ITEM, END) == [END, key]
            await server.send([ITEM, key, 0, [4]], [END, key])
            assert [item async for item in talk] == [4]
        assert client.statistics().notices == {}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([[ITEM, 1, 0, [0] * (WINDOW + TOLERANCE + 1)]], "were granted"),
        ([[ITEM, 1, 0, [0] * WINDOW], [ITEM, 1, 0, [0] * (TOLERANCE + 1)]], "were granted"),
        ([[ITEM, 1, 0, [b"x" * 100_000]], [ITEM, 1, 0, [0]]], "were granted"),
        ([[ITEM, 1, 0, 5]], "are an array"),
        ([[ITEM, 1, 0, None]], "are an array"),
        ([[ITEM, 1, 0, {"a": 1}]], "are an array"),
        ([[ITEM, 1, 1, [0]]], "more buffers"),
        ([[ITEM, 1, -1, [0]]], "more buffers"),
        ([[CREDIT, 1, 0]], "credit of 0"),
        ([[CREDIT, 1, -1]], "credit of -1"),
        ([[CREDIT, 1, MOST + 1]], "credit of 65537"),
        ([[CREDIT, 1, MOST]] * 3, "credit of 65536"),
        ([[ITEM, "one", 0, [0]]], "decode"),
        ([[REQUEST, 1, 0, "s.add", 5, []]], "does not send a request"),
    ],
)
async def test_a_breach_on_a_clients_stream_ends_its_session(records: list[Any], says: str) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        async with client.open("s.echo", window=WINDOW) as talk:
            await server.record(REQUEST)
            await server.send(*records)
            with pytest.raises(errors.Unavailable, match=f"does not speak AZP/1.*{says}"):
                async for _ in talk:
                    pass
            with pytest.raises(errors.Unavailable, match=says):
                await talk.send(1)
        assert client.statistics().notices["protocol error"] == 1
        await _reads_on(server, client, sessions=2)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([ITEM, 1, 0, [0]], "items for call 1, which is no stream"),
        ([CREDIT, 1, 1], "credit for call 1"),
        ([END, 1], "an end of call 1, which is no stream"),
    ],
)
async def test_a_record_of_a_stream_for_a_plain_call_ends_the_session(record: Any, says: str) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.add", 1, 2))
        await server.record(REQUEST)
        await server.send(record)
        with pytest.raises(errors.Unavailable, match=f"does not speak AZP/1.*{says}"):
            await calling
        assert client.statistics().notices["protocol error"] == 1
        await _reads_on(server, client, sessions=2)


async def test_records_for_calls_that_a_client_does_not_have_are_ignored() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        await client.ready()
        for number in (99, 0, -1):
            await server.send([ITEM, number, 0, [1, 2]], [CREDIT, number, 5], [CREDIT, number, -5], [END, number])
        await server.send([ITEM, 98, 1, [1]], buffers=(b"a buffer",))
        await _reads_on(server, client, sessions=1)
        assert client.statistics().notices == {"late item": 4}


async def test_what_follows_the_end_of_a_stream_is_ignored() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        async with client.stream("s.count", window=WINDOW) as items:
            key = (await server.record(REQUEST))[1]
            await server.send([ITEM, key, 0, [1]], [END, key], [ITEM, key, 0, [2] * 100], [END, key], [CREDIT, key, -1])
            assert [item async for item in items] == [1]
        await _reads_on(server, client, sessions=1)


async def test_a_sender_goes_on_when_the_calls_that_held_it_back_are_taken_back() -> None:
    async with (
        RawServer(window=65_536, stream=WINDOW) as server,
        Client(server.endpoint, heartbeat=60) as client,
        client.open("s.total") as talk,
    ):
        calls = [asyncio.create_task(client.call("s.take", bytes(100_000))) for _ in range(20)]
        await until(lambda: client.statistics().waiting_bytes > MIB)  # the server acknowledges nothing
        sending = asyncio.create_task(talk.send(1))
        await asyncio.sleep(0)
        assert not sending.done()
        for waiting in calls[1:]:  # the first has left
            waiting.cancel()
        await asyncio.wait(calls[1:])
        await until(sending.done)
        assert client.statistics().waiting_bytes < 100  # the item waits, like all, for the server to read
        await server.send([ACK, 1 << 60], [ITEM, 99, 0, [0]])
        await until(lambda: client.statistics().notices.get("late item") == 1)
        calls[0].cancel()


async def test_an_item_of_another_type_ends_the_stream_and_nothing_else() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        async with client.stream("s.count", item_type=int) as items:
            key = (await server.record(REQUEST))[1]
            await server.send([ITEM, key, 0, [1, 2, "three", 4]])
            assert [await anext(items), await anext(items)] == [1, 2]
            with pytest.raises(errors.Internal, match="an item is not what was asked for"):
                await anext(items)
            assert await server.record(CANCEL, END) == [CANCEL, key]
        await _reads_on(server, client, sessions=1)


async def test_items_without_end_from_a_server_that_hold_nothing_fill_no_memory() -> None:
    async with (
        RawServer() as server,
        Client(server.endpoint, heartbeat=60) as client,
        client.stream("s.count", window=WINDOW) as items,
    ):
        key = (await server.record(REQUEST))[1]
        with traced() as growth:
            for _ in range(5):
                await server.send(*[[ITEM, key, 0, []]] * 16_000)
            await server.send([ERROR, key, 0, 5, "that was all", {}])
            await until(lambda: client.statistics().in_flight == 0)  # it has read them, or has had enough
            assert growth() < MIB
        with pytest.raises(errors.RpcError):
            await anext(items)


async def test_a_server_that_reads_no_credit_is_given_up_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "_CONTROL_LEAST", 20)
    async with RawServer() as server, Client(server.endpoint, heartbeat=60, max_in_flight=1) as client:
        async with client.stream("s.count", window=WINDOW) as items:
            key = (await server.record(REQUEST))[1]
            monkeypatch.setattr(Socket, "send", lambda *_: False)  # as if the server's pipe were full

            async def take() -> None:
                await server.send([ITEM, key, 0, [0] * (WINDOW // 2)])
                for _ in range(WINDOW // 2):
                    await anext(items)

            for _ in range(24):
                await take()
            with pytest.raises(errors.Unavailable, match="does not read"):
                for _ in range(10):  # it is judged at the end of a turn of the loop
                    await take()
        monkeypatch.undo()
        assert client.statistics().notices["server lost"] == 1
        await _reads_on(server, client, sessions=2)


async def test_notifications_have_no_ids_that_a_client_could_name(streams: Streams) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(call(0, "s.hold"), call(-5, "s.hold")))
        await until(lambda: server.statistics().running == 2)
        for key in (0, -1, -2, -5):
            await peer.send(header([CANCEL, key], [CREDIT, key, 5], [ITEM, key, 0, [1]], [END, key]))
        await peer.send(header([CANCEL, 0], call(0, "s.hold"), call(1, "s.add", 1, 2)))
        assert await peer.record(REPLY, RESET) == [REPLY, 1, 0, 3]
        assert server.statistics().running == 3
        streams.gate.set()
        await until(lambda: server.statistics().running == 0)


async def test_an_id_in_flight_is_a_breach_for_methods_too_that_there_are_not(streams: Streams) -> None:
    async with serving(streams) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(call(1, "s.hold")))
        await until(lambda: server.statistics().running == 1)
        await peer.send(header(call(1, "s.nothing")))
        assert (await peer.record(RESET, ERROR))[:2] == [RESET, errors.StatusCode.INVALID_ARGUMENT]
        await until(lambda: server.statistics().running == 0)


async def _nothing_more() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


@pytest.mark.parametrize(("tag", "fields", "says"), [(END, [], "an end of"), (ITEM, [0, [0]], "items for")])
async def test_a_call_that_sends_a_stream_gets_one_result(tag: int, fields: list[Any], says: str) -> None:
    async with RawServer(stream=WINDOW) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.total", _nothing_more(), result_type=int))
        key = (await server.record(ITEM))[1]
        await server.send([tag, key, *fields])
        with pytest.raises(errors.Unavailable, match=f"{says} call {key}, which is no stream"):
            await calling
        await _reads_on(server, client, sessions=2)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([[CREDIT, 1, 1]], "credit for call 1, which is no stream"),
        ([[ITEM, 1, 0, [1]], [REFUSED, 1, 0, 14, "draining"]], "call 1 was refused, which had brought items"),
    ],
)
async def test_a_stream_of_replies_takes_no_credit_and_does_not_begin_again(records: list[Any], says: str) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        async with client.stream("s.count", window=WINDOW) as items:
            await server.record(REQUEST)
            await server.send(*records)
            with pytest.raises(errors.Unavailable, match=f"does not speak AZP/1.*{says}"):
                async for _ in items:
                    pass
        await _reads_on(server, client, sessions=2)
