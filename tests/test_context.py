"""Contexts of ZeroMQ's: when they end, and how long that is waited for."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest

from aiozpat import Client, Context, Puller, Pusher, Server, Service, errors
from aiozpat.transport import context as context_module
from aiozpat.transport import socket as socket_module
from tests.support import LOOPBACK, PATIENCE, until


async def test_what_lingers_has_its_time_before_the_context_is_given_up(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(context_module, "_GRACE", 0.5)
    with caplog.at_level(logging.WARNING, "aiozpat.transport"):
        async with Pusher(connect=f"tcp://127.0.0.1:{port}", linger=0.7) as pusher:
            await pusher.send("to nobody")
    assert not caplog.records


async def test_a_context_that_was_left_with_endpoints_open_ends_with_the_last_of_them() -> None:
    async with Context() as context:
        one, two = Puller(bind=LOOPBACK, context=context), Puller(bind=LOOPBACK, context=context)
        for puller in (one, two):
            await puller.__aenter__()
    await one.close()
    async with Puller(bind=LOOPBACK, context=context):
        pass
    await two.close()
    with pytest.raises(errors.Closed, match="this Context has ended"):
        await Puller(bind=LOOPBACK, context=context).__aenter__()


@pytest.mark.parametrize("kind", ["message", "context", "proxy", "kept"])
def test_what_was_left_open_holds_up_no_collection(kind: str) -> None:
    program = (
        f"import asyncio, gc\nimport aiozpat\n{_LEFT_OPEN[kind]}asyncio.run(main())\ngc.collect()\nprint('collected')\n"
    )
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "collected\n")


_LEFT_OPEN = {
    "message": """
async def main():
    pusher = await aiozpat.Pusher(connect="tcp://127.0.0.1:9").__aenter__()
    await pusher.send("to nobody")
""",
    "context": """
async def main():
    context = aiozpat.Context()
    puller = await aiozpat.Puller(bind="tcp://127.0.0.1:*", context=context).__aenter__()
    pusher = await aiozpat.Pusher(connect=puller.endpoint, context=context).__aenter__()
    await pusher.send("hello")
    await puller.recv()
""",
    "kept": """
kept = []

async def main():
    kept.append(await aiozpat.Puller(bind="tcp://127.0.0.1:*").__aenter__())
""",
    "proxy": """
async def main():
    proxy = aiozpat.Proxy("pipeline", frontend_bind="tcp://127.0.0.1:*", backend_bind="tcp://127.0.0.1:*")
    await proxy.__aenter__()
    asyncio.create_task(proxy.close())  # which the end of the loop cancels before it begins
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
""",
}


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Contexts do not end until this is set, as if something lingered."""
    may_end, term = threading.Event(), context_module._term

    def waiting(*arguments: Any) -> None:
        may_end.wait(10 * PATIENCE)
        term(*arguments)

    monkeypatch.setattr(context_module, "_term", waiting)
    return may_end


async def test_closing_once_more_waits_for_what_lingers_where_it_was_cancelled(
    port: int, lingering: threading.Event
) -> None:
    async with Pusher(connect=f"tcp://127.0.0.1:{port}", linger=3600) as pusher:
        closing = asyncio.create_task(pusher.close())
        await until(lambda: pusher._closed)
        closing.cancel()
        await asyncio.wait({closing})
        again = asyncio.create_task(pusher.close())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not again.done()
        lingering.set()
        await again


async def test_a_block_that_is_cancelled_does_not_wait_for_the_linger_of_a_close_before(
    port: int, monkeypatch: pytest.MonkeyPatch, lingering: threading.Event
) -> None:
    monkeypatch.setattr(context_module, "_GRACE", 0.05)
    pusher = Pusher(connect=f"tcp://127.0.0.1:{port}", linger=3600)

    async def main() -> None:
        async with pusher:
            await pusher.close()

    running = asyncio.create_task(main())
    await until(lambda: pusher._closed)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=PATIENCE)
    lingering.set()
    assert done


async def test_endpoints_of_a_context_are_counted_once() -> None:
    async with Context() as context:
        service = Service("s")
        async with (
            Puller(bind=LOOPBACK, context=context),
            Server(service, bind=LOOPBACK, context=context) as server,
            Client(server.endpoint, context=context) as client,
        ):
            await client.ready(PATIENCE)
            assert repr(context) == "<aiozpat.Context open, 3 endpoints>"
        assert repr(context) == "<aiozpat.Context open, 0 endpoints>"


@pytest.mark.parametrize("wrong", [0, 1025, 2**31])
def test_a_context_has_so_many_threads_as_there_may_be_files_for(wrong: int) -> None:
    with pytest.raises(ValueError, match="io_threads is a whole number from 1 to 1024"):
        Context(io_threads=wrong)


async def test_a_context_for_whose_threads_there_are_no_files_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(context_module, "require_files", asked.append)
    for threads in (1, 5):
        async with Context(io_threads=threads) as context, Puller(bind=LOOPBACK, context=context):
            pass
    assert asked[1] == asked[0] + 2 * 4


async def test_closing_once_more_waits_for_nobody_who_has_taken_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "_FREED", 3600.0)
    async with Puller(bind=LOOPBACK) as first:
        endpoint = first.endpoint
        await first.close()
        second = await Puller(bind=endpoint).__aenter__()
        await asyncio.wait_for(first.close(), PATIENCE)
    await second.close()


def test_a_context_that_has_ended_says_so_on_another_loop_too() -> None:
    context = Context()

    async def main() -> None:
        async with context, Puller(bind=LOOPBACK, context=context):
            pass

    asyncio.run(main())
    with pytest.raises(errors.Closed, match="this Context has ended"):
        asyncio.run(main())


async def test_a_context_that_was_given_up_is_waited_for_once(
    port: int, monkeypatch: pytest.MonkeyPatch, lingering: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(context_module, "_GRACE", 0.05)
    endpoint = f"tcp://127.0.0.1:{port}"
    with pytest.raises(asyncio.CancelledError):
        async with Pusher(connect=endpoint, linger=0), Pusher(connect=endpoint, linger=0) as second:
            await second.close()
            raise asyncio.CancelledError
    lingering.set()
    assert len(caplog.records) == 1
