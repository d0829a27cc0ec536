"""What tests that block need: a server on a loop in another thread, both loops for clients, and waiting on states."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import uvloop

from aiozpat import Server, Service
from aiozpat.sync import background
from tests.support import LOOPBACK, PATIENCE

T = TypeVar("T")


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs on both loops, and leaves no thread."""

    def debug_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 10.0  # seconds; a slow machine is no finding
        return loop

    factory = uvloop.new_event_loop if request.param == "uvloop" else debug_loop
    monkeypatch.setattr(background, "loop_factory", lambda: factory)
    yield
    gc.collect()
    until(lambda: not threads_named("aiozpat-sync"))


class Serving:
    """A server that serves in a thread of its own.

    Args:
        server: The server, entered.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.endpoint = server.endpoint
        self._loop = asyncio.get_running_loop()

    def soon(self, function: Callable[[], object]) -> None:
        """Run a function on the server's loop."""
        self._loop.call_soon_threadsafe(function)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


@contextmanager
def serving(service: Service, **options: Any) -> Iterator[Serving]:
    """Serve in a thread of its own."""
    begun: list[Serving] = []
    ready = threading.Event()
    ends: list[asyncio.Event] = []

    async def serve() -> None:
        ends.append(asyncio.Event())
        async with Server(service, bind=LOOPBACK, **options) as server:
            begun.append(Serving(server))
            ready.set()
            await ends[0].wait()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, serve())
        try:
            until(lambda: ready.is_set() or done.done())
            if done.done():
                done.result()
            yield begun[0]
        finally:
            if begun:
                begun[0].soon(ends[0].set)
            done.result(PATIENCE)


def until(condition: Callable[[], object]) -> None:
    """Wait for a state; the limit is for a state that never comes."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the state never came")
        time.sleep(0.001)


def threads_named(name: str) -> list[threading.Thread]:
    """The threads whose name begins so."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]
