"""What the processes of a run say to each other: one JSON line each."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TextIO

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


Message = Listening | Left | Calm | Quiet | Done
_decode = msgspec.json.Decoder(Message).decode


def say(message: Message) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def read(line: bytes) -> Message:
    """What a process said."""
    message: Message = _decode(line)
    return message


async def heard() -> str:
    """The next word of the process that started this one; empty when that has ended."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


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
