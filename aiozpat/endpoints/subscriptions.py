"""Who has subscribed to what: a table by connection, bounded."""

from __future__ import annotations

from collections import Counter

_MOST = 100_000  # subscriptions remembered in all; libzmq obeys further ones, we don't count them


class Subscriptions:
    """The prefixes that connections have subscribed to.

    A set for each connection: libzmq sends a repeated subscription twice and takes it back once, and loses the end of a
    connection among them; numbers that go up and down would drift.
    """

    __slots__ = ("_by_connection", "_by_prefix", "_lengths", "_size")

    def __init__(self) -> None:
        self._by_connection: dict[int, set[bytes]] = {}
        self._by_prefix: dict[bytes, set[int]] = {}
        self._lengths: Counter[int] = Counter()  # of prefixes: a topic has few that need looking up
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, connection: int, prefix: bytes) -> bool:
        """Note a subscription; False if there is no room for it."""
        if prefix in self._by_connection.get(connection, ()):
            return True
        if self._size >= _MOST:
            return False
        self._by_connection.setdefault(connection, set()).add(prefix)
        self._by_prefix.setdefault(prefix, set()).add(connection)
        self._lengths[len(prefix)] += 1
        self._size += 1
        return True

    def remove(self, connection: int, prefix: bytes) -> None:
        """Forget a subscription."""
        prefixes = self._by_connection.get(connection)
        if prefixes is None or prefix not in prefixes:
            return
        prefixes.remove(prefix)
        if not prefixes:
            del self._by_connection[connection]
        self._forget(connection, prefix)

    def drop(self, connection: int) -> None:
        """Forget a connection that has ended."""
        for prefix in self._by_connection.pop(connection, ()):
            self._forget(connection, prefix)

    def _forget(self, connection: int, prefix: bytes) -> None:
        connections = self._by_prefix[prefix]
        connections.remove(connection)
        if not connections:
            del self._by_prefix[prefix]
        self._lengths[len(prefix)] -= 1
        if not self._lengths[len(prefix)]:
            del self._lengths[len(prefix)]
        self._size -= 1

    def count(self, topic: bytes) -> int:
        """How many connections get a message with this topic."""
        found: set[int] = set()
        for length in self._lengths:
            if length <= len(topic):
                found |= self._by_prefix.get(topic[:length], frozenset())
        return len(found)
