"""How many calls leave before the end of a turn: by what other sessions of the loop do."""

from __future__ import annotations

from aiozpat.protocol.pace import Pace


def seen(pace: Pace) -> tuple[int, bool]:
    return pace.least, pace.first_leaves


def test_a_session_by_itself_sends_some_before_the_turn_ends() -> None:
    pace = Pace()
    assert seen(pace) == (8, True)
    for _ in range(10):
        pace.turn(100, among_others=False)
    assert seen(pace) == (8, True)


def test_one_among_others_lets_the_calls_of_a_turn_leave_together() -> None:
    pace = Pace()
    pace.turn(20, among_others=True)
    assert seen(pace) == (32, False)
    pace.turn(1, among_others=True)  # who makes one call at a time has nothing to wait for
    assert seen(pace) == (32, True)


def test_it_takes_several_turns_alone_to_be_by_itself_again() -> None:
    pace = Pace()
    pace.turn(20, among_others=True)
    for _ in range(3):
        pace.turn(20, among_others=False)
        assert seen(pace) == (32, False)
    pace.turn(20, among_others=False)
    assert seen(pace) == (8, True)
    pace.turn(20, among_others=True)
    assert seen(pace) == (32, False)
