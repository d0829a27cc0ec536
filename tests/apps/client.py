"""A client that makes calls that take long, and waits for them until it is killed."""

from __future__ import annotations

import asyncio
import sys

import aiozpat


async def main(endpoint: str, count: str) -> None:
    """Call `calc.hold` so many times at once."""
    async with aiozpat.Client(endpoint) as client:
        await asyncio.gather(*(client.call("calc.hold", number) for number in range(int(count))))


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
