"""What errors say: why there is no connection, what is wrong with a value, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import aiozpat.sync
from aiozpat import Client, Dealer, Limits, Proxy, Publisher, Puller, Retry, Router, Server, Service, errors
from aiozpat.interceptors import Logging
from tests.raw import RESET, RawServer
from tests.support import LOOPBACK, PATIENCE, Calc, until


@contextlib.asynccontextmanager
async def answering(what: bytes) -> AsyncIterator[str]:
    """A TCP server that says something else than ZeroMQ, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def other_endpoint(kind: type[Router | Publisher]) -> AsyncIterator[str]:
    """An endpoint of level 1."""
    async with kind(bind=LOOPBACK) as endpoint:
        yield endpoint.endpoint


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (lambda: answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "handshake"),
        (lambda: answering(b""), "closed during the handshake"),
        (lambda: other_endpoint(Router), "has not answered yet: is it an aiozpat Server"),
        (lambda: other_endpoint(Publisher), "not completed ZeroMQ's handshake"),
    ],
    ids=["HTTP", "closes at once", "Router", "Publisher"],
)
async def test_a_wrong_target_can_be_told_from_the_error(
    target: Callable[[], contextlib.AbstractAsyncContextManager[str]], text: str
) -> None:
    said = ""
    async with target() as endpoint, Client(endpoint) as client, asyncio.timeout(PATIENCE):
        while not re.search(text, said):
            with pytest.raises(errors.DeadlineExceeded) as raised:
                await client.ready(0.01)
            said = str(raised.value)


async def test_what_is_known_of_a_server_is_not_forgotten_with_the_session() -> None:
    async with answering(b"") as endpoint, Client(endpoint) as client:
        channel = client._pool._channels[0]
        await until(lambda: "not connected" not in channel.reason.message)
        before = channel.current
        await until(lambda: channel.current is not before)
        assert "not connected" not in channel.reason.message


async def test_a_client_that_was_given_up_is_told_why() -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        await client.ready(PATIENCE)
        calling = asyncio.create_task(client.call("s.f"))
        await until(lambda: bool(server.waiting()))
        await server.send([RESET, int(errors.StatusCode.UNAVAILABLE), "no such session here", [1]])
        with pytest.raises(errors.Unavailable, match="hears nothing for 3 heartbeats, because its event loop"):
            await calling


def _partial() -> Any:
    return contextlib.nullcontext


class Function:
    """An object that can be called."""

    async def __call__(self, x: int) -> int:
        return x


async def _plain_stream(items: AsyncIterator[int]) -> int:
    return 1


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: Client("tcp://a:1", name=b"x"), TypeError, "a name is text"),  # type: ignore[arg-type]
        (lambda: Server(Service("s"), bind=LOOPBACK, name=b"x"), TypeError, "a name is text"),  # type: ignore[arg-type]
        (lambda: Client("tcp://a:1", interceptors=_partial), TypeError, "interceptors are a list"),  # type: ignore[arg-type]
        (lambda: Client("tcp://a:1", max_in_flight=True), TypeError, "whole number"),
        (lambda: Limits(max_queued=False), TypeError, "whole number"),
        (lambda: Logging(level="INFO"), TypeError, "a level is a number"),  # type: ignore[arg-type]
        (lambda: Logging("calls"), TypeError, "a logger is"),  # type: ignore[arg-type]
        (lambda: Dealer(options={}), TypeError, "options are"),  # type: ignore[arg-type]
        (lambda: Puller(options={}, prefetch=1), TypeError, "options are"),  # type: ignore[arg-type]
        (lambda: Dealer(context=5), TypeError, "a context is"),  # type: ignore[arg-type]
        (
            lambda: Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK, options=[]),  # type: ignore[arg-type]
            TypeError,
            "options are",
        ),
        (lambda: Client("tcp://a:5, tcp://b:6"), errors.InvalidEndpoint, "given as a list"),
        (lambda: Client("tcp://a:5,b:6"), errors.InvalidEndpoint, "given as a list"),
        (lambda: Service("s").method(name="f")(Function()), errors.UsageError, "a function or a method"),
        (lambda: Service("s").method(max_queued=float("inf"))(_noted), errors.UsageError, "max_queued is a whole"),  # type: ignore[call-overload]
        (lambda: Service("s").method(max_concurrency=1.5)(_noted), errors.UsageError, "max_concurrency is a whole"),  # type: ignore[call-overload]
        (lambda: Service("s").method(max_concurrency="8")(_noted), errors.UsageError, "max_concurrency is a whole"),  # type: ignore[call-overload]
        (lambda: Service("s").method(_reads), errors.UsageError, "can't read an AsyncIterator"),
        (lambda: Retry(burst="1"), TypeError, "is a number"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_where_it_is_given(
    make: Callable[[], object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        make()


async def _noted() -> None:
    """Do nothing."""


def _reads(items: AsyncIterator[int]) -> int:
    return 1


async def test_times_and_frames_and_params_of_the_wrong_kind_say_what_is_right(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for asking in (client.ready("5"), client.notify("calc.add", timeout="5")):  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="timeout is a number of seconds"):
                await asking
    async with Router(bind=LOOPBACK) as router:
        with pytest.raises(TypeError, match="timeout is a number of seconds"):
            await router.recv("1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"send\(\*frames\)"):
            await router.send(b"x", ["a", "b"])  # type: ignore[arg-type]


def test_params_of_a_sync_call_without_names(calc: Calc) -> None:
    with aiozpat.sync.Client("tcp://127.0.0.1:9") as client:
        asks: list[Any] = [client.call, client.stream, client.open]
        for ask in asks:
            with pytest.raises(TypeError, match="params go by name"):
                ask("calc.add", params=[1])


async def test_a_decorator_that_hides_a_coroutine_function_is_named() -> None:
    service = Service("s")

    async def inner() -> int:
        return 1

    def wrapped() -> Any:
        return inner()

    service.method(wrapped)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.Internal, match="a decorator hides `async def`"):
            await client.call("s.wrapped")


async def test_a_stream_from_a_thread_without_a_loop_says_what_to_do(calc: Calc) -> None:
    raised: list[BaseException] = []

    def ask(client: Client) -> None:
        try:
            client.stream("calc.count", 3)
        except errors.UsageError as error:
            raised.append(error)

    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert "event loop" in str(raised[0])
