"""Request-reply (REQ-REP): a client asks, a server answers; one question, one answer.

Usage:

    python examples/request_reply.py                                 both, in one program
    python examples/request_reply.py server tcp://127.0.0.1:5555     until Ctrl-C
    python examples/request_reply.py client tcp://127.0.0.1:5555

Prints:

    [server] a client says: Hello
    [client] the server says: World
"""

import asyncio
import contextlib
import sys

import aiozpat


async def answer(request: aiozpat.Request) -> str:
    """What the server does with each request."""
    print("[server] a client says:", request.text())
    return "World"


async def ask(endpoint: str) -> None:
    """The client. It may start before the server: ZeroMQ connects in the background."""
    async with aiozpat.Requester(connect=endpoint) as requester:
        reply = await requester.request("Hello", timeout=10)
        print("[client] the server says:", reply.text())


async def main(role: str = "both", endpoint: str = "tcp://127.0.0.1:*") -> None:
    """Run one end, or both."""
    match role:
        case "server":
            async with aiozpat.Replier(bind=endpoint) as replier:
                await replier.serve(answer)
        case "client":
            await ask(endpoint)
        case "both":
            # The replier closes first, which ends its serve(), for which the group waits.
            async with asyncio.TaskGroup() as group, aiozpat.Replier(bind=endpoint) as replier:
                group.create_task(replier.serve(answer))
                await ask(replier.endpoint)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a server is meant to end
        aiozpat.run(main(*sys.argv[1:]))
