"""What goes wrong where nobody can be told: each is counted, and the log is told of it without being flooded."""

from __future__ import annotations

import logging
import time

import pytest

from aiozpat.observability.notices import Notices


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test sets."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_of_a_flood_the_first_is_logged_and_then_how_many_there_were(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    notices = Notices(logging.getLogger("test"))
    for number in range(5):
        notices.note("reply dropped", f"peer {number}")
    notices.note("refused", "of another kind", 3)
    assert caplog.messages == ["reply dropped: peer 0", "refused: of another kind"]
    caplog.clear()
    clock[0] += 9.9
    notices.note("reply dropped", "peer 5")
    assert not caplog.messages
    clock[0] += 0.2
    notices.note("reply dropped", "peer 6")
    notices.note("refused", "again")
    assert caplog.messages == ["reply dropped: peer 6 (and 5 more since the last line)", "refused: again"]
    assert notices.counts() == {"reply dropped": 7, "refused": 4}


def test_a_peers_words_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices(logging.getLogger("test"))
    notices.note("reset", "one\nERROR forged\x1b[31m")
    notices.note("not azp", "x" * 100_000)
    first, second = caplog.messages
    assert first == "reset: one\\nERROR forged\\x1b[31m"
    assert len(second) < 2100


def test_what_is_only_counted_makes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices(logging.getLogger("test"))
    notices.count("late reply", 2)
    notices.count("late reply")
    assert notices.counts() == {"late reply": 3}
    assert not caplog.messages
