"""Contenders in processes of their own: a server says its endpoint on a line, a client its figures as one JSON line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_START = 20.0  # seconds for a server to say where it listens


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Start `python -m benchmarks.contenders server ...` and give its endpoint; it ends with the block."""
    process = _start("server", *arguments)
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError(f"the server {' '.join(arguments)} did not start")
        yield endpoint
    finally:
        process.kill()
        process.wait(_START)
        if process.stdout is not None:
            process.stdout.close()


def client(*arguments: str, timeout: float = 120.0) -> dict[str, Any]:
    """Run `python -m benchmarks.contenders client ...` to its end and give its figures."""
    process = _start("client", *arguments)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"the client {' '.join(arguments)} did not end within {timeout} s") from None
    if process.returncode:
        raise RuntimeError(f"the client {' '.join(arguments)} failed with exit code {process.returncode}")
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "benchmarks.contenders", *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
    )
