"""A process of a run, started, talked to and ended; every wait for it is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TypeVar

from tests.stress import messages

M = TypeVar("M", bound=messages.Message)

_ROOT = Path(__file__).parent.parent.parent
_LINE = 4 * 1024 * 1024  # bytes of one message
_END = 10.0  # seconds for a process to end by itself
_SHOWN = 4000  # characters of what it wrote to its stderr


class Failed(RuntimeError):
    """A process ended, said something else, or nothing in time."""


class Child:
    """A process that says messages; `child` makes one.

    Args:
        name: For findings.
        process: It.
        stderr: Where it writes what should not be.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, stderr: IO[bytes]) -> None:
        self.name = name
        self.process = process
        self._stderr = stderr

    async def said(self, kind: type[M], timeout: float) -> M:
        """The next message, which must be of that kind.

        Args:
            kind: Of the message.
            timeout: Seconds.

        Raises:
            Failed: It is not, or there is none in time.
        """
        message = await self.hear(timeout)
        if not isinstance(message, kind):
            raise Failed(f"the {self.name} said {message}, not {kind.__name__}")
        return message

    async def hear(self, timeout: float) -> messages.Message:
        """The next message.

        Args:
            timeout: Seconds.

        Raises:
            Failed: There is none in time.
        """
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), timeout)
        except TimeoutError:
            raise Failed(f"the {self.name} said nothing for {timeout:.0f} s") from None
        if not line:
            raise Failed(f"the {self.name} ended: exit code {await self.end()}")
        return messages.read(line)

    async def tell(self, word: str) -> None:
        """Say a word to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        with contextlib.suppress(ConnectionError):  # it has ended; what reads from it will notice
            await self.process.stdin.drain()

    async def end(self) -> int:
        """Wait for its end; gives the exit code.

        Raises:
            Failed: It does not end.
        """
        try:
            return await asyncio.wait_for(self.process.wait(), _END)
        except TimeoutError:
            raise Failed(f"the {self.name} did not end in {_END:g} s") from None

    async def kill(self) -> None:
        """End it, stopped or not."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            await self.process.wait()

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            Failed: It does not.
        """
        if self.process.returncode is not None:
            raise Failed(f"the {self.name} ended by itself: exit code {self.process.returncode}")

    def complaint(self) -> str:
        """What it wrote to its stderr, as a finding; empty if there is nothing."""
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        return f"the {self.name} wrote to stderr: {said[-_SHOWN:]}" if said else ""


@contextlib.asynccontextmanager
async def child(name: str, module: str, *arguments: str) -> AsyncIterator[Child]:
    """Start a process; it is ended with the block.

    Args:
        name: For findings.
        module: What it runs.
        arguments: Of its command line.
    """
    with tempfile.TemporaryFile() as stderr:  # not a pipe, which nobody would read in time
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "default", "-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            limit=_LINE,
        )
        started = Child(name, process, stderr)
        try:
            yield started
        finally:
            await started.kill()
