"""Unary calls between a Server and a Client in one process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import re
import signal
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zmq

import aiozpat
from aiozpat import Client, ClientState, Limits, Server, errors
from aiozpat.interceptors import RateLimit
from aiozpat.rpc import executor
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.listener import Listener
from aiozpat.rpc.states import StateChanges
from tests.support import LOOPBACK, PATIENCE, Calc, until

MIB = 1024 * 1024


def listener_of(server: Server) -> Listener:
    """The sessions of a server."""
    assert server._listener is not None
    return server._listener


@dataclasses.dataclass
class Point:
    x: int
    y: int


async def test_params_by_position_by_name_and_by_default(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("calc.add", 1, 2, result_type=int) == 3
        assert await client.call("calc.add", params={"b": 5, "a": 1}) == 6
        assert await client.call("calc.add", 1) == 1


async def test_results_are_decoded_into_the_type_asked_for() -> None:
    service = aiozpat.Service("shapes")

    @service.method
    async def move(point: Point, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("shapes.move", Point(1, 2), 3, result_type=Point) == Point(4, 5)
        assert await client.call("shapes.move", Point(1, 2), 3) == {"x": 4, "y": 5}
        with pytest.raises(errors.Internal, match="not what was asked for"):
            await client.call("shapes.move", Point(1, 2), 3, result_type=int)


async def test_answers_come_as_they_get_done_not_in_order() -> None:
    service = aiozpat.Service("slow")
    order: list[float] = []

    @service.method
    async def work(seconds: float) -> float:
        await asyncio.sleep(seconds)  # simulated work
        return seconds

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:

        async def ask(seconds: float) -> None:
            order.append(await client.call("slow.work", seconds, result_type=float))

        await client.ready()
        start = time.monotonic()
        await asyncio.gather(ask(0.3), ask(0.2), ask(0.1))
        assert order == [0.1, 0.2, 0.3]
        assert time.monotonic() - start < 0.6  # one after the other it would be 0.6 at least


async def test_several_services_on_several_endpoints(calc: Calc) -> None:
    other = aiozpat.Service("other")

    @other.method
    async def hello(name: str) -> str:
        return f"hello {name}"

    async with Server(calc.service, other, bind=[LOOPBACK, LOOPBACK]) as server:
        assert len(set(server.endpoints)) == 2
        for endpoint in server.endpoints:
            async with Client(endpoint) as client:
                assert await client.call("other.hello", "you") == "hello you"
                assert await client.call("calc.add", 1, 1) == 2


async def test_a_plain_function_runs_in_a_thread_and_sees_its_call() -> None:
    service = aiozpat.Service("threads")

    @service.method
    def where() -> list[str]:
        return [threading.current_thread().name, aiozpat.current_call().method]

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        thread, method = await client.call("threads.where", result_type=list[str])
    assert thread != threading.current_thread().name
    assert method == "threads.where"


async def test_metadata_deadline_and_peer_are_seen_by_the_handler() -> None:
    service = aiozpat.Service("who")

    @service.method
    async def asks() -> tuple[str, dict[str, str], float]:
        call = aiozpat.current_call()
        return call.peer, dict(call.metadata), call.time_left

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, name="tester") as client:
        peer, metadata, left = await client.call("who.asks", metadata={"traceparent": "00-ab"}, timeout=9)
        assert peer.startswith("tester/")
        assert metadata == {"traceparent": "00-ab"}
        assert 0 < left <= 9.1
    with pytest.raises(errors.UsageError, match="inside a handler"):
        aiozpat.current_call()


async def test_metadata_is_bounded_text(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        most = {"a": "x" * (16 * 1024 - 1)}
        assert await client.call("calc.add", 1, metadata=most) == 1
        with pytest.raises(errors.InvalidArgument, match="16385 bytes of metadata"):
            await client.call("calc.add", 1, metadata={"ab": "x" * (16 * 1024 - 1)})
        with pytest.raises(errors.InvalidArgument, match="metadata is text by name"):
            await client.notify("calc.add", 1, metadata={"a": b"b"})  # type: ignore[dict-item]  # the mistake
        with pytest.raises(errors.InvalidArgument, match="metadata is text by name"):
            async with client.stream("calc.add", 1, metadata={1: "b"}):  # type: ignore[dict-item]  # the mistake
                pass


async def test_notify_runs_without_an_answer_and_before_the_client_has_gone(calc: Calc) -> None:
    calc.gate.set()
    async with Server(calc.service, bind=LOOPBACK) as server:
        async with Client(server.endpoint) as client:
            for number in range(100):
                await client.notify("calc.hold", number)
        await until(lambda: len(calc.finished) == 100)
        assert calc.finished == list(range(100))


async def test_a_loop_of_notifies_leaves_others_their_turns(calc: Calc) -> None:
    calc.gate.set()
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        turning = asyncio.create_task(take_turns())
        for number in range(1000):
            await client.notify("calc.hold", number)
        assert turns >= 10
        turning.cancel()
        await until(lambda: len(calc.finished) == 1000)


async def test_a_notification_outlives_its_client_but_not_its_deadline(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        async with Client(server.endpoint) as client:
            await client.notify("calc.hold", 1)
            await client.notify("calc.hold", 2, timeout=1.0)
            call = asyncio.create_task(client.call("calc.hold", 3))
            await until(lambda: calc.started == [1, 2, 3])
        with pytest.raises(errors.Unavailable, match="was closed"):
            await call
        await until(lambda: sorted(calc.cancelled) == [2, 3])
        calc.gate.set()
        await until(lambda: calc.finished == [1])
        assert server.statistics().running == 0


async def test_a_notification_that_waits_outlives_its_client_and_is_forgotten_at_its_deadline(calc: Calc) -> None:
    limits = aiozpat.Limits(max_concurrency=1)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as other:
        running = asyncio.create_task(other.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        async with Client(server.endpoint) as client:
            await client.notify("calc.hold", 2, timeout=0.5)
        executor = listener_of(server).executor
        assert executor is not None
        await until(lambda: server.statistics().sessions == 1 and server.statistics().queued == 0)
        assert executor._orphans == {}
        assert not executor._watched
        calc.gate.set()
        assert await running == 1
        assert calc.started == [1]


@pytest.mark.parametrize(
    ("method", "params", "error", "says"),
    [
        ("calc.nope", (), errors.Unimplemented, "no method 'nope'"),
        ("nowhere.add", (), errors.Unimplemented, "no service 'nowhere'"),
        ("add", (), errors.Unimplemented, "that of its service, a dot and its own; got 'add'"),
        ("calc.add", (), errors.InvalidArgument, r"calc\.add\(a, b\): a missing"),
        ("calc.add", (1, 2, 3), errors.InvalidArgument, "it takes 2 params, and got 3"),
        ("calc.add", ("one",), errors.InvalidArgument, r"Expected `int`, got `str` - at `\$.a`"),
        ("calc.add", {"a": 1, "c": 2}, errors.InvalidArgument, "unknown field `c`"),
        ("calc.fail", ("value",), errors.Internal, "ValueError: that went wrong"),
        ("calc.fail", ("precondition",), errors.FailedPrecondition, "not now"),
        ("calc.fail", ("cancel",), errors.Cancelled, "cancelled"),
        ("calc.unencodable", (), errors.Internal, "can't be encoded"),
    ],
)
async def test_each_failure_has_its_code_and_the_server_serves_on(
    calc: Calc, method: str, params: tuple[object, ...] | dict[str, object], error: type[errors.RpcError], says: str
) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(error, match=says) as raised:
            if isinstance(params, dict):
                await client.call(method, params=params)
            else:
                await client.call(method, *params)
        assert raised.value.code == error.code
        assert await client.call("calc.add", 1, 2) == 3
        ran = error not in (errors.Unimplemented, errors.InvalidArgument)
        assert server.statistics().notices == ({} if ran else {"bad request": 1})


async def test_details_travel_and_a_traceback_only_where_allowed(calc: Calc) -> None:
    for allowed in (False, True):
        async with (
            Server(calc.service, bind=LOOPBACK, send_tracebacks=allowed) as server,
            Client(server.endpoint) as client,
        ):
            with pytest.raises(errors.FailedPrecondition) as chosen:
                await client.call("calc.fail", "precondition")
            assert chosen.value.details == {"retry": False}
            with pytest.raises(errors.Internal) as unexpected:
                await client.call("calc.fail", "value")
            assert unexpected.value.details["type"] == "ValueError"
            assert ("traceback" in unexpected.value.details) is allowed


async def test_an_error_that_leaks_out_of_a_nested_call_is_internal_with_its_cause(calc: Calc) -> None:
    front = aiozpat.Service("front")

    async with Server(calc.service, bind=LOOPBACK) as back, Client(back.endpoint) as inner:

        @front.method
        async def relay() -> None:
            await inner.call("calc.fail", "precondition")

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            with pytest.raises(errors.Internal, match="not now") as raised:
                await client.call("front.relay")
            assert raised.value.details["cause"] == {"code": 9, "message": "not now"}


async def _late(call: aiozpat.ClientCall, proceed: aiozpat.Proceed) -> Any:
    await asyncio.sleep(PATIENCE)
    return await proceed()


async def _unwilling(call: aiozpat.ClientCall, proceed: aiozpat.Proceed) -> Any:
    raise errors.PermissionDenied("of an interceptor")


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("call", "can't connect"),
        ("notify", "can't connect"),
        ("ready", "no connection in time"),
        ("unencodable notify", "can't be encoded"),
        ("unencodable item", "can't be encoded"),
        ("late call", "interceptors took all the time"),
        ("late stream", "interceptor took all the time"),
        ("unwilling call", "of an interceptor"),
        ("unwilling notify", "of an interceptor"),
        ("unwilling stream", "of an interceptor"),
    ],
)
async def test_whatever_fails_of_a_handlers_own_calls_is_internal_for_its_caller(
    calc: Calc, port: int, way: str, says: str
) -> None:
    front = aiozpat.Service("front")

    async with (
        Server(calc.service, bind=LOOPBACK) as back,
        Client(f"tcp://127.0.0.1:{port}", wait_for_ready=False) as dead,
        Client(back.endpoint) as live,
        Client(back.endpoint, interceptors=[_late]) as late,
        Client(back.endpoint, interceptors=[_unwilling]) as unwilling,
    ):

        @front.method
        async def relay() -> None:
            if way in ("call", "notify"):
                await getattr(dead, way)("calc.add", 1)
            elif way == "ready":
                await dead.ready(0.01)
            elif way == "unencodable notify":
                await live.notify("calc.add", object())
            elif way == "unencodable item":
                async with live.open("calc.add") as talk:
                    await talk.send(object())
            elif way == "late call":
                await late.call("calc.add", 1, timeout=0.01)
            elif way in ("late stream", "unwilling stream"):
                async with (late if way == "late stream" else unwilling).stream("calc.add", 1, idle_timeout=0.01):
                    pass
            else:
                await getattr(unwilling, way.split()[1])("calc.add", 1)

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            with pytest.raises(errors.Internal, match=says) as raised:
                await client.call("front.relay", timeout=PATIENCE)
            assert "cause" in raised.value.details


class _Lazy(errors.NotFound):
    """An error that does not call its base's constructor, and whose details can't be had."""

    def __init__(self) -> None:
        self.args = ("lazy",)

    @property
    def details(self) -> Any:  # type: ignore[override]  # that is the point
        raise AttributeError("row")


async def test_an_error_whose_details_cant_be_had_reaches_the_caller_without() -> None:
    service = aiozpat.Service("s")

    @service.method
    async def fail() -> None:
        raise _Lazy

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.NotFound) as raised:
            await client.call("s.fail", timeout=PATIENCE)
        assert raised.value.details == {}
        assert server.statistics().running == 0


async def test_params_that_cant_be_sent_fail_at_once(calc: Calc) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for bad in (object(), 1 << 70, "\ud800", deep):
            with pytest.raises(errors.InvalidArgument, match="can't be encoded"):
                await client.call("calc.add", bad)
        with pytest.raises(errors.ResourceExhausted, match="over the limit"):
            await client.call("calc.add", ["x" * 100] * 20_000)
        with pytest.raises(errors.ResourceExhausted, match="both sides take"):
            await client.call("calc.echo", bytes(17 * 1024 * 1024))
        with pytest.raises(errors.UsageError, match="not both"):
            await client.call("calc.add", 1, params={"b": 1})
        assert client.statistics().in_flight == 0
        assert await client.call("calc.add", 1, 2) == 3


async def test_large_bytes_travel_apart_and_come_back_whole(calc: Calc) -> None:
    large = bytes(range(256)) * 20_000  # 5 MB, five times what a header frame may hold
    service = aiozpat.Service("blobs")

    @service.method
    async def both(first: bytes, label: str, second: memoryview) -> bytes:
        return first[:1] + label.encode() + second[-1:]

    async with Server(calc.service, service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("calc.echo", large, result_type=bytes) == large
        assert await client.call("calc.echo", large) == large
        assert await client.call("calc.echo", params={"data": bytearray(large)}) == large
        view = await client.call("calc.echo", large, result_type=memoryview)
        assert isinstance(view, memoryview)
        assert view == large
        assert await client.call("blobs.both", large, "-", large) == b"\x00-\xff"
        with pytest.raises(errors.InvalidArgument, match="got `bytes`"):
            await client.call("calc.add", large)


async def expire(call: Callable[[float], Awaitable[object]], started: Callable[[], bool]) -> None:
    """Let a deadline pass while the handler runs; where the machine was too slow to start it, again with more time."""
    seconds = 0.05
    while not started():
        with pytest.raises(errors.DeadlineExceeded):
            await call(seconds)
        seconds *= 2


async def test_a_deadline_ends_the_call_and_cancels_the_handler(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await expire(lambda seconds: client.call("calc.hold", 7, timeout=seconds), lambda: bool(calc.started))
        await until(lambda: calc.cancelled == [7])
        assert client.statistics().in_flight == 0
        await until(lambda: server.statistics().running == 0)


async def test_cancelling_the_caller_cancels_the_handler(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        task = asyncio.create_task(client.call("calc.hold", 7))
        await until(lambda: calc.started == [7])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: calc.cancelled == [7])


async def test_a_thread_is_left_alone_and_keeps_its_place_until_it_returns() -> None:
    service = aiozpat.Service("threads")
    started, release = threading.Event(), threading.Event()
    saw: list[bool] = []

    @service.method(max_concurrency=1)
    def stuck() -> None:
        started.set()
        call = aiozpat.current_call()
        while not call.cancelled:
            time.sleep(0.001)  # simulated work
        saw.append(True)
        release.wait(PATIENCE)

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await expire(lambda seconds: client.call("threads.stuck", timeout=seconds), started.is_set)
        await until(lambda: saw == [True])
        assert server.statistics().running == 1
        release.set()
        await until(lambda: server.statistics().running == 0)


@pytest.mark.parametrize("codec", [None, aiozpat.JSON()])
async def test_a_result_that_comes_after_the_deadline_is_counted_as_an_error(codec: aiozpat.Codec | None) -> None:
    service = aiozpat.Service("threads")
    started = threading.Event()

    @service.method
    def late() -> None:
        started.set()
        call = aiozpat.current_call()
        while not call.cancelled:
            time.sleep(0.001)  # simulated work

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        await expire(lambda seconds: client.call("threads.late", timeout=seconds), started.is_set)
        await until(lambda: server.statistics().running == 0)
        method = server.statistics().methods["threads.late"]
        assert 1 <= method.calls == method.errors


async def test_a_nested_call_inherits_what_is_left_of_the_deadline(calc: Calc) -> None:
    front = aiozpat.Service("front")
    async with Server(calc.service, bind=LOOPBACK) as back, Client(back.endpoint, timeout=60) as inner:

        @front.method
        async def relay() -> int:
            return await inner.call("calc.hold", 1, timeout=50, result_type=int)

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            await expire(lambda seconds: client.call("front.relay", timeout=seconds), lambda: bool(calc.started))
            await until(lambda: calc.cancelled == [1])


async def test_the_notification_of_a_handler_takes_the_time_that_is_left_along() -> None:
    back, front = aiozpat.Service("back"), aiozpat.Service("front")
    seen: list[float] = []

    @back.method
    async def left() -> None:
        seen.append(aiozpat.current_call().time_left)

    async with Server(back, bind=LOOPBACK) as behind, Client(behind.endpoint, timeout=1000) as inner:

        @front.method
        async def relay() -> None:
            await inner.notify("back.left")

        async with Server(front, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            await client.call("front.relay", timeout=100)
            await until(lambda: len(seen) == 1)
            await inner.notify("back.left")
            await until(lambda: len(seen) == 2)
    assert seen[0] < 101 < seen[1]


def _only_connection(client: Client) -> Connection:
    (connection,) = client._pool.connections
    return connection


async def _arrived_unread(client: Client, calc: Calc) -> asyncio.Task[Any]:
    """A call whose reply has arrived, and whose client looks at nothing, as if its loop stood still."""
    call = asyncio.create_task(client.call("calc.hold", 1))
    await until(lambda: calc.started == [1])
    socket = _only_connection(client).socket
    socket.pause()
    calc.gate.set()
    await until(lambda: bool(socket._events() & zmq.POLLIN))
    assert not call.done()
    return call


async def test_a_reply_that_has_arrived_unread_is_in_time(calc: Calc) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, heartbeat=3600) as server,
        Client(server.endpoint, heartbeat=3600) as client,
    ):
        call = await _arrived_unread(client, calc)
        connection = _only_connection(client)
        for waiting in connection.calls.values():
            waiting.deadline = 0.0
        connection._on_due()
        assert await call == 1


async def test_a_server_whose_words_lie_unread_is_not_dead(calc: Calc) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, heartbeat=3600) as server,
        Client(server.endpoint, heartbeat=3600) as client,
    ):
        call = await _arrived_unread(client, calc)
        connection = _only_connection(client)
        connection._liveness.heard = -1e9
        assert connection._ticker is not None
        connection._ticker.cancel()
        connection._tick()
        assert await call == 1
        assert _only_connection(client) is connection
        assert client.statistics().notices == {}


@pytest.mark.skipif(sys.platform == "win32", reason="loops handle no signals there")
async def test_what_handled_signals_before_a_server_does_so_again_after_it(calc: Calc) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)

    def mine(number: int, frame: object) -> None:
        raise AssertionError("a signal that nobody has sent")

    before = [signal.signal(number, mine) for number in numbers]
    try:
        async with Server(calc.service, bind=LOOPBACK) as one, Server(calc.service, bind=LOOPBACK) as two:
            serving = [asyncio.create_task(server.serve_forever()) for server in (one, two)]
            await until(lambda: mine not in map(signal.getsignal, numbers))
            one.stop()
            await serving[0]
            assert mine not in map(signal.getsignal, numbers)  # the other one still serves
            two.stop()
            await serving[1]
            assert [signal.getsignal(number) for number in numbers] == [mine, mine]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


async def test_a_deadline_of_half_a_second_reaches_the_innermost_of_three_services() -> None:
    seen: list[float] = []
    ended: list[float] = []
    inner, middle, outer = aiozpat.Service("inner"), aiozpat.Service("middle"), aiozpat.Service("outer")

    @inner.method
    async def run() -> None:
        seen.append(aiozpat.current_call().time_left)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(aiozpat.current_call().time_left)

    async with Server(inner, bind=LOOPBACK) as one, Client(one.endpoint) as to_inner:

        @middle.method(name="run")
        async def run_inner() -> None:
            await to_inner.call("inner.run", timeout=60)

        async with Server(middle, bind=LOOPBACK) as two, Client(two.endpoint) as to_middle:

            @outer.method(name="run")
            async def run_middle() -> None:
                async with asyncio.TaskGroup() as group:  # what a handler starts inherits it too
                    group.create_task(to_middle.call("middle.run"))

            async with Server(outer, bind=LOOPBACK) as three, Client(three.endpoint) as client:
                for connected in (to_inner, to_middle, client):
                    await connected.ready(PATIENCE)
                seconds = 0.5
                while not ended:  # on a machine that is too slow for half a second, again with more
                    with pytest.raises(errors.DeadlineExceeded):
                        await client.call("outer.run", timeout=seconds)
                    await until(lambda: one.statistics().running == three.statistics().running == 0)
                    seconds *= 2
                assert 0 < seen[-1] < seconds / 2 + 0.003  # milliseconds, rounded up at each hop
                assert ended[-1] < seen[-1]
                await until(lambda: two.statistics().running == 0)


async def test_limits_refuse_at_once_and_a_free_place_goes_to_who_waits(calc: Calc) -> None:
    service = aiozpat.Service("few")

    @service.method(max_concurrency=2, max_queued=1)
    async def hold(number: int) -> int:
        calc.started.append(number)
        await calc.gate.wait()
        return number

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        calls = [asyncio.create_task(client.call("few.hold", number)) for number in range(3)]
        await until(lambda: server.statistics().queued == 1 and len(calc.started) == 2)
        assert calc.started == [0, 1]
        with pytest.raises(errors.ResourceExhausted, match="max_concurrency"):
            await client.call("few.hold", 3)
        calc.gate.set()
        assert await asyncio.gather(*calls) == [0, 1, 2]
        assert server.statistics().notices["refused"] == 1
        assert server.statistics().queued == 0


async def test_a_full_server_keeps_no_place_of_a_methods_own_limit(calc: Calc) -> None:
    service = aiozpat.Service("few")

    @service.method(max_concurrency=1)
    async def one() -> int:
        return 1

    limits = aiozpat.Limits(max_concurrency=1, max_queued=0)
    async with (
        Server(calc.service, service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint) as client,
    ):
        holding = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        with pytest.raises(errors.ResourceExhausted):
            await client.call("few.one")
        assert server.statistics().methods["few.one"].running == 0
        calc.gate.set()
        await holding
        assert await client.call("few.one") == 1


async def test_a_call_behind_too_many_bytes_of_others_is_told_of_the_limit(calc: Calc) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK) as server,
        Client(server.endpoint, window_bytes=65_536, backlog_bytes=100_000) as client,
    ):
        await client.ready()
        calls = [client.call("calc.echo", bytes(50_000)) for _ in range(20)]
        refused = [error for error in await asyncio.gather(*calls, return_exceptions=True) if error != bytes(50_000)]
        assert refused
        for error in refused:
            assert isinstance(error, errors.ResourceExhausted)
            assert re.fullmatch(
                rf"calc\.echo: \d+ bytes of calls wait for {re.escape(server.endpoint)} to read them, over the limit "
                r"of 100000 \(backlog_bytes\); await some of them before you make more",
                str(error),
            )
        assert await client.call("calc.echo", b"after") == b"after"


async def test_a_queued_call_that_is_cancelled_never_runs(calc: Calc) -> None:
    limits = aiozpat.Limits(max_concurrency=1)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        first = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        second = asyncio.create_task(client.call("calc.hold", 2))
        third = asyncio.create_task(client.call("calc.hold", 3))
        await until(lambda: server.statistics().queued == 2)
        second.cancel()
        await until(lambda: server.statistics().queued == 1)
        calc.gate.set()
        assert await first == 1
        assert await third == 3
        assert calc.started == [1, 3]


async def test_a_call_that_waited_and_ends_at_once_is_forgotten(calc: Calc) -> None:
    limits = aiozpat.Limits(max_concurrency=1, max_calls_per_peer=2)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        for number in range(3):
            calc.gate.clear()
            first = asyncio.create_task(client.call("calc.hold", number))
            await until(lambda: server.statistics().running == 1)
            second = asyncio.create_task(client.call("calc.add", 1, 2))
            await until(lambda: server.statistics().queued == 1)
            calc.gate.set()
            assert (await first, await second) == (number, 3)  # and no place of this client's is taken for ever
        assert [len(session.calls) for session in listener_of(server).each()] == [0]


async def test_windows_of_different_sizes_agree(calc: Calc) -> None:
    limits = aiozpat.Limits(window_bytes=65_536)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        for _ in range(50):
            assert len(await client.call("calc.echo", bytes(20_000), timeout=PATIENCE, result_type=bytes)) == 20_000


async def test_a_burst_of_cancels_is_more_than_one_message_may_hold(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        tasks = [asyncio.create_task(client.call("calc.hold", number)) for number in range(16_000)]
        await until(lambda: len(calc.started) == 16_000)
        other = asyncio.create_task(client.call("calc.add", 1, 2))
        for task in tasks:
            task.cancel()
        assert await other == 3
        await until(lambda: len(calc.cancelled) == 16_000)
        await asyncio.wait(tasks)


async def test_one_clients_limit_leaves_the_others_alone(calc: Calc) -> None:
    limits = aiozpat.Limits(max_calls_per_peer=2)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint) as greedy,
        Client(server.endpoint) as modest,
    ):
        held = [asyncio.create_task(greedy.call("calc.hold", number)) for number in range(2)]
        await until(lambda: len(calc.started) == 2)
        with pytest.raises(errors.ResourceExhausted, match="max_calls_per_peer"):
            await greedy.call("calc.add", 1)
        assert await modest.call("calc.add", 1) == 1
        calc.gate.set()
        await asyncio.gather(*held)


async def test_a_client_says_when_it_can_be_used(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        async with Client(server.endpoint) as client:
            changes = client.state_changes()
            await client.ready(timeout=PATIENCE)
            assert client.state is ClientState.READY
        assert [state async for state in changes] == [ClientState.CONNECTING, ClientState.READY, ClientState.CLOSED]


async def test_several_tasks_that_read_a_clients_states_all_end(port: int) -> None:
    async def read(changes: StateChanges) -> int:
        return len([state async for state in changes])

    async with Client(f"tcp://127.0.0.1:{port}") as client:
        changes = client.state_changes()
        readers = [asyncio.create_task(read(changes)) for _ in range(3)]
        await until(lambda: not changes._states)
    assert sum(await asyncio.wait_for(asyncio.gather(*readers), PATIENCE)) == 2


async def test_without_waiting_a_call_fails_at_once_where_nobody_listens(port: int) -> None:
    async with Client(f"tcp://127.0.0.1:{port}", wait_for_ready=False) as client:
        with pytest.raises(errors.Unavailable):
            await client.call("calc.add", 1)
        with pytest.raises(errors.DeadlineExceeded, match="no connection in time"):
            await client.call("calc.add", 1, wait_for_ready=True, timeout=0.05)
        with pytest.raises(errors.DeadlineExceeded, match=r"no connection|not connected"):
            await client.ready(timeout=0.05)


async def test_so_many_calls_may_wait_for_a_connection(port: int) -> None:
    async with Client(f"tcp://127.0.0.1:{port}", max_in_flight=2) as client:
        waiting = [asyncio.create_task(client.call("calc.add", number)) for number in range(2)]
        await until(lambda: client.statistics().in_flight == 2)
        with pytest.raises(errors.ResourceExhausted, match="2 calls wait for a connection"):
            await asyncio.wait_for(client.call("calc.add", 2), PATIENCE)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert client.statistics().in_flight == 0


async def test_a_call_waits_for_a_server_that_comes_later(calc: Calc, port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Client(endpoint) as client:
        task = asyncio.create_task(client.call("calc.add", 1, 2))
        await until(lambda: client.statistics().in_flight == 1)
        async with Server(calc.service, bind=endpoint):
            assert await task == 3


async def test_drain_refuses_new_calls_and_finishes_those_running(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        running = [asyncio.create_task(client.call("calc.hold", number)) for number in range(100)]
        await until(lambda: len(calc.started) == 100)
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        await until(lambda: client.state is not ClientState.READY)
        with pytest.raises(errors.Unavailable):
            await client.call("calc.add", 1, wait_for_ready=False)
        calc.gate.set()
        assert await asyncio.gather(*running) == list(range(100))
        await closing


async def test_without_grace_running_calls_end_as_cancelled(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        running = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        await server.close(grace=0)
        with pytest.raises((errors.Unavailable, errors.Cancelled)):
            await running
        assert calc.cancelled == [1]


async def test_calls_that_still_wait_when_the_grace_is_over_are_refused(calc: Calc) -> None:
    limits = aiozpat.Limits(max_concurrency=1)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint, wait_for_ready=False) as client,
    ):
        await client.ready()
        running = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        waiting = asyncio.create_task(client.call("calc.hold", 2))
        await client.notify("calc.hold", 3)
        await until(lambda: server.statistics().queued == 2)
        await server.close(grace=0)
        with pytest.raises(errors.Unavailable, match="draining") as raised:
            await waiting
        assert raised.value.refused
        await asyncio.wait({running})
        assert calc.started == [1]
        assert server.statistics().notices["notification failed"] == 1


@pytest.mark.parametrize(
    "wrong", [{"metadata": {"k": 5}}, {"metadata": {5: "k"}}, {"method": 5}, {"method": b"calc.add"}]
)
async def test_one_callers_mistake_is_nobody_elses(calc: Calc, wrong: dict[str, Any]) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        other = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        with pytest.raises(errors.InvalidArgument):
            await client.call(wrong.get("method", "calc.add"), 1, metadata=wrong.get("metadata"))
        calc.gate.set()
        assert await other == 1


async def test_whatever_a_handler_raises_is_answered() -> None:
    service = aiozpat.Service("odd")

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Rootless(errors.NotFound):
        def __init__(self) -> None:
            """Never calls the base's."""

    kinds: dict[str, Callable[[], BaseException]] = {
        "number": lambda: errors.NotFound(42),  # type: ignore[arg-type]  # that is the point
        "bytes": lambda: errors.NotFound(b"x"),  # type: ignore[arg-type]  # as above
        "mute": Mute,
        "rootless": Rootless,
    }

    @service.method
    async def fail(kind: str) -> None:
        raise kinds[kind]()

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, timeout=PATIENCE) as client:
        for kind in kinds:
            with pytest.raises(errors.Internal if kind == "mute" else errors.NotFound):
                await client.call("odd.fail", kind)


@dataclasses.dataclass
class Picky:
    """A type whose own validation raises something odd."""

    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise KeyError(self.value)


async def test_a_types_own_validation_reaches_its_caller_alone() -> None:
    service = aiozpat.Service("picky")

    @service.method
    async def take(value: Picky) -> int:
        return value.value

    @service.method
    async def give(value: int) -> dict[str, int]:
        return {"value": value}

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, timeout=PATIENCE) as client:
        with pytest.raises(errors.InvalidArgument):
            await client.call("picky.take", {"value": -1})
        with pytest.raises(errors.Internal, match="not what was asked for"):
            await client.call("picky.give", -1, result_type=Picky)
        assert await client.call("picky.give", 1, result_type=Picky) == Picky(1)


async def test_context_variables_of_one_call_are_not_seen_by_another() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    service = aiozpat.Service("context")

    @service.method
    async def whoami(name: str) -> str:
        before = user.get()
        user.set(name)
        await asyncio.sleep(0)
        return before

    async with (
        Server(service, bind=LOOPBACK) as server,
        Client(server.endpoint) as one,
        Client(server.endpoint) as two,
    ):
        for _ in range(20):
            calls = [client.call("context.whoami", "alice") for client in (one, two) for _ in range(50)]
            assert set(await asyncio.gather(*calls)) == {"nobody"}


async def test_services_work_over_inproc(calc: Calc) -> None:
    async with (
        aiozpat.Context() as context,
        Server(calc.service, bind="inproc://calc", context=context),
        Client("inproc://calc", context=context) as client,
    ):
        assert await client.call("calc.add", 1, 2) == 3


async def test_a_second_close_waits_for_the_first(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        running = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        again = asyncio.create_task(server.close())
        await until(lambda: client.state is not ClientState.READY)
        assert not again.done()
        calc.gate.set()
        assert await running == 1
        await asyncio.gather(closing, again)


async def test_a_second_close_without_grace_ends_what_the_first_waits_for(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        running = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        closing = asyncio.create_task(server.close(grace=3600))
        await until(lambda: client.state is not ClientState.READY)
        await asyncio.wait_for(server.close(grace=0), PATIENCE)
        await closing
        with pytest.raises(errors.RpcError):
            await running
        assert calc.cancelled == [1]


async def test_an_address_is_free_when_its_server_has_closed(calc: Calc, tmp_path: Path) -> None:
    async with Server(calc.service, bind=LOOPBACK):  # which keeps the context
        for _ in range(50):
            async with Server(calc.service, bind=f"ipc://{tmp_path}/socket"):
                pass


async def test_who_serves_for_ever_returns_when_another_task_closes(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        serving = asyncio.create_task(server.serve_forever())
        await until(lambda: server._serving)
        await server.close()
        await asyncio.wait_for(serving, PATIENCE)


def test_a_server_may_be_stopped_at_any_time(calc: Calc) -> None:
    async def main() -> Server:
        async with Server(calc.service, bind=LOOPBACK) as server:
            return server

    server = Server(calc.service, bind=LOOPBACK)
    server.stop()
    server = asyncio.run(main())
    server.stop()
    assert "closed" in repr(server)


async def test_a_notification_that_fails_is_counted(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.notify("calc.nope")
        await client.notify("calc.add", "one")
        await until(lambda: server.statistics().notices.get("notification failed") == 2)


async def test_a_plain_function_whose_caller_gave_up_before_it_had_a_thread_never_runs() -> None:
    service = aiozpat.Service("threads")
    release = threading.Event()
    ran: list[int] = []

    @service.method
    def work(number: int) -> None:
        ran.append(number)
        release.wait(PATIENCE)

    limits = aiozpat.Limits(max_threads=1)
    async with Server(service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        first = asyncio.create_task(client.call("threads.work", 1))
        await until(lambda: ran == [1])
        second = asyncio.create_task(client.call("threads.work", 2))
        await until(lambda: server.statistics().running == 2)
        second.cancel()
        await asyncio.wait({second})
        await until(lambda: server.statistics().running == 1)  # it holds no place either
        third = asyncio.create_task(client.call("threads.work", 3))
        await until(lambda: server.statistics().running == 2)
        release.set()
        await asyncio.gather(first, third)
        assert ran == [1, 3]


async def test_a_function_that_is_given_up_keeps_its_thread_until_it_returns() -> None:
    service = aiozpat.Service("threads")
    release = threading.Event()
    ran: list[int] = []
    limits_of_time: list[asyncio.Timeout] = []
    most = 0

    @service.method
    def work(number: int) -> None:
        nonlocal most
        ran.append(number)
        most = max(most, len(ran))
        release.wait(PATIENCE)
        ran.remove(number)

    async def impatient(call: Any, proceed: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(None) as limit:
            limits_of_time.append(limit)
            return await proceed()

    limits = aiozpat.Limits(max_threads=2)
    async with (
        Server(service, bind=LOOPBACK, limits=limits, interceptors=[impatient]) as server,
        Client(server.endpoint) as client,
    ):
        calls = [asyncio.create_task(client.call("threads.work", number)) for number in range(10)]
        await until(lambda: len(ran) == 2 and len(limits_of_time) == 10)
        for limit in limits_of_time:
            limit.reschedule(0)  # the threads are not ended by it
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, errors.RpcError) for outcome in outcomes)
        assert server.statistics().running == 0
        assert server._executor is not None
        places = server._executor._callables._threads._places
        assert places.locked()  # nobody else gets a thread
        another = asyncio.create_task(client.call("threads.work", 10))
        await until(lambda: len(limits_of_time) == 11)
        assert len(ran) == 2
        release.set()
        await another
        assert most == 2
        await until(lambda: not places.locked())


async def test_notifications_that_fail_are_counted_and_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    service = aiozpat.Service("s")

    @service.method
    async def fail() -> None:
        raise errors.FailedPrecondition("never")

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for _ in range(50):
            await client.notify("s.fail")
        await until(lambda: server.statistics().notices.get("notification failed") == 50)
    assert len([record for record in caplog.records if "notification failed" in record.getMessage()]) == 1


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_call_without_time_is_never_sent(calc: Calc, timeout: float) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        with pytest.raises(errors.DeadlineExceeded):
            await client.call("calc.hold", 1, timeout=timeout)
        assert await client.call("calc.add", 1, 2) == 3
        assert calc.started == []


async def test_a_timeout_that_is_not_a_number_is_said_to_be_none(calc: Calc, port: int) -> None:
    says = "timeout is a number of seconds; got nan"
    async with Server(calc.service, bind=LOOPBACK) as server:
        for endpoint in (server.endpoint, f"tcp://127.0.0.1:{port}"):
            async with Client(endpoint) as client:
                if endpoint == server.endpoint:
                    await client.ready()
                with pytest.raises(ValueError, match=says):
                    await client.call("calc.hold", 1, timeout=math.nan)
                with pytest.raises(ValueError, match=says):
                    await client.notify("calc.hold", 1, timeout=math.nan)
        with pytest.raises(ValueError, match=says):
            async with Client(f"tcp://127.0.0.1:{port}") as client:
                await client.ready(math.nan)
    assert calc.started == []


async def test_arguments_of_a_call_that_are_none_are_named(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        wrong: Any = "1"
        with pytest.raises(TypeError, match="timeout is a number of seconds; got '1'"):
            await client.call("calc.add", 1, timeout=wrong)
        wrong = [1]
        with pytest.raises(TypeError, match=r"params go by name, .* got \[1\]"):
            await client.call("calc.add", params=wrong)
        for wrong in (["a"], "ab", 5):
            with pytest.raises(errors.InvalidArgument, match="metadata is text by name"):
                await client.call("calc.add", 1, metadata=wrong)


async def test_a_text_that_says_no_is_no_answer(calc: Calc, port: int) -> None:
    no: Any = "no"
    with pytest.raises(errors.UsageError, match="idempotent is True or False"):
        calc.service.method(idempotent=no)(calc_add)
    async with (
        Server(calc.service, bind=LOOPBACK) as server,
        Client(server.endpoint, retry=aiozpat.Retry()) as client,
        Client(f"tcp://127.0.0.1:{port}") as nowhere,
    ):
        with pytest.raises(TypeError, match="idempotent is True or False"):
            await client.call("calc.fail", "value", idempotent=no)
        with pytest.raises(TypeError, match="wait_for_ready is True or False"):
            await nowhere.call("calc.add", 1, wait_for_ready=no)
    for wrong in ({"version": 3}, {"lifespan": 3}):
        with pytest.raises(TypeError, match=f"a {next(iter(wrong))} is"):
            aiozpat.Service("s", **wrong)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(errors.UsageError, match="a method's name is an identifier; got 5"):
        calc.service.method(name=5)(calc_add)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match="rate is a number"):
        RateLimit("x", 1)  # type: ignore[arg-type]  # as above


async def calc_add(a: int) -> int:
    return a


async def test_misuse_is_told_what_to_do(calc: Calc) -> None:
    with pytest.raises(errors.UsageError, match="at least one Service"):
        Server(bind=LOOPBACK)
    with pytest.raises(errors.UsageError, match="takes Service objects"):
        Server([calc.service], bind=LOOPBACK)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(errors.UsageError, match="same name"):
        Server(calc.service, aiozpat.Service("calc"), bind=LOOPBACK)
    with pytest.raises(errors.InvalidEndpoint, match="tcp://"):
        Client("127.0.0.1:5555")
    with pytest.raises(errors.InvalidEndpoint, match="address to bind"):
        Client("tcp://*:5555")
    server = Server(calc.service, bind=LOOPBACK)
    with pytest.raises(errors.UsageError, match="inside `async with`"):
        _ = server.endpoint
    with pytest.raises(errors.UsageError, match="inside `async with"):
        await server.serve_forever()
    async with server:
        with pytest.raises(errors.AddressInUse, match="is in use"):
            await Server(calc.service, bind=server.endpoint).__aenter__()
        client = Client(server.endpoint)
        with pytest.raises(errors.UsageError, match="inside `async with"):
            await client.call("calc.add", 1)
        async with client:
            with pytest.raises(errors.UsageError, match="entered before"):
                await client.__aenter__()
        with pytest.raises(errors.Closed):
            await client.call("calc.add", 1)
    with pytest.raises(errors.Closed):
        await server.serve_forever()


async def test_run_inside_a_loop_is_told_what_to_do() -> None:
    async def main() -> None: ...

    with pytest.raises(errors.UsageError, match="`await main\\(\\)` instead") as caught:
        aiozpat.run(main())
    assert caught.value.__context__ is None


def test_what_a_program_raises_leaves_run_as_it_is() -> None:
    async def main() -> None:
        raise LookupError

    with pytest.raises(LookupError) as caught:
        aiozpat.run(main())
    assert caught.value.__context__ is None


def test_use_on_another_loop_is_told_what_to_do(calc: Calc) -> None:
    async def main() -> None:
        async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
            await client.ready()

            async def elsewhere() -> None:
                await client.call("calc.add", 1)

            with pytest.raises(errors.UsageError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, elsewhere())
            assert await client.call("calc.add", 1) == 1

    asyncio.run(main())


async def test_calls_of_reserved_names_do_not_widen_the_servers_limit(calc: Calc) -> None:
    limits = Limits(max_concurrency=1)
    async with Server(calc.service, bind=LOOPBACK, limits=limits) as server, Client(server.endpoint) as client:
        calls = [asyncio.create_task(client.call("calc.hold", number)) for number in range(5)]
        await until(lambda: server.statistics().queued == 4)
        for _ in range(3):
            assert await client.call("aiozpat.ping") == "pong"
        assert calc.started == [0]
        calc.gate.set()
        await asyncio.gather(*calls)
        assert calc.finished == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("smaller", ["client", "server"])
async def test_what_our_own_socket_does_not_take_is_refused_and_the_session_goes_on(smaller: str) -> None:
    service = aiozpat.Service("s")
    small, large = aiozpat.SocketOptions(max_message_bytes=2 * MIB), aiozpat.SocketOptions()

    @service.method
    async def size(data: bytes) -> int:
        return len(data)

    @service.method
    async def give(n: int) -> bytes:
        return bytes(n)

    @service.method
    async def stream(n: int) -> AsyncIterator[bytes]:
        yield bytes(n)

    async with (
        Server(service, bind=LOOPBACK, options=small if smaller == "server" else large) as server,
        Client(server.endpoint, options=small if smaller == "client" else large) as client,
    ):
        await client.ready()
        with pytest.raises(errors.ResourceExhausted, match="both sides take"):
            await client.call("s.size", bytes(3 * MIB))
        with pytest.raises(errors.ResourceExhausted, match="both sides take"):
            await client.call("s.give", 3 * MIB)
        async with client.stream("s.stream", 3 * MIB) as items:
            with pytest.raises(errors.ResourceExhausted, match="both sides take"):
                await anext(items)
        assert await client.call("s.size", b"1") == 1
        assert client.statistics().sessions == 1


async def test_too_many_pieces_are_refused_and_the_session_goes_on() -> None:
    service = aiozpat.Service("s")
    pieces = [bytes(65_536)] * 1025

    @service.method
    async def size(data: list[bytes]) -> int:
        return len(data)

    @service.method
    async def give() -> Any:
        return [array("b", piece) for piece in pieces]

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.ResourceExhausted, match="1025 pieces"):
            await client.call("s.size", *[array("b", piece) for piece in pieces])
        with pytest.raises(errors.ResourceExhausted, match="1025 pieces"):
            await client.call("s.give")
        assert await client.call("s.size", []) == 0
        assert client.statistics().sessions == 1


async def test_notifications_that_never_left_are_counted(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        connection = client._pool.usable
        assert connection is not None
        connection._blocked = True  # as if the server did not read
        for number in range(3):
            await client.notify("calc.add", number)
        connection.end(errors.Unavailable("the connection broke"))
        assert client.statistics().notices["notifications lost"] == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"codec": aiozpat.JSON}, "a codec is an object"),
        ({"options": {"max_message_bytes": 1}}, "options are aiozpat.SocketOptions"),
        ({"interceptors": [5]}, "an interceptor is"),
        ({"interceptors": [RateLimit]}, "an interceptor is"),
        ({"interceptors": None}, "interceptors are a list"),
        ({"timeout": Decimal(5)}, "timeout is a number above 0"),
        ({"heartbeat": Decimal("0.3")}, "heartbeat is a number"),
        ({"retry": 3}, "retry is a policy"),
        ({"context": 5}, r"a context is an aiozpat\.Context"),
        ({"timeout": None}, "timeout is a number above 0"),
        ({"heartbeat": None}, "heartbeat is a number"),
        ({"max_in_flight": None}, "max_in_flight is a whole number"),
    ],
)
def test_what_is_no_such_thing_is_refused_when_a_client_is_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Client("tcp://127.0.0.1:5555", **options)


@pytest.mark.parametrize("number", [0, -1, 1.5, 1e6, float("inf"), float("nan"), 2**70])
@pytest.mark.parametrize("name", ["window_bytes", "backlog_bytes", "max_in_flight"])
def test_a_clients_numbers_are_whole_and_in_range(name: str, number: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is a whole number from 1 to"):
        Client("tcp://127.0.0.1:5555", **{name: number})  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("number", [0, -1, 1.5, 64.0, float("inf"), float("nan"), 2**70])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_limits_are_whole_and_in_range(name: str, number: float) -> None:
    if (name, number) == ("max_queued", 0) or (name == "slow_peer_seconds" and number > 0):
        Limits(**{name: number})  # type: ignore[arg-type]  # any of its fields
        return
    with pytest.raises(ValueError, match=rf"Limits\.{name} is a "):
        Limits(**{name: number})  # type: ignore[arg-type]  # as above
    with pytest.raises(TypeError, match=rf"Limits\.{name} is a "):
        Limits(**{name: "1"})  # type: ignore[arg-type]  # as above


def test_what_is_no_such_thing_is_refused_when_a_server_is_made(calc: Calc) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"limits": 5}, r"limits are aiozpat\.Limits"),
        ({"context": 5}, r"a context is an aiozpat\.Context"),
        ({"grace": None}, "grace is a number"),
        ({"send_tracebacks": "no"}, "send_tracebacks is True or False"),
        ({"bind": 5}, "an endpoint is text"),
        ({"bind": b"tcp://127.0.0.1:*"}, "an endpoint is text"),
    ]
    for options, says in wrong:
        with pytest.raises(TypeError, match=says):
            Server(calc.service, **{"bind": LOOPBACK, **options})
    with pytest.raises(TypeError, match="an endpoint is text"):
        Client(5)  # type: ignore[arg-type]  # that is the point


async def test_a_call_whose_time_is_over_before_it_gets_its_place_never_runs(
    calc: Calc, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(max_concurrency=1)
    async with Server(calc.service, bind=LOOPBACK, limits=limits, heartbeat=3600) as server:
        async with Client(server.endpoint, heartbeat=3600) as client:
            first = asyncio.create_task(client.call("calc.hold", 1, timeout=3600))
            await until(lambda: calc.started == [1])
            second = asyncio.create_task(client.call("calc.hold", 2, timeout=60))
            await until(lambda: server.statistics().queued == 1)
            later = time.monotonic() + 100
            monkeypatch.setattr(executor, "_monotonic", lambda: later)  # the first one has held up the loop
            calc.gate.set()
            assert await first == 1
            with pytest.raises(errors.DeadlineExceeded):
                await second
        assert calc.started == [1]
        assert server.statistics().running == 0


@dataclasses.dataclass
class Page:
    """A value that can be encoded, and be iterated over too."""

    number: int

    async def __aiter__(self) -> AsyncIterator[int]:
        yield self.number


async def test_a_value_with_an_iterator_that_can_be_encoded_is_a_value() -> None:
    service = aiozpat.Service("s")
    got: list[Page] = []

    @service.method
    async def take(page: Page) -> None:
        got.append(page)
        raise errors.InvalidArgument("not this one")

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match="not this one"):
            await client.call("s.take", Page(1))
    assert got == [Page(1)]


def test_a_wrong_name_or_lifespan_says_what_to_do() -> None:
    @contextlib.asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield

    async def handler() -> None: ...

    with pytest.raises(TypeError, match="give the function itself, without calling it"):
        aiozpat.Service("s", lifespan=resource())  # type: ignore[arg-type]  # as a user may have it
    service = aiozpat.Service("s", lifespan=resource)
    with pytest.raises(errors.UsageError, match=r"got 'a\.b'$"):
        service.method(name="a.b")(handler)
