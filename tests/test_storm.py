"""Thousands of calls and messages, cancelled and timed out at random: nothing is lost, mixed up or left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
import zmq

import aiozpat
from aiozpat import (
    Client,
    Dealer,
    Message,
    Pair,
    Publisher,
    Puller,
    Pusher,
    Router,
    Server,
    SocketOptions,
    Subscriber,
    TimedOut,
    errors,
)
from aiozpat.endpoints.receiver import Receiver
from tests.support import LOOPBACK, in_thread, until

CALLS = 10_000
MESSAGES = 20_000


async def test_no_call_gets_anothers_reply_and_no_table_keeps_an_entry() -> None:
    service = aiozpat.Service("storm")
    random_of = random.Random(1)
    running: set[int] = set()
    cancelled = finished = 0

    @service.method
    async def work(number: int, seconds: float) -> int:
        nonlocal cancelled, finished
        running.add(number)
        try:
            await asyncio.sleep(seconds)  # simulated work
            finished += 1
        except asyncio.CancelledError:
            cancelled += 1
            raise
        finally:
            running.discard(number)
        return number

    outcomes = {"done": 0, "timed out": 0, "cancelled": 0}

    async def one(client: Client, number: int) -> None:
        kind = random_of.choice(["plain", "timeout", "cancel"])
        seconds = random_of.uniform(0, 0.05)
        timeout = random_of.uniform(0.001, 0.05) if kind == "timeout" else 60
        task = asyncio.create_task(client.call("storm.work", number, seconds, timeout=timeout, result_type=int))
        if kind == "cancel":
            asyncio.get_running_loop().call_later(random_of.uniform(0, 0.05), task.cancel)
        try:
            assert await task == number
            outcomes["done"] += 1
        except errors.DeadlineExceeded:
            assert kind == "timeout"
            outcomes["timed out"] += 1
        except asyncio.CancelledError:
            assert kind == "cancel"
            outcomes["cancelled"] += 1

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for start in range(0, CALLS, 500):
            await asyncio.gather(*(one(client, number) for number in range(start, start + 500)))
        assert sum(outcomes.values()) == CALLS
        assert min(outcomes.values()) > CALLS // 20
        await until(lambda: server.statistics().running == 0)
        assert not running
        assert cancelled > 0
        assert client.statistics().in_flight == 0
        await until(lambda: client.statistics().waiting_bytes == 0)
        assert server.statistics().queued == 0
        assert server.statistics().waiting_bytes == 0
        assert all(not session.calls for session in server._listener.each())  # type: ignore[union-attr]  # it is open


def _send_numbers(kind: int, endpoint: str) -> None:
    """Send the numbers from a plain socket; an XPUB to whoever has subscribed."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.sndhwm = 0  # a publisher would drop what is past it
        socket.linger = -1
        socket.connect(endpoint)
        if kind == zmq.XPUB:
            socket.recv()
        for number in range(MESSAGES):
            socket.send(b"%d" % number)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Dealer(bind=LOOPBACK), zmq.DEALER),
        (lambda: Puller(bind=LOOPBACK), zmq.PUSH),
        (lambda: Subscriber(bind=LOOPBACK, topics=[""]), zmq.XPUB),
        (lambda: Pair(bind=LOOPBACK), zmq.PAIR),
    ],
    ids=["DEALER", "PULL", "SUB", "PAIR"],
)
async def test_receives_cancelled_at_random_lose_no_message(make: Callable[[], Receiver[Message]], kind: int) -> None:
    random_of = random.Random(2)
    got: list[int] = []
    async with make() as endpoint:

        async def receive() -> None:
            while True:
                way = random_of.random()
                if way < 0.4:
                    message = await endpoint.recv()
                elif way < 0.6:
                    message = await anext(endpoint)
                else:
                    try:
                        message = await endpoint.recv(timeout=random_of.uniform(0, 0.002))
                    except TimedOut:
                        continue
                got.append(int(message.body))

        thread = in_thread(lambda: _send_numbers(kind, endpoint.endpoint))
        while len(got) < MESSAGES:
            receivers = [asyncio.create_task(receive()) for _ in range(3)]
            await asyncio.sleep(random_of.uniform(0, 0.002))  # then cancelled wherever they are
            for receiver in receivers:
                receiver.cancel()
            await asyncio.wait(receivers)
        assert got == list(range(MESSAGES))
        await asyncio.to_thread(thread.join)


async def test_sends_cancelled_at_random_go_whole_or_not_at_all() -> None:
    random_of = random.Random(3)
    certain: set[int] = set()
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        for number in range(2000):
            task = asyncio.create_task(dealer.send(b"%d" % number, b"body"))
            await asyncio.sleep(0)
            if random_of.random() < 0.3:
                task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                certain.add(number)
        seen = {int((await router.recv(timeout=5)).frames[0]) for _ in range(len(certain))}
        assert seen == certain


@pytest.mark.parametrize("pattern", ["PUSH", "PUB"])
async def test_senders_cancelled_in_line_have_sent_nothing(pattern: str) -> None:
    """The queue is full nearly all the time, so that senders wait, and are cancelled or timed out there."""
    random_of = random.Random(4)
    options = SocketOptions(send_queue_messages=1, send_buffer_bytes=4096)
    certain: list[int] = []
    seen: list[int] = []
    sender: Pusher | Publisher
    receiver: Receiver[Any]
    if pattern == "PUSH":
        sender, receiver = Pusher(bind=LOOPBACK, options=options), Puller(bind=LOOPBACK, prefetch=1)
    else:
        slow = SocketOptions(receive_queue_messages=1, receive_buffer_bytes=4096)
        sender = Publisher(bind=LOOPBACK, options=options, overflow="wait")
        receiver = Subscriber(bind=LOOPBACK, topics=[""], options=slow)

    async def one(number: int) -> None:
        if random_of.random() < 0.5:
            await sender.send(f"{number:0>4000}")
        else:
            await sender.send(f"{number:0>4000}", timeout=random_of.uniform(0, 0.02))
        certain.append(number)

    async with sender, receiver:
        sender.connect(receiver.endpoint)
        await sender.wait_for_peers(timeout=5)
        if isinstance(sender, Publisher):
            await sender.wait_for_subscribers("", timeout=5)
        for start in range(0, 600, 30):
            tasks = [asyncio.create_task(one(number)) for number in range(start, start + 30)]
            await asyncio.sleep(random_of.uniform(0, 0.01))
            for task in tasks:
                if random_of.random() < 0.3:
                    task.cancel()
            while not all(task.done() for task in tasks):
                with contextlib.suppress(TimedOut):
                    seen.append(int((await receiver.recv(timeout=0.005)).body))
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, (TimedOut, asyncio.CancelledError))
        while len(seen) < len(certain):
            seen.append(int((await receiver.recv(timeout=5)).body))
        await sender.send("nothing comes between")
        assert (await receiver.recv(timeout=5)).text() == "nothing comes between"
    assert seen == certain
    assert 50 < len(certain) < 550
