"""Two servers of one service; one of them dies with calls in its hands. What is idempotent is made again at the other.

Prints:

    both serve
    Unavailable: the order may or may not have been placed, so nobody places it again
    10 of 10 prices, all from south
    1 order, placed by south
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiozpat


@dataclass
class Shop:
    """The same service at each server; `begun` and `go_on` let this program kill one at a certain moment."""

    name: str
    begun: Counter[str] = field(default_factory=Counter)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @aiozpat.method(idempotent=True)
    async def price(self, of: str) -> str:
        """Asking twice does no harm: clients learn from the server that they may."""
        return await self._work("price")

    @aiozpat.method
    async def order(self, of: str) -> str:
        """Ordering twice does: it stays at most once."""
        return await self._work("order")

    @aiozpat.method
    async def who(self) -> str:
        """Who serves."""
        return self.name

    async def _work(self, what: str) -> str:
        self.begun[what] += 1
        if self.begun == {"price": 5, "order": 1}:
            self.busy.set()
        await self.go_on.wait()  # simulated work
        return self.name

    def server(self) -> aiozpat.Server:
        """In earnest each is on a machine of its own."""
        return aiozpat.Server(aiozpat.Service("shop", self), bind="tcp://127.0.0.1:*")


async def main() -> None:
    """Make calls at both servers, and kill one."""
    north, south = Shop("north"), Shop("south")
    async with (
        north.server() as one,
        south.server() as other,
        # 3 attempts at most, with random pauses, and not more than a tenth of the load comes back as retries.
        aiozpat.Client([one.endpoint, other.endpoint], retry=aiozpat.Retry(attempts=3)) as client,
    ):
        seen: set[str] = set()
        while seen != {"north", "south"}:  # each call goes where the fewest are in flight, in turn
            seen.add(await client.call("shop.who"))
        print("both serve")

        prices = [asyncio.create_task(client.call("shop.price", "tea")) for _ in range(10)]
        orders = [asyncio.create_task(client.call("shop.order", "tea")) for _ in range(2)]
        await north.busy.wait()
        await one.close(grace=0)  # at once; with some grace it would end what it has begun, and nothing were lost
        south.go_on.set()

        placed = []
        for order in orders:
            try:
                placed.append(await order)
            except aiozpat.Unavailable as error:
                why = "the order may or may not have been placed, so nobody places it again"
                print(f"{type(error).__name__}: {why}")
        answers = Counter(await asyncio.gather(*prices))
        print(f"{answers['south']} of {answers.total()} prices, all from south")
        print(f"{len(placed)} order, placed by {placed[0]}")


if __name__ == "__main__":
    aiozpat.run(main())
