"""A server on the endpoint given; says where it listens, and writes down which calls it began."""

from __future__ import annotations

import asyncio
import sys

import aiozpat


async def main(endpoint: str, journal: str) -> None:
    """Serve until a signal comes."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    service = aiozpat.Service("app")
    with open(journal, "a", buffering=1) as began:  # noqa: ASYNC230 - a line a call, in a test

        @service.method
        async def once(key: str, seconds: float) -> str:
            began.write(f"{key}\n")
            await asyncio.sleep(seconds)  # simulated work
            return key

        @service.method
        async def blob(size: int) -> bytes:
            return b"x" * size  # not bytes(size): zeros that nobody touched take no memory

        async with aiozpat.Server(service, bind=endpoint) as server:
            print(server.endpoint, flush=True)
            await server.serve_forever()
            print(f"left: {len(asyncio.all_tasks()) - 1} tasks", flush=True)


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
