"""Metrics of calls, as Prometheus reads them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

import aiozpat
from aiozpat import Client, Server, errors
from aiozpat.observability import prometheus, snapshots
from aiozpat.observability.prometheus import BUCKETS, Metrics
from tests.support import LOOPBACK, Calc, until


class Scraped:
    """What Prometheus reads of a registry, by its own parser."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.families = list(text_string_to_metric_families(generate_latest(registry).decode()))
        self._values = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, metric: str, /, **labels: str) -> float | None:
        return self._values.get((f"aiozpat_{metric}", *sorted(labels.items())))

    def all(self, metric: str) -> dict[tuple[str, ...], float]:
        """All values of a metric, by the values of its labels."""
        found = {key: value for key, value in self._values.items() if key[0] == f"aiozpat_{metric}"}
        return {tuple(text for _, text in key[1:]): value for key, value in found.items()}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


async def test_calls_are_counted_by_method_and_code_on_both_sides(
    registry: CollectorRegistry, metrics: Metrics, calc: Calc
) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[metrics]) as server,
        Client(server.endpoint, interceptors=[metrics]) as client,
    ):
        for n in range(5):
            await client.call("calc.add", n)
        for kind in ("value", "precondition", "precondition"):
            with pytest.raises(errors.RpcError):
                await client.call("calc.fail", kind)
        with pytest.raises(errors.Unimplemented):
            await client.call("calc.nothing")
        holding = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        scraped = Scraped(registry)
        for side in ("server", "client"):
            assert scraped(f"{side}_calls_started_total", method="calc.hold") == 1
            assert scraped(f"{side}_calls_running", method="calc.hold") == 1
            assert scraped(f"{side}_calls_running", method="calc.add") == 0
            assert scraped(f"{side}_calls_total", method="calc.hold", code="OK") == 0
        calc.gate.set()
        await holding
    scraped = Scraped(registry)
    on_both = {
        ("OK", "calc.add"): 5,
        ("OK", "calc.fail"): 0,
        ("INTERNAL", "calc.fail"): 1,
        ("FAILED_PRECONDITION", "calc.fail"): 2,
        ("OK", "calc.hold"): 1,
    }
    assert scraped.all("server_calls_total") == on_both
    only_the_client = {("OK", "calc.nothing"): 0, ("UNIMPLEMENTED", "calc.nothing"): 1}
    assert scraped.all("client_calls_total") == {**on_both, **only_the_client}
    assert scraped.all("server_calls_started_total") == {("calc.add",): 5, ("calc.fail",): 3, ("calc.hold",): 1}
    assert set(scraped.all("server_calls_running").values()) == {0}
    assert set(scraped.all("client_calls_running").values()) == {0}


async def test_cancelled_and_late_calls_are_counted_so(
    registry: CollectorRegistry, metrics: Metrics, calc: Calc
) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[metrics]) as server,
        Client(server.endpoint, interceptors=[metrics]) as client,
    ):
        # A notification: of a call the client might say first that it doesn't wait any more.
        await client.notify("calc.hold", 1, timeout=0.5)
        await until(lambda: calc.cancelled == [1])
        with pytest.raises(errors.DeadlineExceeded):
            await client.call("calc.nothing", timeout=-1)
        call = asyncio.create_task(client.call("calc.hold", 2))
        await until(lambda: 2 in calc.started)
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: server.statistics().running == 0)
    scraped = Scraped(registry)
    assert scraped.all("server_calls_total") == {
        ("OK", "calc.hold"): 0,
        ("DEADLINE_EXCEEDED", "calc.hold"): 1,
        ("CANCELLED", "calc.hold"): 1,
    }
    assert scraped.all("client_calls_total") == {
        ("OK", "calc.nothing"): 0,
        ("DEADLINE_EXCEEDED", "calc.nothing"): 1,
        ("OK", "calc.hold"): 1,  # the notification left
        ("CANCELLED", "calc.hold"): 1,
    }


async def test_seconds_are_a_histogram(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    now = 0.0
    monkeypatch.setattr(prometheus, "_monotonic", lambda: now)
    metrics, service = Metrics(registry, buckets=(0.25, 0.5, 1)), aiozpat.Service("s")

    @service.method
    async def take(seconds: float) -> None:
        nonlocal now
        now += seconds

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        nonlocal now
        for number in range(n):
            now += 1
            yield number

    async with (
        Server(service, bind=LOOPBACK, interceptors=[metrics]) as server,
        Client(server.endpoint) as client,
    ):
        for seconds in (0.125, 0.25, 0.5, 0.75, 2.0):
            await client.call("s.take", seconds)
        async with client.stream("s.count", 3) as numbers:
            assert len([number async for number in numbers]) == 3
    scraped = Scraped(registry)
    assert scraped.all("server_call_seconds_bucket") == {
        ("0.25", "s.take"): 2,  # a bound is part of its bucket
        ("0.5", "s.take"): 3,
        ("1.0", "s.take"): 4,
        ("+Inf", "s.take"): 5,
        ("0.25", "s.count"): 0,
        ("0.5", "s.count"): 0,
        ("1.0", "s.count"): 0,
        ("+Inf", "s.count"): 1,
    }
    assert scraped("server_call_seconds_sum", method="s.take") == 3.625
    assert scraped("server_call_seconds_count", method="s.take") == 5
    assert scraped("server_call_seconds_sum", method="s.count") == 3


async def test_a_client_has_lines_for_so_many_methods_only(registry: CollectorRegistry, calc: Calc) -> None:
    metrics = Metrics(registry, max_methods=2)
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[metrics]) as server,
        Client(server.endpoint, interceptors=[metrics]) as client,
    ):
        await client.call("calc.add", 1)
        for number in range(10):
            with pytest.raises(errors.Unimplemented):
                await client.call(f"no.{number}")
        await client.call("calc.add", 1)
        await client.call("calc.echo", b"")
        calc.gate.set()
        await client.call("calc.hold", 1)
    scraped = Scraped(registry)
    assert scraped.all("client_calls_started_total") == {("calc.add",): 2, ("no.0",): 1, ("other",): 11}
    assert scraped("client_calls_total", method="other", code="UNIMPLEMENTED") == 9
    assert set(scraped.all("server_calls_started_total")) == {("calc.add",), ("calc.echo",), ("calc.hold",)}


async def test_prometheus_rules_for_names_are_kept(registry: CollectorRegistry, metrics: Metrics, calc: Calc) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[metrics]) as server,
        Client(server.endpoint, interceptors=[metrics]) as client,
    ):
        metrics.watch(server, "s")
        metrics.watch(client, "c")
        await client.call("calc.add", 1)
        families = Scraped(registry).families
        text = exposition.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
        # OpenMetrics' parser is the stricter one: it checks suffixes, order, and that buckets are cumulated.
        strict = list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert {family.name for family in strict} == {family.name for family in families}
    assert len(families) == 16
    assert {family.name for family in metrics.describe()} == {family.name for family in metrics.collect()}
    for family in families:
        assert re.fullmatch(r"aiozpat_(server|client)_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        assert ("bytes" in family.documentation.lower()) == family.name.endswith("_bytes")


async def test_a_registry_takes_one_and_says_so_of_a_second(registry: CollectorRegistry, metrics: Metrics) -> None:
    with pytest.raises(errors.UsageError, match="give it to all"):
        Metrics(registry)
    assert Scraped(registry).families
    other = CollectorRegistry()
    Counter("aiozpat_server_calls", "Somebody else's.", registry=other)
    before = generate_latest(other)
    with pytest.raises(errors.UsageError, match="aiozpat_server_calls"):
        Metrics(other)
    assert generate_latest(other) == before  # nothing was left half registered
    Metrics(CollectorRegistry(auto_describe=True))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"buckets": ()}, "ascending"),
        ({"buckets": (1, 0.5)}, "ascending"),
        ({"buckets": (1, 1)}, "ascending"),
        ({"buckets": (1, float("inf"))}, "ascending"),
        ({"buckets": (float("nan"), 1)}, "ascending"),
        ({"max_methods": -1}, "max_methods"),
    ],
)
def test_a_value_out_of_range_is_refused(options: dict[str, Any], text: str, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match=text):
        Metrics(registry, **options)
    assert not Scraped(registry).families
    assert list(BUCKETS) == sorted(BUCKETS)


class _Mine(Client):
    """A class of a user's own is a client like others."""


async def test_what_servers_and_clients_say_of_themselves_is_read_from_any_thread(
    registry: CollectorRegistry, metrics: Metrics, calc: Calc
) -> None:
    @calc.service.method(max_concurrency=1, max_queued=1)
    async def single() -> None:
        calc.started.append(1)
        await calc.gate.wait()

    async with (
        Server(calc.service, bind=LOOPBACK) as server,
        Client(server.endpoint) as client,
    ):
        metrics.watch(server, "calc")
        metrics.watch(client, "calc")
        calls = [asyncio.create_task(client.call("calc.single"))]
        await until(lambda: bool(calc.started))
        calls.append(asyncio.create_task(client.call("calc.single")))
        await until(lambda: server.statistics().queued == 1)
        with pytest.raises(errors.ResourceExhausted):
            await client.call("calc.single")
        for scraped in (Scraped(registry), await asyncio.to_thread(Scraped, registry)):
            assert scraped("server_sessions", name="calc") == 1
            assert scraped("server_calls_queued", name="calc") == 1
            assert scraped("server_waiting_bytes", name="calc") == 0
            assert scraped("server_notices_total", name="calc", kind="refused") == 1
            assert scraped("client_calls_in_flight", name="calc") == 2
            assert scraped("client_session_tries_total", name="calc") == 1
            assert scraped("client_waiting_bytes", name="calc") == 0
        async with _Mine(server.endpoint) as another:
            metrics.watch(another, "calc")
            assert Scraped(registry)("client_calls_in_flight", name="calc") == 0  # it is in the other's place
        calc.gate.set()
        await asyncio.gather(*calls)
    assert Scraped(registry)("server_sessions", name="calc") == 0


def test_who_watches_is_in_a_loop(metrics: Metrics) -> None:
    with pytest.raises(errors.UsageError, match="inside its block"):
        metrics.watch(Client("tcp://127.0.0.1:1"), "c")


def test_a_loop_that_is_closed_has_no_metrics_and_keeps_nobody_waiting(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    async def watch() -> None:
        async with Client("tcp://127.0.0.1:1") as client:
            metrics.watch(client, "gone")

    thread = threading.Thread(target=aiozpat.run, args=(watch(),))
    thread.start()
    thread.join()
    assert Scraped(registry).all("client_calls_in_flight") == {}


async def test_a_loop_that_hangs_has_no_metrics(
    registry: CollectorRegistry, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_PATIENCE", 0.01)
    async with Client("tcp://127.0.0.1:1") as client:
        metrics.watch(client, "hanging")
        found: list[dict[tuple[str, ...], float]] = []
        thread = threading.Thread(target=lambda: found.append(Scraped(registry).all("client_calls_in_flight")))
        thread.start()
        thread.join()  # on the loop's own thread
        assert found == [{}]
        assert Scraped(registry).all("client_calls_in_flight") == {("hanging",): 0}
