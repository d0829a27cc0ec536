"""The server of gRPC's interoperability tests: what its `TestService` does, as a service of aiozpat."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiozpat
from aiozpat import Limits, current_call
from aiozpat.errors import rpc_error

UNARY_BYTES = (271_828, 314_159)  # of a large request, and of its response


@dataclass
class Empty:
    """A message without anything in it."""


@dataclass
class Status:
    """How a call is to fail."""

    code: int
    message: str


@dataclass
class Ask:
    """One message of a stream from the client: what it carries, and what it wants back."""

    payload: bytes = b""
    sizes: tuple[int, ...] = ()
    status: Status | None = None


@dataclass
class Answer:
    """What a call carried beside its params, and the payload that was asked for."""

    metadata: dict[str, str]
    payload: bytes


def interop_service() -> aiozpat.Service:
    """gRPC's `TestService`, and a method that tells what became of its calls."""
    service = aiozpat.Service("interop")
    seen: Counter[str] = Counter()

    @service.method
    async def empty_call(message: Empty) -> Empty:
        return message

    @service.method
    async def unary_call(payload: bytes, size: int, status: Status | None = None) -> bytes:
        _fail(status)
        return bytes(size)

    @service.method
    async def unary_call_with_metadata(payload: bytes, size: int) -> Answer:
        return Answer(dict(current_call().metadata), bytes(size))

    @service.method
    async def streaming_input_call(payloads: AsyncIterator[bytes]) -> int:
        seen["begun"] += 1
        try:
            return sum([len(payload) async for payload in payloads])
        except asyncio.CancelledError:
            seen["cancelled"] += 1
            raise

    @service.method
    async def streaming_output_call(sizes: list[int]) -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)

    @service.method
    async def full_duplex_call(messages: AsyncIterator[Ask]) -> AsyncIterator[Answer]:
        seen["begun"] += 1
        try:
            async for message in messages:
                _fail(message.status)
                for size in message.sizes:
                    yield Answer(dict(current_call().metadata), bytes(size))
        except asyncio.CancelledError:
            seen["cancelled"] += 1
            raise

    @service.method
    async def what_was_seen() -> dict[str, int]:
        return dict(seen)

    return service


def _fail(status: Status | None) -> None:
    """End the call so, if the client wants that."""
    if status is not None:
        raise rpc_error(status.code, status.message)


async def main(backlog_bytes: str) -> None:
    """Serve until a signal comes; 0 leaves the limit at its default."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    limits = Limits(backlog_bytes=int(backlog_bytes)) if int(backlog_bytes) else Limits()
    async with aiozpat.Server(interop_service(), bind="tcp://127.0.0.1:*", limits=limits) as server:
        print(server.endpoint, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
