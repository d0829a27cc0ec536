"""What is left of calls, streams and sessions: objects that should be gone, counted by their types."""

from __future__ import annotations

import gc
from collections import Counter

OF_CALLS = ("Pending", "Job", "Inbound", "Outbound", "SendFlow", "ReceiveFlow", "Stream", "Conversation")
OF_SESSIONS = ("Connection", "Session", "Socket", "Outbox")


def census(names: tuple[str, ...]) -> dict[str, int]:
    """How many there are of aiozpat's types with these names, none left out that there are any of."""
    gc.collect()
    kinds: Counter[type] = Counter(map(type, gc.get_objects()))
    return {
        kind.__name__: count
        for kind, count in kinds.items()
        if kind.__name__ in names and kind.__module__.startswith("aiozpat.")
    }
