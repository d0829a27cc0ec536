"""How clients and servers leave: what was sent is read, what handlers need is there to the last."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zmq

import aiozpat
from aiozpat import Client, Limits, Server, Service, errors
from aiozpat.rpc import channel, client_link, listener
from aiozpat.transport.socket import Socket
from tests.raw import ACK, BYE, GOAWAY, PONG, REPLY, REQUEST, RawPeer, RawServer, header, hello
from tests.support import LOOPBACK, PATIENCE, Calc, until

SIZE = 40_000
WINDOW = 64 * 1024  # the smallest: two notifications of that size fill it


class SlowReader(RawServer):
    """A server that acknowledges a message at a time; two fit its window, and take most of a client's patience."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.45) -> None:
        super().__init__(window=WINDOW)
        self._seconds = seconds  # for each message
        self.now = 1000.0
        self.reads = asyncio.Event()
        self.read = 0
        self._bytes = 0
        monkeypatch.setattr(client_link, "_monotonic", lambda: self.now)

    async def _take(self, record: Any) -> None:
        if record[0] == REQUEST:
            await self.reads.wait()
            self.read += 1
            self._bytes += SIZE
            self.now += self._seconds
            await self.send([ACK, self._bytes])
        else:
            await super()._take(record)


async def test_leaving_waits_as_long_as_the_server_goes_on_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SlowReader(monkeypatch) as server, Client(server.endpoint, heartbeat=3600) as client:
        await client.ready(PATIENCE)
        for _ in range(20):
            await client.notify("s.take", "x" * SIZE)
        server.reads.set()
        await asyncio.wait_for(client.close(), PATIENCE)
        assert server.read == 20
        assert not client.statistics().notices


async def test_leaving_takes_a_second_at_least_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SlowReader(monkeypatch, 0.004) as server, Client(server.endpoint, heartbeat=3600, timeout=0.1) as client:
        await client.ready(PATIENCE)
        for _ in range(200):
            await client.notify("s.take", "x" * SIZE, timeout=60)
        server.reads.set()
        await asyncio.wait_for(client.close(), PATIENCE)
        assert server.read == 200
        assert not client.statistics().notices


async def test_leaving_takes_no_longer_than_the_clients_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_link, "_LEAVING", 0.001)  # so that the clock is looked at while the server reads
    async with SlowReader(monkeypatch) as server, Client(server.endpoint, heartbeat=3600, timeout=5.0) as client:
        await client.ready(PATIENCE)
        for _ in range(200):
            await client.notify("s.take", "x" * SIZE, timeout=60)
        server.reads.set()
        await asyncio.wait_for(client.close(), PATIENCE)
        assert client.statistics().notices["notifications lost"] > 10


async def test_notifications_that_wait_when_the_server_drains_are_counted_and_not_sent() -> None:
    async with RawServer(window=WINDOW) as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        for _ in range(10):
            await client.notify("s.take", "x" * SIZE)
        await server.record(REQUEST)
        await server.send([GOAWAY, "draining"], [ACK, 2 * SIZE])
        await until(lambda: "notifications lost" in client.statistics().notices)
        lost = client.statistics().notices["notifications lost"]
        assert lost > 0
        await client.close()
        read = 1 + sum(record[0] == REQUEST for record in server.waiting())
        assert read + lost == 10


async def test_a_drain_that_is_cancelled_leaves_handlers_what_they_need_to_clean_up() -> None:
    order: list[str] = []
    begun, cleaning, clean = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        order.append("lifespan closed")

    service = Service("s", lifespan=lifespan)

    @service.method
    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await clean.wait()
            order.append("rolled back")

    async with Server(service, bind=LOOPBACK, grace=3600) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.work"))
        await begun.wait()
        closing = asyncio.create_task(server.close())
        await until(lambda: server._closed)
        closing.cancel()
        await cleaning.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        clean.set()
        await asyncio.wait({closing, calling})
        calling.exception()
    assert order == ["rolled back", "lifespan closed"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_server_is_entered_once_and_closed_when_it_is(fails: bool) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    opened = 0

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nonlocal opened
        opened += 1
        begun.set()
        await gate.wait()
        if fails and opened == 1:
            raise RuntimeError("not yet")
        yield

    server = Server(Service("s", lifespan=lifespan), bind=LOOPBACK)
    entering = asyncio.create_task(server.__aenter__())
    await begun.wait()
    with pytest.raises(errors.UsageError, match="entered before"):
        await server.__aenter__()
    with pytest.raises(errors.UsageError, match="being entered"):
        await server.close()
    gate.set()
    if fails:
        with pytest.raises(RuntimeError, match="not yet"):
            await entering
        await server.close()  # there is nothing to close
        await server.__aenter__()
    else:
        assert await entering is server
    await server.close()
    assert opened == 1 + fails


@pytest.mark.parametrize("grace", [0, 3600])
async def test_a_handler_can_not_close_its_server_but_a_task_that_it_leaves_can(grace: float) -> None:
    closing: list[asyncio.Task[None]] = []
    service = Service("s")

    @service.method
    async def close(pauses: int) -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)
        await server.close(grace)

    @service.method
    async def close_later() -> None:
        closing.append(asyncio.create_task(server.close(grace)))

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for pauses in range(3):
            with pytest.raises(errors.Internal, match=r"own end: call stop\(\)"):
                await client.call("s.close", pauses)
        await client.call("s.close_later")
        await asyncio.wait_for(closing[0], PATIENCE)


async def test_serve_forever_may_be_called_again_after_it_was_cancelled(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.serve_forever(), 0.01)


async def test_what_a_lifespan_raises_when_its_start_is_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("half open") from None
        yield

    service = Service("s", lifespan=lifespan)
    service.method(name="f")(_nothing)
    opening = asyncio.create_task(Server(service, bind=LOOPBACK).__aenter__())
    await begun.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert "half open" in caplog.text


async def _nothing() -> None:
    """Do nothing."""


async def test_a_client_that_could_not_be_entered_can_be_closed_and_entered() -> None:
    client = Client(["tcp://127.0.0.1:9", "ipc:///tmp/" + "x" * 200])
    for _ in range(2):
        with pytest.raises(aiozpat.AiozpatError):
            await client.__aenter__()
        await client.close()
        assert not client._pool._channels


async def test_a_task_that_a_handler_leaves_behind_is_not_bound_by_the_handlers_deadline(calc: Calc) -> None:
    left: list[asyncio.Task[int]] = []
    may_go = asyncio.Event()
    service = Service("front")

    async with Server(calc.service, bind=LOOPBACK) as behind, Client(behind.endpoint) as inner:

        async def later() -> int:
            await may_go.wait()
            await inner.notify("calc.add", 1, 2)
            assert aiozpat.current_call().time_left > 1e9
            return await inner.call("calc.add", 1, 2, result_type=int)

        @service.method
        async def start() -> float:
            left.append(asyncio.create_task(later()))
            return aiozpat.current_call().time_left

        async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            assert await client.call("front.start", timeout=PATIENCE, result_type=float) <= PATIENCE
            may_go.set()
            assert await asyncio.wait_for(left[0], PATIENCE) == 3


async def test_a_stream_without_a_timeout_has_no_deadline(calc: Calc) -> None:
    service = Service("s")

    @service.method
    async def left() -> AsyncIterator[float]:
        yield aiozpat.current_call().time_left

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for timeout, seconds in ((None, float("inf")), (1e12, float("inf")), (60.0, 60.0)):
            async with client.stream("s.left", timeout=timeout, item_type=float) as items:
                assert seconds - 30 <= await anext(items) <= seconds


async def test_a_thread_that_outlives_its_server_still_sees_its_deadline() -> None:
    service = Service("s")
    begun, may_look, ended = threading.Event(), threading.Event(), threading.Event()
    left: list[float] = []

    @service.method
    def work() -> None:
        begun.set()
        may_look.wait(PATIENCE)
        left.append(aiozpat.current_call().time_left)
        ended.set()

    async with Server(service, bind=LOOPBACK, grace=0) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("s.work", timeout=PATIENCE))
        await asyncio.to_thread(begun.wait, PATIENCE)
        await server.close()
        with pytest.raises(errors.RpcError):
            await calling
    may_look.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)
    assert left[0] <= PATIENCE


async def test_notifications_keep_their_order_among_calls(calc: Calc) -> None:
    seen: list[int] = []
    service = Service("s")

    @service.method
    async def note(number: int) -> None:
        seen.append(number)

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        await asyncio.gather(client.notify("s.note", 1), client.call("s.note", 2), client.notify("s.note", 3))
        await until(lambda: len(seen) == 3)
    assert seen == [1, 2, 3]


async def test_a_goodbye_is_one_even_if_it_is_read_when_its_sender_is_gone(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK, heartbeat=3600) as server:
        async with RawPeer(server.endpoint) as peer:
            await peer.open()
            await peer.send(header([REQUEST, 0, 0, "calc.hold", 60_000, [1]]))
            await until(lambda: calc.started == [1])
            assert server._listener is not None
            socket = server._listener.socket
            socket.pause()  # as if the loop stood still
            await peer.send(header([BYE, ""]))
            await until(lambda: bool(socket._events() & zmq.POLLIN))
        await until(lambda: not server.statistics().sessions)
        calc.gate.set()
        await until(lambda: server.statistics().running == 0)
        assert (calc.finished, calc.cancelled) == ([1], [])


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_what_follows_a_bye_in_its_message_is_ignored_in_every_codec(calc: Calc, codec: str) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open(codec=codec)
        await peer.send(header([BYE, ""], [GOAWAY, "and more"], hello()))
        assert await peer.records() == [[BYE, ""]]
        await peer.open()
        assert not server.statistics().notices


async def test_leaving_does_not_wait_long_for_a_server_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_GOODBYE", 0.05)
    async with RawServer(window=WINDOW) as server, Client(server.endpoint, timeout=3600) as client:
        await client.ready(PATIENCE)
        for _ in range(10):
            await client.notify("s.take", "x" * SIZE)
        await asyncio.wait_for(client.close(), PATIENCE)
        assert client.statistics().notices["notifications lost"] > 0


async def test_who_reads_however_little_is_borne_with_and_who_reads_nothing_is_dropped(
    calc: Calc, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(listener, "_monotonic", lambda: now[0])
    limits = Limits(window_bytes=WINDOW, slow_peer_seconds=10)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits, heartbeat=3600) as server,
        RawPeer(server.endpoint) as peer,
    ):
        await peer.open(limits={"window": WINDOW})
        for number in (1, 2, 3):
            await peer.send(header([REQUEST, number, 0, "calc.echo", 60_000, [bytes(SIZE)]]))
        await peer.record(REPLY)
        assert server._listener is not None
        (session,) = server._listener.sessions.values()
        await until(lambda: session.stuck_since is not None)  # the last waits for the window
        for acknowledged in range(100, 700, 100):
            now[0] += 6
            await peer.send(header([ACK, acknowledged]))
            await until(lambda: session.outbox.acked == acknowledged)  # noqa: B023 - it is waited for here
            server._listener._tick()
        assert "slow peer dropped" not in server.statistics().notices
        now[0] += 11
        server._listener._tick()
        assert server.statistics().notices["slow peer dropped"] == 1


async def test_answers_that_wait_for_the_window_are_read_before_the_servers_goodbye(calc: Calc) -> None:
    limits = Limits(window_bytes=WINDOW)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits, heartbeat=3600, grace=PATIENCE) as server,
        RawPeer(server.endpoint) as peer,
    ):
        await peer.open(limits={"window": WINDOW})
        numbers = range(1, 11)
        for number in numbers:
            await peer.send(header([REQUEST, number, 0, "calc.echo", 60_000, [bytes(SIZE)]]))
        answered = [(await peer.record(REPLY))[1] for _ in range(2)]  # as many as the window takes
        assert server._listener is not None
        (session,) = server._listener.sessions.values()
        await until(lambda: len(session.outbox) == 8 and session.stuck_since is not None)  # all others are there
        closing = asyncio.create_task(server.close())
        await peer.record(GOAWAY)
        while True:
            await peer.send(header([PONG, 1 << 30], [ACK, session.outbox.sent]))
            record = await peer.record(REPLY, BYE)
            if record[0] == BYE:
                break
            answered.append(record[1])
        await peer.send(header([BYE, ""]))
        await closing
    assert answered == list(numbers)


async def test_a_connection_that_seems_to_be_there_still_is_looked_at_again(
    calc: Calc, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = False
    pretended = 0
    send_to = Socket.send_to

    def believing(socket: Socket, identity: bytes, payload: bytes) -> bool:
        nonlocal pretended
        if closed and pretended < 2:
            pretended += 1
            return True
        return send_to(socket, identity, payload)

    monkeypatch.setattr(Socket, "send_to", believing)
    async with Server(calc.service, bind=LOOPBACK, heartbeat=3600) as server:
        async with RawPeer(server.endpoint) as peer:
            await peer.open()
            await peer.send(header([REQUEST, 1, 0, "calc.hold", 60_000, [1]]))
            await until(lambda: calc.started == [1])
            closed = True
        await until(lambda: calc.cancelled == [1])
        assert pretended == 2
        assert server.statistics().sessions == 0


async def test_a_lifespan_whose_start_is_cancelled_has_the_time_that_it_needs_to_clean_up() -> None:
    begun = asyncio.Event()
    clean: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            clean.append("up")
        yield

    service = Service("s", lifespan=lifespan)
    service.method(name="f")(_nothing)
    opening = asyncio.create_task(Server(service, bind=LOOPBACK).__aenter__())
    await begun.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert clean == ["up"]


@pytest.mark.parametrize(
    ("grace", "error"), [("2", TypeError), ([], TypeError), (-1, ValueError), (math.nan, ValueError)]
)
async def test_a_grace_that_is_none_ends_no_calls(calc: Calc, grace: Any, error: type[Exception]) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        calling = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        with pytest.raises(error, match="grace is a number from 0 up"):
            await server.close(grace=grace)
        calc.gate.set()
        assert await calling == 1


async def test_a_lifespan_that_is_no_context_manager_is_an_error_that_says_what_to_do() -> None:
    async def lifespan() -> AsyncIterator[None]:
        yield

    service = Service("s", lifespan=lifespan)  # type: ignore[arg-type]  # that is what people forget
    service.method(name="f")(_nothing)
    with pytest.raises(errors.UsageError, match=r"the lifespan of s gives .*: decorate it with contextlib"):
        await Server(service, bind=LOOPBACK).__aenter__()
