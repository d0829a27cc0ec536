"""The blocking facade: `aiozpat.sync.Client` for scripts and thread pools.

One event loop, in a thread of its own, does the work of all its clients; whoever calls waits.
"""

from aiozpat.sync.client import Client
from aiozpat.sync.streams import Conversation, Stream

__all__ = ["Client", "Conversation", "Stream"]
