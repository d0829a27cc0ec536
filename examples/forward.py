"""Forwarding a reply to another client: the asker names the one who gets the answer, a RoutingTable finds it.

Prints:

    keyboard got: shown on screen
    screen got: HELLO, from keyboard
    keyboard got: printer is not here
"""

import asyncio
import contextlib

import aiozpat


async def forward(router: aiozpat.Router) -> None:
    """Give names to clients, and the answers to whom the requests name."""
    clients = aiozpat.RoutingTable(expiry=3600)  # seconds of silence; a screen has little to say
    async for request in router:  # one after the other; it ends when the router is closed
        match [frame.decode(errors="replace") for frame in request.frames]:  # a stranger may send anything
            case ["name", name]:
                clients.add(name, request.identity)
                answer = "welcome"
            case ["upper", text, recipient]:
                # The table works both ways: the name of who asks, the routing id of who gets the answer.
                asker, identity = clients.touch(request.identity), clients.identity(recipient)
                answer = f"{recipient} is not here"
                if identity is not None:
                    with contextlib.suppress(aiozpat.PeerUnreachable, aiozpat.TimedOut):  # gone, or does not read
                        await router.send(identity, f"{text.upper()}, from {asker}", timeout=0)
                        answer = f"shown on {recipient}"
            case _:
                answer = "what?"
        with contextlib.suppress(aiozpat.PeerUnreachable, aiozpat.TimedOut):
            await request.reply(answer, timeout=0)


async def ask(dealer: aiozpat.Dealer, *frames: str) -> str:
    """Send one message, and take the next that comes."""
    await dealer.send(*frames)
    return (await dealer.recv(timeout=10)).text()


async def main() -> None:
    """A keyboard asks, a screen gets the answers."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(forward(router))
        async with (
            aiozpat.Dealer(connect=router.endpoint) as screen,
            aiozpat.Dealer(connect=router.endpoint) as keyboard,
        ):
            await asyncio.gather(ask(screen, "name", "screen"), ask(keyboard, "name", "keyboard"))
            print("keyboard got:", await ask(keyboard, "upper", "hello", "screen"))
            print("screen got:", (await screen.recv(timeout=10)).text())
            print("keyboard got:", await ask(keyboard, "upper", "hello", "printer"))


if __name__ == "__main__":
    aiozpat.run(main())
