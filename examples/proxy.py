"""A proxy stands between clients and workers: each knows the address of the proxy only, and more may come at any time.

Usage:

    python examples/proxy.py                                                     all in one program, with two workers
    python examples/proxy.py proxy tcp://127.0.0.1:5561 tcp://127.0.0.1:5562     until Ctrl-C, as the workers
    python examples/proxy.py worker tcp://127.0.0.1:5562
    python examples/proxy.py client tcp://127.0.0.1:5561

Prints:

    1 squared is 1
    2 squared is 4
    3 squared is 9
"""

import asyncio
import contextlib
import sys

from aiozpat import Proxy, Replier, Request, Requester, run


async def square(request: Request) -> str:
    """What a worker does with each request."""
    return str(int(request.text()) ** 2)


async def client(endpoint: str) -> None:
    """Ask the proxy's frontend; which worker answers is not the client's business."""
    async with Requester(connect=endpoint) as requester:
        for number in ("1", "2", "3"):
            print(f"{number} squared is", (await requester.request(number, timeout=10)).text())


async def main(role: str = "all", at: str = "tcp://127.0.0.1:*", back: str = "tcp://127.0.0.1:*") -> None:
    """Run one part, or all."""
    match role:
        case "proxy":
            async with Proxy("request-reply", frontend_bind=at, backend_bind=back) as proxy:
                await proxy.serve()
        case "worker":
            async with Replier(connect=at) as replier:
                await replier.serve(square)
        case "client":
            await client(at)
        case "all":
            async with Proxy("request-reply", frontend_bind=at, backend_bind=back) as hub, asyncio.TaskGroup() as group:
                workers = [group.create_task(main("worker", hub.backend_endpoint)) for _ in range(2)]
                await client(hub.frontend_endpoint)
                for worker in workers:
                    worker.cancel()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run(main(*sys.argv[1:]))
