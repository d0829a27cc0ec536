"""Several servers, and what is tried again when one of them fails: only what is safe."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import aiozpat
from aiozpat import Client, ClientState, Retry, Server, Service, errors
from aiozpat.observability.calls import Proceed
from aiozpat.rpc import connection as connection_module
from aiozpat.rpc.around import connections_tried
from aiozpat.rpc.hedge import race
from aiozpat.rpc.interceptors import ClientCall
from aiozpat.rpc.retry import Attempts, Budget
from tests.support import LOOPBACK, PATIENCE, Process, free_port, until

Start = Callable[..., Process]


class Counting:
    """A service whose method counts its calls, and can be made to wait or fail."""

    def __init__(self, *fail_with: Exception) -> None:
        self.calls = 0
        self.waiting = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail_with = list(fail_with)

    async def _run(self) -> int:
        self.calls += 1
        self.waiting += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        if self.fail_with:
            raise self.fail_with.pop(0)
        return self.calls

    @aiozpat.method(idempotent=True)
    async def same(self) -> int:
        return await self._run()

    @aiozpat.method
    async def once(self) -> int:
        return await self._run()

    def server(self, **options: Any) -> Server:
        return Server(Service("s", self), bind=LOOPBACK, **options)


def journal(*paths: Path) -> Counter[str]:
    """How often each call ran."""
    return Counter(line for path in paths if path.exists() for line in path.read_text().split())


def written(path: Path) -> int:
    """How many calls ran, about."""
    return path.stat().st_size // len("app.once:1234\n") if path.exists() else 0


async def test_servers_are_killed_restarted_and_drained_under_load(processes: Start, tmp_path: Path) -> None:
    endpoints = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    paths = [tmp_path / name for name in ("one", "two", "one again", "two again")]
    one = processes("replica", endpoints[0], str(paths[0]))
    two = processes("replica", endpoints[1], str(paths[1]))
    await one.line()
    await two.line()
    failed: Counter[str] = Counter()
    made = 0
    stop = False

    async with Client(endpoints, retry=Retry(attempts=5)) as client:
        await client.ready()

        async def load(number: int) -> None:
            nonlocal made
            method = "app.once" if number % 4 < 2 else "app.same"  # both at each server, which take turns
            while not stop:
                made += 1
                key = f"{method}:{made}"
                try:
                    assert await client.call(method, key, timeout=PATIENCE) == key
                except errors.Unavailable:
                    failed[method] += 1

        loads = [asyncio.create_task(load(number)) for number in range(256)]
        await until(lambda: min(written(path) for path in paths[:2]) > 100)
        one.send_signal(signal.SIGKILL)
        await until(lambda: failed["app.once"] > 0)
        again = processes("replica", endpoints[0], str(paths[2]))
        await again.line()
        await until(lambda: written(paths[2]) > 100)  # traffic is back
        lost = Counter(failed)
        two.send_signal(signal.SIGTERM)
        assert (await two.wait())[0] == 0
        another = processes("replica", endpoints[1], str(paths[3]))
        await another.line()
        await until(lambda: written(paths[3]) > 100)
        stop = True
        await asyncio.gather(*loads)
        assert failed == lost  # a server that drains costs no call
    assert set(lost) == {"app.once"}  # and one that is killed none that is idempotent
    ran = journal(*paths)
    assert all(count == 1 for key, count in ran.items() if key.startswith("app.once"))


async def test_a_call_goes_where_the_fewest_are_in_flight() -> None:
    slow, quick = Counting(), Counting()
    slow.gate.clear()
    async with slow.server() as one, quick.server() as two, Client([one.endpoint, two.endpoint]) as client:
        await until(lambda: len(client._pool._ready) == 2)
        stuck = [asyncio.create_task(client.call("s.once")) for _ in range(10)]
        await until(lambda: slow.waiting == 5 and client.statistics().in_flight == 5)  # the quick one's are answered
        for _ in range(20):
            await client.call("s.once")
        assert slow.calls == 5
        slow.gate.set()
        await asyncio.gather(*stuck)
        for _ in range(20):
            await client.call("s.once")
        assert slow.calls == 15  # each in turn again
        assert client.endpoints == (one.endpoint, two.endpoint)


async def test_one_of_two_servers_is_enough(port: int) -> None:
    counting = Counting()
    async with counting.server() as server:
        nowhere = f"tcp://127.0.0.1:{port}"
        async with Client([nowhere, server.endpoint], wait_for_ready=False) as client:
            await client.ready()
            for _ in range(5):
                await client.call("s.once")
            async with Server(Service("s", Counting()), bind=nowhere) as late:
                await until(lambda: late.statistics().sessions == 1)
            await client.call("s.once")
            await server.close()
            await until(lambda: client.state is ClientState.CONNECTING)
            with pytest.raises(errors.Unavailable, match=f"{nowhere}.*{server.endpoint}"):
                await client.call("s.once")


async def test_a_server_that_is_late_with_its_heartbeats_is_left_alone(processes: Start, tmp_path: Path) -> None:
    hung = processes("replica", LOOPBACK, str(tmp_path / "one"))
    counting = Counting()
    service = Service("app", interface=None)

    @service.method
    async def once(key: str) -> str:
        counting.calls += 1
        return key

    async with Server(service, bind=LOOPBACK) as server:
        endpoint = await hung.line()
        async with Client([endpoint, server.endpoint], heartbeat=0.3) as client:
            await until(lambda: server.statistics().sessions == 1)
            await until(lambda: client._pool.usable is None and len(client._pool._ready) == 2)
            hung.send_signal(signal.SIGSTOP)
            await until(lambda: client._pool.usable is not None)
            assert len(client._pool.connections) == 2  # not given up yet
            for number in range(10):
                assert await client.call("app.once", f"{number}") == f"{number}"
            assert counting.calls == 10
            hung.send_signal(signal.SIGCONT)
            await until(lambda: len(client._pool._ready) == 2)


async def test_who_is_late_takes_calls_only_where_all_are() -> None:
    late, good = Counting(), Counting()
    async with (
        late.server() as one,
        good.server() as two,
        Client([one.endpoint, two.endpoint], heartbeat=3600) as client,  # who is late is said here
    ):
        await until(lambda: len(client._pool._ready) == 2)
        ready = {connection.endpoint: connection for connection in client._pool._ready}

        def tell(endpoint: str, suspect: bool) -> None:
            ready[endpoint].suspect = suspect
            ready[endpoint]._on_phase()

        tell(one.endpoint, True)
        for _ in range(10):
            await client.call("s.once")
        assert (late.calls, good.calls) == (0, 10)
        tell(two.endpoint, True)
        for _ in range(10):
            await client.call("s.once")
        assert (late.calls, good.calls) == (5, 15)
        tell(one.endpoint, False)
        for _ in range(10):
            await client.call("s.once")
        assert (late.calls, good.calls) == (15, 15)


async def test_a_drained_server_costs_no_call_and_a_single_one_is_waited_for(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    counting = Counting()
    context = aiozpat.Context()
    async with Client(endpoint) as client:
        async with context, Server(Service("s", counting), bind=endpoint, context=context):
            await client.call("s.once")
        waiting = asyncio.create_task(client.call("s.once"))
        await until(lambda: client.statistics().in_flight == 1)
        async with aiozpat.Context() as context, Server(Service("s", counting), bind=endpoint, context=context):
            assert await waiting == 2


async def test_a_call_that_waits_for_nothing_goes_from_a_server_that_drains_to_one_that_is_ready() -> None:
    drained, ready = Counting(), Counting()
    async with (
        drained.server() as one,
        ready.server() as two,
        Client([one.endpoint, two.endpoint], wait_for_ready=False) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        assert one._executor is not None
        one._executor.refuse("it drains")  # and its goaway is still on its way
        for number in range(1, 5):
            assert await client.call("s.once") == number
        assert (drained.calls, ready.calls) == (0, 4)


async def test_calls_that_have_not_left_go_elsewhere_as_soon_as_their_server_drains() -> None:
    slow, quick = Counting(), Counting()
    slow.gate.clear()
    async with (
        slow.server(grace=PATIENCE) as one,
        quick.server() as two,
        Client(one.endpoint) as other,
        Client([one.endpoint, two.endpoint], timeout=PATIENCE / 3) as client,
    ):
        running = asyncio.create_task(other.call("s.once"))  # so that the server only drains
        await until(lambda: slow.waiting == 1 and len(client._pool._ready) == 2)
        there = next(connection for connection in client._pool._ready if connection.endpoint == one.endpoint)
        there._blocked = True  # as if that server did not read
        calls = [asyncio.create_task(client.call("s.once")) for _ in range(2)]
        await until(lambda: len(there.calls) == 1)
        closing = asyncio.create_task(one.close())
        assert sorted(await asyncio.gather(*calls)) == [1, 2]
        assert not closing.done()
        there._on_writable()
        slow.gate.set()
        await asyncio.gather(running, closing)
        assert (slow.calls, quick.calls) == (1, 2)


# What is tried again


async def test_only_idempotent_calls_are_tried_again_after_they_ran() -> None:
    busy = errors.Unavailable("busy")
    counting = Counting(busy, busy)
    policy = Retry(attempts=3, backoff=0.001)
    async with counting.server() as server, Client(server.endpoint, retry=policy) as client:
        await until(lambda: bool(client._idempotent._known))  # the server has said which are
        assert await client.call("s.same") == 3
        counting.fail_with = [busy]
        with pytest.raises(errors.Unavailable, match="busy"):
            await client.call("s.once")
        counting.fail_with = [busy]
        assert await client.call("s.once", idempotent=True) == 6
        counting.fail_with = [busy] * 3
        with pytest.raises(errors.Unavailable, match="busy"):
            await client.call("s.same")
        assert counting.calls == 9
        counting.fail_with = [errors.NotFound("none")]
        with pytest.raises(errors.NotFound):
            await client.call("s.same")
        assert counting.calls == 10


async def test_a_refused_call_goes_to_another_server() -> None:
    full, free = Counting(), Counting()
    full.gate.clear()
    limits = aiozpat.Limits(max_concurrency=1, max_queued=0)
    async with (
        full.server(limits=limits) as one,
        free.server() as two,
        Client(one.endpoint) as filler,
        Client([one.endpoint, two.endpoint], retry=Retry(backoff=0.001)) as client,
    ):
        filling = asyncio.create_task(filler.call("s.once"))
        await until(lambda: full.waiting == 1 and len(client._pool._ready) == 2)
        for _ in range(10):
            await client.call("s.once")
        assert (full.calls, free.calls) == (1, 10)
        full.gate.set()
        await filling


async def test_a_call_that_sends_a_stream_is_not_hedged_and_keeps_its_deadline(port: int) -> None:
    got: list[list[int]] = []
    left: list[float] = []
    service = Service("s")

    @service.method(idempotent=True)
    async def collect(items: AsyncIterator[int]) -> None:
        left.append(aiozpat.current_call().time_left)
        got.append([item async for item in items])

    async def slowly() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0.01)  # longer than the hedge
            yield number

    endpoint = f"tcp://127.0.0.1:{port}"
    async with Client(endpoint, retry=Retry(hedge=0.001)) as client:
        calling = asyncio.create_task(client.call("s.collect", slowly(), timeout=PATIENCE))
        await until(lambda: client.statistics().in_flight == 1)
        async with Server(service, bind=endpoint):
            await calling
        assert left[0] < PATIENCE  # what it waited for a connection is gone
    assert got == [list(range(10))]


async def test_a_stream_in_whichever_mapping_of_params_is_not_hedged() -> None:
    service = Service("s")

    @service.method(idempotent=True)
    async def add_up(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def slowly() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0.01)  # longer than the hedge
            yield number

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, retry=Retry(hedge=0.001)) as client:
        total = await client.call("s.add_up", params=MappingProxyType({"items": slowly()}), timeout=PATIENCE)
        with pytest.raises(TypeError, match="params go by name"):
            await client.call("s.add_up", params=5)  # type: ignore[call-overload]  # the mistake
    assert total == sum(range(10))


async def test_the_deadline_holds_for_all_attempts_together() -> None:
    counting = Counting(*[errors.Unavailable("busy")] * 1000)
    policy = Retry(attempts=1000, backoff=0.01, max_backoff=0.01)
    async with counting.server() as server, Client(server.endpoint, retry=policy) as client:
        seconds = 0.3
        while counting.calls < 2:  # a busy machine may need longer
            with pytest.raises(errors.RpcError):
                await client.call("s.same", timeout=seconds, idempotent=True)
            seconds *= 2
        assert counting.calls < 1000


async def test_nobody_pauses_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "pause", lambda policy, attempt: 3600.0)
    budget = Budget(Retry(burst=1))
    attempts = Attempts(budget, idempotent=True, deadline=time.monotonic() + 60)
    assert attempts.pause(errors.Unavailable("busy"), 0, sent=True) is None
    assert budget.spend()  # and it has cost no retry


async def test_the_budget_bounds_retries() -> None:
    budget = Budget(Retry(budget=0.5, burst=2))
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.calls = 2
    assert [budget.spend() for _ in range(2)] == [True, False]
    budget.calls = 1000
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    refused = errors.Unavailable("no")
    refused.refused = True
    none = Budget(Retry(burst=0))
    assert Attempts(none, idempotent=False, deadline=1e99).pause(refused, 0, sent=True) is None
    saved = Budget(Retry(budget=1.0, burst=0))
    saved.calls = 1
    assert [saved.spend(), saved.spend()] == [True, False]
    saved.calls = 2
    assert saved.spend()
    assert Budget(Retry(budget=1.0, burst=0)).spend() is False


async def filled(server: Server, counting: Counting) -> asyncio.Task[Any]:
    """A call that takes the only place of a server."""

    async def fill() -> None:
        async with Client(server.endpoint) as client:
            await client.call("s.once")

    counting.gate.clear()
    filling = asyncio.create_task(fill())
    await until(lambda: counting.waiting == 1)
    return filling


_ONE_PLACE = aiozpat.Limits(max_concurrency=1, max_queued=0)


async def test_calls_that_full_servers_refuse_find_the_one_with_room() -> None:
    ones = [Counting(), Counting()]
    free = Counting()
    async with (
        ones[0].server(limits=_ONE_PLACE) as one,
        ones[1].server(limits=_ONE_PLACE) as two,
        free.server() as three,
        Client([one.endpoint, two.endpoint, three.endpoint], retry=Retry(backoff=0.0)) as client,
    ):
        await until(lambda: len(client._pool._ready) == 3)
        filling = [await filled(server, counting) for server, counting in ((one, ones[0]), (two, ones[1]))]
        for _ in range(5):
            await asyncio.gather(*(client.call("s.once", timeout=PATIENCE) for _ in range(8)))
        for counting in ones:
            counting.gate.set()
        await asyncio.gather(*filling)


async def test_a_server_that_has_refused_a_call_comes_last_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    full, free = Counting(), Counting()
    async with (
        full.server(limits=_ONE_PLACE) as one,
        free.server() as two,
        Client([one.endpoint, two.endpoint]) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        filling = await filled(one, full)
        monkeypatch.setattr(connection_module, "_FULL", 3600.0)
        outcomes = await asyncio.gather(*(client.call("s.once") for _ in range(2)), return_exceptions=True)
        assert sum(isinstance(outcome, errors.ResourceExhausted) for outcome in outcomes) == 1
        for _ in range(20):
            await client.call("s.once")
        full.gate.set()
        await filling


async def test_a_method_that_is_refused_keeps_no_other_from_its_server() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    calls: Counter[str] = Counter()

    def service(number: int) -> Service:
        made = Service("s")

        @made.method(max_concurrency=1, max_queued=0)
        async def rare() -> None:
            calls[f"rare {number}"] += 1
            await gates[number].wait()

        @made.method
        async def other() -> None:
            calls[f"other {number}"] += 1

        return made

    async with (
        Server(service(0), bind=LOOPBACK) as one,
        Server(service(1), bind=LOOPBACK) as two,
        Client([one.endpoint, two.endpoint], retry=Retry(backoff=0.0)) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        rare = [asyncio.create_task(client.call("s.rare")) for _ in range(2)]
        await until(lambda: calls["rare 0"] == calls["rare 1"] == 1)
        for _ in range(5):
            with pytest.raises(errors.ResourceExhausted):
                await client.call("s.rare")
            for _ in range(4):
                await client.call("s.other")
        assert calls["other 0"] == calls["other 1"] == 10
        for gate in gates:
            gate.set()
        await asyncio.gather(*rare)


async def test_a_second_attempt_takes_no_other_calls_turn() -> None:
    failing, well = Counting(*(errors.Unavailable("busy") for _ in range(20))), Counting()
    async with (
        failing.server() as one,
        well.server() as two,
        Client([one.endpoint, two.endpoint], retry=Retry(backoff=0.0)) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2 and "s.same" in client._idempotent)
        await until(lambda: client.statistics().in_flight == 0)  # they were asked what is idempotent
        for _ in range(20):
            await client.call("s.same", timeout=PATIENCE)
        assert (failing.calls, well.calls) == (10, 20)


async def test_without_waiting_a_call_that_met_a_drain_is_tried_again_all_the_same(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    counting = Counting()
    counting.gate.clear()
    limits = aiozpat.Limits(max_concurrency=1)
    policy = Retry(attempts=1000, backoff=0.01, max_backoff=0.01)
    async with Client(endpoint, wait_for_ready=False, retry=policy) as client:
        async with Server(Service("s", counting), bind=endpoint, limits=limits) as server:
            await client.ready(PATIENCE)
            calls = [asyncio.create_task(client.call("s.once", timeout=PATIENCE)) for _ in range(3)]
            await until(lambda: server.statistics().queued == 2)
            await server.close(grace=0)
        counting.gate.set()
        async with Server(Service("s", counting), bind=endpoint):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, errors.RpcError) for outcome in outcomes) == 1  # the one that ran
    assert counting.calls == 3


async def test_tries_to_connect_that_fail_wake_nobody(port: int) -> None:
    endpoints = [f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free_port()}"]
    async with Client(endpoints) as client:
        calls = [asyncio.create_task(client.call("s.once", timeout=PATIENCE)) for _ in range(10)]
        await until(lambda: client._pool.waiting == 10)
        woken = asyncio.create_task(client._pool._changed.wait())  # type: ignore[union-attr]  # there is one inside
        await asyncio.sleep(0)
        client._pool._on_change()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not woken.done()
        async with Server(Service("s", Counting()), bind=endpoints[0]):
            assert sorted(await asyncio.gather(*calls)) == list(range(1, 11))
            await woken


async def test_where_hedged_calls_meet_servers_that_drain_those_are_no_attempts() -> None:
    countings = [Counting() for _ in range(3)] + [Counting(errors.Unavailable("busy"))]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(counting.server()) for counting in countings]
        policy = Retry(attempts=2, backoff=0.0, hedge=60.0)
        client = await stack.enter_async_context(Client([server.endpoint for server in servers], retry=policy))
        await until(lambda: len(client._pool._ready) == 4)
        for server in servers[:3]:
            assert server._executor is not None
            server._executor.refuse("as before its goaway is read")
        assert await client.call("s.same", idempotent=True, timeout=PATIENCE) == 2


async def test_who_must_say_who_it_is_learns_what_is_idempotent_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    counting = Counting(errors.Unavailable("busy"))

    async def sign(call: ClientCall, proceed: Proceed) -> Any:
        call.metadata["from"] = "me"
        return await proceed()

    async def admit(call: aiozpat.Call, proceed: Proceed) -> Any:
        if call.metadata.get("from") != "me":
            raise errors.Unauthenticated("who are you?")
        return await proceed()

    async with (
        counting.server(interceptors=[admit]) as server,
        Client(server.endpoint, interceptors=[sign], retry=Retry(backoff=0.0)) as client,
    ):
        await until(lambda: "s.same" in client._idempotent)
        assert await client.call("s.same", timeout=PATIENCE) == 2
    assert "idempotent" not in caplog.text


async def test_an_interceptor_that_holds_the_question_up_ends_with_the_client() -> None:
    ended = asyncio.Event()

    async def hold(call: ClientCall, proceed: Proceed) -> Any:
        try:
            return await asyncio.sleep(PATIENCE) if call.method.startswith("aiozpat.") else await proceed()
        finally:
            ended.set()

    async with Counting().server() as server:
        async with Client(server.endpoint, interceptors=[hold], retry=Retry()) as client:
            await client.ready()
        assert ended.is_set()


def test_pauses_grow_and_are_random() -> None:
    policy = Retry(backoff=0.1, max_backoff=0.3)
    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.3), (50, 0.3)):
        pauses = [policy.pause(attempt) for _ in range(200)]
        assert 0 <= min(pauses) < longest / 2 < max(pauses) <= longest
    for wrong in (
        {"attempts": 0},
        {"attempts": math.inf},
        {"attempts": 1.5},
        {"backoff": -1},
        {"budget": -1},
        {"hedge": -0.1},
        {"burst": -1},
    ):
        with pytest.raises(ValueError, match=r"Retry\."):
            Retry(**wrong)


async def test_a_hedged_call_takes_the_first_answer_and_cancels_the_other() -> None:
    slow, quick = Counting(), Counting()
    slow.gate.clear()
    quick.gate.clear()
    policy = Retry(hedge=0.05)
    async with (
        slow.server() as one,
        quick.server() as two,
        Client([one.endpoint, two.endpoint], retry=policy) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        await until(lambda: bool(client._idempotent._known) and client.statistics().in_flight == 0)
        calling = asyncio.create_task(client.call("s.same"))
        await until(lambda: slow.waiting == quick.waiting == 1)
        quick.gate.set()
        assert await calling == 1
        await until(lambda: slow.cancelled == 1)
        once = asyncio.create_task(client.call("s.once"))
        await until(lambda: slow.waiting == 1 or once.done())
        slow.gate.set()
        await once
        assert slow.calls + quick.calls == 3  # what is not idempotent is not hedged
        calling = asyncio.create_task(client.call("s.same"))
        await calling
        slow.gate.clear()
        quick.gate.clear()
        calling = asyncio.create_task(client.call("s.same"))
        await until(lambda: slow.waiting == quick.waiting == 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: slow.cancelled == 2 and quick.cancelled == 1)


async def test_a_hedged_call_goes_to_another_server_even_if_that_has_more_to_do() -> None:
    slow, busy = Counting(), Counting()
    slow.gate.clear()
    busy.gate.clear()
    async with (
        slow.server() as one,
        busy.server() as two,
        Client([one.endpoint, two.endpoint], retry=Retry(hedge=0.01)) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        await until(lambda: bool(client._idempotent._known) and client.statistics().in_flight == 0)
        there = next(connection for connection in client._pool._ready if connection.endpoint == two.endpoint)
        for number in (-1, -2, -3):  # more calls in flight than the other has
            there.calls[number] = there.calls.get(number)  # type: ignore[assignment]  # only counted
        calling = asyncio.create_task(client.call("s.same"))
        await until(lambda: slow.waiting == busy.waiting == 1)
        for number in (-1, -2, -3):
            del there.calls[number]
        busy.gate.set()
        assert await calling == 1


async def test_the_timeout_of_a_hedged_call_is_for_both_attempts() -> None:
    service = Service("s")
    left: list[float] = []

    @service.method(idempotent=True)
    async def hang() -> None:
        left.append(aiozpat.current_call().time_left)
        await asyncio.Event().wait()

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, retry=Retry(hedge=0.2)) as client:
        await until(lambda: bool(client._idempotent._known))
        asking = asyncio.create_task(client.call("s.hang", timeout=PATIENCE))
        await until(lambda: len(left) == 2)
        asking.cancel()
        await asyncio.wait({asking})
    assert left[1] < PATIENCE - 0.1  # and not all of it again: what waiting for the first took is gone


async def test_of_two_answers_at_once_the_good_one_counts() -> None:
    for good in range(2):
        both, made = asyncio.Event(), 0

        async def attempt(good: int = good, both: asyncio.Event = both) -> int:
            nonlocal made
            number, made = made, made + 1
            if number:
                both.set()
            await both.wait()
            if number != good:
                raise errors.ResourceExhausted("no")
            return number

        assert await race(attempt, 0.0, again=lambda: True, final=lambda error: False) == good


async def test_a_policy_and_its_own_question_take_no_place_from_calls() -> None:
    counting = Counting()
    async with counting.server() as server, Client(server.endpoint, retry=Retry(), max_in_flight=1) as client:
        assert await client.call("s.once") == 1  # whether or not the answer to the question has come
        await until(lambda: bool(client._idempotent._known))
        assert [connection.max_calls for connection in client._pool.connections] == [1]


def test_a_policy_of_many_attempts_and_one_of_no_codes() -> None:
    assert Retry().pause(5000) <= 1.0
    with pytest.raises(TypeError, match=r"aiozpat\.errors\.StatusCode"):
        Retry(codes=frozenset({"UNAVAILABLE"}))  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match=r"Retry\.backoff is a number"):
        Retry(backoff=None)  # type: ignore[arg-type]  # as above


async def test_an_error_that_no_retry_would_mend_is_an_answer_for_a_hedged_call() -> None:
    failing, hanging = Counting(errors.NotFound("there is none")), Counting()
    failing.gate.clear()
    hanging.gate.clear()
    async with (
        failing.server() as one,
        hanging.server() as two,
        Client([one.endpoint, two.endpoint], retry=Retry(hedge=0.01)) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        await until(lambda: bool(client._idempotent._known) and client.statistics().in_flight == 0)
        calling = asyncio.create_task(client.call("s.same", timeout=PATIENCE, idempotent=True))
        await until(lambda: failing.waiting == hanging.waiting == 1)
        failing.gate.set()
        with pytest.raises(errors.NotFound, match="there is none"):
            await calling
        await until(lambda: hanging.cancelled == 1)


async def test_both_attempts_of_a_hedged_call_make_no_more_than_there_may_be() -> None:
    busy = [errors.Unavailable("busy") for _ in range(10)]
    one, two = Counting(*busy), Counting(*busy)
    one.gate.clear()
    two.gate.clear()
    policy = Retry(attempts=3, hedge=0.0, backoff=0.05)
    async with (
        one.server() as here,
        two.server() as there,
        Client([here.endpoint, there.endpoint], retry=policy) as client,
    ):
        await until(lambda: len(client._pool._ready) == 2)
        calling = asyncio.create_task(client.call("s.same", idempotent=True))
        await until(lambda: one.waiting == two.waiting == 1)
        one.gate.set()
        two.gate.set()
        with pytest.raises(errors.Unavailable, match="busy"):
            await calling
    assert one.calls + two.calls == 3


@pytest.mark.parametrize("policy", [Retry(hedge=0.0, budget=0, burst=0), Retry(hedge=0.0, attempts=1)])
async def test_hedging_keeps_to_the_budget_and_to_the_number_of_attempts(
    policy: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    async def watched(attempt: Any, delay: float, *, again: Callable[[], bool], final: Any) -> Any:
        def asking() -> bool:
            asked.append(again())
            return asked[-1]

        return await race(attempt, delay, again=asking, final=final)

    monkeypatch.setattr("aiozpat.rpc.around.race", watched)
    counting = Counting()
    counting.gate.clear()
    async with counting.server() as server, Client(server.endpoint, retry=policy) as client:
        calling = asyncio.create_task(client.call("s.same", idempotent=True))
        await until(lambda: counting.waiting == 1)
        before = len(asked)
        await until(lambda: len(asked) > before)
        counting.gate.set()
        assert await calling == 1
    assert counting.calls == 1
    assert not any(asked)


async def test_a_call_that_waits_for_a_connection_is_not_doubled(port: int) -> None:
    counting = Counting()
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Client(endpoint, retry=Retry(hedge=0.0)) as client:
        calling = [asyncio.create_task(client.call("s.same", idempotent=True)) for _ in range(10)]
        await until(lambda: client.statistics().in_flight == 10)
        async with Server(Service("s", counting), bind=endpoint):
            await asyncio.gather(*calling)
    assert client.statistics().calls <= counting.calls + 2  # the servers are asked what is idempotent besides


async def test_a_retry_outlasts_a_moment_without_a_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter([0.0, 0.0, 0.0])
    monkeypatch.setattr(Retry, "pause", lambda policy, attempt: next(pauses, 0.1))
    endpoint = f"tcp://127.0.0.1:{port}"
    failing, good = Counting(errors.Unavailable("busy")), Counting()
    policy = Retry(attempts=1000)
    async with Client(endpoint, retry=policy, wait_for_ready=False) as client:
        async with Server(Service("s", failing), bind=endpoint, grace=0):
            await client.ready(PATIENCE)
            failing.gate.clear()
            calling = asyncio.create_task(client.call("s.same", timeout=PATIENCE, idempotent=True))
            await until(lambda: failing.waiting == 1)
        await until(lambda: client.state is not ClientState.READY)
        with pytest.raises(errors.Unavailable):
            await client.call("s.same")  # a first attempt fails at once
        async with Server(Service("s", good), bind=endpoint):
            assert await calling == 1


async def test_a_call_in_the_pause_before_its_retry_is_in_flight_and_ends_with_the_client() -> None:
    counting = Counting(errors.Unavailable("busy"))
    policy = Retry(backoff=3600, max_backoff=3600)
    async with counting.server() as server, Client(server.endpoint, retry=policy) as client:
        calling = asyncio.create_task(client.call("s.same", timeout=1e6, idempotent=True))
        await until(lambda: client._pool.pausing == 1)
        assert client.statistics().in_flight == 1
        await client.close()
        with pytest.raises(errors.Closed):
            await asyncio.wait_for(calling, PATIENCE)


async def test_what_an_earlier_server_said_of_idempotency_does_not_hold_for_the_next_one(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    service, ran = Service("s"), 0

    @service.method(name="same")
    async def not_the_same() -> None:
        nonlocal ran
        ran += 1
        raise errors.Unavailable("busy")

    async with Client(endpoint, retry=Retry(backoff=0.001)) as client:
        async with Server(Service("s", Counting()), bind=endpoint):
            await until(lambda: "s.same" in client._idempotent)
        async with Server(service, bind=endpoint):
            with pytest.raises(errors.Unavailable):
                await client.call("s.same", timeout=PATIENCE)
    assert ran == 1


async def test_of_several_servers_all_must_say_that_a_method_is_idempotent() -> None:
    async with Client("tcp://127.0.0.1:9", retry=Retry()) as client:
        known = client._idempotent
        assert "s.same" not in known
        known._known = {"one": frozenset({"s.same"}), "two": frozenset({"s.same", "s.other"})}
        assert "s.same" in known
        assert "s.other" not in known


class _Moody:
    """A codec that fails when it is used for the first time."""

    name = "moody"
    natives = ()
    used = False

    def encode(self, value: Any) -> bytes:
        if not self.used:
            self.used = True
            raise RuntimeError("in a bad mood")
        return json.dumps(value).encode()

    def decode(self, data: Any) -> Any:
        return json.loads(bytes(data))


async def test_a_server_that_cant_be_asked_of_idempotency_is_used_all_the_same() -> None:
    service = Service("s")

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    good = _Moody()
    good.used = True
    async with (
        Server(service, bind=LOOPBACK, codecs=[good]) as server,
        Client(server.endpoint, codec=_Moody(), retry=Retry()) as client,
    ):
        assert await client.call("s.add", 1, 2, timeout=PATIENCE) == 3
        (connection,) = client._pool.connections
        assert connection.max_calls == client._pool._settings.max_calls


async def test_a_call_that_may_not_be_hedged_asks_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    answered = asyncio.Event()
    wait = asyncio.wait

    async def quick(tasks: Any, *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED) -> Any:
        if timeout is not None:
            delays.append(timeout)
            if len(delays) == 6:
                answered.set()
            timeout = 0.001
        return await wait(tasks, timeout=timeout, return_when=return_when)

    monkeypatch.setattr(asyncio, "wait", quick)
    await race(answered.wait, 0.0, again=lambda: False, final=lambda error: False)
    assert delays[:6] == [0.0, 0.01, 0.02, 0.04, 0.08, 0.16]


async def test_what_follows_a_hedged_call_in_its_task_knows_nothing_of_its_attempts() -> None:
    service = Service("s")

    @service.method(idempotent=True)
    async def same() -> int:
        return 1

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, retry=Retry(hedge=PATIENCE)) as client:
        assert await client.call("s.same", idempotent=True) == 1
        assert connections_tried.get() is None


def test_the_codes_of_a_policy_may_come_from_any_iterable() -> None:
    codes = [errors.StatusCode.UNAVAILABLE, errors.StatusCode.ABORTED]
    assert Retry(codes=iter(codes)).codes == frozenset(codes)  # type: ignore[arg-type]  # that is what is tried
    with pytest.raises(TypeError, match="are several of"):
        Retry(codes=errors.StatusCode.ABORTED)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("hedge", [None, PATIENCE])
async def test_retries_earn_no_retries(hedge: float | None) -> None:
    service = Service("s")
    attempts = 0

    @service.method(idempotent=True)
    async def fails() -> None:
        nonlocal attempts
        attempts += 1
        raise errors.Unavailable("as always")

    policy = Retry(attempts=10, budget=1.0, burst=0, backoff=0, hedge=hedge)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, retry=policy) as client:
        for _ in range(50):
            with pytest.raises(errors.Unavailable):
                await client.call("s.fails", idempotent=True)
    assert attempts == 100


class Paying:
    """A service whose method says whether it may run twice, and fails behind its work."""

    def __init__(self, *, idempotent: bool) -> None:
        self.ran = 0
        self.service = Service("s")

        @self.service.method(idempotent=idempotent)
        async def pay() -> int:
            self.ran += 1
            raise errors.Unavailable("after it was done")


async def test_what_an_earlier_server_says_late_of_idempotence_is_not_its_successors_word(port: int) -> None:
    at = f"tcp://127.0.0.1:{port}"
    gate, held, through = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(call: ClientCall, proceed: Proceed) -> Any:
        result = await proceed()
        if call.method == "aiozpat.info" and not held.is_set():
            held.set()
            await gate.wait()
            through.set()
        return result

    first, second = Paying(idempotent=True), Paying(idempotent=False)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(first.service, bind=at))
        client = await stack.enter_async_context(Client(at, retry=Retry(backoff=0.01), interceptors=[slow]))
        await client.ready(PATIENCE)
        await asyncio.wait_for(held.wait(), PATIENCE)
        await server.close()
        await stack.enter_async_context(Server(second.service, bind=at))
        await client.ready(PATIENCE)
        await until(lambda: at in client._idempotent._known)
        gate.set()
        await asyncio.wait_for(through.wait(), PATIENCE)
        await until(lambda: not client._idempotent._asking)
        with pytest.raises(errors.Unavailable, match="after it was done"):
            await client.call("s.pay", timeout=PATIENCE)
    assert second.ran == 1


async def test_a_question_of_idempotence_that_an_interceptor_gives_up_keeps_no_place() -> None:
    given_up = asyncio.Event()

    async def hasty(call: ClientCall, proceed: Proceed) -> Any:
        if call.method != "aiozpat.info":
            return await proceed()
        asking = asyncio.ensure_future(proceed())
        await asyncio.sleep(0)  # it is sent, and nothing has come
        asking.cancel()
        await asyncio.wait({asking})
        given_up.set()
        return None

    async with (
        Counting().server() as server,
        Client(server.endpoint, retry=Retry(), interceptors=[hasty], max_in_flight=1) as client,
    ):
        await client.ready(PATIENCE)
        await asyncio.wait_for(given_up.wait(), PATIENCE)
        assert client.statistics().in_flight == 0
        assert await client.call("s.same", timeout=PATIENCE, result_type=int) == 1
