"""The stress program finds what it is there to find: a check that can't fail would prove nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

import aiozpat
from aiozpat import Client, Server, errors
from tests.stress import calls, streams
from tests.stress.caller import Caller
from tests.stress.census import OF_CALLS, census
from tests.stress.plan import Plan, make_plan
from tests.stress.run import CallsRun
from tests.stress.service import make_service
from tests.stress.watch import Watch
from tests.support import LOOPBACK, until


def _plan(fault: str = "none") -> Plan:
    for seed in range(1000):
        plan = make_plan(seed, 1.0, None, None)
        if plan.fault == fault and not plan.refuses:
            return plan
    raise AssertionError("no such plan")


def _caller(client: Client, plan: Plan | None = None) -> Caller:
    return Caller("client", client, plan or _plan(), Watch(), random.Random(1))


def _fail(error: Exception) -> None:
    raise error


async def _found(service: aiozpat.Service, *acts: str) -> list[str]:
    """What calls of these methods, or acts with streams, bring to light."""
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        caller = _caller(client)
        for act in acts:
            if act in ("down", "up", "talk"):
                await getattr(streams, act)(caller)
            else:
                await calls.one(caller, 10.0, method=act, most=100_000)
        assert caller.watch.tally["well"] == len(acts)
        return caller.watch.findings


METHODS = ("echo", "mirror", "slow", "thread", "make", "limited", "limited_thread", "many", "rich", "fail", "missing")


async def test_there_is_nothing_to_find_where_all_is_well() -> None:
    assert await _found(make_service(), *METHODS, "down", "up", "talk") == []


async def test_an_answer_that_is_another_calls_is_found() -> None:
    service = aiozpat.Service("stress")

    @service.method
    async def echo(number: int, data: bytes) -> list[int]:
        return [number + 1, 0, 0]

    @service.method
    async def make(number: int, size: int, seconds: float) -> bytes:
        return bytes(size or 1)

    assert await _found(service, "echo", "make") == ["wrong: echo", "wrong: make"]


async def test_items_that_are_lost_or_swapped_are_found() -> None:
    service = aiozpat.Service("stress")

    @service.method
    async def count(number: int, items: int, sizes: list[int], pause: int) -> AsyncIterator[bytes]:
        yield b"something else"

    @service.method
    async def collect(number: int, stop: int, sizes: list[int], pause: int, items: AsyncIterator[bytes]) -> int:
        return -1

    found = await _found(service, "down", "up")
    assert any("item 0: down" in one for one in found)
    assert any("-1 items: up" in one for one in found)


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.DataLoss, errors.ResourceExhausted, ValueError])
async def test_an_error_without_a_cause_is_found(kind: type[Exception]) -> None:
    async with Server(make_service(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        caller = _caller(client)
        with caller.judged("echo", 10.0, 10.0):
            _fail(kind("no cause"))
        assert len(caller.watch.findings) == 1


async def test_a_deadline_that_comes_too_early_is_found() -> None:
    async with Server(make_service(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        caller = _caller(client)
        with caller.judged("echo", 10.0, 10.0):
            _fail(errors.DeadlineExceeded("already"))
        assert "ended before its deadline" in caller.watch.findings[0]


async def test_a_fault_that_costs_connections_excuses_what_follows_from_it() -> None:
    async with Server(make_service(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        caller = _caller(client, _plan("kill"))
        with caller.judged("echo", 10.0, 10.0):
            _fail(errors.Unavailable("the server was killed"))
        assert caller.watch.findings == []


async def test_what_hangs_is_found_while_it_hangs() -> None:
    watch = Watch()
    beat = asyncio.create_task(watch.beat())
    with watch.operation("a call", -3.0):  # it should have ended three seconds ago
        await until(lambda: bool(watch.findings))
    assert "overdue: a call" in watch.findings[0]
    beat.cancel()
    await asyncio.gather(beat, return_exceptions=True)


async def test_what_a_call_leaves_behind_is_found() -> None:
    async with Server(make_service(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        before = census(OF_CALLS).get("Pending", 0)
        async with client.stream("stress.count", 1, 5, [16], 0) as items:
            await anext(items)
            assert census(OF_CALLS)["Pending"] == before + 1


async def test_an_ample_deadline_that_comes_is_found() -> None:
    async with Server(make_service(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        caller = _caller(client)
        caller._judge("echo", errors.DeadlineExceeded("now"), 0.02, 0.01)
        assert caller.watch.findings == []
        caller._judge("echo", errors.DeadlineExceeded("now"), 30.0, 30.0)
        caller._judge("down", errors.DeadlineExceeded("now"), 31.0, None)
        assert len(caller.watch.findings) == 2


def test_a_pause_of_the_loop_itself_excuses_what_was_slow() -> None:
    watch = Watch()
    with watch.quick("a lone call", 0.0):
        pass
    assert [slow.what for slow in watch.slow] == ["a lone call"]
    with watch.quick("another", 0.2):
        time.sleep(0.3)  # nothing else runs on this loop: its own beat is late
    assert len(watch.slow) == 1


async def test_a_process_that_ends_by_itself_is_found_with_what_it_wrote() -> None:
    outcome = await CallsRun(msgspec.structs.replace(_plan(), endpoint="tcp://256.0.0.1:1")).outcome()
    assert any("the server ended: exit code 1" in finding for finding in outcome.findings)
    assert any("wrote to stderr" in finding and "256.0.0.1" in finding for finding in outcome.findings)


def test_what_is_given_for_one_part_of_a_plan_changes_no_other() -> None:
    for seed in range(50):
        plans = [make_plan(seed, 1.0, None, fault) for fault in ("none", "kill")]
        assert len({(len(plan.clients), str(plan.limits), str(plan.acts), plan.loop) for plan in plans}) == 1
