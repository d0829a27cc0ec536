"""Streams of the blocking client: both ways, from plain iterators, by stubs; and how each of them ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pytest

import aiozpat
from aiozpat import Limits, errors
from aiozpat.sync import Client
from aiozpat.sync.background import Lease
from tests.blocking import Serving, serving, until
from tests.blocking import loops as loops
from tests.support import PATIENCE


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
        finally:
            seen.ended.append("count")

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
    async def points(n: int) -> AsyncIterator[Point]:
        for number in range(n):
            yield Point(number)

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
    async def ignore(numbers: AsyncIterator[int]) -> int:
        await seen.gate.wait()
        return len([number async for number in numbers])

    @service.method
    async def echo(prefix: str, items: AsyncIterator[Any], *, suffix: str = "") -> AsyncIterator[Any]:
        async for item in items:
            yield f"{prefix}{item}{suffix}" if isinstance(item, (int, str)) else item

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def size(numbers: list[int]) -> int:
        return len(numbers)

    return seen


@pytest.fixture
def server(streams: Streams) -> Iterator[Serving]:
    with serving(streams.service) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with Client(server.endpoint) as entered:
        entered.ready(PATIENCE)
        yield entered


# Replies


def test_items_come_in_order_and_all(client: Client, server: Serving) -> None:
    for count in (0, 1, 127, 128, 129, 5000):
        with client.stream("s.count", count, item_type=int) as items:
            assert list(items) == list(range(count))
            assert list(items) == []
    for window in (1, 2, 65_536):
        with client.stream("s.count", params={"n": 500, "start": 100}, window=window) as items:
            assert list(items) == list(range(100, 500))
    with client.stream("s.points", 2, item_type=Point) as points:
        assert list(points) == [Point(0), Point(1)]
    assert server.server.statistics().running == 0
    assert client.statistics().in_flight == 0


def test_a_slow_consumer_stops_the_producer_within_the_window(client: Client, streams: Streams) -> None:
    for window in (50, 1):
        streams.made = 0
        with client.stream("s.count", 10**9, window=window) as items:
            for taken in range(1, 301):
                assert next(items) == taken - 1
                if taken % 100 == 0:
                    client.call("s.add", 1, 1)  # what was under way has arrived
                    assert streams.made <= taken + window
        until(lambda: streams.ended)
        streams.ended.clear()


def test_leaving_the_block_ends_the_handler(client: Client, streams: Streams, server: Serving) -> None:
    with client.stream("s.count", 10**9) as items:
        for item in items:
            if item == 1000:
                break
    until(lambda: streams.ended == ["count"])
    stream = client.stream("s.hold")
    assert repr(stream) == "<aiozpat.sync.Stream of s.hold, new>"
    with pytest.raises(ZeroDivisionError), stream:
        assert next(stream) == 1
        assert repr(stream) == "<aiozpat.sync.Stream of s.hold, open>"
        raise ZeroDivisionError
    until(lambda: streams.ended == ["count", "cancelled"])
    with pytest.raises(errors.Closed, match="was left"):
        next(stream)
    with pytest.raises(errors.UsageError, match="entered before"):
        stream.__enter__()
    assert server.server.statistics().running == 0


def test_another_thread_that_leaves_the_block_ends_a_waiting_read(client: Client, streams: Streams) -> None:
    with ThreadPoolExecutor(1) as pool:
        with client.stream("s.hold") as items:
            assert next(items) == 1
            reading = pool.submit(next, items)
            until(lambda: items._reading.locked())
        assert isinstance(reading.exception(PATIENCE), errors.Closed)


def test_an_error_comes_after_the_items_before_it(client: Client) -> None:
    for count in (0, 1, 200):
        got: list[int] = []
        with pytest.raises(errors.OutOfRange, match="no more") as caught, client.stream("s.fail_after", count) as items:
            got.extend(items)
        assert got == [] or got == list(range(count))
        assert caught.value.details == {"n": count}


def test_a_stream_waits_for_an_item_no_longer_than_its_times(client: Client, streams: Streams) -> None:
    each: list[dict[str, Any]] = [{"idle_timeout": 0.1}, {"timeout": 0.3}]
    for options in each:
        with pytest.raises(errors.DeadlineExceeded), client.stream("s.hold", **options) as items:
            for item in items:
                assert item == 1
        until(lambda: streams.ended)
        streams.ended.clear()


def test_threads_share_the_items_of_one_stream(client: Client) -> None:
    with client.stream("s.count", 5000, window=64) as items, ThreadPoolExecutor(8) as pool:
        shares = [share.result(PATIENCE) for share in [pool.submit(list, items) for _ in range(8)]]
    assert sorted(item for share in shares for item in share) == list(range(5000))
    for share in shares:
        assert share == sorted(share)


def test_what_cant_be_right_is_said(client: Client, streams: Streams) -> None:
    with pytest.raises(errors.UsageError, match="inside its block"):
        next(client.stream("s.count", 1))
    with pytest.raises(errors.UsageError, match="inside its block"):
        client.open("s.total").send(1)
    with pytest.raises(ValueError, match="window is a whole number"), client.stream("s.count", 1, window=0):
        pass
    with pytest.raises(errors.UsageError, match=r"by send\(\)"), client.open("s.total", iter([1])):
        pass
    with pytest.raises(errors.Unimplemented, match=r"use stream\(\)"):
        client.call("s.count", 1)
    with pytest.raises(errors.UsageError, match="one stream"):
        client.call("s.total", iter([1]), iter([2]))


def test_a_stream_of_a_closed_client_has_ended(server: Serving, streams: Streams) -> None:
    with Client(server.endpoint) as client:
        items = client.stream("s.hold").__enter__()
        assert next(items) == 1
    with pytest.raises(errors.Closed):
        next(items)
    items.__exit__(None, None, None)
    until(lambda: streams.ended == ["cancelled"])


def test_a_stream_that_nobody_left_ends_the_handler_and_says_so(client: Client, streams: Streams) -> None:
    items = client.stream("s.hold").__enter__()
    assert next(items) == 1
    with pytest.warns(ResourceWarning, match="left open; use `with`"):  # noqa: PT031 - with the collection
        del items  # the loop's thread may hold it for a moment yet
        until(lambda: gc.collect() >= 0 and streams.ended == ["cancelled"])
    until(lambda: client.statistics().in_flight == 0)
    used_up = client.stream("s.count", 1).__enter__()
    assert list(used_up) == [0]
    del used_up  # no warning: there is nothing left to end
    gc.collect()


def test_dropping_a_stream_closes_the_iterator_that_it_sends(client: Client) -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = client.stream("s.echo", "", source()).__enter__()
    assert next(items) == "1"
    with pytest.warns(ResourceWarning, match="left open"):  # noqa: PT031 - with the collection
        del items  # the loop's thread may hold it for a moment yet
        until(lambda: gc.collect() >= 0 and closed.is_set())


# Streams from plain iterators


def test_an_iterator_among_the_params_is_sent_item_by_item(client: Client) -> None:
    for count in (0, 1, 1000):
        assert client.call("s.total", iter(range(count)), 5, result_type=int) == sum(range(count)) + 5
    assert client.call("s.total", params={"start": 1, "numbers": (n for n in range(3))}) == 4
    with client.stream("s.echo", "<", map(str, range(300))) as items:
        assert list(items) == [f"<{number}" for number in range(300)]
    with client.stream("s.echo", params={"prefix": "<", "items": iter("ab"), "suffix": ">"}) as items:
        assert list(items) == ["<a>", "<b>"]
    assert client.call("s.size", [1, 2, 3]) == 3  # a list is a value


def test_an_iterator_is_pulled_in_a_thread_of_its_own_with_the_callers_context(client: Client) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[tuple[str, str]] = []

    def source() -> Iterator[int]:
        seen.append((threading.current_thread().name, who.get()))
        yield client.call("s.add", 1, 2)  # it may block

    token = who.set("me")
    assert client.call("s.total", source()) == 3
    who.reset(token)
    assert seen == [("aiozpat-sync-source", "me")]
    until(lambda: "aiozpat-sync-source" not in {thread.name for thread in threading.enumerate()})


def test_each_item_is_sent_when_it_is_there(client: Client) -> None:
    asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with client.stream("s.echo", "re: ", iter(asked.get, None)) as answers:
        for number in range(50):
            asked.put(f"{number}")
            assert next(answers) == f"re: {number}"
        asked.put(None)
        assert list(answers) == []


def test_a_handler_that_does_not_read_stops_the_iterator(streams: Streams) -> None:
    pulled = 0

    def source() -> Iterator[int]:
        nonlocal pulled
        for number in range(1000):
            pulled += 1
            yield number

    with (
        serving(streams.service, limits=Limits(stream_window=20)) as server,
        Client(server.endpoint) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.call, "s.ignore", source())
        until(lambda: pulled >= 20 + 64)
        for _ in range(20):
            client.call("s.add", 1, 1)
        assert pulled <= 20 + 64 + 2  # what the server takes, what is pulled ahead, and one in each hand
        server.soon(streams.gate.set)
        assert call.result(PATIENCE) == 1000


def test_an_iterator_is_closed_when_its_call_has_ended(client: Client) -> None:
    closed = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    assert client.call("s.first", endless()) == 1
    until(lambda: closed == ["aiozpat-sync-source"])
    with client.stream("s.echo", "", endless()) as items:
        assert next(items) == "1"
    until(lambda: len(closed) == 2)
    waits, stuck = threading.Event(), threading.Event()

    def blocking() -> Iterator[int]:
        try:
            yield 1
            waits.set()
            stuck.wait()
            yield 2
        finally:
            closed.append("late")

    with client.stream("s.echo", "", blocking()) as items:
        assert next(items) == "1"
        until(waits.is_set)
    assert "late" not in closed  # the end of the block does not wait for the iterator
    stuck.set()
    until(lambda: closed[2:] == ["late"])


class Unlikely(BaseException):
    """No Exception, and not of asyncio's."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LookupError, LookupError),
        (RuntimeError, RuntimeError),
        (SystemExit, errors.UsageError),
        (Unlikely, errors.UsageError),
        (StopAsyncIteration, errors.UsageError),
        (asyncio.CancelledError, errors.UsageError),
    ],
    ids=lambda value: value.__name__,
)
def test_an_iterator_that_fails_ends_the_call_and_its_error_reaches_the_caller(
    client: Client, server: Serving, kind: type[BaseException], expected: type[Exception]
) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise kind("the source ran dry")

    with pytest.raises(expected, match="ran dry"):
        client.call("s.total", failing())
    with pytest.raises(expected, match="ran dry"), client.stream("s.echo", "", failing()) as items:
        list(items)
    until(lambda: server.server.statistics().running == 0)
    assert client.call("s.add", 1, 2) == 3


# Conversations


def test_a_conversation_goes_back_and_forth(client: Client) -> None:
    with client.open("s.echo", "re: ", item_type=str) as talk:
        for number in range(50):
            talk.send(number)
            assert next(talk) == f"re: {number}"
        talk.end()
        talk.end()
        assert list(talk) == []
        assert talk.result() is None
        with pytest.raises(errors.Closed, match=r"end\(\) was called"):
            talk.send(1)
    with client.open("s.echo", "", item_type=bytes) as exchange:
        for size in (1 << 20, 1 << 20, 500_000, 600_000, 500_000):
            exchange.send(b"x" * size)
            assert len(next(exchange)) == size
    with client.open("s.total", result_type=int) as talk:
        for number in range(100):
            talk.send(number)
        talk.end()
        assert talk.result() == sum(range(100))
    with pytest.raises(errors.InvalidArgument, match="can't be encoded"), client.open("s.echo", "") as talk:
        talk.send(object())
    with pytest.raises(errors.Closed, match="was left"):
        talk.send(1)


def test_one_thread_sends_while_another_reads(client: Client) -> None:
    with client.open("s.echo", "") as talk, ThreadPoolExecutor(3) as pool:

        def send(numbers: range) -> None:
            for number in numbers:
                talk.send(number)

        reading = pool.submit(lambda: [next(talk) for _ in range(1000)])
        sending = [pool.submit(send, range(0, 1000, 2)), pool.submit(send, range(1, 1000, 2))]
        for sent in sending:
            sent.result(PATIENCE)
        got = [int(item) for item in reading.result(PATIENCE)]
    assert sorted(got) == list(range(1000))
    assert [number for number in got if number % 2] == list(range(1, 1000, 2))


# Stubs


class Api:
    """What the service above does, in part."""

    async def add(self, a: int, b: int) -> int:
        raise NotImplementedError

    def count(self, n: int, start: int = 0) -> AsyncIterator[int]:
        raise NotImplementedError

    def points(self, n: int) -> AsyncIterator[Point]:
        raise NotImplementedError

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        raise NotImplementedError

    def echo(self, prefix: str, items: AsyncIterator[Any], *, suffix: str = "") -> AsyncIterator[str]:
        raise NotImplementedError


def test_a_stubs_methods_block(client: Client, streams: Streams) -> None:
    api = client.stub(Api, "s")
    assert repr(api).startswith("<stub of Api by <aiozpat.sync.Client of tcp")
    assert api.add.__name__ == "add"
    assert api.add(1, 2) == api.add(b=2, a=1) == api.add(1, b=2) == 3
    assert list(api.count(300)) == list(range(300))
    assert list(api.points(n=2)) == [Point(0), Point(1)]
    assert api.total([1, 2, 3], 4) == api.total(start=4, numbers=(n for n in (1, 2, 3))) == 10
    assert list(api.echo("<", ["a", "b"], suffix=">")) == ["<a>", "<b>"]
    with pytest.raises(errors.InvalidArgument, match="missing a required"):
        api.add(1)
    with pytest.raises(errors.InvalidArgument, match="got `str`"):
        api.add("1", 2)
    with pytest.raises(errors.DeadlineExceeded):
        list(client.stub(Api, "s", timeout=1e-9).count(3))
    with pytest.raises(errors.UsageError, match="no public methods"):
        client.stub(object)
    assert isinstance(api, Api)


def test_a_stubs_stream_ends_when_it_is_used_up_dropped_or_closed(client: Client, streams: Streams) -> None:
    api = client.stub(Api, "s")
    for number in api.count(10**9):
        if number == 3:
            break
    until(lambda: len(streams.ended) == 1)
    with contextlib.closing(api.count(10**9)) as items:
        assert next(items) == 0
    until(lambda: len(streams.ended) == 2)
    with api.count(10**9) as items:
        assert next(items) == 0
    until(lambda: len(streams.ended) == 3)
    used_up = api.count(2)
    assert list(used_up) == [0, 1]
    assert list(used_up) == []
    never = api.count(1)
    never.close()
    assert list(never) == []
    until(lambda: client.statistics().in_flight == 0)


def test_a_stub_outlives_the_name_of_its_client(server: Serving) -> None:
    def make() -> Callable[[int, int], int]:
        client = Client(server.endpoint).__enter__()
        stack.callback(client.close)
        return client.stub(Api, "s").add  # type: ignore[no-any-return]

    with contextlib.ExitStack() as stack:
        add = make()
        gc.collect()
        assert add(1, 2) == 3


def test_a_stubs_stream_that_two_threads_read_opens_once(client: Client, streams: Streams) -> None:
    api = client.stub(Api, "s")
    for _ in range(20):
        streams.made = 0
        items, both = api.count(5), threading.Barrier(2)

        def read(items: Iterator[int] = items, both: threading.Barrier = both) -> list[int]:
            both.wait(PATIENCE)
            return list(items)

        with ThreadPoolExecutor(2) as pool:
            got = [future.result(PATIENCE) for future in [pool.submit(read) for _ in range(2)]]
        assert sorted(got[0] + got[1]) == list(range(5))
        until(lambda: client.statistics().in_flight == 0)
        assert streams.made == 5


def test_a_result_is_waited_for_with_everything_read_that_was_fetched() -> None:
    service = aiozpat.Service("s")

    @service.method
    async def talk(items: AsyncIterator[int]) -> AsyncIterator[int]:
        for number in range(4):
            yield number
        async for _ in items:
            pass
        for number in range(3):
            yield number

    with (
        serving(service) as server,
        Client(server.endpoint) as client,
        client.open("s.talk", window=4, timeout=PATIENCE) as talking,
    ):
        assert [next(talking) for _ in range(4)] == [0, 1, 2, 3]
        talking.end()
        assert talking.result() is None


def test_what_was_not_read_inside_the_block_is_not_to_be_had_behind_it(streams: Streams) -> None:
    with serving(streams.service) as server, Client(server.endpoint) as client:
        with client.stream("s.count", 50) as items:
            assert next(items) == 0
            until(lambda: streams.made == 50)
            assert next(items) == 1
            assert next(items) == 2
        with pytest.raises(errors.Closed):
            next(items)


def test_who_is_interrupted_while_a_stream_opens_leaves_none_open(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Lease.run

    def interrupted(lease: Lease, function: object) -> None:
        monkeypatch.setattr(Lease, "run", run)
        run(lease, function)  # type: ignore[arg-type]  # whatever it is
        raise KeyboardInterrupt

    with serving(streams.service) as server, Client(server.endpoint) as client:
        items = client.stream("s.hold")
        monkeypatch.setattr(Lease, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            items.__enter__()
        until(lambda: client.statistics().in_flight == 0)
        assert "left" in repr(items)


def test_what_one_thread_has_fetched_is_there_for_others_that_wait_to_read(streams: Streams) -> None:
    service = aiozpat.Service("held")
    makes, ends = asyncio.Event(), asyncio.Event()

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        await makes.wait()
        for number in range(n):
            yield number
        await ends.wait()

    with (
        serving(service) as server,
        Client(server.endpoint) as client,
        client.stream("held.count", 10) as items,
        ThreadPoolExecutor(3) as threads,
    ):
        reading = [threads.submit(next, items) for _ in range(3)]
        until(lambda: len(items._reading._waiters or ()) == 2)
        server.soon(makes.set)
        try:
            assert sorted(read.result(PATIENCE) for read in reading) == [0, 1, 2]
        finally:
            server.soon(ends.set)


def test_who_sends_has_said_that_all_it_got_was_read(streams: Streams) -> None:
    service = aiozpat.Service("twice")

    @service.method
    async def each(items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            for _ in range(2):
                yield item

    with (
        serving(service, limits=Limits(stream_window=1)) as server,
        Client(server.endpoint) as client,
        client.open("twice.each", window=4, timeout=5) as talk,
    ):
        talk.send(0)
        assert [next(talk) for _ in range(2)] == [0] * 2
        for number in (1, 2, 3):  # for the last, the handler must have made both for the first
            talk.send(number)
        talk.end()
        assert list(talk) == [1] * 2 + [2] * 2 + [3] * 2
