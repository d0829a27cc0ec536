"""When a peer is pinged, and when it is given up: never for words that lie unread while our own loop stood still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.protocol.liveness import Liveness, Verdict

WAIT, PING, DEAD = Verdict.WAIT, Verdict.PING, Verdict.DEAD

# Interval 2 s, 3 misses, ticks each second unless said otherwise. (time, heard since the last tick, verdict)
STORIES = {
    "silence: pings, then the end": [
        (1, 0, WAIT),
        (2, 0, PING),
        (3, 0, PING),
        (4, 0, PING),
        (5, 0, PING),
        (6, 0, DEAD),
    ],
    "a word in time": [(1, 0, WAIT), (2, 0, PING), (3, 1, WAIT), (4, 0, WAIT), (5, 0, PING)],
    "a word at the last moment": [(1, 0, WAIT), (2, 0, PING), (3, 0, PING), (4, 0, PING), (5, 0, PING), (6, 1, WAIT)],
    "busy all the time": [(second, 1, WAIT) for second in range(1, 10)],
    "our loop stood still": [(1, 0, WAIT), (30, 0, PING), (31, 0, PING), (32, 0, PING), (33, 0, PING), (34, 0, DEAD)],
    "a tick somewhat late is a tick": [
        (1, 0, WAIT),
        (2.9, 0, PING),
        (3.9, 0, PING),
        (4.9, 0, PING),
        (5.9, 0, PING),
        (6.9, 0, DEAD),
    ],
    "ticks always late are not a stall": [(1.9, 0, PING), (3.8, 0, PING), (5.7, 0, PING), (7.6, 0, DEAD)],
    "stood still twice": [(1, 0, WAIT), (30, 0, PING), (60, 0, PING), (61, 0, PING), (62, 0, PING), (63, 0, DEAD)],
    "faster ticks": [(0.5, 0, WAIT), (1, 0, WAIT), (1.4, 0, WAIT), (1.5, 0, PING), (2.4, 0, PING), (3.3, 0, PING)],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_verdicts(story: list[tuple[float, int, Verdict]]) -> None:
    liveness = Liveness(interval=2, misses=3, now=0)
    verdicts = []
    for now, heard, _ in story:
        if heard:
            liveness.heard = now
        verdicts.append(liveness.tick(now))
    assert verdicts == [verdict for _, _, verdict in story]


@pytest.mark.parametrize("start", [0.0, 1e9, -50.0])
@pytest.mark.parametrize("interval", [0.01, 2.0, 3600.0])
def test_a_silent_peer_is_dead_after_its_misses_and_not_before(interval: float, start: float) -> None:
    liveness = Liveness(interval, 3, start)
    ticks = [liveness.tick(start + number * interval / 2) for number in range(1, 8)]
    assert DEAD not in ticks[:4]
    assert DEAD in ticks[5:]


pauses = st.lists(st.floats(0.01, 500), max_size=60)


@given(pauses=pauses)
def test_who_was_read_before_each_tick_is_never_dead_however_late_the_tick(pauses: list[float]) -> None:
    liveness = Liveness(interval=2, misses=3, now=0)
    now = 0.0
    for pause in pauses:
        now += pause
        liveness.heard = max(liveness.heard, now - 1)
        assert liveness.tick(now) is not DEAD


@given(pauses=st.lists(st.floats(2.1, 1000), max_size=60))
def test_no_single_stall_kills_a_peer(pauses: list[float]) -> None:
    """However long our loop stood still, the peer then gets a ping and the time to answer it."""
    for pause in pauses:
        liveness = Liveness(interval=2, misses=3, now=0)
        assert liveness.tick(1) is WAIT
        assert liveness.tick(1 + pause) is PING
        assert liveness.tick(2 + pause) is PING


@given(pauses=pauses)
def test_after_any_stalls_a_peer_silent_all_along_is_given_up(pauses: list[float]) -> None:
    liveness = Liveness(interval=2, misses=3, now=0)
    now = 0.0
    for pause in pauses:
        now += pause
        liveness.tick(now)
    assert DEAD in [liveness.tick(now + number) for number in range(1, 8)]


def test_a_stall_does_not_put_off_the_end_of_a_peer_that_was_heard_after_it() -> None:
    liveness = Liveness(interval=2, misses=3, now=0)
    liveness.tick(1)
    liveness.heard = 61  # read after a stall of a minute, just before the tick
    liveness.tick(61)
    assert DEAD in [liveness.tick(61 + number) for number in range(1, 8)]
