"""The three limits of REQ-REP, each beside what lifts it.

Prints:

    lockstep: as each of 3 requests came in, a Requester had sent [1, 2, 3]; a Dealer sends 3 before any reply
    one at a time: answered slow, quick; many at once: quick, slow
    no routing: a Replier answers who asks; a Router told ben, unasked: one, two
"""

import asyncio

from aiozpat import Dealer, Replier, Request, Requester, Router, run


async def lockstep() -> str:
    """REQ keeps the next request until the reply is there; a Dealer does not."""
    sent = list[int]()
    async with Replier(bind="tcp://127.0.0.1:*") as replier, Requester(connect=replier.endpoint) as requester:
        asking = asyncio.gather(*[requester.request("?", timeout=10) for _ in range(3)])
        for _ in range(3):
            request = await replier.recv(timeout=10)
            sent.append(requester.statistics().sent)
            await request.reply("!")
        await asking
        async with Dealer(connect=replier.endpoint, delimiter=True) as dealer:  # who answers REQ wants the delimiter
            await dealer.send_many(["?"] * 3)
            return f"a Requester had sent {sent}; a Dealer sends {dealer.statistics().sent} before any reply"


async def work(request: Request) -> str:
    """Some requests take longer than others."""
    await asyncio.sleep(0.2 if request.body == b"slow" else 0)
    return request.text()


async def answered(max_concurrency: int) -> str:
    """REP works on one request at a time, as `max_concurrency=1` does; a Replier can work on many at once."""
    async with asyncio.TaskGroup() as group, Replier(bind="tcp://127.0.0.1:*") as replier:
        group.create_task(replier.serve(work, max_concurrency=max_concurrency))
        async with Dealer(connect=replier.endpoint, delimiter=True) as dealer:
            await dealer.send_many(["slow", "quick"])
            return ", ".join([(await dealer.recv(timeout=10)).text() for _ in range(2)])


async def main() -> None:
    """Show all three."""
    print("lockstep: as each of 3 requests came in,", await lockstep())
    print(f"one at a time: answered {await answered(1)}; many at once: {await answered(100)}")
    async with Router(bind="tcp://127.0.0.1:*") as router, Dealer(connect=router.endpoint) as ben:
        await ben.send("here I am")
        message = await router.recv(timeout=10)
        await router.send(message.identity, "one")  # a Router knows who is who, and sends to whom it likes
        await router.send(message.identity, "two")
        told = [(await ben.recv(timeout=10)).text() for _ in range(2)]
        print("no routing: a Replier answers who asks; a Router told ben, unasked:", ", ".join(told))


if __name__ == "__main__":
    run(main())
