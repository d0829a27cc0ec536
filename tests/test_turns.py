"""Streams of one session that wait for room in its outbox: who has waited longest goes on first."""

from __future__ import annotations

import asyncio

import pytest

from aiozpat.codec import Values
from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.outbox import Outbox
from aiozpat.rpc.flows import Outbound
from aiozpat.rpc.turns import Turns

MIB = 1024 * 1024
STREAMS = range(40)


class Session:
    """A session whose outbox is full until the test sends what waits in it."""

    def __init__(self) -> None:
        self.outbox = Outbox(1024 * MIB)
        self.outbox.add(1, bytes(2 * MIB))
        self.turns = Turns(self.outbox)
        self.peer_buffer_bytes = MIB
        self.values: Values | None = None

    def post(self) -> None:
        """Leave it there."""

    push = post

    def drain(self) -> bool:
        """Nothing ever arrives."""
        return True

    def send(self) -> None:
        """Send all that waits."""
        while (message := self.outbox.peek()) is not None:
            self.outbox.commit(len(message[0]))
            self.turns.go_on()


@pytest.mark.parametrize("size", [10, 100_000, 900_000])
async def test_who_has_waited_longest_goes_on_first(size: int) -> None:
    session = Session()
    order: list[int] = []

    async def send(number: int) -> None:
        outbound = Outbound(session, SendFlow(number, 1000), "s.count")
        await outbound.wait()
        order.append(number)
        outbound.put("x" * size)

    async with asyncio.TaskGroup() as group:
        for number in STREAMS:
            group.create_task(send(number))
        await asyncio.sleep(0)
        for _ in STREAMS:
            assert order == list(range(len(order)))
            session.send()
            for _ in range(3):
                await asyncio.sleep(0)
    assert order == list(STREAMS)


async def test_who_gets_credit_goes_behind_those_that_wait_for_room() -> None:
    session = Session()
    order: list[int] = []

    async def send(number: int, outbound: Outbound) -> None:
        await outbound.wait()
        order.append(number)

    without = Outbound(session, SendFlow(0, 0), "s.count")
    async with asyncio.TaskGroup() as group:
        group.create_task(send(0, without))
        for number in range(1, 4):
            group.create_task(send(number, Outbound(session, SendFlow(number, 1), "s.count")))
        await asyncio.sleep(0)
        session.outbox.remove(1)
        without.grant(1)
        await asyncio.sleep(0)
        assert order == []
        session.turns.go_on()
    assert order == [1, 2, 3, 0]


async def test_each_first_item_since_the_last_record_asks_for_room() -> None:
    session = Session()
    outbound = Outbound(session, SendFlow(1, 1000), "s.count")
    assert not outbound.put("x")  # there is none
    session.outbox.seal()
    assert not outbound.put("x")
    session.send()
    assert outbound.put("x")
    assert outbound.put("x")
