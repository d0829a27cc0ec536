"""nats.py's request-reply, both ends, through nats-server; needs nats-py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats

from benchmarks.load import Ask

_SUBJECT = "bench.echo"


async def serve(endpoint: str, say: Callable[[str], None]) -> None:
    """Echo from the callback of a subscription, as its documentation shows it.

    Args:
        endpoint: Of nats-server.
        say: Called with it when requests are taken.
    """
    async with await nats.connect(endpoint) as connection:

        async def echo(message: Any) -> None:
            await message.respond(message.data)

        await connection.subscribe(_SUBJECT, cb=echo)
        await connection.flush()
        say(endpoint)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def client(endpoint: str, timeout: float) -> AsyncIterator[Ask]:
    """A connection to nats-server; gives a function that asks and awaits the answer.

    Args:
        endpoint: Of nats-server.
        timeout: Seconds for an answer; its default of half a second is for one request, not for hundreds.
    """
    async with await nats.connect(endpoint) as connection:

        async def ask(payload: bytes) -> Any:
            return (await connection.request(_SUBJECT, payload, timeout)).data

        yield ask
