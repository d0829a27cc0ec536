"""When the workers of a process may act."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable


class Load:
    """The workers of one process: they act at random while they may, and come to rest when they are told to."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = 0

    def go(self) -> None:
        """Let them act."""
        self._go.set()

    async def rest(self) -> None:
        """Let each end what it does, and begin nothing more."""
        self._go.clear()
        await self._idle.wait()

    async def work(self, act: Callable[[], Awaitable[None]], random_of: random.Random) -> None:
        """One worker, until it is cancelled."""
        while True:
            await self._go.wait()
            self._busy += 1
            self._idle.clear()
            try:
                await act()
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
            if random_of.random() < 0.3:
                await asyncio.sleep(random_of.choice([0, random_of.uniform(0, 0.02)]))
