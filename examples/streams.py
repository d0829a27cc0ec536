"""Streams: a model's tokens as it makes them, until the reader has enough; and a text sent up line by line, one result.

Prints:

    To be or not
    the model has stopped
    9 words in 3 lines
"""

import asyncio
import itertools
from collections.abc import AsyncIterator

import aiozpat

text = aiozpat.Service("text")
stopped = asyncio.Event()

TOKENS = ["To", "be", "or", "not", "to", "be,"]
LINES = ["that is", "the question", "whether 'tis nobler in the"]


@text.method
async def complete(prompt: str) -> AsyncIterator[str]:
    """Write on for ever: only the reader knows when it is enough."""
    try:
        for token in itertools.cycle(TOKENS):
            await asyncio.sleep(0.001)  # simulated work; a slow reader would hold it back as well
            yield token
    finally:
        stopped.set()  # the reader has left, or was lost: here the graphics card is given back


@text.method
async def count(lines: AsyncIterator[str]) -> str:
    """Count words; the lines come one by one, so a text of any length takes no more memory than a short one."""
    words = number = 0
    async for line in lines:
        words, number = words + len(line.split()), number + 1
    return f"{words} words in {number} lines"


async def lines_of_a_file() -> AsyncIterator[str]:
    """What is sent up: any async iterator; it is asked for the next line when the server has room for it."""
    for line in LINES:
        yield line


async def main() -> None:
    """Read some tokens, then send some lines."""
    async with (
        aiozpat.Server(text, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        tokens: list[str] = []
        async with client.stream("text.complete", "Hamlet:", item_type=str) as stream:
            async for token in stream:
                tokens.append(token)
                if len(tokens) == 4:
                    break  # leaving the block ends the call on the server too, whatever it is doing
        print(*tokens)
        await stopped.wait()
        print("the model has stopped")

        # The generator stands where the method has its AsyncIterator; `stream` takes one too, for replies meanwhile.
        print(await client.call("text.count", lines_of_a_file(), result_type=str))


if __name__ == "__main__":
    aiozpat.run(main())
