"""Streams of replies, streams from the client, conversations: order, back-pressure, and how each of them ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
import weakref
from array import array
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, assert_type

import msgspec
import pytest
import zmq

import aiozpat
from aiozpat import Client, Conversation, Limits, Server, errors
from aiozpat.codec import ItemDecoder, Values
from aiozpat.protocol.flow import MAX_WINDOW, SendFlow
from aiozpat.protocol.outbox import Outbox
from aiozpat.protocol.records import Credit, Item, join, split
from aiozpat.rpc import channel
from aiozpat.rpc.executor import Executor
from aiozpat.rpc.flows import Inbound, Outbound
from aiozpat.rpc.listener import Listener
from aiozpat.rpc.pending import Pending
from aiozpat.rpc.turns import Turns
from aiozpat.transport import Socket
from tests.raw import ITEM, REFUSED, REQUEST, RawServer
from tests.support import LOOPBACK, PATIENCE, until


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Streams:
    """A service with streams, and what its handlers saw."""

    service: aiozpat.Service
    made: int = 0
    ended: list[str] = field(default_factory=list)
    got: list[Any] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def streams() -> Streams:
    service = aiozpat.Service("s")
    seen = Streams(service)

    @service.method
    async def count(n: int, start: int = 0) -> AsyncIterator[int]:
        try:
            for number in range(start, n):
                seen.made += 1
                yield number
        except GeneratorExit:
            seen.ended.append("left")
            raise
        except asyncio.CancelledError:
            seen.ended.append("cancelled")
            raise
        seen.ended.append("done")

    @service.method
    async def hold() -> AsyncIterator[int]:
        yield 1
        try:
            await seen.gate.wait()
        except asyncio.CancelledError:
            seen.ended.append("cancelled")
            raise
        yield 2

    @service.method
    async def fail_after(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
        raise errors.OutOfRange("no more", details={"n": n})

    @service.method
    async def total(numbers: AsyncIterator[int], start: int = 0) -> int:
        async for number in numbers:
            seen.got.append(number)
            start += number
        return start

    @service.method
    async def first(numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    @service.method
    async def echo(prefix: str, items: AsyncIterator[Any], *, suffix: str = "") -> AsyncIterator[Any]:
        async for item in items:
            yield f"{prefix}{item}{suffix}" if isinstance(item, (int, str)) else item
        seen.ended.append("echo done")

    @service.method
    async def points(n: int) -> AsyncIterator[Point]:
        for number in range(n):
            yield Point(number)

    @service.method
    async def blobs(n: int, size: int) -> AsyncIterator[bytes]:
        for number in range(n):
            seen.made += 1
            yield bytes([number % 256]) * size

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    return seen


_REFERENCE = bytes.fromhex("d40100")  # to a record's first buffer


def _listener_of(server: Server) -> Listener:
    assert server._listener is not None
    return server._listener


def _socket_of(client: Client) -> Socket:
    (connection,) = client._pool.connections
    return connection.socket


def _has_arrived(socket: Socket) -> bool:
    return bool(socket._events() & zmq.POLLIN)


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


# Replies


async def test_items_come_in_order_and_all(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for count in (0, 1, 2, 127, 128, 129, 1000, 5000):
            async with client.stream("s.count", count, item_type=int) as items:
                assert [item async for item in items] == list(range(count))
        for window in (1, 2, 3, 1000, 65_536):
            async with client.stream("s.count", params={"n": 500, "start": 100}, window=window) as items:
                assert [item async for item in items] == list(range(100, 500))
        assert server.statistics().running == 0
        assert client.statistics().in_flight == 0
        assert client.statistics().calls == 13


async def test_items_are_decoded_into_their_type(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.points", 3, item_type=Point) as points:
            assert [point async for point in points] == [Point(0), Point(1), Point(2)]
        async with client.stream("s.points", 1) as values:
            assert [value async for value in values] == [{"x": 0, "y": 0}]


async def test_large_items_travel_apart_and_keep_their_place(streams: Streams) -> None:
    async def mixed() -> AsyncIterator[Any]:
        for number in range(20):
            yield number
            yield bytes([number]) * 100_000
            yield {"n": number}

    expected = [value for number in range(20) for value in (f"-{number}", bytes([number]) * 100_000, {"n": number})]
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.echo", "-", mixed()) as items:
            assert [item async for item in items] == expected
        async with client.stream("s.blobs", 3, 70_000, item_type=memoryview) as views:
            async for view in views:
                assert isinstance(view, memoryview)
                assert len(view) == 70_000


async def test_a_slow_consumer_stops_the_producer_within_the_window(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.count", 10**9, window=50) as items:
            for taken in range(1, 301):
                assert await anext(items) == taken - 1
                if taken % 100 == 0:
                    await client.call("s.add", 1, 1)  # what was under way has arrived
                    assert streams.made <= taken + 50
        async with client.stream("s.count", 10**9, window=1) as items:
            streams.made = 0
            for taken in range(1, 20):
                await anext(items)
                await client.call("s.add", 1, 1)
                assert streams.made <= taken + 1


async def test_large_items_use_up_the_window_by_their_bytes(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.blobs", 10**9, 40_000, window=256) as items:
            await anext(items)
            for _ in range(3):
                await client.call("s.add", 1, 1)
            assert streams.made < 40  # each costs ten units
            for _ in range(200):
                await anext(items)
        await until(lambda: server.statistics().running == 0)
        async with client.stream("s.blobs", 10**9, 1_000_000, window=256) as items:
            streams.made = 0
            await anext(items)
            await client.call("s.add", 1, 1)
            assert streams.made < 10


async def test_a_very_large_item_is_credited_in_parts_that_the_sender_takes() -> None:
    link = SendsAtOnce()
    receiver: Inbound[Any] = Inbound(link, 1, 256, ItemDecoder(Any), "s.blobs", idle=0, wrong=errors.Internal)
    sender = SendFlow(1, 256)
    part = memoryview(bytes(2**20))
    for _ in range(3):
        record = sender.seal_large(_REFERENCE, 600, 600 * len(part))  # more than twice what one record may grant
        (item,) = split(join([record]))
        assert isinstance(item, Item)
        receiver.feed(item, [part] * 600)
        assert await anext(receiver) == bytes(part)
        reading = asyncio.ensure_future(anext(receiver))
        await until(lambda: bool(link.credit))
        reading.cancel()
        assert all(units <= MAX_WINDOW for units in link.credit)
        for units in link.credit:
            sender.grant(units)
        link.credit.clear()
        assert sender.room


async def test_many_streams_at_once_each_in_order_none_starved(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        progress = [0] * 200

        async def read(number: int) -> None:
            async with client.stream("s.count", 10**9, number, window=16) as items:
                expected = number
                async for item in items:
                    assert item == expected
                    expected += 1
                    progress[number] += 1
                    if max(progress) >= 300:
                        return

        await asyncio.gather(*map(read, range(200)))
        assert min(progress) >= sorted(progress)[100] / 2
        await until(lambda: server.statistics().running == 0)


# Endings


async def test_leaving_the_block_ends_the_handler(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.count", 10**9) as items:
            async for item in items:
                if item == 1000:
                    break
        await until(lambda: streams.ended in (["left"], ["cancelled"]))
        async with client.stream("s.hold") as items:
            assert await anext(items) == 1
        await until(lambda: streams.ended[1:] == ["cancelled"])
        with pytest.raises(ZeroDivisionError):
            async with client.stream("s.hold") as items:
                raise ZeroDivisionError
        with pytest.raises(errors.Closed, match="was left"):
            await anext(items)
        await until(lambda: server.statistics().running == 0)
        assert client.statistics().in_flight == 0


async def test_cancelling_the_reader_ends_the_handler_and_cancelling_a_read_loses_nothing(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.hold") as items:
            assert await anext(items) == 1
            for _ in range(3):
                waiting = asyncio.ensure_future(anext(items))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
            streams.gate.set()
            assert [item async for item in items] == [2]
        streams.gate.clear()

        async def read() -> None:
            async with client.stream("s.hold") as items:
                async for _ in items:
                    streams.got.append("item")

        reading = asyncio.create_task(read())
        await until(lambda: streams.got == ["item"])
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await until(lambda: streams.ended == ["cancelled"])
        assert server.statistics().running == 0


async def test_an_error_comes_after_the_items_before_it(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for count in (0, 1, 200):
            got = []
            with pytest.raises(errors.OutOfRange, match="no more") as caught:
                async with client.stream("s.fail_after", count) as items:
                    async for item in items:
                        got.append(item)  # noqa: PERF401 - those before the error count
            assert got == list(range(count))
            assert caught.value.details == {"n": count}


async def test_a_collected_stream_ends_the_handler_and_says_so(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        items = await client.stream("s.hold").__aenter__()
        assert await anext(items) == 1
        with pytest.warns(ResourceWarning, match="left open"):  # noqa: PT031 - the warning comes with the collection
            del items
            gc.collect()
        await until(lambda: streams.ended == ["cancelled"])
        await until(lambda: client.statistics().in_flight == 0)


async def test_an_item_of_another_type_ends_the_stream_after_those_before_it(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        streams.gate.set()
        with pytest.raises(errors.Internal, match=r"s\.points: an item is not what was asked for.*`int`"):
            async with client.stream("s.points", 3, item_type=int) as items:
                await anext(items)
        got = []
        with pytest.raises(errors.InvalidArgument, match=r"s\.total: an item is not what was asked for"):
            async with client.open("s.total") as talk:
                for item in (1, 2, "three"):
                    await talk.send(item)
                got.append(await talk.result())
        assert streams.got == [1, 2]
        assert got == []


async def test_a_stream_waits_for_an_item_no_longer_than_its_idle_timeout(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        with pytest.raises(errors.DeadlineExceeded, match=r"no item for 0\.1 seconds"):
            async with client.stream("s.hold", idle_timeout=0.1) as items:
                async for item in items:
                    streams.got.append(item)
        assert streams.got == [1]
        await until(lambda: streams.ended == ["cancelled"])
        async with client.open("s.total", idle_timeout=0.1) as talk:  # the handler waits for us
            with pytest.raises(errors.DeadlineExceeded, match="no item"):
                await talk.result()


async def test_a_stream_waits_for_a_connection_no_longer_than_its_idle_timeout(port: int) -> None:
    async with Client(f"tcp://127.0.0.1:{port}") as client:
        with pytest.raises(errors.DeadlineExceeded, match="no connection in time"):
            async with asyncio.timeout(PATIENCE), client.stream("s.count", 1, idle_timeout=0.05):
                pass
    async with Client(f"tcp://127.0.0.1:{port}", timeout=0.05) as client:
        with pytest.raises(errors.DeadlineExceeded, match="no connection in time"):
            async with asyncio.timeout(PATIENCE), client.open("s.total"):
                pass


def _wait_of(inbound: Inbound[Any] | None) -> asyncio.Future[None]:
    assert inbound is not None
    assert inbound._waiter is not None
    return inbound._waiter


async def test_an_item_that_has_arrived_while_our_loop_stood_still_is_in_time(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.hold") as items:
            assert await anext(items) == 1
            reading = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            socket = _socket_of(client)
            socket.pause()  # as if the loop looked at nothing
            streams.gate.set()
            await until(lambda: _has_arrived(socket) or reading.done())
            if not reading.done():
                assert items._pending is not None
                assert items._pending.inbound is not None
                items._pending.inbound._on_idle(_wait_of(items._pending.inbound))
            assert await reading == 2
            socket.resume()
        async with client.open("s.total") as talk:  # the handler waits for us
            (session,) = _listener_of(server).each()
            await until(lambda: bool(session.calls))
            (job,) = session.calls.values()
            await until(lambda: job.inbound is not None and job.inbound._waiter is not None)
            socket = _listener_of(server).socket
            socket.pause()
            await talk.send(7)
            await talk.end()
            await until(lambda: _has_arrived(socket) or streams.got == [7])
            if streams.got != [7]:
                assert job.inbound is not None
                job.inbound._on_idle(_wait_of(job.inbound))
            socket.resume()
            assert await talk.result() == 7


async def test_time_is_not_called_before_all_that_has_arrived_is_read() -> None:
    link = SendsAtOnce()
    receiver: Inbound[int] = Inbound(link, 1, 256, ItemDecoder(int), "s.count", idle=0.01, wrong=errors.Internal)
    flow = SendFlow(1, 256)
    flow.values.append(b"\x05")
    (item,) = split(join([flow.seal()]))
    assert isinstance(item, Item)

    def arrive() -> bool:
        receiver.feed(item, ())
        return True

    link.drains = [lambda: False, lambda: False, arrive]
    assert await asyncio.wait_for(anext(receiver), PATIENCE) == 5
    with pytest.raises(errors.DeadlineExceeded, match="no item"):
        await anext(receiver)


async def test_a_deadline_ends_a_stream_on_both_sides(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.DeadlineExceeded):
            async with client.stream("s.hold", timeout=0.2, idle_timeout=math.inf) as items:
                async for _ in items:
                    pass
        await until(lambda: server.statistics().running == 0)


async def test_a_server_that_closes_ends_the_streams_of_its_clients(streams: Streams) -> None:
    async with Client("tcp://127.0.0.1:1", wait_for_ready=False) as nobody:
        with pytest.raises(errors.Unavailable):
            async with nobody.stream("s.count", 1):
                pass
    async with Server(streams.service, bind=LOOPBACK, grace=0) as server, Client(server.endpoint) as client:
        async with client.stream("s.hold") as items:
            assert await anext(items) == 1
            await server.close()
            with pytest.raises(errors.Unavailable, match="the server has ended"):
                await anext(items)
        assert streams.ended == ["cancelled"]


async def test_a_client_that_closes_ends_its_streams(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server:
        async with Client(server.endpoint) as client:
            items = await client.stream("s.hold").__aenter__()
            assert await anext(items) == 1
        with pytest.raises(errors.Unavailable, match="was closed"):
            await anext(items)
        await items.__aexit__(None, None, None)
        await until(lambda: streams.ended == ["cancelled"])


# Streams from the client


async def test_an_async_iterator_among_the_params_is_sent_item_by_item(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for count in (0, 1, 1000):
            assert await client.call("s.total", numbers(count), 5, result_type=int) == sum(range(count)) + 5
        assert await client.call("s.total", params={"start": 1, "numbers": numbers(3)}) == 4
        assert await client.call("s.first", numbers(100_000)) == 0
        async with client.stream("s.echo", "<", numbers(300)) as items:
            assert [item async for item in items] == [f"<{number}" for number in range(300)]
        async with client.stream("s.echo", params={"prefix": "<", "items": numbers(2), "suffix": ">"}) as items:
            assert [item async for item in items] == ["<0>", "<1>"]


async def test_an_iterator_that_fails_ends_the_call_and_its_error_reaches_the_caller(streams: Streams) -> None:
    closed = []

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise LookupError("the source ran dry")

    async def cancelled() -> AsyncIterator[int]:
        yield 1
        task = asyncio.create_task(asyncio.sleep(PATIENCE))
        task.cancel()
        await task  # a cancellation that is nobody's who waits here

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(LookupError, match="ran dry"):
            await client.call("s.total", failing())
        with pytest.raises(LookupError, match="ran dry"):
            async with client.stream("s.echo", "", failing()) as items:
                async for _ in items:
                    pass
        with pytest.raises(errors.Cancelled, match=r"given to s\.total was cancelled"):
            await client.call("s.total", cancelled(), timeout=PATIENCE)
        assert await client.call("s.first", endless()) == 1
        assert closed == [True]
        await until(lambda: server.statistics().running == 0)
        with pytest.raises(errors.UsageError, match="one stream"):
            await client.call("s.total", numbers(1), numbers(2))


async def test_a_handler_that_does_not_read_stops_the_client(streams: Streams) -> None:
    service = aiozpat.Service("slow")

    @service.method
    async def ignore(items: AsyncIterator[int]) -> int:
        await streams.gate.wait()
        return len([item async for item in items])

    async with (
        Server(service, bind=LOOPBACK, limits=Limits(stream_window=20)) as server,
        Client(server.endpoint) as client,
        client.open("slow.ignore") as talk,
    ):
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await talk.send(sent)
                    sent += 1
        assert sent == 20
        streams.gate.set()
        for number in range(100):
            await talk.send(number)
        await talk.end()
        assert await talk.result() == 120


# Conversations


async def test_a_conversation_goes_back_and_forth(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.open("s.echo", "re: ", item_type=str) as talk:
            assert_type(talk, Conversation[str, Any])
            for number in range(50):
                await talk.send(number)
                assert await anext(talk) == f"re: {number}"
            await talk.end()
            await talk.end()
            assert [item async for item in talk] == []
            assert await talk.result() is None
            with pytest.raises(errors.Closed, match=r"end\(\) was called"):
                await talk.send(1)
        assert streams.ended == ["echo done"]


@pytest.mark.parametrize(
    ("sizes", "window"),
    [
        ([(1 << 20,)] * 4, 256),
        ([(500_000,), (600_000,)] * 3, 256),
        ([(16 << 20,)] * 2, 256),
        ([(1,)] * 6, 1),
        ([(1, 1), (1,)] * 3, 2),
    ],
)
async def test_one_item_for_one_goes_on_whatever_they_use_up_of_the_windows(
    streams: Streams, sizes: list[tuple[int, ...]], window: int
) -> None:
    limits = Limits(stream_window=window)
    async with (
        Server(streams.service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint) as client,
        client.open("s.echo", "", window=window, item_type=bytes) as talk,
    ):
        for together in sizes:
            await asyncio.gather(*(talk.send(b"x" * size) for size in together))
            assert [len(await anext(talk)) for _ in together] == list(together)


async def test_a_call_that_is_over_keeps_no_params(streams: Streams) -> None:
    taken: list[weakref.ref[Point]] = []

    @streams.service.method
    async def take(point: Point, items: AsyncIterator[int]) -> int:
        taken.append(weakref.ref(point))
        return sum([item async for item in items])

    async def late() -> AsyncIterator[int]:
        await until(lambda: bool(taken))
        yield 1

    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("s.take", Point(1), late()) == 1
        await until(lambda: server.statistics().running == 0)
        gc.collect()
        assert taken[0]() is None


async def test_sending_says_how_the_call_has_ended(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.open("s.first", result_type=int) as talk:
            assert_type(talk, Conversation[Any, int])
            await talk.send(7)
            assert await talk.result() == 7
            with pytest.raises(errors.Closed, match="has ended"):
                await talk.send(8)
        async with client.open("s.first") as talk:
            await talk.send("seven")
            with pytest.raises(errors.InvalidArgument):
                await talk.result()
            with pytest.raises(errors.InvalidArgument):
                await talk.send(8)
        with pytest.raises(errors.InvalidArgument, match="can't be encoded"):
            async with client.open("s.echo", "") as talk:
                await talk.send(object())
        with pytest.raises(errors.ResourceExhausted, match="over the limit"):
            async with client.open("s.echo", "") as talk:
                await talk.send("x" * 2_000_000)


async def test_tasks_that_send_on_one_conversation_wait_in_turn(streams: Streams) -> None:
    service = aiozpat.Service("slow")

    @service.method
    async def take(items: AsyncIterator[int], count: int) -> list[int]:
        await streams.gate.wait()
        return [item async for item in items][:count]

    async with (
        Server(service, bind=LOOPBACK, limits=Limits(stream_window=2)) as server,
        Client(server.endpoint) as client,
    ):
        async with client.open("slow.take", 1000, result_type=list[int]) as talk:
            senders = [asyncio.create_task(talk.send(number)) for number in range(200)]
            await until(lambda: senders[1].done())
            for _ in range(3):
                await asyncio.sleep(0)
            assert not senders[2].done()
            for cancelled in (senders[2], senders[50]):  # the one whose turn it is, and one that waits behind
                cancelled.cancel()
            await asyncio.wait({senders[2], senders[50]})
            late = asyncio.create_task(talk.send(200))
            streams.gate.set()
            await asyncio.gather(*senders, late, return_exceptions=True)
            assert senders[2].cancelled()
            assert senders[50].cancelled()
            await talk.end()
            assert await talk.result() == [number for number in range(201) if number not in (2, 50)]
        streams.gate.clear()
        async with client.open("slow.take", 1000) as talk:
            senders = [asyncio.create_task(talk.send(number)) for number in range(20)]
            await until(lambda: senders[1].done())
        done, _ = await asyncio.wait(senders[2:], timeout=PATIENCE)
        assert len(done) == 18
        assert all(isinstance(sender.exception(), errors.Closed) for sender in done)


async def test_an_item_that_waits_while_the_end_is_said_is_refused_not_lost(streams: Streams) -> None:
    service = aiozpat.Service("slow")

    @service.method
    async def take(items: AsyncIterator[int]) -> list[int]:
        await streams.gate.wait()
        return [item async for item in items]

    async with (
        Server(service, bind=LOOPBACK, limits=Limits(stream_window=2)) as server,
        Client(server.endpoint) as client,
        client.open("slow.take", result_type=list[int]) as talk,
    ):
        await talk.send(0)
        await talk.send(1)
        waiting = [asyncio.create_task(talk.send(number)) for number in (2, 3)]
        await asyncio.sleep(0)
        await talk.end()
        streams.gate.set()
        for sending in waiting:
            with pytest.raises(errors.Closed, match=r"end\(\) was called"):
                await asyncio.wait_for(sending, PATIENCE)
        assert await talk.result() == [0, 1]


# What can't be right


async def _numbers() -> AsyncIterator[int]:
    yield 1


async def test_the_wrong_kind_of_call_says_which_is_right(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.Unimplemented, match=r"streams its replies: use stream\(\)"):
            await client.call("s.count", 1)
        with pytest.raises(errors.Unimplemented, match=r"takes a stream: use open\(\)"):
            await client.call("s.total")
        with pytest.raises(errors.Unimplemented, match=r"gives one result: use call\(\)"):
            async with client.stream("s.add", 1, 2) as items:
                await anext(items)
        with pytest.raises(errors.Unimplemented, match=r"use call\(\), with no iterator among the params"):
            await client.call("s.add", _numbers(), 1, 2)
        with pytest.raises(errors.Unimplemented, match=r"use stream\(\), with no iterator among the params, or a stub"):
            async with client.stream("s.count", 1, _numbers()) as items:
                await anext(items)
        with pytest.raises(errors.Unimplemented, match=r"s\.echo: converses: items takes a stream: use open\(\)"):
            await client.call("s.echo", "")
        with pytest.raises(errors.Unimplemented, match="no method 'none'"):
            async with client.stream("s.none") as items:
                await anext(items)
        with pytest.raises(errors.InvalidArgument, match=r"s\.count"):
            async with client.stream("s.count", "many") as items:
                await anext(items)


async def test_a_list_where_a_stream_belongs_is_told_of_the_stream(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        takes = r"s\.total: numbers takes a stream: .* give call\(\) an async iterator there"
        with pytest.raises(errors.Unimplemented, match=takes):
            await client.call("s.total", [1, 2])
        with pytest.raises(errors.Unimplemented, match=takes):
            await client.call("s.total", params={"numbers": [1, 2]})
        with pytest.raises(errors.Unimplemented, match=r"items takes a stream: .* give stream\(\) an async iterator"):
            async with client.stream("s.echo", "", [1, 2]) as items:
                await anext(items)
        with pytest.raises(errors.UsageError, match="sends no streams"):
            await client.notify("s.total", numbers(2))
        with pytest.raises(errors.InvalidArgument, match="can't be encoded"):
            await client.notify("s.total", object())


async def test_times_and_windows_that_are_none_are_refused_before_anything_is_sent(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        wrong: Any
        for wrong in (16.0, math.inf, "1", None, 65_537):
            with pytest.raises((ValueError, TypeError), match="window is a whole number from 1 to 65536; got"):
                client.stream("s.count", 1, window=wrong)
        for wrong in ("1", math.nan, [1], 0, -1):
            with pytest.raises((ValueError, TypeError), match="idle_timeout is a number of seconds"):
                client.stream("s.count", 1, idle_timeout=wrong)
        for wrong in ("1", math.nan, [1]):
            with pytest.raises((ValueError, TypeError), match="timeout is a number of seconds; got"):
                client.stream("s.count", 1, timeout=wrong)
        for endless in (1e20, math.inf):
            async with client.stream("s.count", 1, idle_timeout=endless, timeout=endless) as items:
                assert [item async for item in items] == [0]


async def test_a_stream_outside_its_block_is_of_no_use(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.UsageError, match="inside its block"):
            await anext(client.stream("s.count", 1))
        with pytest.raises(errors.UsageError, match="inside its block"):
            await client.open("s.total").send(1)
        with pytest.raises(errors.UsageError, match="inside its block"):
            await client.open("s.total").result()
        for window in (0, 65_537, 16.0, float("inf")):
            with pytest.raises(ValueError, match="window is a whole number"):
                client.stream("s.count", 1, window=window)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(errors.UsageError, match=r"by send\(\)"):
            client.open("s.total", numbers(1))
        stream = client.stream("s.count", 3)
        async with stream as items:
            with pytest.raises(errors.UsageError, match="entered before"):
                await stream.__aenter__()
            assert [item async for item in items] == [0, 1, 2]


async def test_what_was_not_read_inside_the_block_is_not_to_be_had_behind_it(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.count", 50) as items:
            assert await anext(items) == 0
            pending = items._pending
            assert pending is not None
            await until(lambda: pending.future.done())  # so that all are here
        for _ in range(2):
            with pytest.raises(errors.Closed, match="was left"):
                await anext(items)
        unread = client.stream("s.count", 3)
        await unread.__aexit__(None, None, None)
        with pytest.raises(errors.Closed, match="was left"):
            await anext(unread)


async def test_one_task_reads_a_stream_and_one_sends(streams: Streams) -> None:
    async with (
        Server(streams.service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
        client.stream("s.hold") as items,
    ):
        await anext(items)
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        with pytest.raises(errors.UsageError, match="another task reads"):
            await anext(items)
        streams.gate.set()
        assert await asyncio.wait_for(waiting, PATIENCE) == 2


async def test_a_stream_made_inside_a_handler_inherits_its_deadline(streams: Streams) -> None:
    front = aiozpat.Service("front")
    async with Server(streams.service, bind=LOOPBACK) as back, Client(back.endpoint) as inner:

        @front.method
        async def relay() -> AsyncIterator[int]:
            async with inner.stream("s.hold") as items:
                async for item in items:
                    yield item

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            with pytest.raises(errors.DeadlineExceeded):
                async with client.stream("front.relay", timeout=0.3) as items:
                    async for item in items:
                        streams.got.append(item)
            await until(lambda: streams.ended == ["cancelled"])
            await until(lambda: back.statistics().running == server.statistics().running == 0)


async def test_the_stream_of_a_handler_takes_the_time_that_is_left_along() -> None:
    back, front = aiozpat.Service("back"), aiozpat.Service("front")

    @back.method
    async def left() -> AsyncIterator[float]:
        yield aiozpat.current_call().time_left

    async with Server(back, bind=LOOPBACK) as behind, Client(behind.endpoint) as inner:

        @front.method
        async def relay() -> float:
            async with inner.stream("back.left", item_type=float) as items:
                return await anext(items)

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            assert await client.call("front.relay", timeout=100, result_type=float) < 101  # not 20 days
        async with inner.stream("back.left", item_type=float) as items:
            assert await anext(items) > 101


class SendsAtOnce:
    """A session that sends whatever is put into its outbox before `post` returns."""

    def __init__(self) -> None:
        self.outbox = Outbox(2**20)
        self.turns = Turns(self.outbox)
        self.peer_buffer_bytes = 2**20
        self.values: Values | None = None
        self.sent: list[int] = []
        self.credit: list[int] = []
        self.drains: list[Callable[[], bool]] = []

    def post(self) -> None:
        while (message := self.outbox.peek()) is not None:
            for record in split(message[0]):
                if isinstance(record, Credit):
                    self.credit.append(record.units)
                else:
                    assert isinstance(record, Item)
                    self.sent += msgspec.msgpack.decode(record.values)
            self.outbox.commit(len(message[0]))

    push = post

    def drain(self) -> bool:
        return self.drains.pop(0)() if self.drains else True


async def test_no_item_is_lost_where_queueing_it_sends_at_once() -> None:
    link = SendsAtOnce()
    outbound = Outbound(link, SendFlow(1, 20), "s.count")
    assert [outbound.put(number) for number in range(20)] == [True] * 19 + [False]
    assert link.sent == list(range(20))
    assert not outbound.ready


# What a stream must not leave behind, or get wrong


async def test_calls_and_streams_leave_nothing_for_the_collector_to_miss(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for _ in range(5):
            async with client.stream("s.count", 3) as items:
                assert len([item async for item in items]) == 3
            with pytest.raises(errors.Unimplemented):
                await client.call("s.nowhere")
            with pytest.raises(errors.InvalidArgument):
                await client.call("s.total", (n async for n in _texts()))
        await until(lambda: server.statistics().running == 0)
        del items
        await asyncio.sleep(0)
        gc.collect()
        kinds = (Inbound, Outbound, Pending, errors.Unimplemented)
        left = [thing for thing in gc.get_objects() if isinstance(thing, kinds)]
        # An idle time-out that was cancelled keeps its context, until the loop looks at it.
        assert not [thing for thing in left if not isinstance(thing, Inbound)]


async def _texts() -> AsyncIterator[str]:
    yield "no number"


@pytest.mark.parametrize("refused_at", ["send", "result", "enter"])
async def test_the_error_of_a_nested_stream_does_not_say_that_the_outer_call_never_ran(refused_at: str) -> None:
    inner, outer = aiozpat.Service("inner"), aiozpat.Service("outer")
    held = asyncio.Event()
    runs = 0

    @inner.method(max_concurrency=1, max_queued=0)
    async def total(items: AsyncIterator[int]) -> int:
        held.set()
        return sum([item async for item in items])

    @outer.method
    async def charge() -> int:
        nonlocal runs
        runs += 1
        async with nested.open("inner.total") as talk:
            while refused_at == "send":
                await talk.send(1)
                await asyncio.sleep(0)
            return int(await talk.result())

    async with (
        Server(inner, bind=LOOPBACK) as back,
        Client(back.endpoint, wait_for_ready=False, max_in_flight=2 - (refused_at == "enter")) as nested,
        Server(outer, bind=LOOPBACK) as front,
        Client(front.endpoint, retry=aiozpat.Retry()) as client,
    ):
        await nested.ready()
        async with nested.open("inner.total"):
            await held.wait()
            with pytest.raises(errors.Internal, match="max_"):
                await client.call("outer.charge")
    assert runs == 1


def _executor_of(server: Server) -> Executor:
    assert server._executor is not None
    return server._executor


async def test_sending_to_a_server_that_drains_is_unavailable(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        _executor_of(server).refuse("it drains")  # and its goaway is still on its way
        async with client.open("s.total") as talk:
            with pytest.raises(errors.Unavailable, match=r"s\.total: it drains; it did not run") as raised:
                while True:
                    await talk.send(1)
                    await asyncio.sleep(0)
            assert raised.value.refused


async def test_an_answer_of_another_type_ends_a_conversation_at_once(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.open("s.echo", "", item_type=int) as talk:
            await talk.send("text")
            with pytest.raises(errors.Internal, match="not what was asked for"):
                await talk.result()
            with pytest.raises(errors.Internal, match="not what was asked for"):
                await talk.send(1)
            with pytest.raises(errors.Internal, match="not what was asked for"):
                await anext(talk)
        await until(lambda: server.statistics().running == 0)


async def test_a_generator_that_outlives_its_cancellation_gives_its_place_back() -> None:
    service = aiozpat.Service("s")

    @service.method
    async def stubborn() -> AsyncIterator[int]:
        for number in range(10**9):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
            yield number

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.stubborn", window=4) as items:
            await anext(items)
        await until(lambda: server.statistics().running == 0)


async def test_a_block_left_while_its_call_waits_for_another_session_opens_none(streams: Streams) -> None:
    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        executor = _executor_of(server)
        executor.refuse("it drains")
        items = client.stream("s.hold")
        await items.__aenter__()
        reading = asyncio.create_task(anext(items))
        await until(lambda: client.state is not aiozpat.ClientState.READY)
        executor.refusing, executor._admitting = None, executor.routes
        await items.__aexit__(None, None, None)
        with pytest.raises(errors.Closed):
            await reading
        assert server.statistics().running == 0


async def test_params_of_a_stream_are_taken_as_they_are_when_it_opens(streams: Streams) -> None:
    service = aiozpat.Service("s")

    @service.method
    async def first(values: Any, more: AsyncIterator[int]) -> AsyncIterator[float]:
        yield memoryview(values).cast("d")[0]
        async for _ in more:
            pass

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        values = array("d", [0.0] * 50_000)
        async with client.open("s.first", values, item_type=float) as talk:
            values[0] = 99.0
            assert await anext(talk) == 0.0


async def test_a_stream_that_every_session_refuses_ends_at_its_idle_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE_LEAST", "_PAUSE_MOST"):
        monkeypatch.setattr(channel, name, 0.0001)
    refused = 0

    async def refuse(server: RawServer) -> None:
        nonlocal refused
        while True:
            request = await server.record(REQUEST)
            refused += 1
            await server.send([REFUSED, request[1], 0, int(errors.StatusCode.UNAVAILABLE), "draining"])

    async with RawServer() as server, Client(server.endpoint) as client:
        refusing = asyncio.create_task(refuse(server))
        with pytest.raises(errors.DeadlineExceeded):
            async with asyncio.timeout(PATIENCE), client.stream("s.count", idle_timeout=0.3) as items:
                await anext(items)
        refusing.cancel()
        await asyncio.wait({refusing})
    assert refused > 1


async def test_whoever_reads_for_a_handler_that_is_cancelled_waits_no_more() -> None:
    service = aiozpat.Service("s")
    reading = asyncio.Event()
    read: list[int] = []

    @service.method
    async def store(numbers: AsyncIterator[int]) -> int:
        async def take() -> None:
            async for number in numbers:
                read.append(number)
                reading.set()

        task = asyncio.create_task(take())
        try:
            await asyncio.shield(task)
        finally:
            await asyncio.wait({task})  # to keep what has come
        return len(read)

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.open("s.store", idle_timeout=math.inf) as sending:
            await sending.send(1)
            await reading.wait()
        await until(lambda: server.statistics().running == 0)
    assert read == [1]


async def test_a_handler_that_reads_in_a_task_group_is_cancelled_as_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = aiozpat.Service("s")
    reading = asyncio.Event()
    ended: list[BaseException] = []

    @service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        async def take() -> None:
            reading.set()
            async for _ in numbers:
                pass

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(take())
        except BaseException as error:
            ended.append(error)
            raise
        return 0

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.open("s.total"):
            await reading.wait()
        await until(lambda: server.statistics().running == 0)
    assert [type(error) for error in ended] == [asyncio.CancelledError]
    assert not caplog.records


async def test_a_handler_that_fails_behind_its_items_refuses_nothing() -> None:
    service = aiozpat.Service("s")

    @service.method
    async def count() -> AsyncIterator[int]:
        yield 1
        error = errors.ResourceExhausted("no more")
        error.refused = True
        raise error

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.count") as items:
            assert await anext(items) == 1
            with pytest.raises(errors.ResourceExhausted) as raised:
                await anext(items)
        assert not raised.value.refused
        assert client.statistics().sessions == 1


async def test_a_method_that_gives_one_result_gives_no_stream(streams: Streams) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.total", numbers()) as items:
            with pytest.raises(errors.Unimplemented, match="gives one result, and streams no items"):
                await anext(items)
        assert await client.call("s.total", numbers()) == 1


async def test_a_stream_without_items_for_too_long_is_over_inside_its_block_too(streams: Streams) -> None:
    async with (
        Server(streams.service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
        client.stream("s.hold", idle_timeout=0.05) as items,
    ):
        assert await anext(items) == 1
        with pytest.raises(errors.DeadlineExceeded):
            await anext(items)
        await until(lambda: streams.ended == ["cancelled"])
        streams.gate.set()
        with pytest.raises(errors.DeadlineExceeded):
            await anext(items)


async def test_what_is_sent_stands_in_line_behind_what_waits_though_there_is_room_again(streams: Streams) -> None:
    service = aiozpat.Service("slow")

    @service.method
    async def take(items: AsyncIterator[int]) -> list[int]:
        await streams.gate.wait()
        return [item async for item in items]

    async with (
        Server(service, bind=LOOPBACK, limits=Limits(stream_window=2)) as server,
        Client(server.endpoint) as client,
        client.open("slow.take", result_type=list[int]) as talk,
    ):
        await talk.send(0)
        await talk.send(1)
        waiting = asyncio.create_task(talk.send(2))
        await until(lambda: talk._in_line == 1)
        pending = talk._pending
        assert pending is not None
        assert pending.outbound is not None
        pending.outbound.grant(2)  # the server takes so many more than it said
        await asyncio.wait_for(talk.send(3), PATIENCE)  # before the other task has had its turn
        await waiting
        await talk.end()
        streams.gate.set()
        assert await talk.result() == [0, 1, 2, 3]


class _Large:
    """Stands for what a handler's context holds."""


_held: ContextVar[_Large | None] = ContextVar("held", default=None)


async def test_waiting_for_items_keeps_nothing_of_the_readers_context(streams: Streams) -> None:
    async def read() -> weakref.ref[_Large]:
        large = _Large()
        _held.set(large)
        assert await anext(items) == 1
        return weakref.ref(large)

    async with (
        Server(streams.service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
        client.stream("s.hold", idle_timeout=60) as items,
    ):
        large = await asyncio.create_task(read())
        await asyncio.sleep(0)
        gc.collect()
        assert large() is None


async def test_items_that_wait_when_their_call_is_over_are_not_sent() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        await client.ready()
        async with client.open("s.take") as talk:
            await server.record(REQUEST)
            for number in range(3):
                await talk.send(number)
        async with client.open("s.take") as talk:
            key = (await server.record(REQUEST))[1]
            await talk.send(3)
            assert await server.record(ITEM) == [ITEM, key, 0, [3]]


async def test_a_stream_is_used_on_the_loop_that_it_was_made_on(streams: Streams) -> None:
    async with (
        Server(streams.service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
        client.open("s.echo", "") as talk,
    ):
        await talk.send(1)
        for use in (talk.__aenter__, talk.__anext__, talk.result, talk.end, partial(talk.send, 2)):
            with pytest.raises(errors.UsageError, match="belongs to another event loop"):
                await asyncio.to_thread(asyncio.run, use())
        assert await anext(talk) == "1"


@contextlib.asynccontextmanager
async def refused(
    streams: Streams, port: int, *args: Any, **options: Any
) -> AsyncIterator[tuple[Client, aiozpat.Stream[Any], Callable[[], Any]]]:
    """A client, a stream of its that a server which drained has refused, and what starts the successor."""
    at = f"tcp://127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Server(streams.service, bind=at))
        client = await stack.enter_async_context(Client(at))
        await client.ready(PATIENCE)
        closing = asyncio.create_task(first.close())
        stream: aiozpat.Stream[Any] = client.stream(*args, **options)
        async with stream:
            await closing
            yield client, stream, lambda: stack.enter_async_context(Server(streams.service, bind=at))


async def test_a_stream_whose_second_opening_fails_ends_no_other_call(streams: Streams, port: int) -> None:
    @streams.service.method
    async def wait() -> int:
        streams.made += 1
        await streams.gate.wait()
        return 1

    async with refused(streams, port, "s.count", 3, timeout=0.3) as (client, stream, succeed):
        await succeed()
        await client.ready(PATIENCE)
        other = asyncio.create_task(client.call("s.wait", timeout=PATIENCE))
        await until(lambda: streams.made == 1)  # the first call of the new session, as the stream was of its own
        await until(lambda: time.monotonic() > stream._deadline)
        with pytest.raises(errors.DeadlineExceeded):
            await anext(stream)
        await stream.__aexit__(None, None, None)
        assert client.statistics().in_flight == 1
        streams.gate.set()
        assert await asyncio.wait_for(other, PATIENCE) == 1


async def test_one_task_reads_a_stream_that_waits_for_a_session_too(streams: Streams, port: int) -> None:
    async with refused(streams, port, "s.count", 3) as (_, stream, succeed):
        readers = [asyncio.create_task(anext(stream)) for _ in range(2)]
        await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        await succeed()
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(map(type, outcomes), key=str) == [errors.UsageError, int]
        assert [item async for item in stream] == [1, 2]


async def test_whatever_an_iterator_raises_ends_its_call(streams: Streams) -> None:
    class OwnError(BaseException):
        pass

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise OwnError

    async with Server(streams.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(OwnError):
            await client.call("s.total", numbers(), timeout=math.inf)
        await until(lambda: server.statistics().running == 0)
