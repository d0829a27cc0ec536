"""A link that takes longer for what waits to cross it than heartbeats may be missed: nobody is taken for dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiozpat import Client, Limits, Server, Service
from tests.support import LOOPBACK, PATIENCE

_RATE = 4_000_000  # bytes a second, each way: a message each 65 ms, so that nobody finds the other silent, and pings it
_HEARTBEAT = 0.2
_CALLS, _BYTES = 160, 50_000  # two seconds' worth
_WINDOW = 64 * 1024 * 1024  # so much that no acknowledgement is due


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(16_384):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / _RATE)
    writer.close()


@contextlib.asynccontextmanager
async def narrow_link(endpoint: str) -> AsyncIterator[str]:
    """An endpoint, from which a narrow link leads to another."""
    port = int(endpoint.rpartition(":")[2])
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=16_384)
        for one in (_pass_on(reader, far_writer), _pass_on(far_reader, writer)):
            passing.add(asyncio.create_task(one))

    relay = await asyncio.start_server(accept, "127.0.0.1", 0, limit=16_384)
    try:
        yield f"tcp://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    finally:
        relay.close()
        await asyncio.wait(passing, timeout=PATIENCE)


def _service() -> Service:
    service = Service("s")

    @service.method
    async def measure(data: bytes) -> int:
        return len(data)

    @service.method
    async def make(nbytes: int) -> bytes:
        return bytes(nbytes)

    return service


async def test_many_large_params_on_their_way_are_no_silence_of_the_server() -> None:
    held = asyncio.Event()
    service = _service()
    taken = 0

    @service.method
    async def hold(data: bytes) -> int:
        nonlocal taken
        taken += 1
        if taken == _CALLS:
            held.set()
        await held.wait()  # so that no answer is a sign of life
        return len(data)

    async with (
        Server(service, bind=LOOPBACK, heartbeat=_HEARTBEAT, limits=Limits(window_bytes=_WINDOW)) as server,
        narrow_link(server.endpoint) as endpoint,
        Client(endpoint, heartbeat=_HEARTBEAT, timeout=PATIENCE, window_bytes=_WINDOW) as client,
    ):
        await client.ready(PATIENCE)
        calls = (client.call("s.hold", bytes(_BYTES)) for _ in range(_CALLS))
        assert await asyncio.gather(*calls) == [_BYTES] * _CALLS
        assert client.statistics().sessions == 1


async def test_many_large_results_on_their_way_are_no_silence_of_the_client() -> None:
    async with (
        Server(_service(), bind=LOOPBACK, heartbeat=_HEARTBEAT, limits=Limits(window_bytes=_WINDOW)) as server,
        narrow_link(server.endpoint) as endpoint,
        Client(endpoint, heartbeat=_HEARTBEAT, timeout=PATIENCE, window_bytes=_WINDOW) as client,
    ):
        await client.ready(PATIENCE)
        results = await asyncio.gather(*(client.call("s.make", _BYTES) for _ in range(_CALLS)))
        assert results == [bytes(_BYTES)] * _CALLS
        assert client.statistics().sessions == 1
        assert not server.statistics().notices
