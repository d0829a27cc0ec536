"""How many messages the calls of one turn of the loop make: what a session knows of others on its loop."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from aiozpat import Client, Server
from aiozpat.transport import SocketKind
from aiozpat.transport.socket import Socket
from tests.raw import REPLY, RawServer, header
from tests.support import LOOPBACK, until
from tests.test_lone_calls import echoing

_ROUNDS = 8
_SETTLED = 6  # rounds after which a session has seen what others do


class _Messages:
    """Counts the messages that DEALERs send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: defaultdict[Socket, int] = defaultdict(int)
        send = Socket.send

        def counting(socket: Socket, payload: bytes) -> bool:
            if socket.kind is SocketKind.DEALER:
                self.sent[socket] += 1
            return send(socket, payload)

        monkeypatch.setattr(Socket, "send", counting)


async def _round(clients: list[Client], count: int) -> None:
    """So many calls by each, all of them in one turn, and all their answers."""
    calls = [client.call("s.echo", b"%d" % number) for client in clients for number in range(count)]
    assert await asyncio.gather(*calls) == [b"%d" % number for _ in clients for number in range(count)]


@pytest.mark.parametrize(("sessions", "calls", "expected"), [(1, 20, 4), (3, 20, 1), (3, 1, 1), (2, 1000, 7)])
async def test_calls_of_one_turn_leave_in_fewer_messages_among_others(
    sessions: int, calls: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = _Messages(monkeypatch)
    async with Server(echoing(), bind=LOOPBACK) as server:
        clients = [Client(server.endpoint, heartbeat=60) for _ in range(sessions)]
        try:
            for client in clients:
                await client.__aenter__()
                await client.ready(10)
            for _ in range(_SETTLED):
                await _round(clients, calls)
            messages.sent.clear()
            for _ in range(_ROUNDS):
                await _round(clients, calls)
            assert len(messages.sent) == sessions
            assert set(messages.sent.values()) == {expected * _ROUNDS}
        finally:
            for client in clients:
                await client.close()


async def test_the_only_session_there_is_never_takes_itself_for_one_among_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = _Messages(monkeypatch)
    async with Server(echoing(), bind=LOOPBACK) as server:
        for _ in range(2):  # the second comes after one that has ended
            async with Client(server.endpoint, heartbeat=60) as client:
                await client.ready(10)
                messages.sent.clear()
                for _ in range(_ROUNDS):
                    await _round([client], 20)
                assert set(messages.sent.values()) == {4 * _ROUNDS}


async def test_what_came_apart_leaves_together_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[int] = []
    arrived: list[bytes] = []
    receive_first = Socket.receive_first
    monkeypatch.setattr(Socket, "receive_first", lambda socket: arrived.pop(0) if arrived else receive_first(socket))
    messages = _Messages(monkeypatch)
    async with RawServer() as server, Client(server.endpoint, heartbeat=60) as client:
        await client.ready(10)
        connection = client._pool.usable
        assert connection is not None
        connection.pace.turn(20, among_others=True)
        messages.sent.clear()

        async def caller(number: int) -> None:
            answered.append(await client.call("s.echo", number))
            await client.call("s.echo", number)

        callers = [asyncio.create_task(caller(number)) for number in (1, 2)]
        await until(lambda: bool(messages.sent))
        messages.sent.clear()
        arrived += [header([REPLY, 1, 0, 1]), header([REPLY, 2, 0, 2])]
        connection._on_readable()
        await asyncio.sleep(0)  # the first caller is being woken, and its call about to be queued
        connection._on_readable()
        await until(lambda: bool(messages.sent))
        assert answered == [1, 2]
        assert list(messages.sent.values()) == [1]
        for task in callers:
            task.cancel()
        await asyncio.wait(callers)
