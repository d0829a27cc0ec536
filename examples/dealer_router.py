"""DEALER-ROUTER: clients ask without waiting for answers, the server knows who asked and answers in any order.

Usage:

    python examples/dealer_router.py                                           the server and two clients
    python examples/dealer_router.py server tcp://127.0.0.1:5555               until Ctrl-C
    python examples/dealer_router.py client tcp://127.0.0.1:5555 anna          any number of them

Prints:

    anna has the answers to 3, 2, 1
    ben has the answers to 3, 2, 1
"""

import asyncio
import contextlib
import sys

import aiozpat


async def serve(router: aiozpat.Router) -> None:
    """Keep each client's requests until there are three, then answer the last first; others need not wait for that."""
    asked: dict[bytes, list[aiozpat.Request]] = {}
    async for request in router:  # ends when the router is closed
        asked.setdefault(request.identity, []).append(request)
        if len(asked[request.identity]) == 3:
            for kept in reversed(asked.pop(request.identity)):
                with contextlib.suppress(aiozpat.PeerUnreachable, aiozpat.TimedOut):
                    await kept.reply(kept.body, timeout=0)  # who has left, or does not read, ends and holds up nothing


async def ask(endpoint: str, name: str) -> str:
    """Send, send, send; receive, receive, receive."""
    async with aiozpat.Dealer(connect=endpoint) as dealer:
        await dealer.send_many(["1", "2", "3"])
        replies = [await dealer.recv(timeout=10) for _ in range(3)]
    return f"{name} has the answers to {', '.join(reply.text() for reply in replies)}"


async def main(role: str = "all", endpoint: str = "tcp://127.0.0.1:*", name: str = "anna") -> None:
    """Run one end, or all."""
    match role:
        case "server":
            async with aiozpat.Router(bind=endpoint) as router:
                await serve(router)
        case "client":
            print(await ask(endpoint, name))
        case "all":
            async with asyncio.TaskGroup() as group, aiozpat.Router(bind=endpoint) as router:
                group.create_task(serve(router))
                print(*await asyncio.gather(ask(router.endpoint, "anna"), ask(router.endpoint, "ben")), sep="\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        aiozpat.run(main(*sys.argv[1:]))
