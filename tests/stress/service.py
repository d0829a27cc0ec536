"""The service under stress: a method for each way in which a call can go."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aiozpat import Service, errors
from tests.stress.data import checksum, is_payload, payload


@dataclass
class Rich:
    """What MessagePack has no type for."""

    number: int
    when: datetime
    who: UUID
    data: bytes


def make_service() -> Service:
    """Every method answers with what shows that it got what was sent."""
    service = Service("stress")
    _add_calls(service)
    _add_limited(service)
    _add_notes(service)
    _add_streams(service)
    return service


def _add_calls(service: Service) -> None:
    @service.method(idempotent=True)
    async def echo(number: int, data: bytes) -> list[int]:
        return [number, checksum(data), len(data)]

    @service.method(idempotent=True)
    async def mirror(data: memoryview) -> memoryview:
        return data

    @service.method
    async def slow(number: int, seconds: float, data: memoryview) -> list[int]:
        await asyncio.sleep(seconds)  # simulated work
        return [number, checksum(data), len(data)]

    @service.method
    def thread(number: int, seconds: float, data: bytes) -> list[int]:
        time.sleep(seconds)  # simulated work
        return [number, checksum(data), len(data)]

    @service.method
    async def make(number: int, size: int, seconds: float) -> bytes:
        if seconds:
            await asyncio.sleep(seconds)  # simulated work
        return payload(number, 0, size)

    @service.method
    async def many(number: int, a: bytes, b: memoryview, c: bytes, d: memoryview) -> list[int]:
        return [number, *(checksum(data) for data in (a, b, c, d))]

    @service.method
    async def rich(value: Rich, data: memoryview) -> Rich:
        return Rich(checksum(data), value.when, value.who, value.data)

    @service.method
    async def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    @service.method
    async def missing(number: int) -> None:
        raise errors.NotFound("there is none", details={"number": number})


def _add_limited(service: Service) -> None:
    @service.method(max_concurrency=4, max_queued=8)
    async def limited(number: int, seconds: float) -> int:
        await asyncio.sleep(seconds)  # simulated work
        return number

    @service.method(max_concurrency=3, max_queued=50)
    def limited_thread(number: int, seconds: float) -> int:
        time.sleep(seconds)  # simulated work
        return number


def _add_notes(service: Service) -> None:
    notes: Counter[str] = Counter()
    sums: Counter[str] = Counter()

    @service.method
    async def note(who: str, number: int, data: bytes) -> None:
        notes[who] += 1
        sums[who] += number

    @service.method(idempotent=True)
    async def noted(who: str) -> list[int]:
        return [notes[who], sums[who]]


def _add_streams(service: Service) -> None:
    @service.method
    async def count(number: int, items: int, sizes: list[int], pause: int) -> AsyncIterator[bytes]:
        for index in range(items):
            yield payload(number, index, sizes[index % len(sizes)])
            if pause and index % pause == 0:
                await asyncio.sleep(0.001)  # simulated work

    @service.method
    async def collect(number: int, stop: int, sizes: list[int], pause: int, items: AsyncIterator[bytes]) -> int:
        """How many items came, each as it should be; -1 if one was not."""
        count = 0
        async for item in items:
            if not is_payload(item, number, count, sizes[count % len(sizes)]):
                return -1
            count += 1
            if count == stop:
                break
            if pause and count % pause == 0:
                await asyncio.sleep(0.001)  # simulated work
        return count

    @service.method
    async def talk(copies: int, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            for _ in range(copies):
                yield item
