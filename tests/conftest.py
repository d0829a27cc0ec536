"""Every test with a coroutine runs twice: on asyncio in debug mode and on uvloop. Nothing may be left behind."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import settings

from aiozpat.transport.context import open_contexts
from tests.support import PATIENCE, Calc, Process, calc_service, free_port

settings.register_profile("patient", deadline=None)  # a slow machine is no finding
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; our programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop() if sys.platform == "win32" else asyncio.new_event_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    return loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that each test runs on."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": _debug_loop}
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a ZeroMQ context, and so a socket, open; or a thread that ends one."""
    yield
    assert open_contexts() == 0
    for thread in threading.enumerate():
        if thread.name == "aiozpat-context-end":
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def calc() -> Calc:
    """A service with methods of every temper, and what it remembers of its calls."""
    return calc_service()


@pytest.fixture
def processes() -> Iterator[Callable[..., Process]]:
    """Starts programs of `tests.apps`; each is ended with the test."""
    started: list[Process] = []

    def start(module: str, *arguments: str, flags: tuple[str, ...] = ()) -> Process:
        process = Process(module, *arguments, flags=flags)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    return free_port()
