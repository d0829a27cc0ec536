"""The service of the recorded sessions; clients of all versions have to find it as it is, so methods are only added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiozpat
from aiozpat import Call, Limits, Proceed, Server, ServerInterceptor, errors
from tests.support import LOOPBACK

LIMITS = Limits(stream_window=4)
SERVES = """\
add(a: int, b: int = 0) -> int: a + b.
same(value: any) -> any: the value.
blob(data: bytes, more: bytes = empty) -> bytes: data, then more.
sizes(data: list of bytes) -> list of int: the length of each.
who() -> map: the metadata of the call.
fail(kind: str) -> nil: missing is error 5 with details {"looked": ["here", "there"], "times": 2}; bug is something \
unexpected of the type ValueError.
hold() -> nil: runs until it is cancelled.
ended() -> bool: true, as soon as a hold or a count has ended, in whatever way.
one() -> str: "done", as soon as release is called; one call of it runs at once, none waits.
release() -> nil: ends the waiting of one.
note(text: str) -> nil: keeps the text.
noted() -> list of str: what note has kept, as soon as there is something.
count(n: int, start: int = 0) -> stream of int: start, start + 1, ... n - 1.
blobs(n: int, size: int) -> stream of bytes: n items of that size; the first is all 0, the second all 1, ...
fail_after(n: int) -> stream of int: 0 ... n - 1, then error 11 with details {"n": n}.
total(numbers: stream of int, start: int = 0) -> int: start and the sum of the numbers.
shout(words: stream of str) -> stream of str: each in capital letters, at once.
Any of them, with the metadata {"when": "full"}: refused 8 with details {"retry_after": 3}."""


def demo_service() -> aiozpat.Service:
    """What `SERVES` says, with a memory of its own."""
    service = aiozpat.Service("demo", version="1.0.0")
    ended, released, kept = asyncio.Event(), asyncio.Event(), asyncio.Event()
    notes: list[str] = []

    @service.method
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @service.method
    async def same(value: Any) -> Any:
        return value

    @service.method
    async def blob(data: bytes, more: bytes = b"") -> bytes:
        return data + more

    @service.method
    async def sizes(data: list[bytes]) -> list[int]:
        return [len(one) for one in data]

    @service.method
    async def who() -> dict[str, str]:
        return dict(aiozpat.current_call().metadata)

    @service.method
    async def fail(kind: str) -> None:
        if kind == "missing":
            raise errors.NotFound("it is not here", details={"looked": ["here", "there"], "times": 2})
        raise ValueError("a bug")

    @service.method
    async def hold() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @service.method(name="ended")
    async def has_ended() -> bool:
        return await ended.wait()

    @service.method(max_concurrency=1, max_queued=0)
    async def one() -> str:
        await released.wait()
        return "done"

    @service.method
    async def release() -> None:
        released.set()

    @service.method
    async def note(text: str) -> None:
        notes.append(text)
        kept.set()

    @service.method
    async def noted() -> list[str]:
        await kept.wait()
        return notes

    _add_streams(service, ended)
    return service


def _add_streams(service: aiozpat.Service, ended: asyncio.Event) -> None:
    @service.method
    async def count(n: int, start: int = 0) -> AsyncIterator[int]:
        try:
            for number in range(start, n):
                yield number
        finally:
            ended.set()

    @service.method
    async def blobs(n: int, size: int) -> AsyncIterator[bytes]:
        for number in range(n):
            yield bytes([number]) * size

    @service.method
    async def fail_after(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
        raise errors.OutOfRange("no more", details={"n": n})

    @service.method
    async def total(numbers: AsyncIterator[int], start: int = 0) -> int:
        async for number in numbers:
            start += number
        return start

    @service.method
    async def shout(words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()


async def turn_away(call: Call, proceed: Proceed) -> Any:
    """An interceptor for what the last line of `SERVES` says; only for sessions that need it, since it takes time."""
    if call.metadata.get("when") == "full":
        raise errors.ResourceExhausted("come back later", details={"retry_after": 3})
    return await proceed()


def demo_server(heartbeat: float, interceptors: tuple[ServerInterceptor, ...]) -> Server:
    """A server of it."""
    return Server(
        demo_service(), bind=LOOPBACK, name="server", limits=LIMITS, heartbeat=heartbeat, interceptors=interceptors
    )
