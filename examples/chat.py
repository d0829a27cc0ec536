"""A chat room: a Router passes what one says to all others, by a RoutingTable.

Prints:

    ben, who is anna too: no
    anna hears: ben has joined
    ben hears: anna says hello
    anna hears: ben has left
"""

import asyncio

import aiozpat


async def room(router: aiozpat.Router) -> None:
    """The server: takes `join NAME`, `say TEXT` and `leave`, and answers yes or no."""
    people = aiozpat.RoutingTable(expiry=3600)

    async def handle(message: aiozpat.Request) -> str:
        speaker = people.touch(message.identity)
        match [frame.decode() for frame in message.frames]:
            case ["join", name] if speaker is None and name not in people:
                people.add(name, message.identity)
                speaker, news = name, "has joined"
            case ["say", text] if speaker is not None:
                news = f"says {text}"
            case ["leave"] if speaker is not None:
                people.remove(speaker)
                news = "has left"
            case _:
                return "no"
        for name in people:
            if name != speaker and (identity := people.identity(name)) is not None:
                try:
                    await router.send(identity, f"{speaker} {news}", timeout=0)
                except (aiozpat.PeerUnreachable, aiozpat.TimedOut):
                    people.remove(name)  # gone, or does not listen: that must not hold up the others
        return "yes"

    await router.serve(handle, max_concurrency=1)  # one message after the other: all hear the same order


async def hear(person: aiozpat.Dealer, *message: str) -> str:
    """Send something, if anything is given, and wait for the next that comes."""
    if message:
        await person.send(*message)
    return (await person.recv(timeout=10)).text()


async def main() -> None:
    """Two people."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(room(router))
        async with aiozpat.Dealer(connect=router.endpoint) as anna, aiozpat.Dealer(connect=router.endpoint) as ben:
            await hear(anna, "join", "anna")
            print("ben, who is anna too:", await hear(ben, "join", "anna"))
            await hear(ben, "join", "ben")
            print("anna hears:", await hear(anna))
            await hear(anna, "say", "hello")
            print("ben hears:", await hear(ben))
            await hear(ben, "leave")
            print("anna hears:", await hear(anna))


if __name__ == "__main__":
    aiozpat.run(main())
