"""Proxies: every pattern through them, plain peers on both sides, and their clean end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
import zmq

from aiozpat import (
    Dealer,
    Proxy,
    Publisher,
    Puller,
    Pusher,
    Replier,
    Request,
    Requester,
    Router,
    SocketOptions,
    Subscriber,
    errors,
)
from aiozpat.endpoints.proxy import Pattern
from aiozpat.observability.statistics import ProxyStatistics
from aiozpat.transport.forwarder import Forwarder
from tests.support import LOOPBACK, PATIENCE, Process, free_port, until


async def shout(request: Request) -> bytes:
    return request.body.upper()


async def test_requests_go_to_the_workers_in_turn_and_answers_find_their_way_back() -> None:
    async with (
        Proxy("request-reply", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy,
        Replier(connect=proxy.backend_endpoint) as one,
        Router(connect=proxy.backend_endpoint, framing="delimited") as two,
        Dealer(connect=proxy.frontend_endpoint, delimiter=True) as dealer,
        Requester(connect=proxy.frontend_endpoint) as requester,
    ):
        serving = [asyncio.create_task(worker.serve(shout)) for worker in (one, two)]
        while not (one.statistics().received and two.statistics().received):  # until both workers are connected
            assert (await requester.request("x", timeout=PATIENCE)).body == b"X"
        for number in range(100):
            await dealer.send(f"a{number}")
        answers = {(await dealer.recv(PATIENCE)).text() for _ in range(100)}
        assert answers == {f"A{number}" for number in range(100)}
    await asyncio.gather(*serving)


async def test_subscriptions_travel_through_to_the_publisher() -> None:
    async with (
        Proxy("publish-subscribe", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy,
        Publisher(connect=proxy.frontend_endpoint) as publisher,
        Subscriber(connect=proxy.backend_endpoint, topics=["a"]) as one,
        Subscriber(connect=proxy.backend_endpoint, topics=["a"]) as two,
    ):
        assert await one.ready(PATIENCE)
        assert await two.ready(PATIENCE)
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)  # the two are one connection: the proxy's
        assert publisher.subscribers("b") == 0
        await publisher.send("a", "body")
        for subscriber in (one, two):
            assert (await subscriber.recv(PATIENCE)).frames == (b"a", b"body")


async def test_a_pipeline_is_passed_on_and_counted_and_captured() -> None:
    async with (
        Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK, capture_bind=LOOPBACK) as proxy,
        Subscriber(connect=proxy.capture_endpoint, topics=[""]) as witness,
        Pusher(connect=proxy.frontend_endpoint) as pusher,
        Puller(connect=proxy.backend_endpoint) as puller,
    ):
        assert not await witness.ready(PATIENCE)  # the capture is a plain PUB
        await pusher.send_many(f"task {number}" for number in range(10))
        for number in range(10):
            assert (await puller.recv(PATIENCE)).text() == f"task {number}"
        statistics = await proxy.statistics()
        assert (statistics.frontend.received, statistics.frontend.received_bytes) == (10, 60)
        assert (statistics.backend.sent, statistics.backend.sent_bytes) == (10, 60)
        assert (statistics.frontend.sent, statistics.backend.received) == (0, 0)
        assert [message.text() for message in await witness.recv_many(limit=1)] == ["task 0"]
        both = await asyncio.gather(proxy.statistics(), proxy.statistics())
        assert both[0] == both[1] == statistics


async def test_plain_peers_on_both_sides() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as rep, context.socket(zmq.REQ) as req:
        rep.linger = req.linger = 0
        async with Proxy("request-reply", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy:
            rep.connect(proxy.backend_endpoint)
            req.connect(proxy.frontend_endpoint)
            req.send(b"hello")
            assert await asyncio.to_thread(rep.recv) == b"hello"
            rep.send(b"world")
            assert await asyncio.to_thread(req.recv) == b"world"


async def test_proxies_stand_in_a_row() -> None:
    async with (
        Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as first,
        Proxy("pipeline", frontend_connect=first.backend_endpoint, backend_bind=LOOPBACK) as second,
        Pusher(connect=first.frontend_endpoint) as pusher,
        Puller(connect=second.backend_endpoint) as puller,
    ):
        await pusher.send("far")
        assert (await puller.recv(PATIENCE)).text() == "far"


async def test_it_ends_with_its_block_also_when_that_is_cancelled() -> None:
    running = asyncio.Event()

    async def run() -> None:
        async with Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy:
            running.set()
            await proxy.serve()

    task = asyncio.create_task(run())
    await running.wait()
    assert any(thread.name == "aiozpat-proxy" for thread in threading.enumerate())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(thread.name == "aiozpat-proxy" for thread in threading.enumerate())


@pytest.mark.parametrize("way", ["pipeline", "request-reply"])
async def test_it_ends_while_a_side_is_full(way: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq's proxy waits for room inside a send then, and hears no command."""
    monkeypatch.setattr("aiozpat.transport.forwarder._COUNT_SECONDS", 0.1)
    front = Pusher if way == "pipeline" else Dealer
    back = zmq.PULL if way == "pipeline" else zmq.ROUTER
    with zmq.Context() as context, context.socket(back) as silent:
        silent.linger = 0
        silent.rcvhwm = 1
        async with front(bind=LOOPBACK, linger=0) as sender:
            async with Proxy(way, frontend_connect=sender.endpoint, backend_bind=LOOPBACK, linger=0) as proxy:
                silent.connect(proxy.backend_endpoint)
                with pytest.raises(errors.TimedOut):
                    while True:
                        await sender.send_many([b"x" * 50_000] * 100, timeout=1)
                with contextlib.suppress(errors.TimedOut):  # unless it hears the question between two sends
                    await proxy.statistics()
                serving = asyncio.create_task(proxy.serve())
                asking = asyncio.create_task(proxy.statistics())
                await asyncio.sleep(0)
            await serving
            with contextlib.suppress(errors.Closed, errors.TimedOut):
                await asking
    assert not any(thread.name == "aiozpat-proxy" for thread in threading.enumerate())


async def test_its_linger_holds_where_nobody_answers(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for room then, and its sockets are closed after their context has ended, when they take no options."""
    monkeypatch.setattr("aiozpat.transport.forwarder._COUNT_SECONDS", 0.1)
    one = SocketOptions(send_queue_messages=1)
    front, nowhere = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free_port()}"
    async with Pusher(connect=front, linger=0) as pusher:
        await pusher.send_many([b"x"] * 50)  # so that they come at once: a proxy that sees no room takes no message
        async with Proxy("pipeline", frontend_bind=front, backend_connect=nowhere, options=one, linger=0) as proxy:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(errors.TimedOut):
                    while True:  # until it waits inside a send
                        await proxy.statistics()
    await until(lambda: not any(thread.name == "aiozpat-context-end" for thread in threading.enumerate()))


async def test_what_waits_behind_a_full_side_is_delivered_within_linger() -> None:
    few = SocketOptions(send_buffer_bytes=4096)  # in the kernel, whatever its ways
    with zmq.Context() as context, context.socket(zmq.PULL) as silent:
        silent.linger = 0
        silent.rcvhwm = 1
        silent.rcvbuf = 4096
        async with (
            Pusher(bind=LOOPBACK, prefetch=1, linger=0) as pusher,
            Proxy(
                "pipeline", frontend_connect=pusher.endpoint, backend_bind=LOOPBACK, linger=PATIENCE, options=few
            ) as proxy,
        ):
            silent.connect(proxy.backend_endpoint)
            sent = -1
            while (before := sent) != (sent := pusher.statistics().sent):  # on a busy machine, once may be too early
                with pytest.raises(errors.TimedOut):
                    await pusher.send_many([bytes(1000)] * 100_000, timeout=0.5)
            assert before == sent > 1000
            closing = asyncio.create_task(proxy.close())
            await until(lambda: any(thread.name == "aiozpat-context-end" for thread in threading.enumerate()))
            received = 0
            while not closing.done():
                received += await asyncio.to_thread(silent.poll, 10) and len(silent.recv_multipart())
            await closing
            assert received > 900  # nearly all of the thousand that the proxy held


async def test_its_end_comes_also_when_closing_is_cancelled() -> None:
    proxy = await Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK).__aenter__()
    endpoint = proxy.frontend_endpoint
    for _ in range(2):
        closing = asyncio.create_task(proxy.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    await proxy.close()
    # Its thread has said so as the last thing that it does; it may not be gone yet.
    await until(lambda: not any(thread.name == "aiozpat-proxy" for thread in threading.enumerate()))
    async with Puller(bind=endpoint):
        pass


async def test_questions_that_are_open_at_the_end_are_closed() -> None:
    for _ in range(20):
        async with Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy:
            asking = [asyncio.create_task(proxy.statistics()) for _ in range(5)]
            await asyncio.sleep(0)
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(result) for result in results} <= {ProxyStatistics, errors.Closed}


async def test_a_monstrous_subscription_is_not_passed_on(processes: Callable[..., Process]) -> None:
    """libzmq's trie is a level for each byte, and an XSUB walks it by recursion."""
    async with (
        Proxy("publish-subscribe", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy,
        Publisher(connect=proxy.frontend_endpoint) as publisher,
        Publisher(bind=LOOPBACK) as direct,
        Subscriber(connect=[proxy.backend_endpoint, direct.endpoint], topics=["a"]) as subscriber,
    ):
        assert await subscriber.ready(PATIENCE)
        for endpoint in (proxy.backend_endpoint, direct.endpoint):
            assert await processes("hostile_subscriber", endpoint, "200000").wait() == (0, "cut off\n", "")
        await publisher.send("a", "1")
        await direct.send("a", "2")
        assert {(await subscriber.recv(PATIENCE)).body for _ in range(2)} == {b"1", b"2"}
        assert direct.subscribers("a" * 200_000) == 1  # the good one alone


async def test_misuse_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match="a proxy's pattern is"):
        Proxy("nothing", frontend_bind=LOOPBACK, backend_bind=LOOPBACK)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(errors.UsageError, match="backend needs an endpoint: backend_bind= or backend_connect="):
        Proxy("pipeline", frontend_bind=LOOPBACK)
    with pytest.raises(errors.InvalidEndpoint):
        Proxy("pipeline", frontend_bind=LOOPBACK, backend_connect=LOOPBACK)
    with pytest.raises(errors.InvalidEndpoint, match="inproc"):
        Proxy("pipeline", frontend_bind="inproc://here", backend_bind=LOOPBACK)
    with pytest.raises(ValueError, match="linger"):
        Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK, linger=-1)
    proxy = Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK)
    with pytest.raises(errors.UsageError, match="async with"):
        await proxy.statistics()
    with pytest.raises(errors.UsageError, match="async with"):
        _ = proxy.frontend_endpoint
    async with proxy:
        with pytest.raises(errors.UsageError, match="entered before"):
            await proxy.__aenter__()
        with pytest.raises(errors.AddressInUse):
            async with Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=proxy.frontend_endpoint):
                pass
        with pytest.warns(ResourceWarning, match="was left open"):
            proxy.__del__()
    await proxy.close()
    with pytest.raises(errors.Closed):
        await proxy.statistics()
    with pytest.raises(errors.Closed):
        await proxy.serve()


@pytest.mark.parametrize(("error", "seconds"), [(asyncio.CancelledError, 0.5), (KeyError, 60)])
async def test_a_proxy_that_is_cancelled_delivers_for_a_moment_only(
    error: type[BaseException], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lingers: list[float] = []
    end = Forwarder.end

    def seen(forwarder: Forwarder, linger: float) -> None:
        lingers.append(linger)
        end(forwarder, linger)

    monkeypatch.setattr(Forwarder, "end", seen)
    with pytest.raises(error):
        async with Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK, linger=60):
            raise error
    assert lingers == [seconds]


async def test_thousands_of_topics_travel_through_all() -> None:
    async with (
        Proxy("publish-subscribe", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy,
        Publisher(connect=proxy.frontend_endpoint) as publisher,
        Subscriber(connect=proxy.backend_endpoint, topics=["a"]) as subscriber,
    ):
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        for number in range(20_000):  # faster than they are read
            subscriber.subscribe(f"topic {number:05}")
        await until(lambda: publisher.subscribers("topic 19999") == 1)
        assert all(publisher.subscribers(f"topic {number:05}") == 1 for number in range(20_000))


async def test_who_asks_after_a_question_that_was_given_up_gets_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    command = Forwarder._command

    def noted(forwarder: Forwarder, text: bytes) -> None:
        asked.append(text)
        if text != b"STATISTICS":
            command(forwarder, text)

    monkeypatch.setattr(Forwarder, "_command", noted)
    async with Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy:
        given_up = asyncio.create_task(proxy.statistics())
        await until(lambda: len(asked) == 1)
        given_up.cancel()
        await asyncio.wait({given_up})
        asking = asyncio.create_task(proxy.statistics())
        for _ in range(3):
            await asyncio.sleep(0)
        assert asked == [b"STATISTICS"]
        assert proxy._forwarder is not None
        command(proxy._forwarder, b"STATISTICS")  # slow to arrive: it answers both
        assert (await asyncio.wait_for(asking, PATIENCE)).frontend.received == 0
