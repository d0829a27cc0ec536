"""Who is who behind a Router: names for routing ids, and the other way round."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiozpat.checks import number, whole_number
from aiozpat.errors import UsageError


class _Entry(NamedTuple):
    identity: bytes
    seen: float


class RoutingTable:
    """Names by routing id and routing ids by name; who is silent for too long is forgotten.

    A routing id belongs to one connection: a peer that reconnects has a new one, and says its name again.

        table = RoutingTable(expiry=30.0)
        async for message in router:
            if message.header == (b"register",):
                table.add(message.text(), message.identity)
            elif (name := table.name(message.identity)) is not None: ...

    Args:
        expiry: Seconds of silence after which an entry is forgotten; `touch` and `add` count as a word. `math.inf` for
            peers that only listen.
        limit: Entries at most.
        on_expired: Called with each name that is forgotten so, for what is kept beside the table. Any method may find
            that it is time. What it raises comes out of that method once it was called for all the others, and the
            method's own work is done; an `ExceptionGroup` if it raised several times.
        clock: What gives the time in seconds; only tests need another.

    Raises:
        ValueError: `expiry` is not above 0, `limit` no whole number above 0.
        TypeError: One of them is no number.
    """

    def __init__(
        self,
        *,
        expiry: float = 30.0,
        limit: int = 65_536,
        on_expired: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        number("expiry", expiry)
        self._expiry = expiry
        self._limit = whole_number("limit", limit)
        self._on_expired = on_expired
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # who was silent longest comes first
        self._names: dict[bytes, str] = {}

    def __repr__(self) -> str:
        return f"<aiozpat.RoutingTable of {len(self._entries)} names>"

    def __len__(self) -> int:
        self.expire()
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """The names; who was silent longest comes first."""
        self.expire()
        return iter(tuple(self._entries))

    def __contains__(self, name: str) -> bool:
        return self.identity(name) is not None

    def add(self, name: str, identity: bytes) -> None:
        """Note who has this name from now on; an earlier holder of the name, or name of the holder, is forgotten.

        Whether a peer may have the name is yours to decide first.

        Raises:
            UsageError: There are `limit` entries, none of them expired.
            TypeError: The name is no text, or the identity no bytes.
        """
        if type(name) is not str or type(identity) is not bytes:
            raise TypeError(f"a name is text, an identity bytes as in message.identity; got {name!r} and {identity!r}")
        try:
            self.expire()
        finally:
            self._add(name, identity)

    def _add(self, name: str, identity: bytes) -> None:
        former = self._names.get(identity)
        if former is not None and former != name:
            self._forget(former)
        if name in self._entries:
            self._forget(name)
        elif len(self._entries) >= self._limit:
            raise UsageError(f"{self!r} is full (limit)")
        self._entries[name] = _Entry(identity, self._clock())
        self._names[identity] = name

    def touch(self, identity: bytes) -> str | None:
        """A word came from there: its name, `None` if it has none; its time begins anew."""
        try:
            self.expire()
        finally:
            name = self._names.get(identity)
            if name is not None:
                self._entries[name] = _Entry(identity, self._clock())
                self._entries.move_to_end(name)
        return name

    def identity(self, name: str) -> bytes | None:
        """The routing id of a name, for `router.send`; `None` if nobody has it."""
        self.expire()
        entry = self._entries.get(name)
        return entry.identity if entry is not None else None

    def name(self, identity: bytes) -> str | None:
        """The name of a routing id; `None` if it has none."""
        self.expire()
        return self._names.get(identity)

    def remove(self, name: str) -> bool:
        """Forget a name, as after `PeerUnreachable`; False if nobody had it."""
        try:
            self.expire()
        finally:
            there = name in self._entries
            if there:
                self._forget(name)
        return there

    def _forget(self, name: str) -> None:
        del self._names[self._entries.pop(name).identity]

    def expire(self) -> None:
        """Forget who was silent for too long; all other methods do so too.

        Raises:
            Exception: What `on_expired` raised, in an `ExceptionGroup` if that was more than one; every name was told.
        """
        last = self._clock() - self._expiry
        gone: list[str] = []
        while self._entries:
            name, entry = next(iter(self._entries.items()))
            if entry.seen > last:
                break
            self._forget(name)
            gone.append(name)
        if self._on_expired is not None:
            _tell(self._on_expired, gone)


def _tell(on_expired: Callable[[str], object], names: list[str]) -> None:
    """Call for each name: those that come after one that fails would else be forgotten without a word."""
    problems: list[Exception] = []
    for name in names:
        try:
            on_expired(name)
        except Exception as problem:  # raised below
            problems.append(problem)
    if len(problems) > 1:
        raise ExceptionGroup("on_expired failed", problems)
    if problems:
        raise problems[0]
