"""gRPC's interoperability cases (grpc/doc/interop-test-descriptions.md) that have a counterpart here, by their names.

What that document checks is checked; the rest of its cases is about compression, credentials and HTTP caches. Metadata
is text and travels from the client only: what a server would send back as its own comes as a result here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from aiozpat import Client, errors
from tests.apps.interop_server import UNARY_BYTES, Answer, Ask, Empty, Status
from tests.support import Process, until

REQUEST_SIZES = (27_182, 8, 1_828, 45_904)
RESPONSE_SIZES = (31_415, 9, 2_653, 58_979)
METADATA = {"x-grpc-test-echo-initial": "test_initial_metadata_value", "x-grpc-test-echo-trailing-bin": "ababab"}
MESSAGE = "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
PLENTY = 512 * 1024 * 1024  # bytes: 1000 large calls are 272 MB to the server and 314 MB back, waiting at once

Start = Callable[..., Process]


@pytest.fixture
async def client(processes: Start) -> AsyncIterator[Client]:
    """A client of a server in a process of its own, both with their defaults."""
    async with Client(await processes("interop_server", "0").line()) as client:
        yield client


async def _large_unary(client: Client) -> None:
    asked, answered = UNARY_BYTES
    payload = await client.call("interop.unary_call", bytes(asked), answered, result_type=bytes)
    assert payload == bytes(answered)


async def _seen(client: Client) -> dict[str, int]:
    """What the server saw of its streams."""
    return await client.call("interop.what_was_seen", result_type=dict[str, int])


async def _cancelled_there(client: Client) -> None:
    """Wait until the one stream that began has been cancelled on the server."""
    while await _seen(client) != {"begun": 1, "cancelled": 1}:
        await asyncio.sleep(0.01)  # the pace of asking


async def test_empty_unary(client: Client) -> None:
    assert await client.call("interop.empty_call", Empty(), result_type=Empty) == Empty()


async def test_large_unary(client: Client) -> None:
    await _large_unary(client)


async def test_concurrent_large_unary(processes: Start) -> None:
    endpoint = await processes("interop_server", f"{PLENTY}").line()
    async with Client(endpoint, backlog_bytes=PLENTY) as client:
        await asyncio.gather(*(_large_unary(client) for _ in range(1000)))
        assert client.statistics().in_flight == 0


async def test_concurrent_large_unary_past_the_limits_is_refused_call_by_call(client: Client) -> None:
    outcomes = await asyncio.gather(*(_large_unary(client) for _ in range(1000)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), errors.ResourceExhausted}
    await _large_unary(client)


async def test_client_streaming(client: Client) -> None:
    async def payloads() -> AsyncIterator[bytes]:
        for size in REQUEST_SIZES:
            yield bytes(size)

    assert await client.call("interop.streaming_input_call", payloads(), result_type=int) == 74_922
    async with client.open("interop.streaming_input_call", result_type=int) as call:
        for size in REQUEST_SIZES:
            await call.send(bytes(size))
        await call.end()
        assert await call.result() == 74_922


async def test_server_streaming(client: Client) -> None:
    async with client.stream("interop.streaming_output_call", RESPONSE_SIZES, item_type=bytes) as payloads:
        assert [payload async for payload in payloads] == [bytes(size) for size in RESPONSE_SIZES]


async def test_ping_pong(client: Client) -> None:
    async with client.open("interop.full_duplex_call", item_type=Answer) as call:
        for asked, answered in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
            await call.send(Ask(bytes(asked), (answered,)))
            assert await anext(call) == Answer({}, bytes(answered))
        await call.end()
        assert [answer async for answer in call] == []
        assert await call.result() is None


async def test_empty_stream(client: Client) -> None:
    async with client.open("interop.full_duplex_call", item_type=Answer) as call:
        await call.end()
        assert [answer async for answer in call] == []
        assert await call.result() is None


async def test_custom_metadata(client: Client) -> None:
    asked, answered = UNARY_BYTES
    expected = Answer(METADATA, bytes(answered))
    method = "interop.unary_call_with_metadata"
    assert await client.call(method, bytes(asked), answered, metadata=METADATA, result_type=Answer) == expected
    async with client.open("interop.full_duplex_call", item_type=Answer, metadata=METADATA) as call:
        await call.send(Ask(bytes(asked), (answered,)))
        await call.end()
        assert [answer async for answer in call] == [expected]


async def test_status_code_and_message(client: Client) -> None:
    with pytest.raises(errors.Unknown) as unary:
        await client.call("interop.unary_call", b"", 0, Status(2, MESSAGE))
    with pytest.raises(errors.Unknown) as duplex:
        async with client.open("interop.full_duplex_call") as call:
            await call.send(Ask(status=Status(2, MESSAGE)))
            await call.end()
            await call.result()
    for caught in (unary, duplex):
        assert (caught.value.code, caught.value.message) == (2, MESSAGE)


async def test_special_status_message(client: Client) -> None:
    with pytest.raises(errors.Unknown) as caught:
        await client.call("interop.unary_call", b"", 0, Status(2, SPECIAL_MESSAGE))
    assert (caught.value.code, caught.value.message) == (2, SPECIAL_MESSAGE)


async def test_unimplemented_method(client: Client) -> None:
    with pytest.raises(errors.Unimplemented) as caught:
        await client.call("interop.unimplemented_call", Empty())
    assert caught.value.code == 12


async def test_unimplemented_service(client: Client) -> None:
    with pytest.raises(errors.Unimplemented) as caught:
        await client.call("unimplemented.unimplemented_call", Empty())
    assert caught.value.code == 12


async def test_cancel_after_begin(client: Client) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    calling = asyncio.create_task(client.call("interop.streaming_input_call", nothing()))
    while await _seen(client) != {"begun": 1}:
        await asyncio.sleep(0.01)  # the pace of asking
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await _cancelled_there(client)
    await until(lambda: client.statistics().in_flight == 0)


async def test_cancel_after_first_response(client: Client) -> None:
    async with client.open("interop.full_duplex_call", item_type=Answer) as call:
        await call.send(Ask(bytes(REQUEST_SIZES[0]), RESPONSE_SIZES[:1]))
        assert await anext(call) == Answer({}, bytes(RESPONSE_SIZES[0]))
    with pytest.raises(errors.Closed, match="was left"):
        await call.result()
    with pytest.raises(errors.Closed, match="was left"):
        await anext(call)
    await _cancelled_there(client)
    assert client.statistics().in_flight == 0


async def test_timeout_on_sleeping_server(client: Client) -> None:
    await client.ready()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        async with client.open("interop.full_duplex_call", timeout=0.001) as call:
            await call.send(Ask(bytes(REQUEST_SIZES[0])))
            await anext(call)
    assert caught.value.code == 4
    await _large_unary(client)
