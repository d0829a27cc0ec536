"""A Router serves plain ZeroMQ peers, one task a message: the quick answers overtake the slow ones.

Prints:

    0.1 s of work is done
    0.2 s of work is done
    0.3 s of work is done
"""

import asyncio

import aiozpat


async def work(request: aiozpat.Request) -> str:
    """Take as long as the request says."""
    await asyncio.sleep(float(request.text()))
    return f"{request.text()} s of work is done"


async def main() -> None:
    """Serve, and ask from a Dealer; any DEALER or REQ in any language could ask as well."""
    async with aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        serving = asyncio.create_task(router.serve(work, max_concurrency=100))
        async with aiozpat.Dealer(connect=router.endpoint) as dealer:
            for seconds in ("0.3", "0.2", "0.1"):
                await dealer.send(seconds)
            for _ in range(3):
                print((await dealer.recv(timeout=5)).text())
    await serving


if __name__ == "__main__":
    aiozpat.run(main())
