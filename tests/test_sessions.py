"""Sessions recorded with earlier versions, against the client and the server of this one: one side is played by hand.

`vectors/sessions.json` says what the recordings are, and which differences are none. `apps/record_sessions.py` makes
recordings of new dialogues.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pytest
import zmq
import zmq.asyncio

from tests.apps.record_sessions import ABOUT, MAY_DIFFER, readable
from tests.demo import SERVES, demo_server
from tests.dialogues import DIALOGUES
from tests.player import Player
from tests.raw import (
    ACK,
    BYE,
    CANCEL,
    CREDIT,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    ITEM,
    PING,
    PONG,
    REFUSED,
    REPLY,
    REQUEST,
    RESET,
    RawPeer,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sessions.json").read_text("utf-8"))
SESSIONS = {session["name"]: session for session in VECTORS["sessions"]}
BY_CLIENT = [name for name, session in SESSIONS.items() if "client" not in session]

NEVER = 3600.0  # seconds between heartbeats: when to ping is nothing to compare


class PeerEnd:
    """The end of a client that is played: a DEALER."""

    def __init__(self, peer: RawPeer) -> None:
        self.send = peer.send
        self._socket = peer.socket

    async def receive(self) -> list[bytes]:
        """See `End`."""
        frames: list[bytes] = await self._socket.recv_multipart()
        return frames


class ServerEnd:
    """The end of a server that is played: a ROUTER that knows the first session only."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._client = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
        self._context.term()

    async def receive(self) -> list[bytes]:
        """See `End`."""
        while True:
            identity, *frames = await self._socket.recv_multipart()
            self._client = self._client or identity
            if identity == self._client:
                return frames

    async def send(self, *frames: bytes) -> None:
        """See `End`."""
        await self._socket.send_multipart([self._client, *frames])


@pytest.mark.parametrize("name", SESSIONS)
async def test_a_recorded_client_is_served_as_it_was(name: str) -> None:
    serving = demo_server(NEVER, DIALOGUES[name].interceptors)
    async with serving as server, RawPeer(server.endpoint) as peer, asyncio.TaskGroup() as group:
        player = Player(SESSIONS[name], "client", PeerEnd(peer))

        async def close() -> None:
            await player.draining.wait()
            await server.close()

        closing = group.create_task(close())
        await player.play()
        player.draining.set()
        await closing


@pytest.mark.parametrize("name", BY_CLIENT)
async def test_a_recorded_server_is_called_and_understood_as_it_was(name: str) -> None:
    dialogue = DIALOGUES[name]
    assert dialogue.play is not None
    async with ServerEnd() as end, asyncio.TaskGroup() as group:
        player = Player(SESSIONS[name], "server", end)
        group.create_task(player.play())
        async with dialogue.client(end.endpoint, NEVER) as client:
            await client.ready()
            results = await dialogue.play(client, player)
    # As text: in Python 1, 1.0 and True are equal.
    assert json.dumps(results, sort_keys=True) == json.dumps(SESSIONS[name]["results"], sort_keys=True)


def test_the_file_is_what_its_recorder_would_write() -> None:
    assert list(SESSIONS) == list(DIALOGUES)
    for part, text in (("about", ABOUT), ("may_differ", MAY_DIFFER), ("serves", SERVES)):
        assert VECTORS[part] == text.splitlines()
    for name, session in SESSIONS.items():
        assert session["about"] == DIALOGUES[name].about
        for message in session["messages"]:
            if "does" not in message:
                assert readable(msgspec.msgpack.decode(bytes.fromhex(message["header"])[2:])) == message["records"]


def test_every_record_is_recorded_from_each_side_that_sends_it() -> None:
    seen = {
        (message["from"], record[0])
        for session in SESSIONS.values()
        for message in session["messages"]
        for record in message.get("records", ())
    }
    both = {HELLO, PING, PONG, BYE, ACK, ITEM, END, CREDIT}
    of_client, of_server = both | {REQUEST, CANCEL}, both | {GOAWAY, RESET, REPLY, ERROR, REFUSED}
    assert seen == {("client", tag) for tag in of_client} | {("server", tag) for tag in of_server}
