"""Echo over plain zmq.asyncio, one task a message: what aiozpat is compared with.

Written for speed as its documentation has it: one frame, since each more costs a pass of Python, and no high-water
marks, since a full ROUTER would drop silently and its peer wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import zmq
import zmq.asyncio

Ask = Callable[[bytes], Awaitable[Any]]


async def serve(say: Callable[[str], None]) -> None:
    """A ROUTER that starts a task for each message; each task sends its own reply.

    Args:
        say: Called with the endpoint.
    """
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.set_hwm(0)
        socket.bind("tcp://127.0.0.1:*")
        say(socket.get_string(zmq.LAST_ENDPOINT))
        tasks = set()

        async def handle(frames: list[bytes]) -> None:
            await socket.send_multipart(frames)

        while True:
            task = asyncio.create_task(handle(await socket.recv_multipart()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


@contextlib.asynccontextmanager
async def client(context: zmq.asyncio.Context, endpoint: str) -> AsyncIterator[Ask]:
    """A DEALER with a table of futures; gives a function that asks and awaits the answer."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.set_hwm(0)
    socket.connect(endpoint)
    futures: dict[bytes, asyncio.Future[bytes]] = {}
    numbers = iter(range(1 << 62))
    loop = asyncio.get_running_loop()

    async def receive() -> None:
        while True:
            reply = await socket.recv()
            futures.pop(reply[:8]).set_result(reply[8:])

    async def ask(payload: bytes) -> Any:
        number = next(numbers).to_bytes(8, "big")
        future = futures[number] = loop.create_future()
        await socket.send(number + payload)
        return await future

    receiver = asyncio.create_task(receive())
    try:
        yield ask
    finally:
        receiver.cancel()
        await asyncio.wait({receiver})
        socket.close()
