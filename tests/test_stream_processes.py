"""Streams between processes: what is killed, told to end, or does not read; real TCP, default settings."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import statistics
from collections.abc import AsyncIterator, Callable

import pytest

import aiozpat
from aiozpat import Client, ClientState, Server, errors
from tests.support import LOOPBACK, Process, memory_of, until

WINDOW = 256  # items that the producer may be ahead, by default
MIB = 1024 * 1024

Start = Callable[..., Process]


async def test_a_killed_server_ends_the_stream_at_once_and_the_next_one_works(processes: Start, port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    server = processes("stream_server", endpoint)
    assert await server.line() == endpoint
    async with Client(endpoint) as client:
        got = []
        with pytest.raises(errors.Unavailable, match=r"broke.*it may have run"):  # not for the silence after it
            async with client.stream("app.endless", item_type=bytes) as items:
                async for item in items:
                    got.append(int.from_bytes(item))
                    if len(got) == 1000:
                        server.send_signal(signal.SIGKILL)
        assert got == list(range(len(got)))
        assert client.statistics().in_flight == 0

        again = processes("stream_server", endpoint)
        assert await again.line() == endpoint
        async with client.stream("app.count", 1000, item_type=int) as numbers:
            assert [number async for number in numbers] == list(range(1000))


async def test_a_killed_server_ends_a_conversation_for_its_sender_and_its_reader(processes: Start) -> None:
    server = processes("stream_server", LOOPBACK)
    async with Client(await server.line()) as client, client.open("app.echo", item_type=int) as talk:
        await talk.send(1)
        assert await anext(talk) == 1
        server.send_signal(signal.SIGKILL)
        with pytest.raises(errors.Unavailable, match="broke"):
            await anext(talk)
        with pytest.raises(errors.Unavailable, match="broke"):
            await talk.send(2)


@pytest.mark.parametrize("most", [0, 1000], ids=["reading", "not reading"])
async def test_a_killed_clients_stream_is_cancelled(processes: Start, most: int) -> None:
    service = aiozpat.Service("app")
    ended: list[BaseException] = []

    @service.method
    async def endless() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
        except BaseException as error:
            ended.append(error)
            raise

    async with Server(service, bind=LOOPBACK) as server:
        client = processes("stream_client", server.endpoint, f"{most}")
        assert await client.line() == "busy"
        assert server.statistics().running == 1
        client.send_signal(signal.SIGKILL)
        await until(lambda: server.statistics().running == 0)
        assert len(ended) == 1
        assert server.statistics().sessions == 0
        assert "client lost" not in server.statistics().notices  # it was not the silence after it


async def test_sigterm_lets_streams_end_within_the_grace(processes: Start) -> None:
    server = processes("stream_server", LOOPBACK, flags=("-X", "dev", "-W", "error"))
    async with (
        Client(await server.line()) as client,
        client.stream("app.count", 300, window=64, item_type=int) as numbers,
        client.open("app.echo", item_type=int) as talk,
    ):
        assert await anext(numbers) == 0
        await talk.send(0)
        assert await anext(talk) == 0
        server.send_signal(signal.SIGTERM)
        await until(lambda: client.state is not ClientState.READY)
        with pytest.raises(errors.Unavailable):
            await client.call("app.how_many_made", wait_for_ready=False)
        assert [number async for number in numbers] == list(range(1, 300))
        for number in range(1, 30):
            await talk.send(number)
            assert await anext(talk) == number
        await talk.end()
        assert [number async for number in talk] == []
        code, output, problems = await server.wait()
    assert (code, output, problems) == (0, "left: 0 tasks\n", "")


async def test_a_stream_that_outlives_the_grace_is_ended(processes: Start) -> None:
    server = processes("stream_server", LOOPBACK)
    async with Client(await server.line()) as client, client.stream("app.endless") as items:
        await anext(items)
        server.send_signal(signal.SIGTERM)
        await until(lambda: client.state is not ClientState.READY)
        server.send_signal(signal.SIGTERM)  # in a hurry
        with pytest.raises((errors.Unavailable, errors.Cancelled)):
            async for _ in items:
                pass
        code, _, _ = await server.wait()
    assert code == 0


async def test_a_consumer_that_stops_reading_stops_the_producer_and_fills_no_memory(processes: Start) -> None:
    server = processes("stream_server", LOOPBACK)

    def memory() -> list[int]:
        return [memory_of(server.pid), memory_of(os.getpid())]

    async with Client(await server.line()) as client:

        async def work() -> None:
            for _ in range(20):
                await asyncio.gather(*(client.call("app.how_many_made") for _ in range(100)))

        async with client.stream("app.endless", item_type=bytes) as items:
            for number in range(1000):
                assert int.from_bytes(await anext(items)) == number
            await work()
            before = memory()
            await work()
            assert await client.call("app.how_many_made", result_type=int) <= 1000 + WINDOW
            growth = [after - start for start, after in zip(before, memory(), strict=True)]
            assert max(growth) < 4 * MIB
            for number in range(1000, 3000):
                assert int.from_bytes(await anext(items)) == number


async def test_a_thousand_streams_at_once_each_in_order_none_starved(processes: Start) -> None:
    server = processes("stream_server", LOOPBACK)
    progress = [0] * 1000
    far = asyncio.Event()
    async with Client(await server.line()) as client:

        async def read(number: int) -> None:
            async with client.stream("app.endless", 512, window=32, item_type=bytes) as items:
                async for item in items:
                    assert int.from_bytes(item) == progress[number]
                    progress[number] += 1
                    if progress[number] == 300:
                        far.set()
                    if far.is_set():
                        return

        await asyncio.gather(*map(read, range(1000)))
        assert min(progress) >= statistics.median(progress) / 2
        assert client.statistics().in_flight == 0
