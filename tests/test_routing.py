"""The routing table: names, routing ids, and what time does to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat import RoutingTable, errors


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_names_and_routing_ids_find_each_other() -> None:
    table = RoutingTable()
    table.add("ann", b"1")
    table.add("bob", b"2")
    assert (table.identity("ann"), table.name(b"2"), len(table), list(table)) == (b"1", "bob", 2, ["ann", "bob"])
    assert ("ann" in table, "eve" in table) == (True, False)
    table.add("ann", b"3")  # she came back by another connection
    assert (table.identity("ann"), table.name(b"1"), table.name(b"3")) == (b"3", None, "ann")
    table.add("anna", b"3")  # and changed her name
    assert (table.identity("ann"), table.identity("anna"), len(table)) == (None, b"3", 2)
    assert table.remove("bob")
    assert not table.remove("bob")
    assert (table.touch(b"2"), table.touch(b"3")) == (None, "anna")


def test_who_is_silent_is_forgotten() -> None:
    clock = Clock()
    gone: list[str] = []
    table = RoutingTable(expiry=10.0, clock=clock, on_expired=gone.append)
    table.add("ann", b"1")
    table.add("bob", b"2")
    clock.now += 6
    assert table.touch(b"1") == "ann"
    clock.now += 5
    assert gone == []
    table.expire()
    assert gone == ["bob"]
    assert (table.identity("bob"), table.name(b"2"), list(table)) == (None, None, ["ann"])
    clock.now += 10
    assert len(table) == 0
    assert gone == ["bob", "ann"]
    assert table.touch(b"1") is None
    table.add("cid", b"3")
    clock.now += 11
    assert not table.remove("cid")
    assert gone == ["bob", "ann", "cid"]


def test_who_is_told_of_the_expired_may_use_the_table() -> None:
    clock = Clock()
    left: list[int] = []
    table = RoutingTable(expiry=10.0, clock=clock, on_expired=lambda name: left.append(len(table)))
    for number in range(2000):
        table.add(f"{number}", b"%d" % number)
    clock.now += 11
    assert "0" not in table
    assert left == [0] * 2000
    with pytest.raises(TypeError, match="a name is text"):
        table.add(b"ann", b"1")  # type: ignore[arg-type]  # the mistake


def test_every_name_that_expires_is_told_even_if_telling_fails() -> None:
    clock, told = Clock(), list[str]()

    def fail(name: str) -> None:
        told.append(name)
        if name in failing:
            raise ValueError(name)

    table = RoutingTable(expiry=1.0, on_expired=fail, clock=clock)
    for failing in ({"a"}, {"a", "c"}):
        for name in "abc":
            table.add(name, name.encode())
        clock.now += 1
        with pytest.raises((ValueError, ExceptionGroup)) as caught:
            table.expire()
        assert told == ["a", "b", "c"]
        problems = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else (caught.value,)
        assert {str(problem) for problem in problems} == failing
        assert isinstance(caught.value, ExceptionGroup) == (len(failing) > 1)
        assert len(table) == 0
        told.clear()


def test_a_method_does_its_own_work_even_if_telling_of_another_name_fails() -> None:
    def fail(name: str) -> None:
        raise ValueError(name)

    clock = Clock()
    table = RoutingTable(expiry=10.0, clock=clock, on_expired=fail)
    table.add("a", b"1")
    clock.now += 4
    table.add("b", b"2")
    clock.now += 7
    with pytest.raises(ValueError, match="a"):
        table.touch(b"2")
    clock.now += 9
    assert list(table) == ["b"]
    table.add("c", b"3")
    clock.now += 2
    with pytest.raises(ValueError, match="b"):
        table.add("d", b"4")
    assert list(table) == ["c", "d"]
    clock.now += 8
    with pytest.raises(ValueError, match="c"):
        table.remove("d")
    assert list(table) == []


def test_it_is_bounded() -> None:
    clock = Clock()
    table = RoutingTable(expiry=10.0, limit=2, clock=clock)
    table.add("a", b"1")
    table.add("b", b"2")
    table.add("a", b"3")  # the same name takes no more room
    with pytest.raises(errors.UsageError, match="full"):
        table.add("c", b"4")
    clock.now += 11
    table.add("c", b"4")
    assert list(table) == ["c"]
    with pytest.raises(ValueError, match="above 0"):
        RoutingTable(expiry=0)
    with pytest.raises(ValueError, match="limit is a whole number from 1"):
        RoutingTable(limit=0)
    with pytest.raises(TypeError, match="expiry is a number above 0"):
        RoutingTable(expiry="30")  # type: ignore[arg-type]  # the mistake


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([b"1", b"2", b"3"]), st.integers(0, 6))))
def test_the_two_directions_never_disagree(steps: list[tuple[str, bytes, int]]) -> None:
    clock = Clock()
    table = RoutingTable(expiry=10.0, clock=clock)
    for name, identity, seconds in steps:
        clock.now += seconds
        table.add(name, identity)
        assert table.identity(name) == identity
        for known in table:
            identity_of = table.identity(known)
            assert identity_of is not None
            assert table.name(identity_of) == known
        assert len({table.identity(known) for known in table}) == len(table)
