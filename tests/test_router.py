"""Router: the order in which one peer is sent to, its framing, turns for others, and what the end does to who waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from aiozpat import Dealer, Replier, Request, Router, errors
from aiozpat.endpoints import serving as serving_module
from tests.support import LOOPBACK, PATIENCE, until
from tests.test_serving import Leaving, Silent, answering, notices

PEER = b"peer"


class Full:
    """Stands for a peer's queue in a router: has no room until it is told so."""

    def __init__(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = False
        self.sent: list[bytes] = []
        monkeypatch.setattr(router, "_try", self._try)

    def _try(self, frames: Sequence[bytes]) -> bool:
        if self.room:
            self.sent.append(frames[-1])
        return self.room


async def test_what_is_sent_to_a_peer_stands_in_line_behind_what_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Router(bind=LOOPBACK) as router:
        full = Full(router, monkeypatch)
        first = asyncio.create_task(router.send(PEER, "first"))
        await until(lambda: router.waiting_for(PEER) == 1)
        full.room = True
        second = asyncio.create_task(router.send(PEER, "second"))
        await until(lambda: second.done() or router.waiting_for(PEER) == 2)
        router._on_writable()
        await asyncio.gather(first, second)
        assert full.sent == [b"first", b"second"]


async def test_closing_wakes_who_waits_for_room_at_a_peer() -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("here")
        request = await router.recv(PATIENCE)
        with pytest.MonkeyPatch.context() as patch:
            Full(router, patch)
            sending = asyncio.create_task(router.send(request.identity, "x"))
            replying = asyncio.create_task(request.reply("x"))
            await until(lambda: router.waiting_for(request.identity) == 2)
        await router.close()
        for waiting in (sending, replying):
            with pytest.raises(errors.Closed):
                await asyncio.wait_for(waiting, PATIENCE)


async def test_sends_that_need_not_wait_leave_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("here")
        identity = (await router.recv(PATIENCE)).identity
        turns: list[int] = []

        async def others() -> None:
            while True:
                turns.append(router.statistics().sent)
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        for _ in range(500):
            await router.send(identity, "x")
        assert len(turns) >= 3
        other.cancel()


async def test_a_peer_is_sent_to_in_the_framing_that_it_used_last() -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        for sent, framed in (("with", True), ("without", False), ("with", True)):
            await (dealer.send(b"", sent) if framed else dealer.send(sent))
            request = await router.recv(PATIENCE)
            assert request.text() == sent
            await router.send(request.identity, "answer")
            assert (await dealer.recv(PATIENCE)).frames == ((b"", b"answer") if framed else (b"answer",))


async def test_who_has_answered_a_req_peer_by_himself_is_not_answered_for_again() -> None:
    loop, failures = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: failures.append(context))

    async def handler(request: Request) -> bytes:
        await request.reply("by hand")
        if request.text() == "fail":
            raise ValueError("after the answer")
        return b"one too many"

    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint, delimiter=True) as dealer:
        serving = asyncio.create_task(router.serve(handler))
        for _ in range(2):
            for text in ("fail", "return"):
                await dealer.send(text)
                assert (await dealer.recv(PATIENCE)).text() == "by hand"
    await serving
    assert not failures


class Slow(Leaving):
    """A request whose peer takes each reply, and how long that was to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def waiting_for(self, identity: bytes) -> int:
        return 0

    async def reply(self, *frames: bytes, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)


async def test_who_reads_again_is_waited_for_again() -> None:
    silent: Any = Silent(PEER)
    slow: Any = Slow()
    run = serving_module.Serving(slow, answering, 1, None, notices())
    await run._reply(silent, [b"dropped"])
    await run._reply(slow, [b"one"])
    await run._reply(slow, [b"two"])
    assert slow.timeouts == [0, serving_module.REPLY_SECONDS]


async def test_serve_forgets_that_it_waited_in_vain_for_who_has_left() -> None:
    silent: Any = Silent(PEER)
    gone: Any = Leaving()
    run = serving_module.Serving(gone, answering, 1, None, notices())
    await run._reply(silent, [b"dropped"])
    assert run._stuck
    gone.replies = 1
    await run._reply(gone, [b"one"])
    assert not run._stuck


@pytest.mark.parametrize("kind", [Router, Replier])
async def test_serving_ends_where_its_places_are_held_by_handlers_that_never_began(
    kind: type[Router | Replier],
) -> None:
    begun: list[Request] = []

    async def handler(request: Request) -> bytes:
        begun.append(request)
        return b""

    async with kind(bind=LOOPBACK) as end, Dealer(connect=end.endpoint, delimiter=True) as dealer:
        for _ in range(4):
            await dealer.send("ask")
        await until(lambda: end.statistics().received == 4)
        others = asyncio.all_tasks()
        serving = asyncio.create_task(end.serve(handler, max_concurrency=1))
        others.add(serving)
        while asyncio.all_tasks() <= others:  # until a handler's task is made, which has not had its turn then
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await end.close()
            await serving
    assert len(begun) <= 1


async def test_a_handler_that_others_cancel_before_it_begins_gives_its_place_back() -> None:
    async def handler(request: Request) -> bytes:
        return request.body

    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint, delimiter=True) as dealer:
        await dealer.send("first")
        await until(lambda: router.statistics().received == 1)
        others = asyncio.all_tasks()
        serving = asyncio.create_task(router.serve(handler, max_concurrency=1))
        others.add(serving)
        while not (begins := asyncio.all_tasks() - others):
            await asyncio.sleep(0)
        begins.pop().cancel()
        assert (await dealer.recv(PATIENCE)).text() == ""  # a REQ would wait for ever
        await dealer.send("second")
        assert (await dealer.recv(PATIENCE)).text() == "second"
        assert router.statistics().notices == {"handler failed": 1}
    await serving


async def test_a_handler_that_exits_ends_its_own_request_alone() -> None:
    async def handler(request: Request) -> bytes:
        if request.text() != "go on":
            sys.exit(3)
        return request.body

    def on_error(request: Request, error: Exception) -> bytes:
        if request.text() == "exit again":
            sys.exit(4)
        return str(error).encode()

    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint, delimiter=True) as dealer:
        serving = asyncio.create_task(router.serve(handler, on_error=on_error))
        for text, answer in (("exit", "the handler called sys.exit(3)"), ("exit again", ""), ("go on", "go on")):
            await dealer.send(text)
            assert (await dealer.recv(PATIENCE)).text() == answer
        assert router.statistics().notices["handler failed"] == 2
    await serving


async def test_a_reply_that_was_sent_counts_though_another_one_was_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("ask")
        request = await router.recv(PATIENCE)
        full = Full(router, monkeypatch)
        in_vain = asyncio.create_task(request.reply("one"))
        await until(lambda: router.waiting_for(request.identity) == 1)
        sent = asyncio.create_task(request.reply("two"))
        await until(lambda: router.waiting_for(request.identity) == 2)
        in_vain.cancel()
        await asyncio.wait({in_vain})
        full.room = True
        router._on_writable()
        await sent
        assert request.answered


async def test_sends_for_which_there_is_no_time_are_made_all_the_same_where_there_is_room() -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("here")
        identity = (await router.recv(PATIENCE)).identity
        failed = {"router": 0, "dealer": 0}
        for name, send in (("router", partial(router.send, identity)), ("dealer", dealer.send)):
            for _ in range(500):
                try:
                    async with asyncio.timeout(0):
                        await send("x")
                except TimeoutError:
                    failed[name] += 1
        assert max(failed.values()) <= 500 // 128 + 1


@pytest.mark.parametrize("kind", ["push", "router"])
async def test_messages_of_many_tasks_keep_the_order_in_which_they_were_sent(kind: str) -> None:
    count = 600
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("here")
        identity = (await router.recv(PATIENCE)).identity
        send: Any = partial(router.send, identity) if kind == "router" else dealer.send
        await asyncio.gather(*(send(str(number)) for number in range(count)))
        end: Any = dealer if kind == "router" else router
        assert [(await end.recv(PATIENCE)).text() for _ in range(count)] == [str(number) for number in range(count)]
