"""Acts that make unary calls: alone, in bursts, with deadlines too short, cancelled, without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiozpat import errors
from tests.stress.caller import Caller
from tests.stress.data import checksum, is_payload, payload, size_of
from tests.stress.service import Rich
from tests.stress.watch import QUICK

MOST = 2 * 1024 * 1024  # bytes of a payload
_IN_FLIGHT = 24 * 1024 * 1024  # bytes of a burst
_QUICK = ("echo", "echo", "echo", "echo", "mirror", "make", "thread", "many")


async def _echo(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number, data = caller.number(), _data(caller, most)
    seconds = () if method == "echo" else (_pause(caller),)
    got = await caller.client.call(f"stress.{method}", number, *seconds, data, **options)
    return list(got) == [number, checksum(data), len(data)]


async def _mirror(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    data, kind = _data(caller, most), _any_of(caller, bytes, bytearray, memoryview)
    got: Any = await caller.client.call("stress.mirror", data, result_type=kind, **options)
    return type(got) is kind and bytes(got) == bytes(data)


async def _make(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number, size = caller.number(), size_of(caller.random, most)
    params = {"number": number, "size": size, "seconds": caller.random.choice([0, 0, 0.002, 0.02])}
    kind = _any_of(caller, bytes, memoryview)
    got: Any = await caller.client.call("stress.make", params=params, result_type=kind, **options)
    return type(got) is kind and is_payload(got, number, 0, size)


async def _limited(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number = caller.number()
    return bool(await caller.client.call(f"stress.{method}", number, _pause(caller), **options) == number)


async def _many(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number = caller.number()
    data = [payload(number, index, caller.random.choice([0, 10, 10_000, 65_536, 100_000])) for index in range(4)]
    got = await caller.client.call("stress.many", number, *data, **options)
    return list(got) == [number, *map(checksum, data)]


async def _rich(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number, data = caller.number(), _data(caller, most)
    when = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(microseconds=number)
    value = Rich(number, when, uuid4(), payload(number, 0, caller.random.choice([0, 10, 5000])))
    got = await caller.client.call("stress.rich", value, data, result_type=Rich, **options)
    return bool(got == Rich(checksum(data), value.when, value.who, value.data))


async def _fail(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number = caller.number()
    try:
        await caller.client.call("stress.fail", number, **options)
    except errors.Internal as error:
        return f"number {number}" in str(error)
    return False


async def _missing(caller: Caller, method: str, most: int, options: dict[str, Any]) -> bool:
    number = caller.number()
    try:
        await caller.client.call("stress.missing", number, **options)
    except errors.NotFound as error:
        return error.details == {"number": number}
    return False


_KINDS: dict[str, tuple[Callable[[Caller, str, int, dict[str, Any]], Awaitable[bool]], int]] = {
    "echo": (_echo, 5),
    "mirror": (_mirror, 2),
    "slow": (_echo, 2),
    "thread": (_echo, 1),
    "make": (_make, 2),
    "limited": (_limited, 1),
    "limited_thread": (_limited, 1),
    "many": (_many, 1),
    "rich": (_rich, 1),
    "fail": (_fail, 1),
    "missing": (_missing, 1),
}
_METHODS, _WEIGHTS = list(_KINDS), [weight for _, weight in _KINDS.values()]


def _data(caller: Caller, most: int) -> bytes | bytearray | memoryview:
    data = payload(caller.number(), 0, size_of(caller.random, most))
    kinds: list[Callable[[bytes], bytes | bytearray | memoryview]] = [bytes, memoryview, bytearray]
    return caller.random.choices(kinds, [3, 2, 1])[0](data)


def _any_of(caller: Caller, *kinds: Any) -> Any:
    return caller.random.choice(kinds)


def _pause(caller: Caller) -> float:
    return caller.random.choice([0.0, 0.0, 0.001, caller.random.uniform(0, 0.06)])


async def one(
    caller: Caller, timeout: float, *, method: str | None = None, most: int = MOST, idempotent: bool = False
) -> None:
    """One call, whose answer is checked.

    Args:
        caller: Who makes it.
        timeout: Its deadline, in seconds.
        method: Which; None for any.
        most: Bytes of its payload at most.
        idempotent: Whether it may be tried again.
    """
    method = method or caller.random.choices(_METHODS, _WEIGHTS)[0]
    act, _ = _KINDS[method]
    caller.watch.tally["calls"] += 1
    options: dict[str, Any] = {"timeout": timeout, "idempotent": True} if idempotent else {"timeout": timeout}
    with caller.judged(method, timeout, timeout):
        caller.check(method, await act(caller, method, most, options))


async def lone_calls(caller: Caller) -> None:
    """One after the other, with pauses or without."""
    for _ in range(caller.random.randrange(1, 15)):
        await one(caller, caller.random.choice([5, 10, 30]), idempotent=True)
        way = caller.random.random()
        if way < 0.5:
            await asyncio.sleep(caller.random.uniform(0, 0.05) if way < 0.3 else 0)


async def burst(caller: Caller) -> None:
    """Up to 2,000 at once, some of which are cancelled or come to their deadlines."""
    random_of = caller.random
    count = int(2 ** random_of.uniform(1, 11))
    most = min(MOST, random_of.choice([0, 200, 4000, 65_536, max(16, _IN_FLIGHT // count)]))
    method = random_of.choice([None, None, "echo", "echo", "mirror", "make", "slow", "thread"])
    timeouts = random_of.choice([[20.0], [20.0], [20.0, 0.001, 0.005, 0.02, 0.1], [0.01], [30.0, 0.05]])
    tasks = [
        asyncio.create_task(one(caller.twin(), random_of.choice(timeouts), method=method, most=most))
        for _ in range(count)
    ]
    if random_of.random() < 0.4:
        if random_of.random() < 0.7:
            await asyncio.sleep(random_of.choice([0, 0, random_of.uniform(0, 0.03)]))
        for task in random_of.sample(tasks, random_of.randrange(count)):
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def short_deadlines(caller: Caller) -> None:
    """Calls that end while they are on their way."""
    for _ in range(caller.random.randrange(1, 20)):
        await one(caller, caller.random.choice([0.0005, 0.001, 0.002, 0.005, 0.02]))


async def notes(caller: Caller) -> None:
    """Notifications, which the server counts."""
    count = int(2 ** caller.random.uniform(0, 8))
    for _ in range(count):
        number = caller.number()
        size = caller.random.choice([0, 10, 1000, 70_000 if count < 20 else 100])
        with caller.judged("note", 10, 10):
            await caller.client.notify("stress.note", caller.name, number, payload(number, 0, size), timeout=10)
            caller.watch.tally[f"notes {caller.name}"] += 1
            caller.watch.tally[f"sum of notes {caller.name}"] += number


async def quick(caller: Caller) -> None:
    """While nothing else goes on: calls, each of which must be quick, since nothing but a lost word can hold it up."""
    random_of = caller.random
    most = random_of.choice([64, 64, 70_000, 300_000])
    if random_of.random() < 0.6:
        with caller.watch.quick("a lone call", QUICK):
            await one(caller, 8, method=random_of.choice(_QUICK), most=most, idempotent=True)
    else:
        count = random_of.choice([2, 2, 3, 5, 8, 17])
        calls = (
            one(caller.twin(), 8, method=random_of.choice(_QUICK), most=min(most, 70_000), idempotent=True)
            for _ in range(count)
        )
        with caller.watch.quick(f"{count} calls", QUICK):
            await asyncio.gather(*calls)
