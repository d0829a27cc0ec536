"""What is left of calls, streams and sessions: objects that should be gone, counted by their types."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

from tests.stress.watch import Watch

OF_CALLS = ("Pending", "Job", "Inbound", "Outbound", "SendFlow", "ReceiveFlow", "Stream", "Conversation")
OF_SESSIONS = ("Connection", "Session", "Socket", "Outbox")
_PATIENCE, _POLL = 1.0, 0.15  # seconds until what has ended is gone


def census(names: tuple[str, ...]) -> dict[str, int]:
    """How many there are of aiozpat's types with these names, none left out that there are any of."""
    gc.collect()
    kinds: Counter[type] = Counter(map(type, gc.get_objects()))
    return {
        kind.__name__: count
        for kind, count in kinds.items()
        if kind.__name__ in names and kind.__module__.startswith("aiozpat.")
    }


async def check_census(watch: Watch, whose: str, names: tuple[str, ...]) -> None:
    """Nothing of these is left, at once or after a moment: a few objects wait for the loop's next turns."""
    late = time.monotonic() + _PATIENCE
    while (left := census(names)) and time.monotonic() < late:
        await asyncio.sleep(_POLL)
    if left:
        watch.find(f"{whose} left behind: {left}")
