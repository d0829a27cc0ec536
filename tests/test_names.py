"""Servers by name: who looks it up, what that holds up, where it leads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aiozpat import Client, Server, Service, errors, sync
from aiozpat.rpc import client_link
from aiozpat.transport import is_named, lookup
from tests.support import LOOPBACK, PATIENCE, until

NAME = "server.example"


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], tuple[list[str], str]]]:
    """What the next questions for a name are answered with; the last one stays."""
    answers: list[Callable[[], tuple[list[str], str]]] = []

    def answer(host: str) -> tuple[list[str], str]:
        assert host == NAME
        return (answers.pop(0) if len(answers) > 1 else answers[0])()

    monkeypatch.setattr(lookup, "_addresses", answer)
    return answers


def echoing() -> Service:
    service = Service("s")

    @service.method
    async def echo(number: int) -> int:
        return number

    return service


def named(server: Server) -> str:
    return f"tcp://{NAME}:{server.endpoint.rpartition(':')[2]}"


async def test_a_name_server_that_does_not_answer_holds_nothing_up(
    lookups: list[Callable[[], tuple[list[str], str]]],
) -> None:
    answered = threading.Event()

    def hang() -> tuple[list[str], str]:
        answered.wait(PATIENCE)
        return ["127.0.0.1"], ""

    lookups.append(hang)
    async with (
        Server(echoing(), bind=LOOPBACK) as server,
        Client(server.endpoint) as near,
        Client([named(server), server.endpoint]) as either,
        Client(named(server)) as far,
    ):
        await near.ready(PATIENCE)
        await either.ready(PATIENCE)
        for number in range(50):
            assert await near.call("s.echo", number) == number
            assert await either.call("s.echo", number) == number
        with pytest.raises(errors.DeadlineExceeded, match=rf"{NAME}:\d+ is being looked up"):
            await far.ready(0.01)
        answered.set()
        await far.ready(PATIENCE)
        assert await far.call("s.echo", 1) == 1


async def test_leaving_waits_for_no_lookup(lookups: list[Callable[[], tuple[list[str], str]]]) -> None:
    started, answered, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> tuple[list[str], str]:
        started.set()
        answered.wait(PATIENCE)
        ended.set()
        return ["127.0.0.1"], ""

    lookups.append(hang)
    async with Client(f"tcp://{NAME}:1"):
        await asyncio.to_thread(started.wait, PATIENCE)
    assert not ended.is_set()
    answered.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)


async def test_each_address_of_a_name_has_its_turn(lookups: list[Callable[[], tuple[list[str], str]]]) -> None:
    lookups.append(lambda: (["127.0.0.2", "127.0.0.1"], ""))
    async with Server(echoing(), bind=LOOPBACK) as server, Client(named(server)) as client:
        await client.ready(PATIENCE)
        assert await client.call("s.echo", 1) == 1
        assert client.statistics().sessions == 2


async def test_an_address_that_nobody_can_connect_to_is_passed_over(
    lookups: list[Callable[[], tuple[list[str], str]]],
) -> None:
    lookups.append(lambda: (["no, address", "127.0.0.1"], ""))
    async with Server(echoing(), bind=LOOPBACK) as server, Client(named(server)) as client:
        assert await client.call("s.echo", 1, timeout=PATIENCE) == 1


async def test_a_server_is_found_where_its_name_has_moved_to(
    lookups: list[Callable[[], tuple[list[str], str]]],
) -> None:
    lookups += [lambda: (["127.0.0.2"], ""), lambda: ([], "Name or service not known"), lambda: (["127.0.0.1"], "")]
    async with Server(echoing(), bind=LOOPBACK) as server, Client(named(server)) as client:
        assert await client.call("s.echo", 1, timeout=PATIENCE) == 1


async def test_a_name_that_nobody_knows_is_named(lookups: list[Callable[[], tuple[list[str], str]]]) -> None:
    lookups.append(lambda: ([], "Name or service not known"))
    async with Client(f"tcp://{NAME}:1") as client:
        await until(lambda: client.statistics().sessions > 1)
        with pytest.raises(errors.Unavailable, match=rf"can't look up tcp://{NAME}:1: Name or service not known"):
            await client.call("s.echo", 1, wait_for_ready=False)


async def test_localhost_is_looked_up_for_threads_too() -> None:
    async with Server(echoing(), bind=LOOPBACK) as server:
        endpoint = server.endpoint.replace("127.0.0.1", "localhost")

        def call() -> int:
            with sync.Client(endpoint) as client:
                number: int = client.call("s.echo", 7, timeout=PATIENCE)
                return number

        assert await asyncio.to_thread(call) == 7


def test_what_is_looked_up_and_how() -> None:
    assert is_named("tcp://localhost:1")
    assert is_named("tcp://example.org:5555")
    assert not any(map(is_named, ["tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///tmp/a", "inproc://a"]))
    assert not is_named("tcp://127.0.0.1:0;example.org:1")
    addresses, _ = lookup._addresses("localhost")
    assert addresses[0] == "127.0.0.1"
    nowhere, error = lookup._addresses("no such host." * 20)
    assert not nowhere
    assert error


async def test_a_lookup_that_cant_begin_ends_its_try_and_not_the_client(
    lookups: list[Callable[[], tuple[list[str], str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, missing = lookup.look_up, [2]

    def short_of_threads(*arguments: Any) -> None:
        if missing[0]:
            missing[0] -= 1
            raise RuntimeError("can't start new thread")
        look_up(*arguments)

    lookups.append(lambda: (["127.0.0.1"], ""))
    async with Server(echoing(), bind=LOOPBACK) as server, Client(named(server)) as client:
        await client.ready(PATIENCE)
        monkeypatch.setattr(client_link, "look_up", short_of_threads)
        (connection,) = client._pool.connections
        connection.end(errors.Unavailable("for a try"))
        assert await client.call("s.echo", 1, timeout=PATIENCE) == 1
        assert client.statistics().notices["no socket"] == 2
        context = client._context
    assert context is not None
    assert context._users == 0  # the sockets of those tries are closed
