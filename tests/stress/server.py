"""The server's process: serves as the plan says, and tells on request what it still has."""

from __future__ import annotations

import asyncio
import sys

import msgspec

import aiozpat
from tests.stress import messages
from tests.stress.census import OF_CALLS, census
from tests.stress.plan import Plan
from tests.stress.service import make_service


async def main(plan: Plan) -> None:
    """Serve until the word comes."""
    asyncio.get_running_loop().slow_callback_duration = 30.0  # seconds; a slow machine is no finding
    limits = aiozpat.Limits(**plan.limits)
    async with aiozpat.Server(make_service(), bind=plan.endpoint, limits=limits, heartbeat=plan.heartbeat) as server:
        words = messages.Words()
        messages.say(messages.Listening(server.endpoint))
        while await words.next() == "left":
            messages.say(_left(server))


def _left(server: aiozpat.Server) -> messages.Left:
    statistics = server.statistics()
    counts = {
        **census(OF_CALLS),
        "running": statistics.running,
        "queued": statistics.queued,
        "bytes waiting": statistics.waiting_bytes,
    }
    for name, method in statistics.methods.items():
        counts[f"{name} running"] = method.running
        counts[f"{name} queued"] = method.queued
    left = {what: count for what, count in counts.items() if count}
    return messages.Left(left=left, sessions=max(statistics.sessions, census(("Session",)).get("Session", 0)))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Plan)
    messages.run_on(given.loop, main(given))
