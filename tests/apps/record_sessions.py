"""Records the dialogues of `tests.dialogues`: python -m tests.apps.record_sessions tests/vectors/sessions.json

A client and a server of the aiozpat that is installed talk through a relay that writes everything down. Dialogues that
the file holds already are left as they are: what an earlier version said is what later ones must understand. So, after
a dialogue was added, run it again and commit the file; to have all of them anew, for a comparison, give another path.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

import aiozpat
from tests.demo import SERVES, demo_server
from tests.dialogues import DIALOGUES, Dialogue
from tests.raw import REQUEST, RawPeer
from tests.support import until

ABOUT = """\
Sessions of AZP/1 as a client and a server spoke them once: every later version must still serve and understand them. \
The specification is aiozpat/protocol/README.md; azp1.json, beside this file, has single messages.
sessions: name and about say what each shows, recorded which aiozpat spoke. client is by_hand where no aiozpat client \
says such things. results is what the callers got; {"error": code, "details": map} for a call that failed.
messages: in the order in which they passed. from is the side that sent it, header the header frame in hex, records \
the same for readers, buffers the buffer frames: each in hex, or {"hex": part, "times": n} where a part is repeated. \
In records {"bin": hex} is a byte string and {"ext": [type, hex]} an extension; all else is as in JSON.
{"does": "drain"} stands for no message: here the server was told to end, with all the time that its calls need.
To test a server: serve what serves lists, as a service named demo that gives streams from the client a credit of 4. \
Send it the client's messages as they are, each one after the server has said all that stands before it.
To test a client: answer it with the server's messages as they are, but for the session in the hello, which is the \
client's own; each one after the client has said all that stands before it. Let it make the calls that the session \
shows, and compare what they give with results.
may_differ: what need not be as it was recorded, and why; all else must be equal, record by record."""

MAY_DIFFER = """\
Name and limits of a hello, and a client's session: each side has its own. A server's hello names the client's session.
Pings: when to send one is everybody's own affair. A ping that was recorded is answered by its pong.
Acks: when, and for how many bytes, follows from the size of messages, which these rules change. Send your own when due.
Credit: when, and how much at once, is the receiver's choice; but enough that the sender can go on, and never more \
than was used. Wait for it before you send items.
How records are divided into messages, and items into item records: whoever sends may wait for more, or not.
Ids of calls: a client takes any that are not in flight. Its first request stands for the first recorded, and so on.
The order of records about different calls: answers come as they get done. About one call, the order is kept.
Where bytes travel, in the record or as a buffer, which buffer, and the spelling of MessagePack and JSON: the sender's \
choice. The value counts, and its type.
Texts (of errors, refusals, resets, goaways and byes): for people, they may be put better.
The time left of a request, by less than half a second: some of it has passed when it is sent.
The versions that a reset names: those recorded are among them, later servers speak more.
Elements at the end of a record: later versions may add some."""


class Relay:
    """Stands between a client and a server, and writes down the first session.

    Args:
        server: Where the client's messages go.
        held: Seconds to hold up calls.

    Attributes:
        messages: What has passed.
    """

    def __init__(self, server: aiozpat.Server, held: float) -> None:
        self._server = server
        self._held = held
        self._context = zmq.asyncio.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._back = self._context.socket(zmq.DEALER)
        self._front.linger = self._back.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self._front.bind_to_random_port('tcp://127.0.0.1')}"
        self._client: bytes | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.messages: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._back.connect(self._server.endpoint)
        self._tasks = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._front.close()
        self._back.close()
        self._context.term()

    async def _up(self) -> None:
        while True:
            identity, *frames = await self._front.recv_multipart()
            self._client = self._client or identity
            if identity != self._client:
                continue  # a session after the recorded one
            records = self._note("client", frames)
            if self._held and any(record[0] == REQUEST for record in records):
                await asyncio.sleep(self._held)
            await self._back.send_multipart(frames)

    async def _down(self) -> None:
        while True:
            frames = await self._back.recv_multipart()
            self._note("server", frames)
            await self._front.send_multipart([self._client, *frames])

    def _note(self, side: str, frames: list[bytes]) -> list[Any]:
        records: list[Any] = msgspec.msgpack.decode(frames[0][2:])
        message = {"from": side, "header": frames[0].hex(), "records": readable(records)}
        if len(frames) > 1:
            message["buffers"] = [shortened(frame) for frame in frames[1:]]
        self.messages.append(message)
        return records

    async def saw(self, tag: int, times: int = 1) -> None:
        """See `Wire`."""
        await until(lambda: [r[0] for m in self.messages for r in m.get("records", ())].count(tag) >= times)

    async def drain(self) -> None:
        """See `Wire`."""
        self.messages.append({"does": "drain"})
        self._tasks.append(asyncio.create_task(self._server.close()))


def readable(value: Any) -> Any:
    """A decoded value in the form that the vectors use."""
    match value:
        case bytes():
            return {"bin": value.hex()}
        case msgspec.msgpack.Ext():
            return {"ext": [value.code, bytes(value.data).hex()]}
        case list():
            return [readable(item) for item in value]
        case dict():
            return {key: readable(item) for key, item in value.items()}
    return value


def shortened(buffer: bytes) -> Any:
    """A buffer in hex, or the part that it repeats."""
    for size in (1, 256):
        times = len(buffer) // size
        if times > 1 and buffer == buffer[:size] * times:
            return {"hex": buffer[:size].hex(), "times": times}
    return buffer.hex()


async def record(name: str, dialogue: Dialogue) -> dict[str, Any]:
    """One session."""
    of_client, of_server = dialogue.heartbeats
    session: dict[str, Any] = {"name": name, "about": dialogue.about, "recorded": f"aiozpat {aiozpat.__version__}"}
    async with demo_server(of_server, dialogue.interceptors) as server, Relay(server, dialogue.held) as relay:
        if dialogue.play is not None:
            async with dialogue.client(relay.endpoint, of_client) as client:
                await client.ready()
                session["results"] = await dialogue.play(client, relay)
        if dialogue.hand is not None:
            session["client"] = "by_hand"
            async with RawPeer(relay.endpoint) as peer:
                await dialogue.hand(peer, relay)
        await server.close()
        session["messages"] = relay.messages
    return session


def text_of(sessions: list[dict[str, Any]]) -> str:
    """The file: a line for each message, so that differences can be read."""
    about = {"about": ABOUT.splitlines(), "may_differ": MAY_DIFFER.splitlines(), "serves": SERVES.splitlines()}
    parts = [_field(name, _lines(texts, "    "), "  ") for name, texts in about.items()]
    parts.append(_field("sessions", ",\n".join(map(_session, sessions)), "  "))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _session(session: dict[str, Any]) -> str:
    fields = [f"      {_json(name)}: {_json(value)}" for name, value in session.items() if name != "messages"]
    fields.append(_field("messages", _lines(session["messages"], "        "), "      "))
    return "    {\n" + ",\n".join(fields) + "\n    }"


def _field(name: str, lines: str, indent: str) -> str:
    return f"{indent}{_json(name)}: [\n{lines}\n{indent}]"


def _lines(values: Sequence[Any], indent: str) -> str:
    return ",\n".join(indent + _json(value) for value in values)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


async def recorded(known: dict[str, Any]) -> list[dict[str, Any]]:
    """All sessions, those that are known as they are."""
    return [known.get(name) or await record(name, dialogue) for name, dialogue in DIALOGUES.items()]


def main(path: str) -> None:
    """Record what the file lacks."""
    file = Path(path)
    known = {one["name"]: one for one in json.loads(file.read_text("utf-8"))["sessions"]} if file.exists() else {}
    sessions = aiozpat.run(recorded(known))
    file.write_text(text_of(sessions), "utf-8")
    print(f"{len(sessions)} sessions, {len(sessions) - len(known)} of them new")


if __name__ == "__main__":
    main(*sys.argv[1:])
