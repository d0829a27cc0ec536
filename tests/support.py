"""What several tests share: a service, programs in processes, waiting on states."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiozpat

LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE = 15.0  # seconds until a state that should come about is given up


@dataclass
class Calc:
    """A service, and what its handlers saw."""

    service: aiozpat.Service
    started: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


def calc_service() -> Calc:
    """A calculator, slow and failing methods, and one that waits for the test's word."""
    service = aiozpat.Service("calc", version="1.0.0")
    calc = Calc(service)

    @service.method
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @service.method
    async def echo(data: bytes) -> bytes:
        return data

    @service.method
    async def hold(number: int) -> int:
        """Wait for the test to open the gate."""
        calc.started.append(number)
        try:
            await calc.gate.wait()
        except asyncio.CancelledError:
            calc.cancelled.append(number)
            raise
        calc.finished.append(number)
        return number

    @service.method
    async def fail(kind: str) -> None:
        if kind == "value":
            raise ValueError("that went wrong")
        if kind == "precondition":
            raise aiozpat.errors.FailedPrecondition("not now", details={"retry": False})
        raise asyncio.CancelledError

    @service.method
    async def unencodable() -> object:
        return object()

    return calc


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state, looking again after each turn of the loop; the limit is for a state that never comes."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def free_port() -> int:
    """A port that nobody listens on now, of those that no system gives out by itself: other tests run meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)  # whatever a test has seeded
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def memory_of(pid: int) -> int:
    """The resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


class Process:
    """A program of `tests.apps` in a process of its own.

    Args:
        module: Its module's name.
        arguments: Its arguments.
        flags: Flags for the interpreter.
    """

    def __init__(self, module: str, *arguments: str, flags: tuple[str, ...] = ()) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        self._process = subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, *flags, "-m", f"tests.apps.{module}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def line(self) -> str:
        """The next line that it prints."""
        stdout = self._process.stdout
        assert stdout is not None
        return (await asyncio.to_thread(stdout.readline)).strip()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def wait(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, the rest of its output, its errors."""
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout is not None
        assert stderr is not None
        # Not by `communicate`, which does not see what `line` has read ahead.
        reading = asyncio.gather(asyncio.to_thread(stdout.read), asyncio.to_thread(stderr.read))
        try:
            output, errors = await asyncio.wait_for(reading, PATIENCE)
        except TimeoutError:
            self._process.kill()
            raise
        return await asyncio.to_thread(self._process.wait, PATIENCE), output, errors

    def memory(self) -> int:
        """Its resident memory in bytes."""
        return memory_of(self.pid)

    def end(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(PATIENCE)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def in_thread(function: Callable[[], None]) -> threading.Thread:
    """Run a blocking peer beside the loop."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread
