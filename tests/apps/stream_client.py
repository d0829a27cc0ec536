"""A client that reads a stream without end until it is killed, or stops reading and stays."""

from __future__ import annotations

import asyncio
import sys

import aiozpat


async def main(endpoint: str, most: str) -> None:
    """Read so many items of `app.endless` and then no more; 0 reads on."""
    async with aiozpat.Client(endpoint) as client, client.stream("app.endless") as items:
        count = 0
        async for _ in items:
            count += 1
            if count == 1000:
                print("busy", flush=True)
            if count == int(most):
                await asyncio.Event().wait()


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
