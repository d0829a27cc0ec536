"""Child processes that talk in lines: a server says its endpoint, a client its figures as one JSON line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

_START = 30.0  # seconds for a server to say where it listens
_END = 10.0  # seconds for a killed process to be gone
_SHOWN = 4000  # characters of a failed process's stderr


class Failed(RuntimeError):
    """A child process ended, or said nothing in time; the message says which, and shows its stderr."""


class Process:
    """A child process, killed when the block is left; every wait for it is bounded.

    Args:
        module: What to run, as after `python -m`.
        arguments: Its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._title = " ".join([module, *arguments])
        # A file, not a pipe: nobody reads it while the process runs, and a full pipe would stop the process.
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(_END)
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def line(self, timeout: float) -> str:
        """Its next line of output.

        Raises:
            Failed: It ended without one, or was killed because none came in time.
        """
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout, give_up)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._fail(f"said nothing for {timeout:g} s and was killed" if late.is_set() else "")
        return line.strip()

    def go_on(self) -> None:
        """Send it an empty line: the next step may begin."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail("")

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            Failed: It does not.
        """
        if self._process.poll() is not None:
            self._fail("")

    def end(self, timeout: float) -> None:
        """Wait for its end.

        Raises:
            Failed: It failed, or did not end in time.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._fail(f"did not end within {timeout:g} s and was killed")
        else:
            if code:
                self._fail("")

    def _fail(self, why: str) -> NoReturn:
        code = self._process.wait(_END)
        self._stderr.seek(0)
        said = self._stderr.read().strip()[-_SHOWN:]
        raise Failed(f"{self._title}: {why or f'ended with exit code {code}'}; its stderr:\n{said or '(nothing)'}")


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[tuple[Process, str]]:
    """Start a contender's server; gives the process, which ends with the block, and its endpoint."""
    with Process("benchmarks.contenders", "server", *arguments, "--end-with-stdin") as process:
        yield process, process.line(_START)


def client(server_process: Process, *arguments: str, timeout: float) -> dict[str, Any]:
    """Run a contender's client to its end against a server, and give its figures.

    Raises:
        Failed: Either of them did.
    """
    with Process("benchmarks.contenders", "client", *arguments) as process:
        try:
            figures: dict[str, Any] = json.loads(process.line(timeout))
            process.end(timeout)
        except Failed:
            server_process.check()  # a server that died is the better explanation
            raise
    server_process.check()
    return figures
