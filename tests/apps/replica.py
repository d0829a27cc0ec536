"""One of several servers of one service: says where it listens, and writes down each call that it runs."""

from __future__ import annotations

import asyncio
import sys

import aiozpat


async def main(endpoint: str, journal: str) -> None:
    """Serve until a signal comes."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    service = aiozpat.Service("app")
    with open(journal, "a", buffering=1) as ran:  # noqa: ASYNC230 - a line a call, in a test

        async def run(key: str) -> str:
            ran.write(f"{key}\n")
            await asyncio.sleep(0.2)  # simulated work
            return key

        @service.method
        async def once(key: str) -> str:
            return await run(key)

        @service.method(idempotent=True)
        async def same(key: str) -> str:
            return await run(key)

        async with aiozpat.Server(service, bind=endpoint) as server:
            print(server.endpoint, flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
