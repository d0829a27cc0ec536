"""A blocking client for scripts and thread pools: many threads share it, and Ctrl-C cancels the call on the server.

Prints:

    add(1, 2) = 3
    squares: [0, 1, 4, 9, 16, 25, 36, 49]
    count: 0 1 2
    total of 1,000 numbers: 499500
    echo: Hello
    DeadlineExceeded
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import aiozpat
from aiozpat.sync import Client

calc = aiozpat.Service("calc")


@calc.method
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@calc.method
async def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


@calc.method
async def count(n: int) -> AsyncIterator[int]:
    """Count, without end if need be."""
    for number in range(n):
        yield number


@calc.method
async def total(numbers: AsyncIterator[int]) -> int:
    """Add up a stream."""
    return sum([number async for number in numbers])


@calc.method
async def echo(words: AsyncIterator[str]) -> AsyncIterator[str]:
    """Give back what comes."""
    async for word in words:
        yield word


@calc.method
async def work(seconds: float) -> None:
    """Take long."""
    await asyncio.sleep(seconds)


def use(endpoint: str) -> None:
    """Call from this thread and from others; no event loop in sight."""
    # The client inside the pool's block: on Ctrl-C it closes first, which ends the calls that the pool's end waits for.
    with ThreadPoolExecutor(8) as pool, Client(endpoint, timeout=5.0) as client:
        print("add(1, 2) =", client.call("calc.add", 1, 2, result_type=int))
        print("squares:", list(pool.map(lambda n: client.call("calc.multiply", n, n), range(8))))

        with client.stream("calc.count", 10**9, item_type=int) as numbers:  # leaving the block ends it on the server
            print("count:", next(numbers), next(numbers), next(numbers))

        generated: Iterator[int] = (number for number in range(1000))  # pulled in a thread, as fast as the server reads
        print("total of 1,000 numbers:", client.call("calc.total", generated))

        with client.open("calc.echo", item_type=str) as talk:
            talk.send("Hello")
            print("echo:", next(talk))

        try:
            client.call("calc.work", 60, timeout=0.1)
        except aiozpat.DeadlineExceeded as error:
            print(type(error).__name__)


async def main() -> None:
    """Serve; a program of its own would only `use` a server elsewhere, without any of this."""
    async with aiozpat.Server(calc, bind="tcp://127.0.0.1:*") as server:
        await asyncio.to_thread(use, server.endpoint)


if __name__ == "__main__":
    aiozpat.run(main())
