"""Whether a client can send calls, now and as it changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableSet
from enum import Enum
from typing import Self


class ClientState(Enum):
    """Whether calls can be sent."""

    CONNECTING = "connecting"  # no session yet, or the last one broke
    READY = "ready"  # calls are sent
    DRAINING = "draining"  # the server goes away; what is in flight ends there
    CLOSED = "closed"  # the block was left


class StateChanges:
    """The states of a client as they come; a reader that falls behind misses the oldest of them.

    Args:
        first: The state now.
        watchers: Where to be told of changes.
    """

    def __init__(self, first: ClientState, watchers: MutableSet[StateChanges]) -> None:
        self._states: deque[ClientState] = deque([first], maxlen=64)
        self._wake = asyncio.Event()
        self._watchers = watchers
        self._ended = False
        watchers.add(self)

    def put(self, state: ClientState) -> None:
        """Take one more state."""
        self._states.append(state)
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientState:
        while not self._states:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        state = self._states.popleft()
        if state is ClientState.CLOSED:
            self._ended = True
            self._wake.set()  # several tasks may wait
            self._watchers.discard(self)
        return state
