"""The blocking client: from many threads at once, interrupted, forked, closed under way, left open."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import inspect
import math
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aiozpat
from aiozpat import ClientState, Retry, errors
from aiozpat.rpc.pending import NeverRan
from aiozpat.sync import Client
from aiozpat.sync.background import Lease
from aiozpat.sync.handoff import Chain, Mailbox, Waiter
from aiozpat.sync.works import Call, Errand, LoopClient, Work
from tests.blocking import Serving, serving, threads_named, until
from tests.blocking import loops as loops
from tests.support import PATIENCE, Calc, Process


@dataclass
class Point:
    x: int
    y: int


@pytest.fixture
def server(calc: Calc) -> Iterator[Serving]:
    @calc.service.method
    async def wait() -> AsyncIterator[int]:
        """One item, and another when the gate opens."""
        yield 1
        await calc.gate.wait()
        yield 2

    with serving(calc.service) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with Client(server.endpoint) as entered:
        entered.ready(PATIENCE)
        yield entered


def many(count: int, function: Callable[[int], object]) -> list[Any]:
    """Run a function in so many threads at once; gives what each returned or raised."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait(PATIENCE)
        try:
            return function(number)
        except errors.AiozpatError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# Calls


def test_params_by_position_by_name_and_by_default(client: Client) -> None:
    assert client.call("calc.add", 1, 2, result_type=int) == 3
    assert client.call("calc.add", params={"b": 5, "a": 1}) == 6
    assert client.call("calc.add", 1) == 1
    with pytest.raises(errors.UsageError, match="not both"):
        client.call("calc.add", 1, params={"b": 1})


def test_results_are_decoded_into_the_type_asked_for() -> None:
    service = aiozpat.Service("shapes")

    @service.method
    async def move(point: Point, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    with serving(service) as server, Client(server.endpoint) as client:
        moved: Point = client.call("shapes.move", Point(1, 2), 3, result_type=Point)
        assert moved == Point(4, 5)
        assert client.call("shapes.move", Point(1, 2), 3) == {"x": 4, "y": 5}
        with pytest.raises(errors.Internal, match="not what was asked for"):
            client.call("shapes.move", Point(1, 2), 3, result_type=int)


@pytest.mark.parametrize(
    ("method", "params", "error", "says"),
    [
        ("calc.nope", (), errors.Unimplemented, "no method 'nope'"),
        ("calc.add", ("one",), errors.InvalidArgument, r"Expected `int`, got `str` - at `\$.a`"),
        ("calc.add", (object(),), errors.InvalidArgument, "can't be encoded"),
        ("calc.fail", ("value",), errors.Internal, "ValueError: that went wrong"),
        ("calc.fail", ("precondition",), errors.FailedPrecondition, "not now"),
        ("calc.fail", ("cancel",), errors.Cancelled, "cancelled"),
    ],
)
def test_each_failure_has_its_code(
    client: Client, method: str, params: tuple[object, ...], error: type[errors.RpcError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        client.call(method, *params)
    assert raised.value.code == error.code
    if error is errors.FailedPrecondition:
        assert raised.value.details == {"retry": False}
    assert client.call("calc.add", 1, 2) == 3


def test_an_error_holds_neither_its_call_nor_its_frames_once_it_is_dropped(client: Client) -> None:
    class Big:
        pass

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(errors.InvalidArgument):
                client.call("calc.add", Big())
        # The loop's thread may hold the last one for a moment yet.
        until(lambda: not [thing for thing in gc.get_objects() if isinstance(thing, Big)])
    finally:
        gc.enable()


def test_a_call_that_has_ended_is_gone(client: Client) -> None:
    def there() -> int:
        return sum(type(thing) is Call for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert client.call("calc.add", 1, 2) == 3
            with pytest.raises(errors.Unimplemented):
                client.call("calc.nope")
        # The loop's thread may hold the last one for a moment yet.
        until(lambda: not there())
    finally:
        gc.enable()


def test_a_timeout_that_is_not_a_number_is_said_to_be_none(client: Client, calc: Calc) -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds; got nan"):
        client.call("calc.hold", 1, timeout=math.nan)
    assert calc.started == []


def test_a_deadline_ends_the_call_and_cancels_the_handler(client: Client, calc: Calc) -> None:
    seconds = 0.05
    while not calc.started:
        with pytest.raises(errors.DeadlineExceeded):
            client.call("calc.hold", 7, timeout=seconds)
        seconds *= 2
    until(lambda: calc.cancelled == [7])
    assert client.statistics().in_flight == 0


def test_metadata_and_the_clients_own_settings_travel(server: Serving) -> None:
    service = aiozpat.Service("who")

    @service.method
    async def asks() -> tuple[str, dict[str, str], float]:
        call = aiozpat.current_call()
        return call.peer, dict(call.metadata), call.time_left

    with serving(service) as other, Client(other.endpoint, name="tester", timeout=9) as client:
        peer, metadata, left = client.call("who.asks", metadata={"traceparent": "00-ab"})
        assert peer.startswith("tester/")
        assert metadata == {"traceparent": "00-ab"}
        assert 0 < left <= 9.1


def test_nobody_there(port: int) -> None:
    with Client(f"tcp://127.0.0.1:{port}", wait_for_ready=False) as client:
        assert client.state is ClientState.CONNECTING
        with pytest.raises(errors.Unavailable):
            client.call("calc.add", 1)
        with pytest.raises(errors.DeadlineExceeded, match="no connection in time"):
            client.ready(0.05)
        with pytest.raises(errors.DeadlineExceeded, match="no connection in time"):
            client.call("calc.add", 1, timeout=0.05, wait_for_ready=True)


def test_a_killed_server_ends_calls_and_the_next_one_is_found(
    processes: Callable[..., Process], port: int, tmp_path: Path
) -> None:
    endpoint, journal = f"tcp://127.0.0.1:{port}", tmp_path / "journal"

    def start() -> Process:
        process = processes("server", endpoint, str(journal))
        assert line_of(process) == endpoint
        return process

    first = start()
    with Client(endpoint) as client:
        client.ready(PATIENCE)
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(client.call, "app.once", f"{number}", PATIENCE) for number in range(8)]
            until(lambda: len(journal.read_text().splitlines()) == 8)  # one that never left would go to the next server
            first.send_signal(signal.SIGKILL)
            assert {type(call.exception(PATIENCE)) for call in calls} == {errors.Unavailable}
        start()
        assert client.call("app.once", "again", 0.0) == "again"


def test_a_client_with_retries_tries_again(server: Serving) -> None:
    service = aiozpat.Service("flaky")
    tries = []

    @service.method
    async def often() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise errors.Unavailable("not yet")
        return len(tries)

    with serving(service) as other, Client(other.endpoint, retry=Retry(attempts=5)) as client:
        assert client.call("flaky.often", idempotent=True) == 3


# Threads


def test_32_threads_make_thousands_of_calls_and_each_gets_its_own_results(client: Client, calc: Calc) -> None:
    def work(number: int) -> bool:
        return all(
            client.call("calc.add", number * 1000, count, result_type=int) == number * 1000 + count
            for count in range(200)
        )

    assert many(32, work) == [True] * 32
    assert client.statistics().calls == 32 * 200
    assert client.statistics().in_flight == 0


def test_what_one_thread_sends_stays_in_order(client: Client) -> None:
    service = aiozpat.Service("log")
    seen: list[tuple[int, int]] = []

    @service.method
    async def note(thread: int, number: int) -> None:
        seen.append((thread, number))

    with serving(service) as server, Client(server.endpoint) as logger:

        def write(thread: int) -> None:
            for number in range(100):
                logger.notify("log.note", thread, number)

        many(8, write)
    until(lambda: len(seen) == 800)
    for thread in range(8):
        assert [number for of, number in seen if of == thread] == list(range(100))


def test_many_calls_wake_the_loop_once() -> None:
    loop = asyncio.new_event_loop()
    wakes = []
    loop.call_soon_threadsafe = lambda function, *_, **__: wakes.append(function)  # type: ignore[assignment,method-assign]
    looks = []
    mailbox: Mailbox[int] = Mailbox(loop, lambda: looks.append(list(mailbox.things)))
    for number in range(5):
        mailbox.put(number)
    assert len(wakes) == 1
    wakes.pop()()
    assert looks == [[0, 1, 2, 3, 4]]
    mailbox.put(5)
    assert len(wakes) == 1
    loop.close()


def test_each_thread_that_goes_on_wakes_the_next() -> None:
    loop = asyncio.new_event_loop()
    ends: list[int] = []
    chain = Chain(loop, lambda: ends.append(len(awake())))
    waiters = [Waiter() for _ in range(5)]

    def awake() -> list[int]:
        return [number for number, waiter in enumerate(waiters) if not waiter.lock.locked()]

    async def wake() -> None:
        waiters[1].abandoned = True
        for waiter in waiters:
            chain.add(waiter)
        assert awake() == [0]
        chain.go_on()
        assert awake() == [0, 2]  # the second would wake nobody
        assert not ends
        while len(awake()) < 4:  # and if one never goes on
            await asyncio.sleep(0.001)
        while chain.moving:
            await asyncio.sleep(0.001)
        assert ends  # what was put in meanwhile did not wait for it either
        waiters.append(Waiter())
        chain.add(waiters[5])
        assert len(awake()) == 5

    loop.run_until_complete(asyncio.wait_for(wake(), PATIENCE))
    loop.close()


def test_calls_made_while_threads_are_woken_reach_the_loop_with_the_last_of_them(client: Client) -> None:
    background = client._lease._background
    assert background is not None
    assert client.call("calc.add", 1) == 1
    background._portal.call(int)  # behind what woke this thread, which may still be about to set the timer
    until(lambda: background._chain._timer is None)  # the loop does not look after the chain any more
    background._chain.moving = True  # as if a thread had been woken that has not run yet
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.call, "calc.add", number) for number in range(2)]
        until(lambda: len(background._works.things) == 2)
        background._chain.go_on()
        assert [call.result(PATIENCE) for call in calls] == [0, 1]


@pytest.mark.parametrize(("options", "tasks"), [({}, 0), ({"retry": Retry()}, 3), ({"interceptors": True}, 3)])
def test_a_plain_call_needs_no_task(
    server: Serving, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], tasks: int
) -> None:
    async def through(call: object, proceed: Callable[[], Any]) -> Any:
        return await proceed()

    if "interceptors" in options:
        options = {"interceptors": [through]}
    with Client(server.endpoint, **options) as client:
        client.ready(PATIENCE)
        started: list[Work[Any]] = []
        start = Work.start

        def counted(work: Work[Any], runner: Any) -> None:
            started.append(work)
            start(work, runner)

        monkeypatch.setattr(Work, "start", counted)
        assert client.call("calc.add", 1, 2, timeout=PATIENCE) == 3
        assert client.call("calc.add", params={"a": 1}, metadata={"who": "me"}, result_type=int) == 1
        with pytest.raises(errors.FailedPrecondition) as raised:
            client.call("calc.fail", "precondition")
        assert raised.value.from_call
        assert len([work for work in started if isinstance(work, Call)]) == tasks
        monkeypatch.undo()
        assert client.statistics().calls == 3


def test_a_plain_call_that_did_not_run_is_made_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = LoopClient.begin
    begun = []

    def refused(self: LoopClient, *args: Any) -> Any:
        connection, pending = begin(self, *args) or pytest.fail("not plain")
        begun.append(pending)
        connection.abandon(pending)
        pending.future.set_exception(NeverRan(errors.Unavailable("the server goes away")))
        return connection, pending

    monkeypatch.setattr(LoopClient, "begin", refused)
    assert client.call("calc.add", 1, 2) == 3
    assert len(begun) == 1
    with pytest.raises(errors.DeadlineExceeded):
        client.call("calc.hold", 1, timeout=0.1)


def test_all_clients_share_one_thread_which_ends_with_the_last(server: Serving) -> None:
    assert not threads_named("aiozpat-sync")
    with Client(server.endpoint) as first:
        with Client(server.endpoint) as second:
            assert first.call("calc.add", 1) == second.call("calc.add", 1) == 1
            assert len(threads_named("aiozpat-sync")) == 1
        assert first.call("calc.add", 2) == 2
        assert len(threads_named("aiozpat-sync")) == 1
    assert not threads_named("aiozpat-sync")


def test_200_clients_come_and_go_and_no_thread_stays(server: Serving) -> None:
    before = threading.active_count()

    def cycle(_: int) -> None:
        for number in range(25):
            with Client(server.endpoint) as client:
                assert client.call("calc.add", number, 1) == number + 1

    assert many(8, cycle) == [None] * 8
    until(lambda: threading.active_count() == before)
    until(lambda: server.server.statistics().sessions == 0)


def test_a_call_keeps_the_context_of_its_thread(calc: Calc) -> None:
    span: ContextVar[str] = ContextVar("span", default="none")
    seen = []

    async def trace(call: Any, proceed: Callable[[], Any]) -> Any:
        seen.append((span.get(), threading.current_thread().name))
        return await proceed()

    with serving(calc.service) as server, Client(server.endpoint, interceptors=[trace]) as client:

        def within() -> int:
            span.set("request 7")
            return client.call("calc.add", 1, 2, result_type=int)

        assert copy_context().run(within) == 3
        assert client.call("calc.add", 1, 2) == 3
    assert seen == [("request 7", "aiozpat-sync"), ("none", "aiozpat-sync")]


def test_a_call_made_inside_a_handler_inherits_its_deadline(calc: Calc) -> None:
    front = aiozpat.Service("front")
    inner: list[Client] = []
    ended = []

    @front.method
    def relay() -> None:
        try:
            inner[0].call("calc.hold", 1, timeout=PATIENCE)
        except errors.DeadlineExceeded:
            ended.append("deadline")
            raise

    with (
        serving(calc.service) as back,
        Client(back.endpoint) as through,
        serving(front) as server,
        Client(server.endpoint) as client,
    ):
        inner.append(through)
        with pytest.raises(errors.DeadlineExceeded):
            client.call("front.relay", timeout=0.3)
        until(lambda: ended == ["deadline"])
        until(lambda: calc.cancelled == calc.started)


# Closing


def test_a_closed_client_says_so(server: Serving) -> None:
    client = Client(server.endpoint)
    assert client.endpoint == server.endpoint
    assert client.endpoints == (server.endpoint,)
    assert repr(client) == f"<aiozpat.sync.Client of {server.endpoint}, connecting>"
    for use in (lambda: client.call("calc.add", 1), client.ready, lambda: client.notify("calc.add", 1)):
        with pytest.raises(errors.UsageError, match="inside `with"):
            use()
    client.close()  # harmless
    with client:
        client.ready(PATIENCE)
        assert client.state.value == "ready"
        with pytest.raises(errors.UsageError, match="entered before"):
            client.__enter__()
        assert client.call("calc.add", 1, 1) == 2
    client.close()
    assert client.state.value == "closed"
    assert client.statistics().calls == 1
    assert repr(client).endswith("closed>")
    for use in (lambda: client.call("calc.add", 1), client.ready, lambda: client.notify("calc.add", 1)):
        with pytest.raises(errors.Closed):
            use()
    with pytest.raises(errors.UsageError, match="entered before"):
        client.__enter__()


@pytest.mark.parametrize("another", [False, True], ids=["last", "not_the_last"])
def test_closing_ends_the_calls_of_other_threads(server: Serving, calc: Calc, another: bool) -> None:
    other = Client(server.endpoint)
    if another:
        other.__enter__()
    with Client(server.endpoint) as client, ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(client.call, "calc.hold", number) for number in range(16)]
        until(lambda: len(calc.started) == 16)
        client.close()
        assert {type(call.exception(PATIENCE)) for call in calls} == {errors.Unavailable}
        until(lambda: len(calc.cancelled) == 16)
    other.close()


def test_closing_under_load_leaves_nobody_waiting(server: Serving) -> None:
    for _ in range(20):
        client = Client(server.endpoint).__enter__()
        client.ready(PATIENCE)
        busy = threading.Semaphore(0)

        def work(number: int, client: Client = client, busy: threading.Semaphore = busy) -> None:
            while True:
                client.call("calc.add", number)
                busy.release()

        with ThreadPoolExecutor(9) as pool:
            calls = [pool.submit(work, number) for number in range(8)]
            for _ in range(20):
                busy.acquire()
            closing = [pool.submit(client.close), pool.submit(client.close)]
            for call in calls:
                assert isinstance(call.exception(PATIENCE), errors.Closed | errors.Unavailable)
            for done in closing:
                assert done.result(PATIENCE) is None


def test_what_the_ending_loop_has_not_begun_is_refused(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(server.endpoint) as client:
        held = client._lease._background
        assert held is not None
    nothing = Errand(lambda: asyncio.sleep(0))
    with pytest.raises(errors.Closed):
        held.do(nothing)
    # A thread that had looked just before the end: it finds out after it has put its call in.
    over, held.over = held.over, None
    remind = Mailbox.remind

    def late(mailbox: Mailbox[Any]) -> None:
        held.over = over
        remind(mailbox)

    monkeypatch.setattr(Mailbox, "remind", late)
    with pytest.raises(errors.Closed):
        held.do(nothing)
    monkeypatch.undo()
    # And one that has just put it in: who ends the loop finds it.
    held.over = None
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(held.do, nothing)
        until(lambda: held._works.things)
        held._end()
        with pytest.raises(errors.Closed):
            call.result(PATIENCE)


def test_what_nobody_waits_for_any_more_is_not_begun(client: Client, calc: Calc) -> None:
    background = client._lease._background
    assert background is not None
    ran = []

    async def run() -> None:
        ran.append(1)

    call = Call(client._client, ("calc.hold", (1,), None, Any, None, None, False), None)
    for work in (Errand(run), call):
        work.abandoned = True
        background._works.put(work)
    assert client.call("calc.add", 1) == 1  # it was put in after them
    assert not ran
    assert not calc.started


@pytest.mark.parametrize("others", [0, 1])
def test_a_client_that_nobody_closed_is_closed_with_a_warning(server: Serving, others: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(Client(server.endpoint)).ready(PATIENCE)
        client: Client | None = Client(server.endpoint).__enter__()
        assert client is not None
        assert client.call("calc.add", 1, 2) == 3
        with pytest.warns(ResourceWarning, match="left open; use `with`"):  # noqa: PT031 - with the collection
            client = None
            gc.collect()
        until(lambda: server.server.statistics().sessions == others)
        until(lambda: len(threads_named("aiozpat-sync")) == others)


def test_it_is_not_used_where_an_event_loop_runs(client: Client, server: Serving) -> None:
    async def use(use: Callable[[], object]) -> None:
        with pytest.raises(errors.UsageError, match=r"use aiozpat\.Client there"):
            use()

    uses: list[Callable[[], object]] = [
        lambda: client.call("calc.add", 1),
        lambda: client.notify("calc.add", 1),
        lambda: client.stream("calc.wait").__enter__(),
        lambda: client.open("calc.wait").__enter__(),
        lambda: Client(server.endpoint).__enter__(),
        client.ready,
        client.statistics,
        client.close,
    ]
    for one in uses:
        asyncio.run(use(one))
    assert client.call("calc.add", 1) == 1

    async def beside() -> int:
        return await asyncio.to_thread(client.call, "calc.add", 1, 2, result_type=int)

    assert asyncio.run(beside()) == 3


# Interrupts and forks


def line_of(program: Process) -> str:
    return asyncio.run(program.line())


def test_ctrl_c_cancels_the_call_on_the_server_and_the_client_serves_on(
    processes: Callable[..., Process], calc: Calc, server: Serving
) -> None:
    program = processes("sync_client", "interrupted", server.endpoint)
    until(lambda: calc.started == [1])
    program.send_signal(signal.SIGINT)
    until(lambda: calc.cancelled == [1])
    assert line_of(program) == "interrupted 3"
    assert line_of(program) == "item 1"
    assert line_of(program) == "waits"
    program.send_signal(signal.SIGINT)
    assert line_of(program) == "interrupted"
    server.soon(calc.gate.set)
    assert line_of(program) == "item 2"
    assert line_of(program) == "['MainThread']"
    assert asyncio.run(program.wait()) == (0, "", "")


def test_an_unhandled_ctrl_c_ends_the_program(processes: Callable[..., Process], calc: Calc, server: Serving) -> None:
    program = processes("sync_client", "unhandled", server.endpoint)
    until(lambda: calc.started == [1])
    program.send_signal(signal.SIGINT)
    code, _, problems = asyncio.run(program.wait())
    assert code != 0
    assert problems.rstrip().endswith("KeyboardInterrupt")
    until(lambda: calc.cancelled == [1])


def test_an_interrupt_that_does_not_wake_the_thread_is_noticed(client: Client, calc: Calc, server: Serving) -> None:
    def interrupt() -> None:
        try:
            until(lambda: calc.started == [1])
            # As a signal that comes while the thread waits for the interpreter's lock, on its way into the call.
            _thread.interrupt_main()
            until(lambda: calc.cancelled == [1])
        finally:
            server.soon(calc.gate.set)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.call("calc.hold", 1)
            done.result(PATIENCE)
    finally:
        signal.signal(signal.SIGINT, before)


class Interruption(Exception):
    """What a signal's handler raises."""


def call_on(client: Client, ended: threading.Event) -> None:
    while not ended.is_set():
        assert client.call("calc.add", 1, 2, timeout=PATIENCE) == 3


def interrupted(lease: Lease, leave: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a block, and be interrupted before the loop has heard of it."""

    def interrupt(function: object) -> None:
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(lease, "run", interrupt)
        with pytest.raises(Interruption):
            leave()


def test_a_client_whose_close_is_interrupted_is_closed_all_the_same(
    server: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Client(server.endpoint).__enter__()
    other.ready(PATIENCE)
    until(lambda: server.server.statistics().sessions == 2)
    interrupted(other._lease, other.close, monkeypatch)
    assert other.state is ClientState.CLOSED
    until(lambda: server.server.statistics().sessions == 1)
    assert client.call("calc.add", 1, 2) == 3


def test_a_stream_whose_end_is_interrupted_ends_on_the_server_too(
    server: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = client.stream("calc.wait").__enter__()
    assert next(stream) == 1
    assert server.server.statistics().running == 1
    interrupted(stream._lease, lambda: stream.__exit__(None, None, None), monkeypatch)
    until(lambda: server.server.statistics().running == 0)
    with pytest.raises(errors.Closed):
        next(stream)


def test_a_wake_up_that_two_interrupts_have_lost_is_made_good(client: Client) -> None:
    background = client._lease._background
    assert background is not None
    background._works._woken = True  # as if between that and the loop's wake-up an interrupt had come
    assert client.call("calc.add", 1, 2, timeout=PATIENCE) == 3


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[float], threading.Thread]]:
    """What starts a thread that interrupts the main one after some seconds."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    assert main is not None

    def interrupt(number: int, frame: object) -> None:
        raise Interruption

    def after(seconds: float) -> threading.Thread:
        def disturb() -> None:
            time.sleep(seconds)
            signal.pthread_kill(main, signal.SIGUSR1)

        return threading.Thread(target=disturb)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield after
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to threads on POSIX only")
def test_an_interrupt_while_the_first_client_opens_or_the_last_closes_leaves_no_loop(server: Serving) -> None:
    outcomes: Counter[str] = Counter()
    with interruptions() as after:
        for number in range(60):
            disturber = after(0.0005 * number)
            try:
                disturber.start()
                with Client(server.endpoint):
                    outcomes["opened"] += 1
                disturber.join()
                time.sleep(PATIENCE)  # until it comes, which it has not
            except Interruption:
                outcomes["interrupted"] += 1
            disturber.join()
            until(lambda: not threads_named("aiozpat-sync"))
    assert outcomes["interrupted"] == 60
    assert outcomes["opened"] < 60
    with Client(server.endpoint) as client:
        assert client.call("calc.add", 1, 2) == 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to threads on POSIX only")
def test_interrupts_at_any_moment_leave_the_client_whole(client: Client) -> None:
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    assert main is not None
    armed = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if armed.is_set():
            armed.clear()
            raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(0.0005):
            signal.pthread_kill(main, signal.SIGUSR1)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    outcomes: Counter[str] = Counter()
    others = [threading.Thread(target=call_on, args=(client, ended)) for _ in range(4)]
    for other in others:
        other.start()
    try:
        for number in range(300):
            try:
                armed.set()
                while True:
                    assert client.call("calc.add", number, 1, timeout=PATIENCE) == number + 1
                    outcomes["calls"] += 1
            except Interruption:
                outcomes["interrupts"] += 1
            armed.clear()
            assert client.call("calc.add", 2, 2, timeout=PATIENCE) == 4
    finally:
        ended.set()
        disturber.join()
        signal.signal(signal.SIGUSR1, before)
        for other in others:
            other.join(PATIENCE)
    assert not any(other.is_alive() for other in others)
    assert outcomes["interrupts"] == 300
    until(lambda: client.statistics().in_flight == 0)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no fork there")
def test_after_a_fork_the_child_makes_its_own_client(
    processes: Callable[..., Process], server: Serving, calc: Calc
) -> None:
    program = processes("sync_client", "forked", server.endpoint, flags=("-W", "ignore::DeprecationWarning"))
    code, output, problems = asyncio.run(program.wait())
    assert (code, problems) == (0, "")
    lines = output.splitlines()
    said = "this client belongs to the process that was forked into this one; make a client after the fork"
    assert lines[0] == "before 2"
    assert lines[1] == f"<aiozpat.sync.Client of {server.endpoint}, closed>"
    assert lines[2:4] == [said, said]
    assert lines[4:] == ["child 3", "child ended 0", "parent 4"]


@pytest.mark.parametrize("how", ["left_open", "left_busy"])
def test_a_program_that_leaves_a_client_open_ends(processes: Callable[..., Process], server: Serving, how: str) -> None:
    program = processes("sync_client", how, server.endpoint, flags=("-W", "always"))
    code, output, problems = asyncio.run(program.wait())
    assert (code, output) == (0, "ends 3\n")
    assert "Traceback" not in problems
    if how == "left_open":
        assert "left open; use `with`" in problems


# The same as the other client


def test_it_takes_and_says_what_the_other_client_does() -> None:
    ours, theirs = Client, aiozpat.Client
    left_out = {"context"}  # of an event loop; here there is one loop, whose clients share its context

    def parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
        found = inspect.signature(function).parameters.values()
        return {one.name: (one.kind, one.default) for one in found if one.name not in left_out}

    assert parameters(ours.__init__) == parameters(theirs.__init__)
    for name, function in inspect.getmembers(theirs, inspect.isfunction):
        if name.startswith("_") or name == "state_changes":
            continue
        assert parameters(getattr(ours, name)) == parameters(function), name
        assert getattr(ours, name).__doc__, name


@pytest.mark.parametrize(
    ("endpoint", "options", "error"),
    [
        ("nonsense", {}, errors.InvalidEndpoint),
        ([], {}, errors.UsageError),
        ("tcp://127.0.0.1:1", {"timeout": 0}, ValueError),
        ("tcp://127.0.0.1:1", {"max_in_flight": 0}, ValueError),
        ("tcp://127.0.0.1:1", {"heartbeat": 0}, ValueError),
    ],
)
def test_wrong_settings_are_refused_at_once(endpoint: Any, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Client(endpoint, **options)
    gc.collect()


def test_limits_hold(server: Serving, calc: Calc) -> None:
    with Client(server.endpoint, max_in_flight=4) as client, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.call, "calc.hold", number) for number in range(4)]
        until(lambda: len(calc.started) == 4)
        with pytest.raises(errors.ResourceExhausted, match="max_in_flight"):
            client.call("calc.add", 1)
        server.soon(calc.gate.set)
        assert sorted(call.result(PATIENCE) for call in calls) == [0, 1, 2, 3]


def test_a_call_is_not_slow(client: Client) -> None:
    began = time.monotonic()
    for _ in range(50):
        client.call("calc.add", 1, 2)
    assert time.monotonic() - began < 5.0


def test_a_loop_that_ends_by_itself_leaves_nobody_waiting(server: Serving, calc: Calc) -> None:
    async def leave(call: object, proceed: object) -> None:
        raise SystemExit(3)

    with (
        ThreadPoolExecutor(2) as pool,
        Client(server.endpoint) as other,
        Client(server.endpoint, interceptors=[leave]) as client,
    ):
        other.ready(PATIENCE)
        in_flight = pool.submit(other.call, "calc.hold", 1)
        until(lambda: calc.started == [1])
        with pytest.raises((errors.Closed, errors.Cancelled)):
            client.stream("calc.hold").__enter__()
        with pytest.raises((errors.Closed, errors.Unavailable)):
            in_flight.result(PATIENCE)
        with pytest.raises(errors.Closed):
            other.call("calc.add", 1)
        with Client(server.endpoint) as later:
            assert later.call("calc.add", 1, 2) == 3


class Held:
    """Something that a context may hold."""


def test_the_loop_holds_nothing_of_who_made_the_first_client(server: Serving) -> None:
    holding: ContextVar[Held] = ContextVar("holding")

    def first() -> tuple[weakref.ref[Held], contextlib.ExitStack]:
        held, stack = Held(), contextlib.ExitStack()
        holding.set(held)
        stack.enter_context(Client(server.endpoint))
        return weakref.ref(held), stack

    held, one = copy_context().run(first)
    with Client(server.endpoint):  # so that the loop goes on
        one.close()
        until(lambda: gc.collect() >= 0 and held() is None)


async def test_what_a_loop_that_ends_has_not_begun_is_over() -> None:
    finished: list[object] = []

    class Ending:
        loop = asyncio.get_running_loop()
        over: aiozpat.AiozpatError | None = None

        def finish(self, work: object) -> None:
            finished.append(work)

    errand = Errand(asyncio.Event().wait)
    errand.start(Ending())
    assert errand._task is not None
    errand._task.cancel()  # before its first step, where tasks are not eager; as the end of a loop does it
    await asyncio.wait({errand._task})
    await asyncio.sleep(0)  # for what is called when it is done
    assert finished == [errand]
    with pytest.raises(errors.Closed):
        errand.outcome()
