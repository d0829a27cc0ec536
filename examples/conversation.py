"""A conversation: the keys typed into a search box go up one by one, suggestions come down meanwhile.

Prints:

    c... cherry, coconut, cranberry
    co... coconut
    coc... coconut
    found: coconut
"""

import asyncio
from collections.abc import AsyncIterator

import aiozpat

FRUIT = ["apple", "cherry", "coconut", "cranberry", "plum"]

search = aiozpat.Service("search")


@search.method
async def box(keys: AsyncIterator[str]) -> AsyncIterator[str]:
    """Suggest something after each key; what has been typed so far is a local variable, as long as the box is open."""
    typed, found = "", []
    async for key in keys:  # ends when the client says end(); is cancelled when the client leaves or is lost
        typed += key
        found = [name for name in FRUIT if name.startswith(typed)]
        yield f"{typed}... {', '.join(found)}"
    yield f"found: {', '.join(found)}"


async def type_in(conversation: aiozpat.Conversation[str, None], word: str) -> None:
    """Press keys, and Enter; a handler that does not keep up makes `send` wait."""
    for key in word:
        await asyncio.sleep(0.01)  # simulated work: a quick typist
        await conversation.send(key)
    await conversation.end()


async def main() -> None:
    """One task types while another one reads: neither waits for the other."""
    async with (
        aiozpat.Server(search, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
        client.open("search.box", item_type=str) as conversation,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(type_in(conversation, "coc"))
        async for line in conversation:
            print(line)


if __name__ == "__main__":
    aiozpat.run(main())
