"""Many to many: each client's one Dealer is connected to all servers, each server's one Router to all clients.

Prints:

    anna was answered by {'east': 3, 'north': 3, 'west': 3}
    ben was answered by {'east': 3, 'north': 3, 'west': 3}
"""

import asyncio
from collections import Counter

import aiozpat


async def serve(router: aiozpat.Router, name: str) -> None:
    """One of the servers: says its name to whoever asks."""

    async def answer(_: aiozpat.Request) -> str:
        return name

    await router.serve(answer)  # ends when the router is closed


async def ask(endpoints: list[str], name: str) -> str:
    """One of the clients: a Dealer sends to its servers in turn, and takes answers from all of them."""
    async with aiozpat.Dealer(connect=endpoints) as dealer:
        await dealer.send_many(["who are you?"] * 9)
        answers = Counter([(await dealer.recv(timeout=10)).text() for _ in range(9)])
    return f"{name} was answered by {dict(sorted(answers.items()))}"


async def main() -> None:
    """Three servers, two clients."""
    async with (
        asyncio.TaskGroup() as group,
        aiozpat.Router(bind="tcp://127.0.0.1:*") as north,
        aiozpat.Router(bind="tcp://127.0.0.1:*") as east,
        aiozpat.Router(bind="tcp://127.0.0.1:*") as west,
    ):
        for router, name in ((north, "north"), (east, "east"), (west, "west")):
            group.create_task(serve(router, name))
        endpoints = [router.endpoint for router in (north, east, west)]
        print(*await asyncio.gather(ask(endpoints, "anna"), ask(endpoints, "ben")), sep="\n")


if __name__ == "__main__":
    aiozpat.run(main())
