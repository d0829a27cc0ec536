"""A peer in another language: Node.js with the npm package `zeromq`; skipped where they are missing."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiozpat import Dealer, Pair, Publisher, Puller, Pusher, Replier, Request, Requester, Router, Subscriber
from tests.support import LOOPBACK, PATIENCE

PEER = Path(__file__).parent / "apps" / "peer.js"
NODE = shutil.which("node")


def _missing() -> str | None:
    if NODE is None:
        return "Node.js is not installed"
    asked = subprocess.run([NODE, "-e", "require('zeromq')"], capture_output=True, check=False)  # noqa: S603 - Node.js
    return None if asked.returncode == 0 else "`npm install zeromq`, and NODE_PATH to where it is, are missing"


MISSING = _missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


class Peer:
    """Starts peers; each is ended with the test."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, role: str, endpoint: str, count: int) -> subprocess.Popen[str]:
        """A peer in that role."""
        assert NODE is not None
        command = [NODE, str(PEER), role, endpoint, str(count)]
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
