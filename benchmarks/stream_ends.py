"""Both ends of the suite of streams, as users of aiozpat and of grpc.aio write them; run by `benchmarks.streams`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiozpat
from benchmarks import child
from benchmarks.stream_loads import ENDLESS, LOADS, Talk

_CONNECT = 60.0  # seconds, on a machine that does other work too

# aiozpat, at its default settings


async def serve_aiozpat() -> None:
    """Methods of the three kinds that have streams."""
    service = aiozpat.Service("bench")

    @service.method
    async def repeat(item: bytes, times: int) -> AsyncIterator[bytes]:
        for _ in range(times):
            yield item

    @service.method
    async def take(items: AsyncIterator[bytes]) -> int:
        count = 0
        async for _ in items:
            count += 1
        return count

    @service.method
    async def talk(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item

    async with aiozpat.Server(service, bind=child.ANY_PORT) as server:
        child.say(server.endpoint)
        await server.serve_forever()


class AiozpatClient:
    """What `benchmarks.stream_loads` asks for, by aiozpat.

    Args:
        client: Connected.
    """

    def __init__(self, client: aiozpat.Client) -> None:
        self._client = client

    @contextlib.asynccontextmanager
    async def receive(self, item: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """That item from the server, again and again."""
        async with self._client.stream("bench.repeat", item, ENDLESS, item_type=bytes) as items:
            yield items

    async def send(self, items: AsyncIterator[bytes]) -> int:
        """Send the items; gives how many the server has taken."""
        return await self._client.call("bench.take", items, result_type=int)

    @contextlib.asynccontextmanager
    async def talk(self) -> AsyncIterator[Talk]:
        """A conversation: how to send, how to receive."""
        async with self._client.open("bench.talk", item_type=bytes) as conversation:
            yield conversation.send, conversation.__anext__


async def load_aiozpat(arguments: argparse.Namespace) -> dict[str, Any]:
    """The load on aiozpat."""
    async with aiozpat.Client(arguments.endpoint) as client:
        await client.ready(_CONNECT)
        return await LOADS[arguments.load](AiozpatClient(client), b"x" * arguments.size, arguments.seconds)


# grpc.aio


class GrpcClient:
    """What `benchmarks.stream_loads` asks for, by grpc.aio.

    Args:
        channel: Connected, to a server of `benchmarks.grpc_aio`.
    """

    def __init__(self, channel: Any) -> None:
        self._repeat = channel.unary_stream("/bench/repeat")
        self._take = channel.stream_unary("/bench/take")
        self._talk = channel.stream_stream("/bench/talk")

    @contextlib.asynccontextmanager
    async def receive(self, item: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """That item from the server, again and again."""
        call = self._repeat(item)
        yield call
        call.cancel()

    async def send(self, items: AsyncIterator[bytes]) -> int:
        """Send the items; gives how many the server has taken."""
        return int(await self._take(items))

    @contextlib.asynccontextmanager
    async def talk(self) -> AsyncIterator[Talk]:
        """A conversation: how to send, how to receive."""
        call = self._talk()
        yield call.write, call.read
        await call.done_writing()


async def load_grpc(arguments: argparse.Namespace) -> dict[str, Any]:
    """The load on grpc.aio."""
    from benchmarks import grpc_aio

    async with grpc_aio.channel(arguments.endpoint) as channel:
        return await LOADS[arguments.load](GrpcClient(channel), b"x" * arguments.size, arguments.seconds)


# The command line


def main() -> None:
    """One contender, one role."""
    parser = child.end_parser(__doc__, ["aiozpat", "grpc.aio"])
    parser.add_argument("--load", default="from server", choices=LOADS, help="what the client does")
    arguments, _ = child.begin(parser)
    child.finish(_role(arguments))


def _role(arguments: argparse.Namespace) -> Coroutine[Any, Any, Any]:
    serving = arguments.role == "server"
    if arguments.contender == "aiozpat":
        return serve_aiozpat() if serving else load_aiozpat(arguments)
    from benchmarks import grpc_aio  # it need not be installed

    return grpc_aio.serve(child.say) if serving else load_grpc(arguments)


if __name__ == "__main__":
    main()
