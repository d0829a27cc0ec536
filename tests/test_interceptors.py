"""Code around calls, on both sides, for results and streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

import aiozpat
from aiozpat import Call, Client, ClientCall, ClientState, Proceed, Retry, Server, errors
from tests.support import LOOPBACK, PATIENCE, Calc, until


def echo_service() -> aiozpat.Service:
    service = aiozpat.Service("s")

    @service.method
    async def meta() -> dict[str, str]:
        return dict(aiozpat.current_call().metadata)

    @service.method
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @service.method
    def slow_add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def count(n: int) -> AsyncIterator[Any]:
        yield dict(aiozpat.current_call().metadata)
        for number in range(n):
            yield number

    @service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @service.method
    async def fail() -> None:
        raise errors.NotFound("nothing here")

    return service


async def test_interceptors_run_around_each_call_in_their_order() -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def intercept(call: ClientCall | Call, proceed: Proceed) -> Any:
            seen.append(f"{name} {call.method} {call.streams}")
            try:
                return await proceed()
            except errors.RpcError as error:
                seen.append(f"{name} {error.code.name}")
                raise
            finally:
                seen.append(f"{name} done")

        return intercept

    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=[named("s1"), named("s2")]) as server,
        Client(server.endpoint, interceptors=[named("c1"), named("c2")]) as client,
    ):
        assert await client.call("s.add", 1, 2, result_type=int) == 3
        inner = ["s1 s.add False", "s2 s.add False", "s2 done", "s1 done"]
        assert seen == ["c1 s.add False", "c2 s.add False", *inner, "c2 done", "c1 done"]
        seen.clear()
        assert await client.call("s.slow_add", 1, 2) == 3
        assert len(seen) == 8
        seen.clear()
        with pytest.raises(errors.NotFound):
            await client.call("s.fail")
        assert [line for line in seen if "NOT_FOUND" in line] == [f"{n} NOT_FOUND" for n in ("s2", "s1", "c2", "c1")]
        seen.clear()
        async with client.stream("s.count", 3) as items:
            assert seen[:2] == ["c1 s.count True", "c2 s.count True"]
            assert [item async for item in items][1:] == [0, 1, 2]
            await until(lambda: "s1 done" in seen)
        assert seen[-2:] == ["c2 done", "c1 done"]


async def test_an_interceptor_that_is_no_coroutine_function_is_told_so() -> None:
    def plain(call: ClientCall | Call, proceed: Proceed) -> None:
        """It forgets `async`."""

    says = r"an interceptor is `async def f\(call, proceed\)`; <function .*plain.* gave None"
    wrong: Any = [plain]
    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=wrong) as server,
        Client(server.endpoint) as client,
        Client(server.endpoint, interceptors=wrong) as other,
    ):
        with pytest.raises(errors.Internal, match=says):
            await client.call("s.add", 1, 2)
        with pytest.raises(TypeError, match=says):
            await other.call("s.add", 1, 2)


async def test_metadata_added_on_the_way_reaches_the_handler() -> None:
    async def sign(call: ClientCall, proceed: Proceed) -> Any:
        call.metadata["signed"] = "yes"
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[sign]) as client,
    ):
        assert await client.call("s.meta") == {"signed": "yes"}
        assert await client.call("s.meta", metadata={"a": "b"}) == {"a": "b", "signed": "yes"}
        async with client.stream("s.count", 0, metadata={"a": "b"}) as items:
            assert await anext(items) == {"a": "b", "signed": "yes"}


async def test_a_client_interceptor_may_answer_itself_and_a_server_one_may_change_the_answer() -> None:
    asked = 0
    cache: dict[Any, Any] = {}

    async def cached(call: ClientCall, proceed: Proceed) -> Any:
        key = (call.method, call.params)
        if key not in cache:
            cache[key] = await proceed()
        return cache[key]

    async def count(call: Call, proceed: Proceed) -> Any:
        nonlocal asked
        asked += 1
        return 10 * await proceed() + len(call.params)

    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=[count]) as server,
        Client(server.endpoint, interceptors=[cached]) as client,
    ):
        for _ in range(5):
            assert await client.call("s.add", 1) == 22
        assert asked == 1
        with pytest.raises(errors.UsageError, match=r"did not await proceed\(\)"):
            cache["s.count", (1,)] = None
            async with client.stream("s.count", 1):
                pass


async def test_what_an_interceptor_refuses_never_ran_and_may_be_tried_again() -> None:
    left = 2

    async def full(call: Call, proceed: Proceed) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise errors.ResourceExhausted("come back later")
        return await proceed()

    async def deny(call: Call, proceed: Proceed) -> Any:
        if call.metadata.get("key") != "open sesame":
            raise errors.Unauthenticated("who are you?", details={"scheme": "key"})
        return await proceed()

    async with Server(echo_service(), bind=LOOPBACK, interceptors=[deny, full]) as server:
        key = {"key": "open sesame"}
        async with Client(server.endpoint) as client:
            with pytest.raises(errors.Unauthenticated, match="who are you") as caught:
                await client.call("s.add", 1)
            assert caught.value.details == {"scheme": "key"}
            with pytest.raises(errors.ResourceExhausted) as refused:
                await client.call("s.add", 1, metadata=key)
            assert refused.value.refused
            assert server.statistics().notices["refused"] == 1
            with pytest.raises(errors.Unauthenticated):
                async with client.stream("s.count", 1) as items:
                    await anext(items)
        async with Client(server.endpoint, retry=Retry(attempts=2, backoff=0.001)) as client:
            assert await client.call("s.add", 1, metadata=key) == 2


async def test_a_stream_left_or_cancelled_ends_its_interceptors() -> None:
    ended: list[str] = []

    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        finally:
            ended.append(call.method)

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[watch]) as client,
    ):
        async with client.stream("s.count", 10**9) as items:
            await anext(items)
        assert ended == ["s.count"]
        assert await client.call("s.total", _numbers(10)) == 45
        items = await client.stream("s.count", 10**9).__aenter__()
        with pytest.warns(ResourceWarning, match="left open"):  # noqa: PT031 - the warning comes with the collection
            del items
            gc.collect()
        await until(lambda: ended == ["s.count", "s.total", "s.count"])
    async with Client("tcp://127.0.0.1:1", interceptors=[watch]) as client:
        stream = client.stream("s.count", 1)
        entering = asyncio.create_task(stream.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await until(lambda: len(ended) == 4)


async def _numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def test_notifications_pass_the_clients_interceptors() -> None:
    seen: list[dict[str, str]] = []

    async def sign(call: ClientCall, proceed: Proceed) -> Any:
        call.metadata["signed"] = "yes"
        return await proceed()

    async def note(call: Call, proceed: Proceed) -> Any:
        seen.append(dict(call.metadata))
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=[note]) as server,
        Client(server.endpoint, interceptors=[sign]) as client,
    ):
        await client.notify("s.add", 1)
        await client.notify("s.add", params={"a": 1}, metadata={"a": "b"})
        await until(lambda: seen == [{"signed": "yes"}, {"a": "b", "signed": "yes"}])


async def test_interceptors_of_a_stream_see_how_it_ended() -> None:
    outcomes: list[str] = []

    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        try:
            await proceed()
        except errors.RpcError as error:
            outcomes.append(error.code.name)
            raise
        outcomes.append("OK")

    async def maintenance(call: Call, proceed: Proceed) -> Any:
        if "closed" in call.metadata:
            raise errors.Unavailable("maintenance")
        if "full" in call.metadata:
            raise errors.ResourceExhausted("full", details={"retry_after": 1.5})
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=[maintenance]) as server,
        Client(server.endpoint, interceptors=[watch]) as client,
    ):
        await client.ready()
        with pytest.raises(errors.DeadlineExceeded, match="no item"):
            async with client.open("s.total", idle_timeout=0.05) as talk:
                await anext(talk)
        with pytest.raises(errors.Unavailable, match="maintenance"):
            async with client.stream("s.count", 1, metadata={"closed": ""}) as items:
                await anext(items)
        with pytest.raises(errors.ResourceExhausted, match="full") as caught:
            async with client.stream("s.count", 1, metadata={"full": ""}) as items:
                await anext(items)
        assert caught.value.details == {"retry_after": 1.5}
        assert caught.value.refused
        async with client.stream("s.count", 1) as items:
            await anext(items)
        assert outcomes == ["DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "OK"]
        assert client.statistics().sessions == 1  # no answer was taken for the server's going away


async def test_a_stream_that_an_interceptor_swallows_is_an_error_and_opening_twice_too() -> None:
    async def swallow(call: Call, proceed: Proceed) -> None:
        """It forgets to proceed."""

    async def twice(call: ClientCall, proceed: Proceed) -> Any:
        with pytest.raises(AttributeError):
            call.params = (5,)  # type: ignore[misc]  # that is the point
        with pytest.raises(errors.Unavailable):
            await proceed()
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK, interceptors=[swallow]) as server,
        Client(server.endpoint) as client,
        client.stream("s.count", 3) as items,
    ):
        with pytest.raises(errors.Internal, match=r"awaited proceed\(\)"):
            await anext(items)
    async with Client("tcp://127.0.0.1:1", interceptors=[twice], wait_for_ready=False) as client:
        with pytest.raises(errors.UsageError, match="opens once"):
            await client.stream("s.count", 3).__aenter__()


async def test_what_an_interceptor_does_twice_is_no_half_of_a_stream() -> None:
    async def twice(call: Call | ClientCall, proceed: Proceed) -> Any:
        with contextlib.suppress(errors.NotFound):
            return await proceed()
        return await proceed()

    service, begun = echo_service(), 0

    @service.method
    async def fail_first() -> int:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise errors.NotFound("not yet")
        return begun

    @service.method
    async def fail_total(numbers: AsyncIterator[int]) -> int:
        await anext(numbers)
        raise errors.NotFound("nothing here")

    @service.method
    async def fail_count() -> AsyncIterator[int]:
        yield 1
        raise errors.NotFound("nothing here")

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, interceptors=[twice]) as client:
        assert await client.call("s.fail_first") == 2
        with pytest.raises(errors.UsageError, match="no iterator is read twice"):
            await client.call("s.fail_total", numbers())
    begun = 0
    async with Server(service, bind=LOOPBACK, interceptors=[twice]) as server, Client(server.endpoint) as client:
        assert await client.call("s.fail_first") == 2
        with pytest.raises(errors.Internal, match="no stream begins again"):
            await client.call("s.fail_total", numbers())
        async with client.stream("s.fail_count") as items:
            assert await anext(items) == 1
            with pytest.raises(errors.Internal, match="no stream begins again"):
                await anext(items)


async def test_a_stream_that_is_cancelled_while_it_opens_is_not_left_open_on_the_server() -> None:
    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[watch]) as client,
    ):
        await client.ready()
        streams = [client.stream("s.count", 10**9) for _ in range(10)]

        async def enter(number: int) -> None:
            async with streams[number]:
                await asyncio.sleep(0)

        for steps in range(10):
            entering = asyncio.create_task(enter(steps))
            for _ in range(steps):
                await asyncio.sleep(0)
            entering.cancel()
            await asyncio.wait({entering})
            await until(lambda: client.statistics().in_flight == 0)
        await until(lambda: server.statistics().running == 0)
        assert client.statistics().calls > 5


async def test_an_interceptor_that_proceeds_after_it_was_cancelled_opens_nothing() -> None:
    proceeded: list[BaseException] = []
    begun, go = asyncio.Event(), asyncio.Event()

    async def stubborn(call: ClientCall, proceed: Proceed) -> Any:
        begun.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        try:
            return await proceed()
        except errors.UsageError as error:
            proceeded.append(error)
            raise asyncio.CancelledError from error

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[stubborn]) as client,
    ):
        entering = asyncio.ensure_future(client.stream("s.count", 10**9).__aenter__())
        await begun.wait()
        entering.cancel()
        await asyncio.wait({entering})
        go.set()
        await until(lambda: bool(proceeded))
        assert client.statistics().calls == 0


async def test_a_refused_stream_is_opened_again_with_interceptors_too() -> None:
    outcomes: list[str] = []

    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        outcomes.append("begun")
        try:
            await proceed()
        except errors.RpcError as error:
            outcomes.append(error.code.name)
            raise
        outcomes.append("OK")

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[watch]) as client,
    ):
        await client.ready()
        executor = server._executor
        assert executor is not None
        executor.refuse("it drains")  # and its goaway is still on its way
        async with client.stream("s.count", 3) as items:
            reading = asyncio.create_task(anext(items))
            await until(lambda: client.state is not ClientState.READY)
            executor.refusing, executor._admitting = None, executor.routes
            assert await asyncio.wait_for(reading, PATIENCE) == {}
            assert [item async for item in items] == [0, 1, 2]
        assert outcomes == ["begun", "OK"]
        await until(lambda: client.state is ClientState.READY)
        executor.refuse("it drains")
        async with client.stream("s.count", 3) as items:  # nobody reads, so nobody opens it again
            await until(lambda: client.state is not ClientState.READY)
        assert outcomes[2:] == ["begun", "UNAVAILABLE"]
        executor.refusing, executor._admitting = None, executor.routes
        await client.ready()
        executor.refuse("it drains")
        dropped = await client.stream("s.count", 3).__aenter__()
        await until(lambda: client.state is not ClientState.READY)
        del dropped
        gc.collect()
        await until(lambda: not [task for task in asyncio.all_tasks() if "watch" in repr(task)])
        executor.refusing, executor._admitting = None, executor.routes


@pytest.mark.parametrize("kind", ["timeout", "idle_timeout"])
async def test_an_interceptor_can_not_hold_a_stream_up_past_its_time(kind: str) -> None:
    async def hang(call: ClientCall, proceed: Proceed) -> Any:
        await asyncio.Event().wait()

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[hang]) as client,
    ):
        limits: Any = {kind: 0.05}
        with pytest.raises(errors.DeadlineExceeded, match="an interceptor took"):
            await asyncio.wait_for(client.stream("s.count", 1, **limits).__aenter__(), PATIENCE)


async def _times_out(calling: Awaitable[Any], match: str = "its interceptors took") -> None:
    with pytest.raises(errors.DeadlineExceeded, match=match):
        await asyncio.wait_for(calling, PATIENCE)


async def test_what_an_interceptor_does_counts_against_the_time_of_the_call() -> None:
    hanging = asyncio.Event()

    async def hang(call: ClientCall, proceed: Proceed) -> Any:
        if call.metadata.get("hang") == "before":
            hanging.set()
            await asyncio.Event().wait()
        result = await proceed()
        if call.metadata.get("hang") == "after":
            await asyncio.Event().wait()
        return result

    async with Server(echo_service(), bind=LOOPBACK) as server:
        for retry in (None, Retry(hedge=0.001)):
            async with Client(server.endpoint, interceptors=[hang], retry=retry) as client:
                await client.ready()
                before, after = {"hang": "before"}, {"hang": "after"}
                await _times_out(client.call("s.add", 1, timeout=0.05, metadata=before))
                await _times_out(client.call("s.add", 1, timeout=0.05, metadata=before, idempotent=True))
                await _times_out(client.call("s.add", 1, timeout=0.2, metadata=after), match=".")
                await _times_out(client.notify("s.add", 1, timeout=0.05, metadata=before))
                hanging.clear()
                calling = asyncio.ensure_future(client.call("s.add", 1, metadata=before))
                await hanging.wait()
                calling.cancel()
                await asyncio.wait({calling})
                assert calling.cancelled()
                for timeout in (0, -1):
                    with pytest.raises(errors.DeadlineExceeded, match="before it was sent"):
                        await client.call("s.add", 1, timeout=timeout)
                with pytest.raises(ValueError, match="timeout is a number of seconds; got nan"):
                    await client.call("s.add", 1, timeout=math.nan)
                assert await client.call("s.add", 1, timeout=math.inf) == 2


async def test_a_call_under_way_is_ended_by_its_own_deadline_not_by_that_of_its_interceptors(calc: Calc) -> None:
    seen: list[BaseException] = []

    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        except BaseException as error:
            seen.append(error)
            raise

    async def again(call: ClientCall, proceed: Proceed) -> Any:
        with contextlib.suppress(errors.DeadlineExceeded):
            return await proceed()
        return await proceed()

    async with Server(calc.service, bind=LOOPBACK) as server:
        async with Client(server.endpoint, interceptors=[watch]) as client:
            with pytest.raises(errors.DeadlineExceeded, match=r"in time|within"):
                await client.call("calc.hold", 1, timeout=0.05)
            assert [type(error) for error in seen] == [errors.DeadlineExceeded]
        async with Client(server.endpoint, interceptors=[again]) as client:
            with pytest.raises(errors.DeadlineExceeded):
                await client.call("calc.hold", 1, timeout=0.05)


async def test_an_interceptor_may_proceed_when_nobody_waits_any_more() -> None:
    later: list[asyncio.Future[Any]] = []

    async def answer(call: ClientCall, proceed: Proceed) -> Any:
        if not later:
            later.append(asyncio.ensure_future(proceed()))
            return "soon"
        return await proceed()

    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[answer]) as client,
    ):
        assert await client.call("s.add", 1) == "soon"
        assert await asyncio.wait_for(later[0], PATIENCE) == 2
        assert await client.call("s.add", 1) == 2


async def test_an_interceptor_that_keeps_an_error_to_itself_hangs_no_opening() -> None:
    async def keep(call: ClientCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        except errors.Unavailable:
            await asyncio.Event().wait()

    async with Client("tcp://127.0.0.1:9", interceptors=[keep], wait_for_ready=False) as client:
        with pytest.raises(errors.DeadlineExceeded, match="an interceptor took all the time"):
            async with asyncio.timeout(PATIENCE), client.stream("s.count", 3, timeout=0.1, idle_timeout=0.1):
                pass


async def test_what_interceptors_of_a_stream_raise_is_no_matter_for_asyncio() -> None:
    class Counter:
        def failing(self, n: int) -> AsyncIterator[int]:
            raise NotImplementedError

    service = aiozpat.Service("counter")

    @service.method
    async def failing(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
        raise errors.NotFound("no more")

    async def plain(call: ClientCall, proceed: Proceed) -> Any:
        return await proceed()

    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, interceptors=[plain]) as client:
        for _ in range(3):
            with pytest.raises(errors.NotFound):
                async for _ in client.stub(Counter).failing(3):
                    pass
            await asyncio.sleep(0)
            gc.collect()
    assert not said


async def test_interceptors_of_a_stream_that_was_refused_and_dropped_are_cancelled() -> None:
    ends: list[str] = []

    async def watch(call: ClientCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        except BaseException as error:
            ends.append(type(error).__name__)
            raise

    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    async with (
        Server(echo_service(), bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[watch]) as client,
    ):
        await client.ready()
        executor = server._executor
        assert executor is not None
        executor.refuse("it drains")
        dropped = await client.stream("s.count", 3).__aenter__()
        await until(lambda: client.state is not ClientState.READY)
        del dropped
        gc.collect()
        await until(lambda: bool(ends))
        gc.collect()
        executor.refusing, executor._admitting = None, executor.routes
    assert ends == ["CancelledError"]
    assert not said


async def test_no_interceptor_is_blamed_for_a_server_that_is_not_there(port: int) -> None:
    async def pass_on(call: ClientCall, proceed: Proceed) -> Any:
        return await proceed()

    async with Client(f"tcp://127.0.0.1:{port}", interceptors=[pass_on]) as client:
        with pytest.raises(errors.DeadlineExceeded, match="can't connect to") as raised:
            await client.stream("s.count", 3, idle_timeout=0.2).__aenter__()
        assert "interceptor" not in str(raised.value)
