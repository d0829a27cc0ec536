"""A worker of a pipeline: takes numbers, and reports them to the sink with its name, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import aiozpat


async def main(tasks: str, sink: str, name: str, seconds: str, prefetch: str) -> None:
    """Work for so many seconds on each task; a `prefetch` of 0 is the default."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    async with (
        aiozpat.Puller(connect=tasks, prefetch=int(prefetch) or None) as puller,
        aiozpat.Pusher(connect=sink, linger=60) as pusher,
    ):
        async for task in puller:
            if float(seconds):
                await asyncio.sleep(float(seconds))  # simulated work
            await pusher.send(name, task.body)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        aiozpat.run(main(*sys.argv[1:]))
