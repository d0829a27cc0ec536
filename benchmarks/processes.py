"""Child processes that talk in lines: a server says its endpoint, a client its figures as one JSON line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
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
        self._failed = False
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

    def expect(self, step: str, timeout: float) -> None:
        """Wait until it says that it has come to a step.

        Raises:
            Failed: It said something else, or as for `line`.
        """
        said = self.line(timeout)
        if said != step:
            raise Failed(f"{self._title} said {said!r}; it should be {step!r}")

    def resident(self) -> int:
        """Its resident memory in bytes; Linux only.

        Raises:
            Failed: It has ended.
        """
        return self._memory("VmRSS:")

    def forget_peak(self) -> None:
        """Let `peak` begin anew; Linux only."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most resident memory that it had at once, in bytes; Linux only.

        Raises:
            Failed: It has ended.
        """
        return self._memory("VmHWM:")

    def _memory(self, key: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
        raise Failed(f"{self._title} has no resident memory: it has ended")

    def check(self) -> None:
        """Make sure that it still runs, unless it was said already that it does not.

        Raises:
            Failed: It does not.
        """
        if self._process.poll() is not None and not self._failed:
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
        self._failed = True
        code = self._process.wait(_END)
        self._stderr.seek(0)
        said = self._stderr.read().strip()[-_SHOWN:]
        raise Failed(f"{self._title}: {why or f'ended with exit code {code}'}; its stderr:\n{said or '(nothing)'}")


def memory_is_told() -> bool:
    """Whether this system tells the memory of a process in a way that we can read."""
    return Path("/proc/self/status").exists()


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[tuple[Process, str]]:
    """Start a process that says something when it is ready, mostly its endpoint; gives both, and ends with the block.

    Raises:
        Failed: It ended, or did not say anything in time.
    """
    with Process(module, *arguments) as process:
        yield process, process.line(_START)


@contextlib.contextmanager
def blaming(*others: Process) -> Iterator[None]:
    """Make sure that the others have not ended at the end of the block.

    If something in it fails, one that has ended is the better explanation.

    Raises:
        Failed: One has.
    """
    try:
        yield
    except Failed:
        _check(others)
        raise
    _check(others)


def _check(processes: Iterable[Process]) -> None:
    for process in processes:
        process.check()


def server(*arguments: str) -> contextlib.AbstractContextManager[tuple[Process, str]]:
    """Start a contender's server; gives the process, which ends with the block, and its endpoint."""
    return started("benchmarks.contenders", "server", *arguments, "--end-with-stdin")


def client(server_process: Process, module: str, *arguments: str, timeout: float) -> dict[str, Any]:
    """Run a contender's client to its end against a server, and give its figures.

    Args:
        server_process: The server.
        module: Where both ends are.
        arguments: The client's command line.
        timeout: Seconds for all of it.

    Raises:
        Failed: Either of them did.
    """
    with Process(module, "client", *arguments) as process, blaming(server_process):
        figures: dict[str, Any] = json.loads(process.line(timeout))
        process.end(timeout)
    return figures
