"""Peers in another language: Node.js with the npm package `zeromq`, and a client of AZP/1, `examples/client.js`.

What is missing of Node.js and the packages (the client has MessagePack's beside `zeromq`) is what skips the tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import aiozpat
from aiozpat import Dealer, Pair, Publisher, Puller, Pusher, Replier, Request, Requester, Router, Server, Subscriber
from tests.raw import ACK, BYE, CANCEL, CREDIT, END, GOAWAY, ITEM, PING, PONG, REPLY, REQUEST, RESET, RawServer
from tests.support import LOOPBACK, PATIENCE, Calc, Process, until

ROOT = Path(__file__).parent.parent
PEER = ROOT / "tests/apps/peer.js"
CLIENT = ROOT / "tests/apps/azp_client.js"
EXAMPLE = ROOT / "examples/client.js"
NODE = shutil.which("node")


def _missing(package: str) -> str | None:
    if NODE is None:
        return "Node.js is not installed"
    asked = subprocess.run([NODE, "-e", f"require('{package}')"], capture_output=True, check=False)  # noqa: S603 - Node.js
    return None if asked.returncode == 0 else f"`npm install {package}`, and NODE_PATH to where it is, are missing"


MISSING = _missing("zeromq")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


class Peer:
    """Starts peers; each is ended with the test."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, role: str, endpoint: str, count: int) -> subprocess.Popen[str]:
        """A peer in that role."""
        return self.run(PEER, role, endpoint, str(count))

    def run(self, program: Path, *arguments: str) -> subprocess.Popen[str]:
        """A program."""
        assert NODE is not None
        command = [NODE, str(program), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
        self._started.append(process)
        return process

    @staticmethod
    async def lines(process: subprocess.Popen[str]) -> list[str]:
        """What it has printed, when it has ended well."""
        output, problems = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
        assert (process.returncode, problems) == (0, "")
        return output.splitlines()

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()


async def line(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints; what is behind it must come later, or `Peer.lines` does not see it."""
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


@pytest.fixture
def node() -> Iterator[Peer]:
    """Peers in Node.js."""
    peer = Peer()
    yield peer
    peer.end()


async def shout(request: Request) -> list[bytes]:
    return [*request.header, request.body.upper()]


@pytest.mark.parametrize("server", [Router, Replier])
async def test_it_asks_our_servers(node: Peer, server: Any) -> None:
    async with server(bind=LOOPBACK) as endpoint:
        serving = asyncio.create_task(endpoint.serve(shout))
        peers = [node.start("req", endpoint.endpoint, 3), node.start("dealer", endpoint.endpoint, 3)]
        assert await node.lines(peers[0]) == ["REQUEST 0", "REQUEST 1", "REQUEST 2"]
        assert sorted(await node.lines(peers[1])) == ["id REQUEST 0", "id REQUEST 1", "id REQUEST 2"]
    await serving


async def test_it_answers_our_clients(node: Peer) -> None:
    async with Requester(bind=LOOPBACK) as requester, Dealer(bind=LOOPBACK, delimiter=True) as dealer:
        peers = [node.start("rep", endpoint.endpoint, 2) for endpoint in (requester, dealer)]
        for _ in range(2):
            assert (await requester.request("hello", timeout=PATIENCE)).text() == "HELLO"
            await dealer.send("hello", timeout=PATIENCE)
        assert [(await dealer.recv(PATIENCE)).text() for _ in range(2)] == ["HELLO", "HELLO"]
        for peer in peers:
            assert await node.lines(peer) == []


async def test_it_subscribes_and_publishes(node: Peer) -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        peer = node.start("sub", publisher.endpoint, 2)
        await publisher.wait_for_subscribers("weather.snow", timeout=PATIENCE)
        await publisher.send("news", "nobody hears this")
        await publisher.send("weather.snow", "-10")
        await publisher.send("weather.rain 5")
        assert await node.lines(peer) == ["weather.snow -10", "weather.rain 5"]
    async with Subscriber(bind=LOOPBACK, topics=["weather"]) as subscriber:
        node.start("pub", subscriber.endpoint, 100_000)
        first, second = await subscriber.recv(PATIENCE), await subscriber.recv(PATIENCE)
        assert first.topic == second.topic == b"weather.snow"
        assert int(second.body) == int(first.body) + 1


async def test_it_pushes_and_pulls(node: Peer) -> None:
    async with Puller(bind=LOOPBACK) as puller:
        peer = node.start("push", puller.endpoint, 5)
        assert [(await puller.recv(PATIENCE)).text() for _ in range(5)] == [f"task {number}" for number in range(5)]
        assert await node.lines(peer) == []
    async with Pusher(bind=LOOPBACK) as pusher:
        peer = node.start("pull", pusher.endpoint, 5)
        await pusher.send_many([f"task {number}" for number in range(5)], timeout=PATIENCE)
        assert await node.lines(peer) == [f"task {number}" for number in range(5)]


async def test_it_is_the_other_end_of_a_pair(node: Peer) -> None:
    async with Pair(bind=LOOPBACK) as pair:
        peer = node.start("pair", pair.endpoint, 2)
        for word in ("one", "two"):
            await pair.send("word", word, timeout=PATIENCE)
            assert (await pair.recv(PATIENCE)).frames == (b"word", word.encode())
        assert await node.lines(peer) == []


# The client of AZP/1.

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def client(node: Peer) -> Start:
    """Starts `examples/client.js` with one of the stories of `azp_client.js`."""
    missing = _missing("@msgpack/msgpack")
    if missing is not None:
        pytest.skip(missing)

    def start(story: str, endpoint: str, heartbeat: float = 2.0) -> subprocess.Popen[str]:
        return node.run(CLIENT, story, endpoint, str(round(heartbeat * 1000)))

    return start


@pytest.mark.usefixtures("client")
async def test_the_example_prints_what_it_says(node: Peer) -> None:
    promised = [line.strip("/ ") for line in EXAMPLE.read_text().partition("Prints:\n//\n")[2].splitlines()]
    command = [sys.executable, str(EXAMPLE.with_name("server.py")), LOOPBACK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:  # noqa: ASYNC220, S603 - ours
        try:
            endpoint = (await line(server)).split()[-1]
            assert await node.lines(node.run(EXAMPLE, endpoint)) == promised[:3]
        finally:
            server.terminate()


async def test_its_calls_overtake_each_other(client: Start, calc: Calc) -> None:
    turns = {number: asyncio.Event() for number in (1, 2, 3)}

    @calc.service.method
    async def turn(number: int) -> int:
        calc.started.append(number)
        await turns[number].wait()
        return number

    async with Server(calc.service, bind=LOOPBACK) as server:
        process = client("overtaking", server.endpoint)
        assert await line(process) == "sums 3 7"
        assert calc.started == [1, 2, 3]
        for number in (3, 1, 2):
            turns[number].set()
            assert await line(process) == f"turn {number}"
        assert await Peer.lines(process) == []
        await until(lambda: server.statistics().sessions == 0)


async def test_its_calls_fail_with_codes(client: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        precondition, value, nothing, one, big, *others = await Peer.lines(client("errors", server.endpoint))
    assert precondition == 'FAILED_PRECONDITION | not now | {"retry":false} | false'
    assert value == 'INTERNAL | ValueError: that went wrong | {"type":"ValueError"} | false'
    assert nothing.startswith("UNIMPLEMENTED | ")
    assert one.startswith("INVALID_ARGUMENT | ")
    assert "BigInt" in big
    assert others == ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "1"]


async def test_its_deadline_cancels_the_handler(client: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        assert await Peer.lines(client("deadline", server.endpoint)) == ["DEADLINE_EXCEEDED"]
        await until(lambda: calc.cancelled == [1])
    async with RawServer() as silent:  # for by its own deadline, the server would have cancelled it as well
        process = client("deadline", silent.endpoint)
        request = await silent.record(REQUEST)
        assert 0 < request[4] <= 1000
        assert await silent.record(CANCEL) == [CANCEL, request[1]]
        assert await Peer.lines(process) == ["DEADLINE_EXCEEDED"]


async def test_it_sends_metadata(client: Start, calc: Calc) -> None:
    @calc.service.method
    async def who() -> str:
        return " ".join(f"{key}={value}" for key, value in aiozpat.current_call().metadata.items())

    async with Server(calc.service, bind=LOOPBACK) as server:
        assert await Peer.lines(client("metadata", server.endpoint)) == ["token=open sesame имя=Ада"]


async def test_it_leaves_a_stream_and_the_handler_ends(client: Start, calc: Calc) -> None:
    has_ended = False

    @calc.service.method
    async def count(start: int) -> AsyncIterator[int]:
        nonlocal has_ended
        try:
            while True:
                yield start
                calc.started.append(start)
                start += 1
        finally:
            has_ended = True

    @calc.service.method
    async def ended() -> bool:
        return has_ended

    async with Server(calc.service, bind=LOOPBACK) as server:
        assert await Peer.lines(client("leaving", server.endpoint)) == ["10", "11", "12"]
    assert len(calc.started) <= 3 + 4 + 1


async def test_it_reads_streams_of_any_size(client: Start, calc: Calc) -> None:
    @calc.service.method
    async def sizes(count: int) -> AsyncIterator[tuple[str, bytes]]:
        for number in range(count):
            yield "x" * (number * 37 % 9000), b"y" * (number * 997 % 90_000)

    @calc.service.method
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise aiozpat.errors.DataLoss("gone")

    async with Server(calc.service, bind=LOOPBACK) as server:
        total, first, error = await Peer.lines(client("sizes", server.endpoint))
        assert server.statistics().sessions == 0
    assert total == f"300 {sum(number * 37 % 9000 + number * 997 % 90_000 for number in range(300))}"
    assert first == "1"
    assert error == "DATA_LOSS | gone | {} | false"


ITEMS = [
    None,
    [True, -1, -33, -129, -40_000, -(2**40), 127, 200, 40_000, 2**20, 2**40, 1.0, 2.5],
    {"": {"a": []}, "b": list(range(20)), **{str(number): number for number in range(20)}},
    [b"x" * 200, b"x" * 5000, b"x" * 70_000, "y" * 20, "y" * 200, "y" * 5000, "y" * 70_000],
    [msgspec.msgpack.Ext(40, b"z" * length) for length in (0, 1, 2, 3, 4, 8, 16, 300, 70_000)],
    [float(number) for number in range(1000)],
    list(range(70_000)),
    [msgspec.msgpack.Ext(1, b"\0"), msgspec.msgpack.Ext(1, b"\1")],
]


async def test_it_grants_what_items_have_cost(client: Start) -> None:
    async with RawServer() as server:
        process = client("raw", server.endpoint)
        request = await server.record(REQUEST)
        assert request[7] == [1, False, 0]
        for item in ITEMS:
            buffers = (b"1" * 70_000, b"2" * 4095) if item is ITEMS[-1] else ()
            cost = 1 + (len(msgspec.msgpack.encode([item])) + sum(map(len, buffers))) // 4096
            later = [ITEM, request[1] + 1, 0, ["of no call"]]
            await server.send(
                [ACK, 1], [ITEM, request[1], len(buffers), [item], b"space", "later"], later, buffers=buffers
            )
            granted = 0
            while granted < cost:
                granted += (await server.record(CREDIT))[2]
            assert granted == cost
        await server.send([END, request[1]])
        assert await Peer.lines(process) == [f"{len(ITEMS)} items"]


async def test_it_sends_streams(client: Start, calc: Calc) -> None:
    @calc.service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @calc.service.method
    async def volume(blobs: AsyncIterator[bytes]) -> int:
        return sum([len(blob) async for blob in blobs])

    @calc.service.method
    async def first(numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    @calc.service.method
    async def shout(words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()

    async with Server(calc.service, bind=LOOPBACK) as server:
        lines = await Peer.lines(client("sending", server.endpoint))
    assert lines == ["499500", str(2**21 - 1), "0", "A", "B", "no more"]


async def test_it_sends_and_gets_large_bytes(client: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        assert await Peer.lines(client("large", server.endpoint)) == ["true"]


async def test_it_waits_for_the_window(client: Start) -> None:
    async with RawServer(window=65_536) as server:
        process = client("window", server.endpoint)
        first, second = await server.record(REQUEST), await server.record(REQUEST)
        await server.send([PING, 2**64 - 1])
        assert await server.record(PONG, REQUEST) == [PONG, 2**64 - 1]
        await server.send([ACK, 100_000])
        third = await server.record(REQUEST)
        await server.send(*([REPLY, request[1], 0, request[1]] for request in (third, second, first)))
        assert await Peer.lines(process) == ["1,2,3"]


async def test_it_waits_for_credit(client: Start) -> None:
    async with RawServer(stream=4) as server:
        process = client("credit", server.endpoint)
        request = await server.record(REQUEST)
        assert request[5:] == [[], None, [0, True, 0]]
        items = [(await server.record(ITEM))[3] for _ in range(3)]
        assert items == [["x" * 4096], [1], [2]]  # the first has cost two
        await server.send([PING, 1])
        assert await server.record(PONG, ITEM) == [PONG, 1]
        await server.send([CREDIT, request[1], 1])
        assert await server.record(ITEM) == [ITEM, request[1], 0, [3]]
        await server.send([CREDIT, request[1], 2])
        assert await server.record(ITEM) == [ITEM, request[1], 0, [4]]
        assert await server.record(END) == [END, request[1]]
        await server.send([REPLY, request[1], 0, "all"])
        assert await Peer.lines(process) == ["all"]


@pytest.mark.parametrize(("ours", "its"), [(0.5, 60.0), (60.0, 0.5)], ids=["we_ask", "it_asks"])
async def test_its_session_outlives_idleness(client: Start, calc: Calc, ours: float, its: float) -> None:
    async with Server(calc.service, bind=LOOPBACK, heartbeat=ours) as server:
        assert await Peer.lines(client("idle", server.endpoint, its)) == ["2", "4"]


async def test_a_server_that_drains_finishes_its_calls(client: Start, calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        process = client("drained", server.endpoint)
        await until(lambda: calc.started == [1])
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        assert await line(process) == "UNAVAILABLE true"
        calc.gate.set()
        result, reason = await Peer.lines(process)
        await closing
    assert result == "1"
    assert reason.startswith("the server has left: ")
    assert calc.cancelled == []


async def test_it_asks_nothing_of_a_server_that_leaves(client: Start) -> None:
    async with RawServer() as server:
        process = client("drained", server.endpoint)
        held, other = await server.record(REQUEST), await server.record(REQUEST)
        await server.send([GOAWAY, ""], [PING, 1], [REPLY, other[1], 0, 1])
        assert await line(process) == "UNAVAILABLE true"
        assert await server.record(PONG, REQUEST) == [PONG, 1]
        await server.send([REPLY, held[1], 0, "held"], [BYE, "done"], [REPLY, held[1], 0, "ignored"])
        assert await Peer.lines(process) == ["held", "the server has left: done"]
        assert server.waiting() == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
async def test_a_server_that_is_lost_fails_its_calls(
    client: Start, processes: Callable[..., Process], tmp_path: Path, end: signal.Signals
) -> None:
    journal = tmp_path / "journal"
    server = processes("server", LOOPBACK, str(journal))
    process = client("lost", await server.line(), 0.5)
    await until(lambda: journal.exists() and sorted(journal.read_text().split()) == ["a", "b"])
    server.send_signal(end)
    reason = "the connection is lost" if end == signal.SIGKILL else "the server is silent"
    assert await Peer.lines(process) == ["UNAVAILABLE false", "UNAVAILABLE false", reason, "UNAVAILABLE true"]


async def test_a_reset_fails_its_calls(client: Start) -> None:
    async with RawServer() as server:
        process = client("lost", server.endpoint)
        await server.record(REQUEST)
        await server.record(REQUEST)
        await server.send([RESET, 8, "too many sessions", [1]])
        reason = "reset, RESOURCE_EXHAUSTED: too many sessions"
        assert await Peer.lines(process) == ["UNAVAILABLE false", "UNAVAILABLE false", reason, "UNAVAILABLE true"]
