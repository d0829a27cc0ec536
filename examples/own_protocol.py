"""A protocol of one's own, without request and reply: a file flows in chunks, as fast as its reader gives credit.

The reader sends GET, and CREDIT with how many more messages it takes; the source sends CHUNKs, and END at the end.

Prints:

    the fast reader has 100000 bytes, with credit for 10 at a time
    the slow reader has 100000 bytes, with credit for 1 at a time
"""

import asyncio
from collections.abc import Iterator

import aiozpat


def messages() -> Iterator[tuple[bytes, ...]]:
    """What each reader gets in the end; in earnest, read from a file."""
    for number in range(25):
        yield b"CHUNK", bytes([number]) * 4000
    yield (b"END",)


async def source(router: aiozpat.Router) -> None:
    """Send to each reader what it has room for: a slow one holds up no other, and fills no memory here."""
    transfers: dict[bytes, Iterator[tuple[bytes, ...]]] = {}  # in earnest, abandoned ones must go after some time

    async def handle(message: aiozpat.Request) -> None:
        if message.frames == (b"GET",):
            transfers[message.identity] = messages()
        elif message.header == (b"CREDIT",) and message.identity in transfers:
            for _, frames in zip(range(int(message.body)), transfers[message.identity], strict=False):
                await router.send(message.identity, *frames)
                if frames == (b"END",):
                    del transfers[message.identity]

    await router.serve(handle, max_concurrency=1)  # in order; what is wrong with a message is logged, and no more


async def read(endpoint: str, name: str, credit: int) -> str:
    """Get the file."""
    content = b""
    async with aiozpat.Dealer(connect=endpoint) as dealer:
        await dealer.send_many(["GET", ("CREDIT", str(credit))])
        while (message := await dealer.recv(timeout=10)).header == (b"CHUNK",):
            content += message.body
            await dealer.send("CREDIT", "1")  # for the chunk that it has dealt with
    return f"the {name} reader has {len(content)} bytes, with credit for {credit} at a time"


async def main() -> None:
    """Two readers at once, each at its own pace."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(source(router))
        print(*await asyncio.gather(read(router.endpoint, "fast", 10), read(router.endpoint, "slow", 1)), sep="\n")


if __name__ == "__main__":
    aiozpat.run(main())
