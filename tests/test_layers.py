"""The import rule: no arrow points up, and only few may touch zmq, uvloop or the clock."""

from __future__ import annotations

import ast
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiozpat

PACKAGE = Path(aiozpat.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Which parts of aiozpat each part may import, beside itself and errors. A part is a folder or a module at the top.
ARROWS = {
    "errors": set[str](),
    "checks": set[str](),
    "version": set[str](),
    "message": set[str](),
    "codec": {"protocol.records"},
    "protocol": set[str](),
    "transport": {"checks"},
    "observability": {"checks"},
    "endpoints": {"checks", "message", "codec", "transport", "observability"},
    "rpc": {"checks", "protocol", "codec", "transport", "observability"},
    "sync": {"checks", "rpc", "codec", "transport", "observability", "running"},
    "interceptors": {"rpc", "observability"},
    "running": set[str](),
}
AT_THE_TOP = ("__init__", "__main__", "cli")  # these may import whatever there is below

# Outside packages that only some parts may import.
RESERVED = {
    "zmq": {"transport", "cli"},  # cli: its demo holds plain pyzmq peers
    "uvloop": {"running"},
}
# What the sans-I/O part may import from outside: enough to decode, nothing that waits, sends or tells the time.
PURE = {"__future__", "collections", "enum", "itertools", "math", "msgspec", "typing"}


def module_of(file: Path) -> str:
    names = list(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Each import of a file, wherever it stands, as (line, full name of what is imported)."""
    base = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def forbidden(part: str, imported: str) -> str | None:
    """Why a part must not import that, None if it may."""
    root, _, rest = imported.partition(".")
    if root != "aiozpat":
        if root in RESERVED and part not in RESERVED[root]:
            return f"only {', '.join(sorted(RESERVED[root]))} may import {root}"
        if part == "protocol" and root not in PURE:
            return f"the protocol is sans-I/O and has no clock: not {root}"
        return None
    if part in AT_THE_TOP:
        return None
    if part not in ARROWS:
        return f"{part} has no place among the layers yet: give it one in this test"
    allowed = {part, "errors", "version"} | ARROWS[part]
    if any(f"{rest}.".startswith(f"{name}.") for name in allowed):
        return None
    return f"{part} may import {', '.join(sorted(allowed))}"


def breaches(source: str, module: str, part: str, *, is_package: bool) -> list[str]:
    return [
        f"{module}:{line} imports {imported}: {reason}"
        for line, imported in imports_of(source, module, is_package=is_package)
        if (reason := forbidden(part, imported)) is not None
    ]


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_no_import_points_up(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert breaches(source, module_of(file), part_of(file), is_package=file.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("aiozpat.protocol.records", "import zmq"),
        ("aiozpat.protocol.records", "import asyncio"),
        ("aiozpat.protocol.records", "from time import monotonic"),
        ("aiozpat.protocol.records", "import anyio.to_thread"),
        ("aiozpat.protocol.records", "from aiozpat.transport import Socket"),
        ("aiozpat.protocol.records", "from ..transport import Socket"),
        ("aiozpat.protocol.records", "from aiozpat import codec"),
        ("aiozpat.transport.socket", "from aiozpat.protocol.records import split"),
        ("aiozpat.transport.socket", "import aiozpat.rpc.client"),
        ("aiozpat.transport.socket", "def late():\n    from aiozpat.rpc import Client"),
        ("aiozpat.transport.socket", "import aiozpat"),
        ("aiozpat.rpc.client", "import zmq.asyncio"),
        ("aiozpat.rpc.client", "import uvloop"),
        ("aiozpat.rpc.client", "from aiozpat.endpoints import Router"),
        ("aiozpat.rpc.client", "from aiozpat.sync import Client"),
        ("aiozpat.rpc.client", "from aiozpat import Server"),
        ("aiozpat.sync.client", "from aiozpat.endpoints import Router"),
        ("aiozpat.endpoints.router", "from aiozpat.protocol.records import split"),
        ("aiozpat.codec", "from aiozpat.protocol.outbox import Outbox"),
        ("aiozpat.errors", "from aiozpat.codec import Decoder"),
        ("aiozpat.observability.notices", "from aiozpat.rpc import Client"),
        ("aiozpat.novelty", "from aiozpat.rpc import Client"),
    ],
)
def test_a_wrong_import_is_noticed(module: str, line: str) -> None:
    assert breaches(line, module, module.split(".")[1], is_package=False)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("aiozpat.protocol.records", "from aiozpat.errors import ProtocolError"),
        ("aiozpat.protocol.outbox", "from .records import ACK"),
        ("aiozpat.protocol.outbox", "from aiozpat import errors"),
        ("aiozpat.codec", "from aiozpat.protocol.records import Buffer"),
        ("aiozpat.transport.socket", "import zmq.backend"),
        ("aiozpat.running", "import uvloop"),
        ("aiozpat.rpc.client", "from aiozpat.protocol import records"),
        ("aiozpat.cli.main", "from aiozpat import Client"),
    ],
)
def test_a_right_import_is_allowed(module: str, line: str) -> None:
    assert breaches(line, module, module.split(".")[1], is_package=False) == []


def test_nothing_is_allowed_that_is_not_made_use_of() -> None:
    arrows, reserved, pure = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set), set[str]()
    for file in FILES:
        part = part_of(file)
        source, module = file.read_text(encoding="utf-8"), module_of(file)
        for _, imported in imports_of(source, module, is_package=file.name == "__init__.py"):
            root, _, rest = imported.partition(".")
            if root == "aiozpat":
                arrows[part] |= {name for name in ARROWS.get(part, ()) if f"{rest}.".startswith(f"{name}.")}
            elif root in RESERVED:
                reserved[root].add(part)
            elif part == "protocol":
                pure.add(root)
    assert {part: arrows[part] for part in ARROWS} == ARROWS
    assert reserved == RESERVED
    assert pure == PURE


def test_every_public_name_exists() -> None:
    missing = [name for name in aiozpat.__all__ if not hasattr(aiozpat, name)]
    assert missing == []
    assert len(set(aiozpat.__all__)) == len(aiozpat.__all__)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_every_name_that_a_module_exports_exists(file: Path) -> None:
    if file.name == "__main__.py":
        pytest.skip("importing it runs it")
    module = importlib.import_module(module_of(file))
    assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []


def test_the_pure_modules_are_known_to_python() -> None:
    assert PURE - {"msgspec"} <= sys.stdlib_module_names
