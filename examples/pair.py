"""Pair (PAIR-PAIR): exactly two ends, and either sends when it likes: here a shop and its till.

Usage:

    python examples/pair.py                                 both, in one program
    python examples/pair.py till tcp://127.0.0.1:5560       it listens
    python examples/pair.py shop tcp://127.0.0.1:5560       it connects

Prints:

    [till] the shop sells bread for 3
    [till] the shop sells milk for 2
    [shop] the till says: good evening
    [shop] the till says: 5 taken today
"""

import asyncio
import contextlib
import sys

import aiozpat


async def till(pair: aiozpat.Pair) -> None:
    """Take prices until the shop closes, then send two messages that nobody has asked for."""
    total = 0
    async for message in pair:
        if message.body == b"closing":
            break
        what, price = (frame.decode() for frame in message.frames)
        print(f"[till] the shop sells {what} for {price}")
        total += int(price)
    await pair.send_many(["good evening", f"{total} taken today"])


async def shop(endpoint: str) -> None:
    """Sell, and wait for no answer in between."""
    async with aiozpat.Pair(connect=endpoint) as pair:
        await pair.send_many([("bread", "3"), ("milk", "2"), "closing"])
        for _ in range(2):
            print("[shop] the till says:", (await pair.recv(timeout=10)).text())


async def main(role: str = "both", endpoint: str = "tcp://127.0.0.1:*") -> None:
    """Run one end, or both."""
    match role:
        case "till" | "both":
            async with aiozpat.Pair(bind=endpoint) as pair:
                await asyncio.gather(till(pair), *([shop(pair.endpoint)] if role == "both" else []))
        case "shop":
            await shop(endpoint)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        aiozpat.run(main(*sys.argv[1:]))
