"""What happens when processes are killed, stopped and told to end: real processes, real TCP, default settings."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aiozpat import Client, ClientState, Server, errors
from tests.support import LOOPBACK, PATIENCE, Calc, Process, until

Start = Callable[..., Process]


async def _outcomes(tasks: list[asyncio.Task[str]]) -> Counter[str]:
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return Counter(type(result).__name__ for result in results)


async def test_a_killed_server_ends_each_call_and_none_runs_twice(processes: Start, port: int, tmp_path: Path) -> None:
    endpoint, journal = f"tcp://127.0.0.1:{port}", tmp_path / "journal"
    server = processes("server", endpoint, str(journal))
    assert await server.line() == endpoint
    async with Client(endpoint) as client:
        await client.ready()
        tasks = [asyncio.create_task(client.call("app.once", f"{n}", 10.0, result_type=str)) for n in range(1000)]
        await until(lambda: journal.read_text().count("\n") == 1000)
        server.send_signal(signal.SIGKILL)
        assert await _outcomes(tasks) == {"Unavailable": 1000}
        assert client.statistics().in_flight == 0

        again = processes("server", endpoint, str(journal))
        assert await again.line() == endpoint
        listening = time.monotonic()
        assert await client.call("app.once", "again", 0.0) == "again"
        assert time.monotonic() - listening < 2.0
        assert client.state is ClientState.READY
    ran = Counter(journal.read_text().split())
    assert max(ran.values()) == 1


async def test_a_stopped_server_is_noticed_within_three_heartbeats(processes: Start, tmp_path: Path) -> None:
    server = processes("server", LOOPBACK, str(tmp_path / "journal"))
    endpoint = await server.line()
    async with Client(endpoint, heartbeat=0.2) as client:
        await client.ready()
        call = asyncio.create_task(client.call("app.once", "a", 10.0, timeout=PATIENCE))
        await until(lambda: (tmp_path / "journal").read_text() == "a\n")
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(errors.Unavailable, match="3 heartbeats"):
            await call
        server.send_signal(signal.SIGCONT)
        assert await client.call("app.once", "b", 0.0, timeout=PATIENCE) == "b"


async def test_a_killed_clients_handlers_are_cancelled(processes: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        client = processes("client", server.endpoint, "50")
        await until(lambda: len(calc.started) == 50)
        client.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: len(calc.cancelled) == 50)
        assert time.monotonic() - killed < 0.5
        assert server.statistics().sessions == 0
        assert server.statistics().running == 0


async def test_a_stopped_clients_handlers_are_cancelled_within_three_heartbeats(processes: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK, heartbeat=0.2) as server:
        client = processes("client", server.endpoint, "5")
        await until(lambda: len(calc.started) == 5)
        client.send_signal(signal.SIGSTOP)
        await until(lambda: len(calc.cancelled) == 5)
        assert server.statistics().notices["client lost"] == 1


async def test_sigterm_finishes_what_runs_and_leaves_nothing_open(processes: Start, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    server = processes("server", LOOPBACK, str(journal), flags=("-X", "dev", "-W", "error"))
    endpoint = await server.line()
    async with Client(endpoint) as client:
        tasks = [asyncio.create_task(client.call("app.once", f"{n}", 0.5, result_type=str)) for n in range(100)]
        await until(lambda: journal.exists() and journal.read_text().count("\n") == 100)
        server.send_signal(signal.SIGTERM)
        await until(lambda: client.state is not ClientState.READY)
        with pytest.raises(errors.Unavailable):
            await client.call("app.once", "late", 0.0, wait_for_ready=False)
        assert await _outcomes(tasks) == {"str": 100}
        code, output, problems = await server.wait()
    assert (code, output, problems) == (0, "left: 0 tasks\n", "")


async def test_a_second_signal_ends_the_calls_at_once(processes: Start, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    server = processes("server", LOOPBACK, str(journal))
    endpoint = await server.line()
    async with Client(endpoint) as client:
        call = asyncio.create_task(client.call("app.once", "a", 60.0, timeout=60))
        await until(lambda: journal.exists() and journal.read_text() == "a\n")
        server.send_signal(signal.SIGINT)
        await until(lambda: client.state is ClientState.DRAINING)
        server.send_signal(signal.SIGINT)
        with pytest.raises((errors.Unavailable, errors.Cancelled)):
            await call
        code, _, _ = await server.wait()
    assert code == 0
