"""A child process that was forked: it must not use what its parent has open, and may open its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

# Each line that it prints is what came of one use in the child; the last is the parent's.
_PROGRAM = """
import asyncio, os, signal
import aiozpat
from aiozpat import Client, Publisher, Puller, Pusher, Server, Service
from aiozpat.errors import UsageError

ANY = "tcp://127.0.0.1:*"
service = Service("calc")

@service.method
async def double(number: int) -> int:
    return 2 * number

async def in_child(endpoint, uses):
    for name, use in uses.items():
        try:
            print(name, "gave", await use(), flush=True)
        except UsageError as error:
            print(name, "said", error, flush=True)
    async with Client(endpoint) as own:
        print(await own.call("calc.double", 21), flush=True)

async def main():
    async with (
        Server(service, bind=ANY) as server,
        Client(server.endpoint) as client,
        Puller(bind=ANY) as puller,
        Pusher(connect=puller.endpoint) as pusher,
        Publisher(bind=ANY) as publisher,
    ):
        await client.ready(10)
        await pusher.send_many([b"one", b"two", b"three"])
        assert (await puller.recv(10)).body == b"one"
        while puller.statistics().waiting < 2:
            await asyncio.sleep(0.001)
        child = os.fork()
        if not child:
            signal.alarm(12)  # it ends, whatever comes of it
            asyncio.run(in_child(server.endpoint, {
                "call": lambda: client.call("calc.double", 1),
                "notify": lambda: client.notify("calc.double", 1),
                "recv": puller.recv,
                "next": lambda: anext(puller),
                "push": lambda: pusher.send(b"four"),
                "push many": lambda: pusher.send_many([b"four"]),
                "publish": lambda: publisher.send(b"topic"),
            }))
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        await pusher.send(b"five")
        print([(await puller.recv(10)).body for _ in range(3)], await client.call("calc.double", 3), flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_a_child_is_told_to_open_its_own() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PROGRAM]  # 3.12 warns of each fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)  # noqa: S603 - our own
    *uses, childs, parents = done.stdout.splitlines()
    assert [line.partition(" said ")[0] for line in uses] == [
        "call", "notify", "recv", "next", "push", "push many", "publish",
    ], done.stderr  # fmt: skip
    assert all(line.endswith("for each loop and process") for line in uses)
    assert childs == "42"
    assert parents == "[b'two', b'three', b'five'] 6"


_LEAVING = """
import asyncio, os, sys
import aiozpat

ANY = "tcp://127.0.0.1:*"
service = aiozpat.Service("calc")

@service.method
async def double(number: int) -> int:
    return 2 * number

async def main():
    async with (
        aiozpat.Server(service, bind=ANY) as server,
        aiozpat.Client(server.endpoint) as client,
        aiozpat.Publisher(bind=ANY) as publisher,
        aiozpat.Subscriber(connect=publisher.endpoint, topics=[""]) as subscriber,
    ):
        await client.ready(10)
        await subscriber.ready(10)
        async with aiozpat.Client(server.endpoint):  # whose connection the loop has yet to look at
            child = os.fork()
            if not child:
                sys.exit(3)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), await client.call("calc.double", 21), flush=True)
        os._exit(0)  # the child has closed asyncio's own pipe in the epoll that both have: no thread wakes this loop

asyncio.run(main())  # uvloop may abort in such a child by itself
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_a_child_that_leaves_its_parents_blocks_ends() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _LEAVING]
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as parent:
        try:
            output, problems = parent.communicate(timeout=12)
        except subprocess.TimeoutExpired:
            os.killpg(parent.pid, signal.SIGKILL)  # the child, too
            raise
    assert (output, problems) == ("3 42\n", "")


_CHILDREN = """
import ctypes, os
from aiozpat.transport.process import prepare

prepare()
for _ in range(3):
    if not (child := os.fork()):
        prepare()
        print(ctypes.CDLL(None).rand(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_children_draw_routing_ids_of_their_own() -> None:
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _CHILDREN], capture_output=True, text=True, timeout=15, check=True
    )
    assert len(set(ended.stdout.split())) == 3
