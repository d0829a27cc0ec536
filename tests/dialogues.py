"""The dialogues of `vectors/sessions.json`, as their clients lead them; for the recorder and the test.

What a recorded dialogue says is never changed: the recordings would not show it any more. New ones are added.
"""

from __future__ import annotations

import array
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

import aiozpat
from aiozpat import Client, ServerInterceptor, errors
from tests.demo import turn_away
from tests.raw import (
    BYE,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    ITEM,
    PONG,
    REFUSED,
    REPLY,
    REQUEST,
    RESET,
    RawPeer,
    header,
    hello,
)

TIMEOUT = 10.0  # seconds for each call
LARGE = bytes(range(256)) * 256  # 64 KiB: it travels as a buffer
FAST = 0.2  # seconds; a heartbeat for recording, so that nobody waits long for pings


class Wire(Protocol):
    """What a dialogue knows of the messages between the two sides."""

    async def saw(self, tag: int, times: int = 1) -> None:
        """Wait until so many records with this tag have passed, whoever sent them."""

    async def drain(self) -> None:
        """Let the server be closed, with all the time that its calls need."""


Play = Callable[[Client, Wire], Awaitable[list[Any]]]
Hand = Callable[[RawPeer, Wire], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One session, from its hello to its end.

    Attributes:
        about: What it shows.
        play: What an aiozpat client does; its results, as `outcome` gives them.
        hand: In its place: what a client written by hand does, where aiozpat's would not.
        codec: What the client's values are encoded with, where that is not MessagePack.
        window_bytes: The client's window.
        interceptors: The server's.
        heartbeats: The client's and the server's, when it is recorded; else nobody pings.
        held: Seconds that calls are held up on their way to the server when it is recorded.
    """

    about: str
    play: Play | None = None
    hand: Hand | None = None
    codec: aiozpat.Codec | None = None
    window_bytes: int = 8 * 1024 * 1024
    interceptors: tuple[ServerInterceptor, ...] = ()
    heartbeats: tuple[float, float] = (60.0, 60.0)
    held: float = 0.0

    def client(self, endpoint: str, heartbeat: float) -> Client:
        """The client that plays it."""
        return Client(
            endpoint,
            timeout=TIMEOUT,
            name="client",
            codec=self.codec,
            window_bytes=self.window_bytes,
            heartbeat=heartbeat,
        )


DIALOGUES: dict[str, Dialogue] = {}


def _name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", " ")


def dialogue(about: str, **options: Any) -> Callable[[Play], Play]:
    """Register what an aiozpat client does."""

    def register(play: Play) -> Play:
        DIALOGUES[_name(play)] = Dialogue(about=about, play=play, **options)
        return play

    return register


def by_hand(about: str) -> Callable[[Hand], Hand]:
    """Register what a client written by hand does."""

    def register(hand: Hand) -> Hand:
        DIALOGUES[_name(hand)] = Dialogue(about=about, hand=hand)
        return hand

    return register


async def outcome(call: Awaitable[Any]) -> Any:
    """How a call ended, as JSON has it."""
    try:
        return await call
    except errors.RpcError as error:
        failed = {"error": int(error.code), "details": dict(error.details)}
        return {**failed, "refused": True} if error.refused else failed


async def numbers(*given: Any) -> AsyncIterator[Any]:
    """A stream from the client."""
    for number in given:
        yield number


@dialogue("Calls of one result, one after the other.")
async def params_by_position_and_by_name(client: Client, wire: Wire) -> list[Any]:
    return [
        await client.call("demo.add", 1, 2),
        await client.call("demo.add", 1),
        await client.call("demo.add", params={"a": 1, "b": 2}),
        await client.call("demo.add", params={"b": -2, "a": 2**40}),
        await client.call("demo.add", params={"a": 3}),
        await client.call("demo.who"),
    ]


@dialogue("Each kind of value goes up and comes back as it was.")
async def values_of_each_kind(client: Client, wire: Wire) -> list[Any]:
    plain = [None, True, False, 0, -1, 2**63, -(2**63), 1.0, 0.5, "", "ünïcödé \0 🜚"]
    nested: list[Any] = [[], [1, [2]], {}, {"a": {"b": []}}]
    return [
        await client.call("demo.same", plain),
        await client.call("demo.same", nested),
        (await client.call("demo.same", b"\x00\xff", result_type=bytes)).hex(),
        await client.call("demo.same", {"é": None}),
    ]


@dialogue("Metadata travels beside the params.")
async def metadata(client: Client, wire: Wire) -> list[Any]:
    given = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "имя": "значение"}
    return [await client.call("demo.who", metadata=given), await client.call("demo.add", 1, metadata={"a": ""})]


@dialogue("Errors of a handler's choice and others, with details.")
async def calls_that_fail(client: Client, wire: Wire) -> list[Any]:
    return [
        await outcome(client.call("demo.fail", "missing")),
        await outcome(client.call("demo.fail", "bug")),
        await outcome(client.call("demo.add", "one")),
        await outcome(client.call("demo.add")),
        await outcome(client.call("demo.add", 1, 2, 3)),
        await outcome(client.call("demo.add", params={"a": 1, "c": 2})),
        await outcome(client.call("demo.add", 1)),
    ]


@dialogue("Methods that there are not, and calls of the wrong kind.")
async def calls_of_unknown_methods(client: Client, wire: Wire) -> list[Any]:
    async with client.stream("demo.add", 1, window=8) as wrong:
        stream_of_add = await outcome(anext(wrong))
    return [
        await outcome(client.call("demo.subtract", 1)),
        await outcome(client.call("omed.add", 1)),
        await outcome(client.call("add", 1)),
        await outcome(client.call("demo.count", 1)),
        stream_of_add,
        await outcome(client.call("demo.add", 1)),
    ]


@dialogue("A method that is full refuses the second call, which never runs; the first goes on.")
async def refused_by_a_limit(client: Client, wire: Wire) -> list[Any]:
    first = asyncio.create_task(client.call("demo.one"))
    await wire.saw(REQUEST)
    second = await outcome(client.call("demo.one"))
    return [second, await client.call("demo.release"), await first]


@dialogue("A refusal with details, of what never ran either.", interceptors=(turn_away,))
async def refused_with_details(client: Client, wire: Wire) -> list[Any]:
    return [
        await outcome(client.call("demo.add", 1, metadata={"when": "full"})),
        await outcome(client.call("demo.add", 1)),
    ]


@dialogue("A call that its caller cancels is cancelled on the server, and not answered.")
async def cancelled(client: Client, wire: Wire) -> list[Any]:
    holding = asyncio.create_task(client.call("demo.hold"))
    await wire.saw(REQUEST)
    answered = await client.call("demo.add", 1)  # so it has begun
    holding.cancel()
    await asyncio.wait({holding})
    return [answered, holding.cancelled(), await client.call("demo.ended")]


@dialogue("A deadline that passes at the client first: it cancels.", held=0.1)
async def deadline_of_the_client(client: Client, wire: Wire) -> list[Any]:
    holding = asyncio.create_task(outcome(client.call("demo.hold", timeout=0.6)))
    await wire.saw(REQUEST)
    return [await client.call("demo.add", 1), await holding, await client.call("demo.ended")]


@dialogue("A call that wants no answer, and one that fails without a word.")
async def notify(client: Client, wire: Wire) -> list[Any]:
    await client.notify("demo.fail", "missing")
    await client.notify("demo.note", "remember")
    return [await client.call("demo.noted")]


@dialogue("Buffers beside calls and replies, with windows so small that acks are due.", window_bytes=64 * 1024)
async def large_buffers(client: Client, wire: Wire) -> list[Any]:
    both = await client.call("demo.blob", LARGE, LARGE, result_type=bytes)
    by_name = await client.call("demo.blob", params={"more": LARGE[:256], "data": LARGE}, result_type=bytes)
    views = [array.array("B", LARGE), b"in the header", array.array("B", LARGE)]
    return [
        both == LARGE + LARGE,
        by_name == LARGE + LARGE[:256],
        await client.call("demo.sizes", views),
        await client.call("demo.same", b"in the header", result_type=bytes) == b"in the header",
    ]


@dialogue("A stream of replies, held back by the client's credit.")
async def stream_of_replies(client: Client, wire: Wire) -> list[Any]:
    async with client.stream("demo.count", 10, window=4) as items:
        first = [item async for item in items]
    async with client.stream("demo.count", params={"start": 2, "n": 4}, timeout=60, window=8) as items:
        second = [item async for item in items]
    async with client.stream("demo.count", 0, window=8) as items:
        return [first, second, [item async for item in items]]


@dialogue("Items that travel as buffers; each uses up more of the window.")
async def stream_of_large_replies(client: Client, wire: Wire) -> list[Any]:
    async with client.stream("demo.blobs", 3, len(LARGE), window=20, item_type=bytes) as items:
        return [[len(item), item[0], item[-1]] async for item in items]


@dialogue("Items, then an error.")
async def stream_that_fails(client: Client, wire: Wire) -> list[Any]:
    got: list[Any] = []
    async with client.stream("demo.fail_after", 3, window=8) as items:
        got += [await anext(items) for _ in range(3)]
        got.append(await outcome(anext(items)))
    return got


@dialogue("A stream that is left: its handler ends, nothing more comes.")
async def stream_that_is_left(client: Client, wire: Wire) -> list[Any]:
    async with client.stream("demo.count", 10**9, window=4) as items:
        await wire.saw(ITEM, times=2)  # with two items each: all that the credit allows
        first = await anext(items)
    return [first, await client.call("demo.ended"), await client.call("demo.add", 1)]


@dialogue("A stream from the client, held back by the server's credit, and one result.")
async def stream_from_the_client(client: Client, wire: Wire) -> list[Any]:
    return [
        await client.call("demo.total", numbers(*range(10)), 100),
        await client.call("demo.total", params={"start": 1, "numbers": numbers()}),
        await outcome(client.call("demo.total", numbers(1, 2, "three"))),
        await client.call("demo.add", 1),
    ]


@dialogue("Items both ways, each answered before the next; then the client ends, and so does the server.")
async def conversation(client: Client, wire: Wire) -> list[Any]:
    got: list[Any] = []
    async with client.open("demo.shout", window=8) as talk:
        for word in ("one", "two", "three"):
            await talk.send(word)
            got.append(await anext(talk))
        await talk.end()
        return [*got, [item async for item in talk], await talk.result()]


@dialogue("Params, results and items in JSON; records and details stay MessagePack.", codec=aiozpat.JSON())
async def values_in_json(client: Client, wire: Wire) -> list[Any]:
    async with client.stream("demo.count", 3, window=4) as items:
        counted = [item async for item in items]
    return [
        await client.call("demo.add", 1, 2),
        await client.call("demo.add", params={"a": 1}),
        await client.call("demo.blob", b"bytes are Base64", result_type=str),
        counted,
        await client.call("demo.total", numbers(1, 2, 3)),
        await outcome(client.call("demo.fail", "missing")),
        await outcome(client.call("demo.add", "one")),
    ]


@dialogue("What every server answers under the reserved name.")
async def reserved_service(client: Client, wire: Wire) -> list[Any]:
    return [
        await client.call("aiozpat.ping"),
        await client.call("aiozpat.health"),
        await outcome(client.call("aiozpat.pong")),
    ]


@dialogue("The client pings a server that has nothing to say.", heartbeats=(FAST, 60.0))
async def ping_of_the_client(client: Client, wire: Wire) -> list[Any]:
    await wire.saw(PONG)
    return [await client.call("demo.add", 1)]


@dialogue("The server pings a client that has nothing to say.", heartbeats=(60.0, FAST))
async def ping_of_the_server(client: Client, wire: Wire) -> list[Any]:
    await wire.saw(PONG)
    return [await client.call("demo.add", 1)]


@dialogue("The server is closed: it says goaway, finishes what runs, items included, and says bye.")
async def drain(client: Client, wire: Wire) -> list[Any]:
    async with client.open("demo.total", window=8) as talk:
        await talk.send(1)
        first = await client.call("demo.add", 1)  # the server has got the item, too
        await wire.drain()
        await wire.saw(GOAWAY)
        await talk.send(2)
        await talk.end()
        result = await talk.result()
    await wire.saw(BYE, times=2)
    return [first, result]


# By hand


def request(number: int, method: str, *params: Any, timeout: int = 10_000) -> list[Any]:
    """A request record."""
    return [REQUEST, number, 0, method, timeout, params]


async def say_bye(peer: RawPeer) -> None:
    """Leave, and wait for the server's word."""
    await peer.send(header([BYE, ""]))
    await peer.record(BYE)


@by_hand("A deadline that passes on the server: it answers, and the handler is cancelled.")
async def deadline_of_the_server(peer: RawPeer, wire: Wire) -> None:
    await peer.open()
    await peer.send(header(request(1, "demo.hold", timeout=50)))
    await peer.record(ERROR)
    await peer.send(header(request(2, "demo.ended")))
    await peer.record(REPLY)
    await say_bye(peer)


@by_hand("Hello, requests, a cancel and bye in one message; unknown limits and elements, which are ignored.")
async def many_records_in_one_message(peer: RawPeer, wire: Wire) -> None:
    greeting = [*hello(limits={"window": 1 << 20, "colour": 7}), "later"]
    calls = [request(7, "demo.add", 1, 2), [*request(8, "demo.add", 3), None, None, "later"]]
    await peer.send(header(greeting, [14, 9], *calls, request(9, "demo.add", 5)))
    await peer.record(REPLY)
    await wire.saw(REPLY, times=2)
    await peer.send(header([1, 5], [5, 0], [14, 100], [21, 100], [22, 100, 1]))
    await peer.record(PONG)
    await say_bye(peer)


@by_hand("A client of a later version that speaks 1 as well: the server chooses 1.")
async def hello_with_a_later_version(peer: RawPeer, wire: Wire) -> None:
    await peer.open(versions=[99, 1], limits={"window": 1 << 20, "colour": 7})
    await peer.send(header(request(1, "demo.add", 1, 2)))
    await peer.record(REPLY)
    await say_bye(peer)


@by_hand("The same in a message of that later version, which must then hold a hello and nothing else.")
async def hello_in_a_later_version(peer: RawPeer, wire: Wire) -> None:
    await peer.send(header([*hello(versions=[99, 1]), "something new"], version=99))
    await peer.record(HELLO)
    await peer.send(header(request(1, "demo.add", 1, 2)))
    await peer.record(REPLY)
    await say_bye(peer)


@by_hand("No version in common: the reset says which are spoken.")
async def hello_without_a_common_version(peer: RawPeer, wire: Wire) -> None:
    await peer.open(versions=[99])


@by_hand("A codec that the server does not know.")
async def hello_with_an_unknown_codec(peer: RawPeer, wire: Wire) -> None:
    await peer.open(codec="carrier pigeon")


@by_hand("No hello, so no session: nothing runs.")
async def request_without_a_hello(peer: RawPeer, wire: Wire) -> None:
    await peer.send(header(request(1, "demo.note", "remember")))
    await peer.record(RESET)
    await peer.open()
    await peer.send(header(request(1, "demo.note", "this one"), request(2, "demo.noted")))
    await wire.saw(REPLY, times=2)
    await say_bye(peer)


@by_hand("A breach ends the session: here a second hello.")
async def breach(peer: RawPeer, wire: Wire) -> None:
    await peer.open()
    await peer.send(header(request(1, "demo.add", 1, 2)))
    await peer.record(REPLY)
    await peer.send(header(hello()))
    await peer.record(RESET)


@by_hand("Buffers in a batch: each record has its own, whatever becomes of it; a wrong index fails its call alone.")
async def buffers_in_a_batch(peer: RawPeer, wire: Wire) -> None:
    first, second = (msgspec.msgpack.Ext(1, bytes([index])) for index in (0, 1))
    await peer.open()
    await peer.send(
        header(
            [REQUEST, 1, 2, "demo.blob", 10_000, [second, first]],
            [REQUEST, 2, 1, "demo.missing", 10_000, [first]],
            [REQUEST, 3, 1, "demo.blob", 10_000, [second]],
            [REQUEST, 4, 1, "demo.sizes", 10_000, {"data": [first, b"in the header"]}],
        ),
        b"one",
        b"two",
        b"three",
        b"four",
        b"fives",
    )
    await wire.saw(REPLY, times=2)
    await wire.saw(ERROR, times=2)
    await say_bye(peer)


@by_hand("A server that drains: new calls are refused, but for its health; what runs is finished.")
async def calls_while_the_server_drains(peer: RawPeer, wire: Wire) -> None:
    await peer.open()
    await peer.send(
        header([*request(1, "demo.total"), None, [0, True, 0]], [ITEM, 1, 0, [1]], request(2, "demo.add", 1))
    )
    await peer.record(REPLY)
    await wire.drain()
    await peer.record(GOAWAY)
    await peer.send(header(request(3, "demo.add", 1), request(4, "aiozpat.health")))
    await wire.saw(REFUSED)
    await wire.saw(REPLY, times=2)
    await peer.send(header([ITEM, 1, 0, [2]], [END, 1]))
    await peer.record(BYE)
    await peer.send(header([BYE, ""]))
    await wire.saw(BYE, times=2)
