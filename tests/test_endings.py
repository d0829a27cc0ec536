"""What has ended holds nothing of what it was given, and ends others as it should."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import aiozpat
from aiozpat import Call, Client, Conversation, Limits, Proceed, Retry, Server, Service, errors
from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.outbox import Outbox
from aiozpat.rpc import channel, lifespan
from aiozpat.rpc import server as serving
from tests.raw import GOAWAY, RawServer
from tests.stress.census import census
from tests.support import LOOPBACK, PATIENCE, Calc, until


@dataclass
class Given:
    """A param that can be seen to be gone."""

    number: int


class WordlessError(Exception):
    """An exception of a user's whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@dataclass
class Unwilling:
    """A type that no value is good for."""

    number: int

    def __post_init__(self) -> None:
        raise WordlessError


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Objects go when nothing refers to them, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _there(name: str) -> int:
    """How many objects of a type of the library there are, those that only the collector would find among them."""
    return sum(type(one).__name__ == name and type(one).__module__.startswith("aiozpat.") for one in gc.get_objects())


def _service(seen: list[weakref.ref[Given]]) -> aiozpat.Service:
    service = aiozpat.Service("s")

    @service.method
    async def refuse(given: Given) -> None:
        raise errors.NotFound("there is none")

    @service.method
    async def patient(given: Given) -> int:
        seen.append(weakref.ref(given))
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return given.number

    @service.method
    async def unwilling(value: Unwilling) -> None:
        """Nothing comes here."""

    @service.method
    async def mirror(value: dict[str, int]) -> dict[str, int]:
        return value

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def count() -> AsyncIterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    @service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @service.method
    async def ignore(numbers: AsyncIterator[int]) -> None:
        await asyncio.Event().wait()

    return service


@pytest.mark.usefixtures("no_gc")
async def test_a_call_that_failed_holds_its_params_no_more() -> None:
    async with Server(_service([]), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        given = Given(1)
        ref = weakref.ref(given)
        with contextlib.suppress(errors.NotFound):
            await client.call("s.refuse", given)
        del given
        await asyncio.sleep(0)  # the loop is done with what woke us
        assert ref() is None


@pytest.mark.usefixtures("no_gc")
async def test_a_hedged_call_that_failed_holds_its_params_no_more() -> None:
    retry = Retry(hedge=60.0)
    async with Server(_service([]), bind=LOOPBACK) as server, Client(server.endpoint, retry=retry) as client:
        given = Given(1)
        ref = weakref.ref(given)
        with contextlib.suppress(errors.NotFound):
            await client.call("s.refuse", given, idempotent=True)
        del given
        await until(lambda: ref() is None)


@pytest.mark.usefixtures("no_gc")
async def test_a_stream_that_was_left_holds_its_items_no_more() -> None:
    async with Server(_service([]), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        async with client.stream("s.count") as numbers:
            assert await anext(numbers) == 1
        del numbers
        await until(lambda: not server.statistics().running)
        assert _there("Inbound") == _there("Pending") == 0


async def test_a_handlers_params_go_with_it_whatever_timers_it_had() -> None:
    seen: list[weakref.ref[Given]] = []
    async with Server(_service(seen), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for number in range(5):
            assert await client.call("s.patient", Given(number)) == number
        gc.collect()
        assert [ref() for ref in seen] == [None] * 5


def test_what_waits_for_nobody_is_forgotten() -> None:
    outbox, flow = Outbox(1000), SendFlow(2, 10)
    outbox.add(1, b"call")
    outbox.control(b"ack")
    outbox.pong(1)
    flow.values.append(b"item")
    outbox.begin(flow)
    outbox.clear()
    assert (outbox.pending, outbox.nbytes, flow.values, outbox.peek()) == (False, 0, [], None)
    outbox.drop(flow)  # its call ends a moment later


async def test_an_exception_without_words_ends_its_call_and_no_other() -> None:
    async with Server(_service([]), bind=LOOPBACK) as server, Client(server.endpoint, timeout=PATIENCE) as client:
        with pytest.raises(errors.Internal, match="can't be had"):
            await client.call("s.mirror", {"number": 1}, result_type=Unwilling)
        results = await asyncio.gather(
            client.call("s.unwilling", {"number": 1}),
            *(client.call("s.add", number, 1) for number in range(20)),
            return_exceptions=True,
        )
        assert isinstance(results[0], errors.InvalidArgument)
        assert results[1:] == list(range(1, 21))


async def _read(client: Client, seen: list[int]) -> None:
    with contextlib.suppress(errors.Unavailable):
        async with client.stream("s.count", window=8) as numbers:
            async for number in numbers:
                seen.append(number)  # noqa: PERF401 - so that it can be seen meanwhile


async def _leave_with_streams_open(server: Server) -> None:
    seen: list[int] = []
    async with Client(server.endpoint) as client, asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(_read(client, seen))
        await until(lambda: len(seen) > 200)
        await client.close()
    await until(lambda: not server.statistics().sessions)


async def test_a_client_that_leaves_with_streams_open_is_no_breach() -> None:
    async with Server(_service([]), bind=LOOPBACK) as server:
        for _ in range(5):
            await _leave_with_streams_open(server)
        assert not any(notice.startswith("reset") for notice in server.statistics().notices)


async def test_a_stream_given_to_call_may_pause_as_long_as_the_call_may_last() -> None:
    async def slowly() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.3)  # simulated work, longer than the client's own timeout
        yield 2

    async with Server(_service([]), bind=LOOPBACK) as server, Client(server.endpoint) as first:
        await first.ready()
        async with Client(server.endpoint, timeout=0.1) as client:
            assert await client.call("s.total", slowly(), timeout=PATIENCE) == 3
            assert client.statistics().calls == 1


async def test_who_waits_to_send_when_the_conversation_is_ended_is_told_at_once() -> None:
    async with (
        Server(_service([]), bind=LOOPBACK, limits=Limits(stream_window=1)) as server,
        Client(server.endpoint) as client,
        client.open("s.ignore") as talk,
    ):
        waiting = asyncio.create_task(_send(talk))
        await until(lambda: bool(talk._in_line))
        await talk.end()
        with pytest.raises(errors.Closed, match="end"):
            await asyncio.wait_for(waiting, PATIENCE)


async def _send(talk: Conversation[Any, Any]) -> None:
    while True:
        await talk.send(2)


async def test_interceptors_of_a_plain_function_end_with_its_deadline() -> None:
    ended: list[str] = []

    async def wait(call: aiozpat.Call, proceed: aiozpat.Proceed) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.method)

    service = aiozpat.Service("s")

    @service.method
    def plain() -> int:
        return 1

    async with Server(service, bind=LOOPBACK, interceptors=[wait]) as server, Client(server.endpoint) as client:
        seconds = 0.05
        while not ended:
            with pytest.raises(errors.DeadlineExceeded):
                await client.call("s.plain", timeout=seconds)
            seconds *= 2
        await until(lambda: not server.statistics().running)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_given_up_in_its_thread_is_cancelled_when_that_returns(fails: bool) -> None:
    begun, gate = threading.Event(), threading.Event()
    calls: list[aiozpat.Call] = []
    ended: list[BaseException | None] = []

    async def wait(call: aiozpat.Call, proceed: aiozpat.Proceed) -> None:
        calls.append(call)
        with contextlib.suppress(ValueError):
            await proceed()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ended.append(error)
            raise

    service = aiozpat.Service("s")

    @service.method
    def plain() -> None:
        begun.set()
        gate.wait(PATIENCE)
        if fails:
            raise ValueError

    async with Server(service, bind=LOOPBACK, interceptors=[wait]) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.plain"))
        await until(begun.is_set)
        calling.cancel()
        await until(lambda: calls[0].cancelled)
        assert server.statistics().running == 1
        gate.set()
        await until(lambda: not server.statistics().running)
        assert [type(error) for error in ended] == [asyncio.CancelledError]


async def test_the_end_of_a_server_cancels_again_what_was_cancelled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_CLEANING_UP", 0.01)
    said: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        said.append("closed")

    service = aiozpat.Service("s", lifespan=resource)

    @service.method
    async def stubborn() -> None:
        for step in ("begun", "cancelled"):
            said.append(step)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        said.append("cancelled again")

    async with Server(service, bind=LOOPBACK, grace=0) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.stubborn"))
        await until(lambda: said == ["begun"])
        calling.cancel()
        await until(lambda: said == ["begun", "cancelled"])
    assert said == ["begun", "cancelled", "cancelled again", "closed"]
    assert "call left running" not in server.statistics().notices


async def test_health_is_told_whatever_one_peer_has_in_flight(calc: Calc) -> None:
    limits = Limits(max_calls_per_peer=1)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        holding = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        await client.call("aiozpat.health")
        with pytest.raises(errors.ResourceExhausted):
            await client.call("calc.add", 1, 2)
        calc.gate.set()
        assert await holding == 1


async def test_a_cancelled_close_leaves_the_lifespans_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        state.append("open")
        yield
        state.append("left")

    server = await Server(aiozpat.Service("s", lifespan=lifespan), bind=LOOPBACK).__aenter__()
    listener = server._listener
    assert listener is not None
    close = listener.close

    async def cancelled() -> None:
        await close()
        raise asyncio.CancelledError

    monkeypatch.setattr(listener, "close", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await server.close()
    assert state == ["open", "left"]


class Slow:
    """A service whose handler and lifespan take their time to end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.gate = asyncio.Event()
        self.service = aiozpat.Service("s", lifespan=self._lifespan)
        self.service.method(self.work)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.said.append("leaving")
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.said.append("cut")
                raise LookupError("half closed") from None
            self.said.append("left")

    async def work(self) -> None:
        self.said.append("working")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.said.append("cleaned up")


async def test_a_close_that_is_cancelled_while_lifespans_end_lets_them_end() -> None:
    slow = Slow()
    server = await Server(slow.service, bind=LOOPBACK).__aenter__()
    closing = asyncio.create_task(server.close())
    await until(lambda: slow.said == ["leaving"])
    closing.cancel()
    await asyncio.sleep(0)
    slow.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert slow.said == ["leaving", "left"]


async def test_lifespans_that_do_not_end_are_cut_where_their_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifespan, "_LEAVING", 0.01)
    slow = Slow()
    server = await Server(slow.service, bind=LOOPBACK).__aenter__()
    closing = asyncio.create_task(server.close())
    await until(lambda: slow.said == ["leaving"])
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until(lambda: slow.said == ["leaving", "cut"] and "failed when its end was cancelled" in caplog.text)


async def test_in_a_cancelled_scope_handlers_clean_up_and_then_lifespans_end() -> None:
    slow = Slow()
    slow.gate.set()
    with anyio.CancelScope() as scope:
        async with Server(slow.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            calling = asyncio.create_task(client.call("s.work"))
            await until(lambda: slow.said == ["working"])
            scope.cancel()
            await asyncio.Event().wait()
    assert scope.cancelled_caught
    assert slow.said == ["working", "cleaned up", "leaving", "left"]
    with pytest.raises(errors.Unavailable):
        await calling


async def test_a_cancelled_scope_does_not_cut_the_end_of_lifespans_that_have_begun_to_open() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        said.append("opening")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            said.append("left")
        yield

    async def cancel_when_opening() -> None:
        await until(lambda: said == ["opening"])
        scope.cancel()

    with anyio.CancelScope() as scope:
        cancelling = asyncio.create_task(cancel_when_opening())
        async with Server(aiozpat.Service("s", lifespan=lifespan), bind=LOOPBACK):
            raise AssertionError("it was opened")
    assert said == ["opening", "left"]
    await cancelling


async def test_a_lifespan_that_opens_although_its_start_was_cancelled_ends() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def stubborn() -> AsyncIterator[None]:
        with contextlib.suppress(asyncio.CancelledError):
            said.append("opening")
            await asyncio.Event().wait()
        yield
        said.append("left")

    entering = asyncio.create_task(Server(aiozpat.Service("s", lifespan=stubborn), bind=LOOPBACK).__aenter__())
    await until(lambda: said == ["opening"])
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert said == ["opening", "left"]


async def test_an_interceptor_that_has_left_a_thread_is_cancelled_at_the_deadline() -> None:
    said: list[str] = []
    go = threading.Event()
    service = aiozpat.Service("s")

    async def impatient(call: Call, proceed: Proceed) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await proceed()
        said.append("left it")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    @service.method
    def blocks() -> None:
        go.wait(PATIENCE)

    try:
        async with (
            Server(service, bind=LOOPBACK, interceptors=[impatient]) as server,
            Client(server.endpoint) as client,
        ):
            with pytest.raises(errors.DeadlineExceeded):
                await client.call("s.blocks", timeout=0.3)
            await until(lambda: said == ["left it", "cancelled"])
            go.set()
    finally:
        go.set()


async def test_a_server_told_to_stop_before_its_block_stops(calc: Calc) -> None:
    server = Server(calc.service, bind=LOOPBACK)
    server.stop()
    async with server:
        await asyncio.wait_for(server.serve_forever(), PATIENCE)


async def _turn_away(server: RawServer, number: int) -> None:
    await until(lambda: server.sessions >= number)
    await server.send([GOAWAY, "go"])


async def test_sessions_that_a_server_turns_away_and_does_not_end_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_PAUSE_LEAST": 0.001, "_PAUSE_MOST": 0.001, "_LEAVING_MOST": 2}.items():
        monkeypatch.setattr(channel, name, value)
    async with RawServer() as server, Client(server.endpoint) as client:
        for number in range(1, 10):
            await _turn_away(server, number)
        await until(lambda: len(client._pool.connections) <= 4 and census(("Connection",))["Connection"] <= 4)


async def test_a_client_that_a_handler_opens_and_keeps_holds_nothing_of_that_call() -> None:
    kept: list[Client] = []
    service = aiozpat.Service("lazy")

    @service.method
    async def ask(endpoint: str) -> None:
        kept.append(await Client(endpoint).__aenter__())

    async with Server(_service([]), bind=LOOPBACK) as behind:
        async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            await client.call("lazy.ask", behind.endpoint)
        try:
            await kept[0].ready(PATIENCE)
            assert not _there("Job")
        finally:
            await kept[0].close()


async def test_a_queued_call_has_nothing_of_the_call_that_made_room_for_it() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    services = Service("own"), Service("all")
    for service, own in zip(services, (1, None), strict=True):

        @service.method(max_concurrency=own)
        async def whoami(name: str) -> str:
            before = user.get()
            user.set(name)
            await asyncio.sleep(0)
            return before

    for service, limits in zip(services, (Limits(), Limits(max_concurrency=1)), strict=True):
        async with (
            Server(service, bind=LOOPBACK, limits=limits) as server,
            Client(server.endpoint) as client,
        ):
            calls = (client.call(f"{service.name}.whoami", name) for name in ("ann", "ben", "cid"))
            assert await asyncio.gather(*calls) == ["nobody"] * 3


async def test_sys_exit_in_a_handler_ends_its_call_and_no_other() -> None:
    service = Service("s")

    @service.method
    async def leave() -> None:
        sys.exit("usage: ...")

    @service.method
    def leave_in_a_thread() -> None:
        sys.exit(2)

    @service.method
    async def leave_a_stream() -> AsyncIterator[int]:
        yield 1
        sys.exit(2)

    @service.method
    async def stay() -> int:
        return 1

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for name in ("s.leave", "s.leave_in_a_thread"):
            with pytest.raises(errors.Internal, match="SystemExit"):
                await client.call(name, timeout=PATIENCE)
        with pytest.raises(errors.Internal, match="SystemExit"):
            async with client.stream("s.leave_a_stream") as items:
                async for _ in items:
                    pass
        assert await client.call("s.stay", timeout=PATIENCE) == 1
        await until(lambda: server.statistics().running == 0)


async def test_details_that_cant_be_sent_take_no_others_along(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("s")

    @service.method
    async def fail() -> None:
        raise errors.NotFound("x", details={"n": 1, "numbers": array("d", [1.0]), "what": object()})

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.NotFound) as raised:
            await client.call("s.fail", timeout=PATIENCE)
        assert raised.value.details["n"] == 1
        assert sorted(raised.value.details) == ["n", "numbers"]
        assert "'what', of an error's details, can't be sent" in caplog.text


async def test_what_an_iterator_raises_when_its_stream_is_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("s")

    @service.method
    async def echo(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield number

    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise LookupError("at the end")

    async with (
        Server(service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
        client.stream("s.echo", failing()) as items,
    ):
        assert await anext(items) == 1
    assert "the iterator that was given to s.echo failed after the call had ended" in caplog.text
    assert "at the end" in caplog.text


async def test_what_an_interceptor_raises_behind_a_stream_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("s")

    @service.method
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def failing(call: aiozpat.ClientCall, proceed: aiozpat.Proceed) -> Any:
        await proceed()
        raise LookupError("of an interceptor")

    async with (
        Server(service, bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[failing]) as client,
        client.stream("s.numbers") as items,
    ):
        assert [item async for item in items] == [1]
    assert "an interceptor of s.numbers ended with LookupError('of an interceptor')" in caplog.text


async def test_streams_count_for_the_calls_that_may_be_in_flight() -> None:
    service = Service("s")

    @service.method
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with (
        Server(service, bind=LOOPBACK) as server,
        Client(server.endpoint, max_in_flight=2) as client,
        client.stream("s.numbers") as one,
        client.stream("s.numbers") as two,
    ):
        assert (await anext(one), await anext(two)) == (1, 1)
        with pytest.raises(errors.ResourceExhausted, match="max_in_flight"):
            await client.stream("s.numbers").__aenter__()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_call_without_time_says_so_even_where_there_is_no_connection(port: int, timeout: float) -> None:
    async with Client(f"tcp://127.0.0.1:{port}") as client:
        with pytest.raises(errors.DeadlineExceeded, match="the time for it was over before it began"):
            await client.call("s.numbers", timeout=timeout)
