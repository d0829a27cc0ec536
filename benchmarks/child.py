"""What every process that a suite starts has need of."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Collection, Coroutine
from typing import Any

import aiozpat

ANY_PORT = "tcp://127.0.0.1:*"


class Cue:
    """Hears what the measuring process says on stdin, and ends this process with it, however that ends.

    Each line means "go on". A thread listens, so that a loop that is under load need not.
    """

    def __init__(self) -> None:
        self._given = threading.Semaphore(0)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while os.read(0, 1):  # the lines are empty
            self._given.release()
        os._exit(1)  # only the measuring process has the other end: it is gone

    def wait(self) -> None:
        """Wait for the next."""
        self._given.acquire()

    def given(self) -> bool:
        """Whether there was one more; each is told once."""
        return self._given.acquire(blocking=False)


def run_on(coroutine: Coroutine[Any, Any, Any], loop: str = "uvloop") -> Any:
    """Run on aiozpat.run's loop, or plain asyncio's; zmq.asyncio, too, gets what aiozpat.run does for the collector."""
    return aiozpat.run(coroutine) if loop == "uvloop" else asyncio.run(coroutine)


def say(what: str) -> None:
    """Tell the measuring process."""
    print(what, flush=True)


def end_parser(what: str | None, contenders: Collection[str]) -> argparse.ArgumentParser:
    """A parser for a server or a client, whichever it is to be.

    Args:
        what: What both are.
        contenders: Who does it.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("contender", choices=contenders)
    parser.add_argument("--endpoint", default="", help="of the server; for clients")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to measure")
    parser.add_argument("--size", type=int, default=64, help="bytes of payload")
    add_cpu(parser)
    return parser


def begin(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Cue]:
    """Parse what `end_parser` has begun, and prepare this process; gives what the measuring process says, too."""
    arguments = parser.parse_args()
    prepare(arguments)
    return arguments, Cue()


def finish(role: Coroutine[Any, Any, Any]) -> None:
    """Run a server, or a client whose figures are then said as JSON."""
    with contextlib.suppress(KeyboardInterrupt):
        figures = run_on(role)
        if figures is not None:
            say(json.dumps(figures))


def add_cpu(parser: argparse.ArgumentParser) -> None:
    """Define the option that `prepare` looks at."""
    parser.add_argument("--cpu", type=int, default=-1, help="the CPU to stay on")


def prepare(arguments: argparse.Namespace) -> None:
    """Prepare this process as each is, whatever contender it runs.

    It is pinned if it is to be, may open as many files as the system allows, and gets what aiozpat's first context does
    for large messages: a block of this size, once freed, makes glibc's malloc keep their memory.
    """
    bytes(8 * 1024 * 1024)
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
