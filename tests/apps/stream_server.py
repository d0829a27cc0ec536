"""A server of streams on the endpoint given; says where it listens, and what its handlers do when it is asked."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

import aiozpat


async def main(endpoint: str) -> None:
    """Serve until a signal comes."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    service = aiozpat.Service("app")
    made = 0

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @service.method
    async def endless(size: int = 64) -> AsyncIterator[bytes]:
        nonlocal made
        for number in itertools.count():
            made += 1
            yield number.to_bytes(size)

    @service.method
    async def echo(items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    @service.method
    async def how_many_made() -> int:
        return made

    async with aiozpat.Server(service, bind=endpoint) as server:
        print(server.endpoint, flush=True)
        await server.serve_forever()
        print(f"left: {len(asyncio.all_tasks()) - 1} tasks", flush=True)


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
