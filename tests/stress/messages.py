"""What the processes of a run say to each other: one JSON line each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, TextIO
from zlib import crc32

import msgspec

import aiozpat
from tests.stress.watch import Report


class Listening(msgspec.Struct, tag=True, frozen=True):
    """The server serves."""

    endpoint: str


class Left(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What a process still has, though nothing goes on: names, and numbers above 0."""

    left: dict[str, int]
    sessions: int


class Calm(msgspec.Struct, tag=True, frozen=True):
    """The clients do nothing but to see how quick calls are, and until when: no fault, please; or that is over."""

    calm: bool


class Quiet(msgspec.Struct, tag=True, frozen=True):
    """All calls of the clients have ended, and they are still connected; or else what was found while they did not."""

    stuck: list[str] = []


class Done(msgspec.Struct, tag=True, frozen=True):
    """The clients are closed."""

    report: Report


class Bound(msgspec.Struct, tag=True, frozen=True):
    """The far ends of the lanes listen there."""

    endpoints: list[str]


class Did(msgspec.Struct, tag=True, frozen=True):
    """What it was told to do is done."""

    word: str


class Tally(msgspec.Struct):
    """Numbers that were sent or have arrived: how many, and a sum that tells one lot from another."""

    MASK: ClassVar[int] = (1 << 61) - 1
    count: int = 0
    total: int = 0

    def add(self, number: int) -> None:
        """Count a number."""
        self.count += 1
        self.total = (self.total + crc32(str(number).encode()) * (number + 1)) & self.MASK


class Accounts(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What the workers of a process have sent, by lane and source; what arrived, by lane, end and source.

    Args:
        sent: Messages whose sending ended well.
        taken: What was received.
        overflows: How often a lane's publisher counted that a queue was full.
        unanswered: Requests that were sent, given up, and not answered yet.
    """

    sent: dict[int, dict[int, Tally]]
    taken: dict[int, dict[str, dict[int, Tally]]]
    overflows: dict[int, int]
    unanswered: int


Message = Listening | Left | Calm | Quiet | Done | Bound | Did | Accounts
_decode = msgspec.json.Decoder(Message).decode


def say(message: Message) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def read(line: bytes) -> Message:
    """What a process said."""
    message: Message = _decode(line)
    return message


class Words:
    """The words of the process that started this one, which ends with it, however that ends; made on the loop."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # Not by sys.stdin, whose lock a daemon thread would hold while the interpreter ends.
        while word := os.read(0, 100):  # one at a time is said, and answered
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._words.put_nowait, word.decode().strip())
        os._exit(1)

    async def next(self) -> str:
        """The next one."""
        return await self._words.get()


class _Unexpected(logging.StreamHandler[TextIO]):
    """Writes errors to stderr, where nothing should be; not those of the method whose handler always fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR and "stress.fail" not in record.getMessage()


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the plan's loop."""
    logging.getLogger().addHandler(_Unexpected())
    if loop == "uvloop":
        aiozpat.run(main)
    else:
        asyncio.run(main, debug=loop == "debug")
