"""The ends of the flows as users of aiozpat write them, at its default settings; run by `benchmarks.ends`."""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from typing import Literal

import aiozpat
from benchmarks import child
from benchmarks.meter import Meter, repeat_await

_CHUNK = 1000  # messages for each `send_many`


async def run(arguments: argparse.Namespace, cue: child.Cue, topic: bytes) -> None:
    """One end, or the proxy.

    Args:
        arguments: Of `benchmarks.ends`.
        cue: What the measuring process says.
        topic: What publisher and subscriber are about.
    """
    meter = Meter(cue, arguments.seconds, arguments.size)
    if arguments.role == "push":
        await push(arguments, cue, meter)
    elif arguments.role == "pull":
        await pull(arguments, meter)
    elif arguments.role == "pub":
        await publish(arguments, cue, meter, topic)
    elif arguments.role == "sub":
        await subscribe(arguments, meter, topic)
    else:
        await proxy()


async def push(arguments: argparse.Namespace, cue: child.Cue, meter: Meter) -> None:
    """Work for the puller, each message awaited or many at a time."""
    payload = b"x" * arguments.size
    async with aiozpat.Pusher(bind=arguments.bind, connect=arguments.connect) as pusher:
        print(pusher.endpoint, flush=True)
        await asyncio.to_thread(cue.wait)
        if arguments.way == "aiozpat-many":
            await repeat_await(partial(pusher.send_many, [payload] * _CHUNK), meter, _CHUNK)
        await repeat_await(partial(pusher.send, payload), meter)


async def pull(arguments: argparse.Namespace, meter: Meter) -> None:
    """Take the work, one after the other or many at a time."""
    async with aiozpat.Puller(bind=arguments.bind, connect=arguments.connect) as puller:
        print(puller.endpoint, flush=True)
        if arguments.way == "aiozpat-many":
            await _take_many(puller, meter)
        await _take(puller, meter)


async def publish(arguments: argparse.Namespace, cue: child.Cue, meter: Meter, topic: bytes) -> None:
    """Publish as fast as it goes; what a subscriber has no room for is dropped, or else waited for."""
    payload = b"x" * arguments.size
    overflow: Literal["drop", "wait"] = "wait" if arguments.way == "aiozpat-wait" else "drop"
    async with aiozpat.Publisher(bind=arguments.bind, connect=arguments.connect, overflow=overflow) as publisher:
        print(publisher.endpoint, flush=True)
        await asyncio.to_thread(cue.wait)
        await publisher.wait_for_subscribers(topic, arguments.subscribers)

        def extra() -> dict[str, float]:
            statistics = publisher.statistics()
            return {
                "sent": statistics.sent,
                "overflows": statistics.notices.get("overflow", 0),
                "subscribers": publisher.subscribers(topic),
            }

        meter.extra = extra
        await repeat_await(partial(publisher.send, topic, payload), meter)


async def subscribe(arguments: argparse.Namespace, meter: Meter, topic: bytes) -> None:
    """Take what is published."""
    bind, connect = arguments.bind, arguments.connect
    async with aiozpat.Subscriber(bind=bind, connect=connect, topics=[topic]) as subscriber:
        print(subscriber.endpoint, flush=True)
        await _take(subscriber, meter)


async def _take(receiver: aiozpat.Puller | aiozpat.Subscriber[object], meter: Meter) -> None:
    """Receive for ever, as `async for` does it."""
    count = due = 0
    async for message in receiver:
        _ = message.body
        count += 1
        if count >= due:
            due = meter.look(count)


async def _take_many(puller: aiozpat.Puller, meter: Meter) -> None:
    """Receive for ever, what is there each time."""
    count = due = 0
    while True:
        messages = await puller.recv_many()
        for message in messages:
            _ = message.body
        count += len(messages)
        if count >= due:
            due = meter.look(count)


async def proxy() -> None:
    """Between pushers and pullers."""
    async with aiozpat.Proxy("pipeline", frontend_bind=child.ANY_PORT, backend_bind=child.ANY_PORT) as between:
        print(between.frontend_endpoint, between.backend_endpoint, flush=True)
        await between.serve()
