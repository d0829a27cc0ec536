"""Calls one at a time, and their answers, which leave without a way through the outbox: where that is not to be had."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from aiozpat import Client, Server, Service, errors
from aiozpat.errors import PeerUnreachable
from aiozpat.protocol.records import encode
from aiozpat.rpc.listener import Listener
from aiozpat.transport import SocketKind
from aiozpat.transport.socket import Socket
from tests.raw import REPLY, REQUEST, RawServer, header
from tests.support import LOOPBACK, PATIENCE, until

SENDS = ("send", "send_to", "send_large")
sizes = pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
handlers = pytest.mark.parametrize("method", ["s.echo", "s.late"])


def listener_of(server: Server) -> Listener:
    assert server._listener is not None
    return server._listener


def echoing() -> Service:
    service = Service("s")

    @service.method
    async def echo(data: bytes) -> bytes:
        return data

    @service.method
    async def late(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return data

    return service


def instead(monkeypatch: pytest.MonkeyPatch, kind: SocketKind, do: Callable[[Socket], bool | None]) -> None:
    """Let `do` stand in for the sends of sockets of a kind; where it gives None, they do what they are there for."""

    def standing_in(usual: Any) -> Any:
        def send(socket: Socket, *arguments: Any) -> Any:
            outcome = do(socket) if socket.kind is kind else None
            return usual(socket, *arguments) if outcome is None else outcome

        return send

    for name in SENDS:
        monkeypatch.setattr(Socket, name, standing_in(getattr(Socket, name)))


@sizes
@handlers
@pytest.mark.parametrize("kind", [SocketKind.DEALER, SocketKind.ROUTER], ids=["call", "answer"])
async def test_what_finds_no_room_leaves_when_there_is(
    kind: SocketKind, method: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []

    def refuse_every_other(socket: Socket) -> bool | None:
        refused.append(len(refused))
        if len(refused) % 2:
            socket._refuse()
            socket.look()  # there is room: it says so
            return False
        return None

    async with (
        Server(echoing(), bind=LOOPBACK, heartbeat=60) as server,
        Client(server.endpoint, heartbeat=60) as client,
    ):
        await client.ready(PATIENCE)
        instead(monkeypatch, kind, refuse_every_other)
        for number in range(20):
            data = bytes([number]) * size
            assert await client.call(method, data, timeout=PATIENCE, result_type=bytes) == data
        monkeypatch.undo()
        assert len(refused) >= 40
        (connection,), (session,) = client._pool.connections, listener_of(server).sessions.values()
        assert connection.outbox.sent == session.outbox.received
        assert session.outbox.sent == connection.outbox.received
        assert connection.outbox.nbytes == session.outbox.nbytes == 0


@sizes
@handlers
async def test_an_answer_to_who_is_gone_ends_the_session(
    method: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(socket: Socket) -> bool | None:
        raise PeerUnreachable("no such peer is connected")

    async with (
        Server(echoing(), bind=LOOPBACK, heartbeat=60) as server,
        Client(server.endpoint, heartbeat=60) as client,
        Client(server.endpoint, heartbeat=60) as other,
    ):
        await client.ready(PATIENCE)
        await other.ready(PATIENCE)
        instead(monkeypatch, SocketKind.ROUTER, unreachable)  # only the answer can tell
        calling = asyncio.create_task(client.call(method, bytes(size), timeout=PATIENCE))
        await until(lambda: server.statistics().notices.get("client gone") == 1)
        monkeypatch.undo()
        assert len(listener_of(server).sessions) == 1
        await client.close()
        with pytest.raises(errors.Unavailable):
            await calling
        assert await other.call("s.echo", b"again", result_type=bytes) == b"again"


async def test_no_answer_follows_a_bye() -> None:
    async with Server(echoing(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        listener = listener_of(server)
        (session,) = listener.sessions.values()
        sent = session.outbox.sent
        session.ending = True
        assert not listener.send_alone(session, encode((REPLY, 1, 0, None)), ())
        assert session.outbox.sent == sent
        session.ending = False


async def test_an_answer_to_a_call_that_was_just_cancelled_is_no_matter_of_the_others() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        (connection,) = client._pool.connections
        calls = [asyncio.create_task(client.call("s.echo", number)) for number in range(20)]
        ids = [(await server.record(REQUEST))[1] for _ in calls]
        # From here on the loop has no turn: the answers are there before the cancelled tasks know.
        answers = header(*([REPLY, key, 0, key] for key in ids))
        zmq.Socket.shadow(server._socket).send_multipart([server._client, answers])
        end = time.monotonic() + PATIENCE
        while not connection.socket._events() & zmq.POLLIN and time.monotonic() < end:
            pass
        for call in calls[:10]:
            call.cancel()
        connection.drain()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:10]] == [asyncio.CancelledError] * 10
        assert outcomes[10:] == ids[10:]
        assert not connection.calls


async def test_an_answer_to_who_has_given_up_is_counted_and_no_cause_for_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        call = asyncio.create_task(client.call("s.echo", 1))
        key = (await server.record(REQUEST))[1]
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        await server.send([REPLY, key, 0, 1])
        await until(lambda: client.statistics().notices.get("late reply") == 1)
        assert not [record for record in caplog.records if record.levelname == "WARNING"]
