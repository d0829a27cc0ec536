"""Many requests at once from one plain Dealer: an id frame tells which reply belongs to which request.

Prints:

    100 of 100 replies met their questions, though the last was answered first
"""

import asyncio
import itertools

import aiozpat


class Asker:
    """Gives each request an id, and each reply to whoever waits for that id."""

    def __init__(self, dealer: aiozpat.Dealer) -> None:
        self._dealer, self._ids = dealer, itertools.count()
        self._waiting: dict[bytes, asyncio.Future[str]] = {}

    async def ask(self, text: str) -> str:
        """Send a request and wait for its own reply; any number of tasks may do so at once."""
        number = str(next(self._ids)).encode()
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(10):
                await self._dealer.send(number, text)
                return await self._waiting[number]
        finally:
            del self._waiting[number]  # should the reply still come, nobody takes it for another one

    async def hand_out(self) -> None:
        """Take the replies, in whatever order they come, until the dealer is closed."""
        async for reply in self._dealer:
            future = self._waiting.get(reply.frames[0])
            if future is not None and not future.done():
                future.set_result(reply.text())


async def answer(router: aiozpat.Router) -> None:
    """Keep 100 requests, then answer the last of them first; each id goes back as it came."""
    for request in reversed([await router.recv() for _ in range(100)]):
        await request.reply(*request.header, f"the answer to {request.text()}")


async def main() -> None:
    """Ask 100 questions at once."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(answer(router))
        async with aiozpat.Dealer(connect=router.endpoint) as dealer:
            asker = Asker(dealer)
            group.create_task(asker.hand_out())
            replies = await asyncio.gather(*(asker.ask(f"question {number}") for number in range(100)))
    matched = sum(reply == f"the answer to question {number}" for number, reply in enumerate(replies))
    print(f"{matched} of {len(replies)} replies met their questions, though the last was answered first")


if __name__ == "__main__":
    aiozpat.run(main())
