"""The interceptors that need nothing installed, and how the others say what they need."""

from __future__ import annotations

import asyncio
import importlib
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiozpat
from aiozpat import Call, Client, Proceed, Retry, Server, errors
from aiozpat.interceptors import Logging, RateLimit
from aiozpat.observability import logs
from aiozpat.protocol.token_bucket import TokenBucket, TokenBuckets
from aiozpat.rpc import rate_limit
from tests.support import LOOPBACK, Calc, until


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of both interceptors."""
    clock = Clock()
    monkeypatch.setattr(logs, "_monotonic", clock)
    monkeypatch.setattr(rate_limit, "_monotonic", clock)
    return clock


# Logging


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of calls."""
    return [record for record in caplog.records if hasattr(record, "rpc_code")]


def fields(record: logging.LogRecord) -> tuple[str, ...]:
    """What a record says of a call, without peer and time."""
    return tuple(vars(record)[f"rpc_{name}"] for name in ("side", "method", "code"))


async def test_each_call_leaves_a_line_on_both_sides(
    calc: Calc, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiozpat.calls")
    shared = Logging()
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[shared]) as server,
        Client(server.endpoint, name="me", interceptors=[shared]) as client,
    ):
        call = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        clock.now += 0.25
        calc.gate.set()
        await call
    on_server, on_client = lines(caplog)
    assert (on_server.name, on_client.name) == ("aiozpat.calls.server", "aiozpat.calls.client")
    assert on_client.getMessage() == "calc.hold: OK in 0.250000 s"
    peer = vars(on_server)["rpc_peer"]
    assert peer.startswith("me/")
    assert on_server.getMessage() == f"calc.hold: OK in 0.250000 s, for {peer}"
    assert fields(on_server) == ("server", "calc.hold", "OK")
    assert fields(on_client) == ("client", "calc.hold", "OK")
    assert vars(on_server)["rpc_seconds"] == vars(on_client)["rpc_seconds"] == 0.25
    assert vars(on_client)["rpc_peer"] == ""


async def test_how_a_call_ended_is_told_by_its_code_and_faults_are_warnings(
    calc: Calc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiozpat.calls")
    shared = Logging(level=logging.DEBUG)

    @calc.service.method
    async def nested() -> None:
        async with Client("tcp://127.0.0.1:1", wait_for_ready=False) as other:
            await other.call("no.body")

    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[shared]) as server,
        Client(server.endpoint, interceptors=[shared]) as client,
    ):

        async def ended(*args: Any, timeout: float | None = None) -> list[tuple[str, str, str]]:
            caplog.clear()
            with pytest.raises(errors.RpcError):
                await client.call(*args, timeout=timeout)
            await until(lambda: server.statistics().running == 0)
            return [(vars(record)["rpc_side"], vars(record)["rpc_code"], record.levelname) for record in lines(caplog)]

        def both(code: str, level: str) -> list[tuple[str, str, str]]:
            return [("server", code, level), ("client", code, level)]

        assert await ended("calc.fail", "precondition") == both("FAILED_PRECONDITION", "DEBUG")
        assert await ended("calc.fail", "value") == both("INTERNAL", "WARNING")
        assert await ended("calc.fail", "cancelled") == both("CANCELLED", "DEBUG")
        assert await ended("calc.nested") == both("INTERNAL", "WARNING")  # not UNAVAILABLE: that was another's
        assert ("client", "DEADLINE_EXCEEDED", "DEBUG") in await ended("calc.hold", 1, timeout=0.05)
        assert await ended("calc.nothing") == [("client", "UNIMPLEMENTED", "DEBUG")]

        caplog.clear()
        call = asyncio.create_task(client.call("calc.hold", 2))
        await until(lambda: 2 in calc.started)
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: len(lines(caplog)) == 2)
        assert {fields(record) for record in lines(caplog)} == {
            ("client", "calc.hold", "CANCELLED"),
            ("server", "calc.hold", "CANCELLED"),
        }


async def test_an_error_of_no_status_is_unknown_on_a_client(calc: Calc, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(errors.RpcError):
        code = 99  # type: ignore[assignment]  # the point

    kind: type[Exception] = LookupError

    async def break_down(call: Any, proceed: Proceed) -> Any:
        raise kind("not there")

    async with Client("tcp://127.0.0.1:1", interceptors=[Logging(), break_down]) as client:
        for kind in (LookupError, Odd):
            with pytest.raises(kind):
                await client.call("calc.add", 1)
    assert [(*fields(record), record.levelname) for record in lines(caplog)] == [
        ("client", "calc.add", "UNKNOWN", "WARNING")
    ] * 2


async def test_what_ran_past_its_deadline_is_logged_so_whatever_it_did(
    calc: Calc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiozpat.calls")
    end = threading.Event()

    @calc.service.method
    async def busy() -> None:
        """The loop stands still, so nobody can cancel it."""
        call = aiozpat.current_call()
        while call.time_left > 0:
            pass
        raise ValueError("it fails")

    @calc.service.method
    def in_thread() -> str:
        """It can't be cancelled, and returns."""
        end.wait()
        return "too late"

    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[Logging()]) as server,
        Client(server.endpoint) as client,
    ):
        # Notifications: of a call the client might say first that it doesn't wait any more.
        for method, args in (("hold", [1]), ("busy", [])):
            await client.notify(f"calc.{method}", *args, timeout=0.2)
            await until(lambda: bool(lines(caplog)))
            assert [fields(record) for record in lines(caplog)] == [("server", f"calc.{method}", "DEADLINE_EXCEEDED")]
            caplog.clear()
        try:
            await client.notify("calc.in_thread", timeout=0.2)
            await until(lambda: server.statistics().notices.get("notification failed") == 3)
        finally:
            end.set()
        await until(lambda: bool(lines(caplog)))
        assert [fields(record) for record in lines(caplog)] == [("server", "calc.in_thread", "DEADLINE_EXCEEDED")]


async def test_a_streams_line_comes_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aiozpat.calls")
    service = aiozpat.Service("s")

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async with (
        Server(service, bind=LOOPBACK, interceptors=[Logging()]) as server,
        Client(server.endpoint, interceptors=[Logging()]) as client,
    ):
        async with client.stream("s.count", 10**9) as numbers:
            assert await anext(numbers) == 0
            assert not lines(caplog)
        await until(lambda: len(lines(caplog)) == 2)
        assert {fields(record) for record in lines(caplog)} == {
            ("client", "s.count", "OK"),
            ("server", "s.count", "CANCELLED"),  # the client did not want the rest
        }
        caplog.clear()
        async with client.stream("s.count", 3) as numbers:
            assert [number async for number in numbers] == [0, 1, 2]
        assert {fields(record) for record in lines(caplog)} == {
            ("client", "s.count", "OK"),
            ("server", "s.count", "OK"),
        }


async def test_slow_leaves_out_the_quick_but_no_fault(
    calc: Calc, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiozpat.calls")

    @calc.service.method
    async def take(seconds: float) -> None:
        clock.now += seconds

    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[Logging(slow=0.5)]) as server,
        Client(server.endpoint) as client,
    ):
        for seconds in (0.0, 0.25, 0.75):
            await client.call("calc.take", seconds)
        for kind in ("value", "precondition"):
            with pytest.raises(errors.RpcError):
                await client.call("calc.fail", kind)
    kept = [(vars(record)["rpc_code"], vars(record)["rpc_seconds"]) for record in lines(caplog)]
    assert kept == [("OK", 0.75), ("INTERNAL", 0.0)]


async def test_the_lines_go_to_the_logger_given_and_a_level_that_is_off_has_none(
    calc: Calc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mine")
    mine = logging.getLogger("mine")
    interceptors = [Logging(mine), Logging(mine, level=logging.DEBUG)]
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=interceptors) as server,
        Client(server.endpoint, interceptors=interceptors) as client,
    ):
        await client.call("calc.add", 1)
    assert [(record.name, record.levelname, fields(record)) for record in lines(caplog)] == [
        ("mine", "INFO", ("server", "calc.add", "OK")),
        ("mine", "INFO", ("client", "calc.add", "OK")),
    ]


async def test_a_clients_name_does_not_break_the_line(calc: Calc, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aiozpat.calls")
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[Logging()]) as server,
        Client(server.endpoint, name="me\nCRITICAL all is lost") as client,
    ):
        await client.call("calc.add", 1)
    (record,) = lines(caplog)
    assert len(record.getMessage().splitlines()) == 1
    assert len(vars(record)["rpc_peer"].splitlines()) == 1


# RateLimit


def counting() -> tuple[aiozpat.Service, list[str]]:
    """A service with two methods, and a list that each call is put into."""
    service, ran = aiozpat.Service("s"), list[str]()

    @service.method
    async def one() -> None:
        ran.append("one")

    @service.method
    async def two() -> None:
        ran.append("two")

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        ran.append("count")
        for number in range(n):
            yield number

    return service, ran


async def passes(client: Client, method: str) -> bool:
    """Whether a call is not refused."""
    call = asyncio.create_task(client.call(method))
    await asyncio.wait({call})
    error = call.exception()
    if error is None:
        return True
    assert isinstance(error, errors.ResourceExhausted)
    assert error.refused
    return False


async def test_a_rate_limit_refuses_past_the_burst_before_the_call_runs(clock: Clock) -> None:
    service, ran = counting()
    limit = RateLimit(10, 3)
    async with Server(service, bind=LOOPBACK, interceptors=[limit]) as server, Client(server.endpoint) as client:
        assert [await passes(client, "s.one") for _ in range(5)] == [True, True, True, False, False]
        clock.now += 0.1
        assert [await passes(client, "s.two") for _ in range(2)] == [True, False]
        with pytest.raises(errors.ResourceExhausted, match=r"s\.count: .* 10 calls a second .* may come in 0\.100 s"):
            async with client.stream("s.count", 2) as numbers:
                await anext(numbers)
        assert ran == ["one", "one", "one", "two"]
        assert server.statistics().notices["refused"] == 4
        clock.now += 3600
        async with client.stream("s.count", 100) as numbers:
            assert len([number async for number in numbers]) == 100
        assert [await passes(client, "s.one") for _ in range(3)] == [True, True, False]


async def test_a_client_may_come_again_when_the_refusal_says(clock: Clock) -> None:
    service, ran = counting()

    async def wait(call: Call, proceed: Proceed) -> Any:
        """Let the time pass that a refused caller is to wait."""
        try:
            return await proceed()
        except errors.ResourceExhausted as error:
            clock.now += error.details["retry_after"] + 1e-6
            raise

    async with (
        Server(service, bind=LOOPBACK, interceptors=[wait, RateLimit(0.1, 1)]) as server,
        Client(server.endpoint, retry=Retry(attempts=2, backoff=0.001)) as client,
    ):
        for _ in range(5):
            await client.call("s.one")
        assert len(ran) == 5
        assert server.statistics().notices["refused"] == 4


@pytest.mark.parametrize("per", ["peer", "method", "server"])
async def test_what_has_a_rate_of_its_own(per: Any, clock: Clock) -> None:
    service, _ = counting()
    async with (
        Server(service, bind=LOOPBACK, interceptors=[RateLimit(1, 1, per=per)]) as server,
        Client(server.endpoint) as one,
        Client(server.endpoint) as other,
    ):
        seen = [await passes(client, method) for client in (one, other) for method in ("s.one", "s.two")]
    assert (
        seen
        == {
            "peer": [True, False, True, False],
            "method": [True, True, False, False],
            "server": [True, False, False, False],
        }[per]
    )


async def test_what_every_server_answers_is_not_limited(clock: Clock) -> None:
    service, _ = counting()
    async with (
        Server(service, bind=LOOPBACK, interceptors=[RateLimit(1, 1, per="server")]) as server,
        Client(server.endpoint) as client,
    ):
        assert [await client.call("aiozpat.ping") for _ in range(3)] == ["pong"] * 3
        assert [await passes(client, "s.one") for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RateLimit(0, 1), "rate is a number"),
        (lambda: RateLimit(float("nan"), 1), "rate is a number"),
        (lambda: RateLimit(float("inf"), 1), "rate is a number"),
        (lambda: RateLimit(1, 0), "burst is a number"),
        (lambda: RateLimit(1, 1, per="client"), "per is 'peer'"),  # type: ignore[arg-type]  # the point
        (lambda: Logging(slow=-1), "slow is a number from 0 up"),
        (lambda: Logging(slow=float("nan")), "slow is a number from 0 up"),
    ],
)
def test_a_value_out_of_range_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 10), max_size=200),
)
def test_a_bucket_gives_no_more_than_its_rate_and_says_when_it_gives_again(
    rate: float, burst: int, pauses: list[float]
) -> None:
    begin = now = 12345.0
    bucket = TokenBucket(rate, burst, now)
    for taken, pause in enumerate(pauses, start=1):
        now += pause
        wait = bucket.take(now)
        if wait:
            assert bucket.take(now + wait * 0.99) > 0
            now += wait * (1 + 1e-6) + 1e-6
            assert bucket.take(now) == 0
        assert taken <= burst + (now - begin) * rate * (1 + 1e-6) + 1e-6


@given(rate=st.floats(0.01, 1000), burst=st.integers(1, 50))
def test_a_bucket_gives_its_burst_at_once_and_again_when_it_is_full(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    for now in (0.0, 2 * burst / rate):
        assert all(bucket.take(now) == 0 for _ in range(burst))
        assert bucket.take(now) == pytest.approx(1 / rate)


def test_the_bucket_not_used_for_longest_makes_way() -> None:
    buckets = TokenBuckets(1.0, 1, most=3)
    assert [buckets.take(key, 0.0) for key in "abc"] == [0, 0, 0]
    assert buckets.take("a", 0.0) == 1  # used again, so `b` is now the oldest
    assert buckets.take("d", 0.0) == 0
    assert len(buckets) == 3
    assert [buckets.take(key, 0.0) for key in "acd"] == [1, 1, 1]
    assert buckets.take("b", 0.0) == 0
    assert [buckets.take(str(number), 0.0) for number in range(1000)] == [0] * 1000
    assert len(buckets) == 3


# What must be installed


def test_these_need_nothing_installed() -> None:
    code = (
        "import sys, aiozpat.interceptors\n"
        "print(*[name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)  # noqa: S603 - our own
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("aiozpat.observability.otel", "opentelemetry", "otel"),
        ("aiozpat.observability.prometheus", "prometheus_client", "prometheus"),
    ],
)
def test_the_others_say_what_to_install(module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = importlib.import_module(module).__all__
    assert len(names) == 1  # of all that it imports itself
    monkeypatch.setitem(sys.modules, missing, None)  # importing it now is an ImportError
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'aiozpat\[{extra}\]'"):
        importlib.import_module(module)
