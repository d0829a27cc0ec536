"""The client: awaits calls on one server, session after session."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from threading import get_ident
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from aiozpat.checks import flag, given, number, params_of, seconds, whole_number
from aiozpat.codec import Codec, Decoder, ForeignDecoder, ForeignItemDecoder, ItemDecoder, Values
from aiozpat.errors import (
    Closed,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    RpcError,
    Unavailable,
    UsageError,
)
from aiozpat.observability.notices import Notices
from aiozpat.observability.statistics import ClientStatistics
from aiozpat.protocol.flow import MAX_WINDOW
from aiozpat.rpc.around import Around, connections_tried
from aiozpat.rpc.channel import ChannelSettings
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.current import current_job, set_current_job
from aiozpat.rpc.decoders import Decoders
from aiozpat.rpc.flows import DecodesItems
from aiozpat.rpc.idempotence import Idempotence
from aiozpat.rpc.interceptors import ClientInterceptor, checked
from aiozpat.rpc.options import CallOptions, StreamOptions
from aiozpat.rpc.pending import Decodes, NeverRan
from aiozpat.rpc.pool import Pool
from aiozpat.rpc.retry import Attempts, Budget, Retry
from aiozpat.rpc.settings import BACKLOG_BYTES, WINDOW, WINDOW_BYTES, LinkSettings, process_name
from aiozpat.rpc.states import ClientState, StateChanges
from aiozpat.rpc.streams import Conversation, NoResult, Stream, StreamRequest, source_of
from aiozpat.rpc.stub import Arguments, StubStream, make_stub, stub_options
from aiozpat.transport import (
    Context,
    SocketOptions,
    check_connect,
    context_given,
    endpoints_of,
    options_given,
    watch_forks,
)

T = TypeVar("T")

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic
_YIELD = 64  # notifies between turns of the loop


class Client:
    """Calls the methods of a server; one connection carries any number of calls at once.

    Entering the block begins to connect, and does not wait for it: `ready` does.

    Args:
        endpoint: The server's, as in `tcp://127.0.0.1:5555`; or those of several servers of the same services, among
            which each call goes to the one with the fewest of this client's in flight. A host's name is looked up for
            each session anew, and its addresses have their turns.
        timeout: Seconds that a call may take where it says nothing itself.
        wait_for_ready: Whether a call made without a connection waits for one until its deadline, or fails at once.
        name: Who this is, in the server's logs, up to 200 characters; by default the program and its process id.
        heartbeat: Seconds of silence after which the server is pinged, 0.01 to 3600; after three of them it is given
            up. Either side that blocks its event loop for so long (or stops in a debugger) loses the session by it,
            and the calls with it.
        codec: What encodes params, results and items: `aiozpat.JSON()`, or one of your own, which the server has to
            know too; by default MessagePack.
        retry: When calls are tried again; by default only what never left, or met a server that drains.
        interceptors: Coroutine functions that are given each call and `proceed`, the first one outermost:
            `async def log(call, proceed): ...; return await proceed()`. Of a stream, `proceed` lasts until its end.
            What they do themselves counts against a call's time, and against the time to open a stream.
        max_in_flight: Calls in flight at once, to each server; past it `ResourceExhausted`.
        window_bytes: Bytes that either side may send beyond what the other has read; of the client's and the server's
            the smaller holds, and 65,536 at least.
        backlog_bytes: Bytes of calls that may wait to be sent; past it `ResourceExhausted`.
        options: Options of the socket; its `max_message_bytes` is 1 MiB at least.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be connected to.
        UsageError: There is no endpoint.
        ValueError: A value is out of range, or the codec's name is that of MessagePack.
        TypeError: A value is of the wrong kind.
    """

    _loop: asyncio.AbstractEventLoop | None = None  # of the class too: __del__ runs even if __init__ raised

    def __init__(
        self,
        endpoint: str | Iterable[str],
        *,
        timeout: float = 30.0,
        wait_for_ready: bool = True,
        name: str | None = None,
        heartbeat: float = 2.0,
        codec: Codec | None = None,
        retry: Retry | None = None,
        interceptors: Iterable[ClientInterceptor] = (),
        max_in_flight: int = 16_384,
        window_bytes: int = WINDOW_BYTES,
        backlog_bytes: int = BACKLOG_BYTES,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        self._endpoints = tuple(check_connect(one) for one in endpoints_of(endpoint))
        if not self._endpoints:
            raise UsageError("a Client needs at least one endpoint to connect to")
        numbers = {"max_in_flight": max_in_flight, "window_bytes": window_bytes, "backlog_bytes": backlog_bytes}
        for what, value in numbers.items():
            whole_number(what, value)
        number("timeout", timeout)
        given(retry, Retry, "retry is a policy, aiozpat.Retry(...)")
        self._timeout = timeout
        link = LinkSettings(
            name=name or process_name(),
            window_bytes=window_bytes,
            options=options_given(options),
            heartbeat=heartbeat,
        )
        values = None if codec is None else Values(codec)
        settings = ChannelSettings(link=link, max_calls=max_in_flight, backlog_bytes=backlog_bytes, values=values)
        self._notices = Notices(_log)
        self._decoders: Decoders[Decodes] = Decoders(Decoder if values is None else partial(ForeignDecoder, values))
        self._item_decoders: Decoders[DecodesItems] = Decoders(
            ItemDecoder if values is None else partial(ForeignItemDecoder, values)
        )
        self._interceptors = checked(interceptors)
        self._idempotent = Idempotence(self._decoders, self._interceptors)
        self._pool = Pool(
            self._endpoints,
            settings,
            self._notices,
            wait_for_ready=wait_for_ready,
            on_session=None if retry is None else self._idempotent.learn,
        )
        self._budget = None if retry is None else Budget(retry)
        self._hedge = None if retry is None else retry.hedge
        if self._interceptors or self._hedge is not None:
            around = Around(
                self.call,
                self.notify,
                deadline_after=self._deadline_after,
                interceptors=self._interceptors,
                budget=self._budget,
                hedge=self._hedge,
                idempotent=self._idempotent,
            )
            self.call = around.call  # type: ignore[method-assign]  # takes what `call` takes
            if self._interceptors:
                self.notify = around.notify  # type: ignore[method-assign]  # as above
        self._given_context = context_given(context)
        self._context: Context | None = None
        self._thread = 0
        self._ended = asyncio.Event()
        self._calls = 0

    def __repr__(self) -> str:
        return f"<aiozpat.Client of {', '.join(self._endpoints)}, {self.state.value}>"

    def __del__(self) -> None:
        if self._loop is not None and self._thread and self.state is not ClientState.CLOSED:
            warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)

    @property
    def endpoint(self) -> str:
        """The server's endpoint; the first of `endpoints`."""
        return self._endpoints[0]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The servers' endpoints."""
        return self._endpoints

    @property
    def state(self) -> ClientState:
        """Whether calls can be sent now."""
        return self._pool.state

    def state_changes(self) -> StateChanges:
        """An async iterator that gives the state now, then each change; it ends when the client is closed."""
        return StateChanges(self._pool.state, self._pool.watchers)

    # Life

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise UsageError("this Client was entered before; make a new one")
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._context = self._given_context or Context.current()
        self._context.hold()
        try:
            variables = copy_context()
            variables.run(set_current_job, None)  # a handler's client that outlives its call would hold it
            variables.run(self._pool.open, self._context)
        except BaseException:
            context, self._context, self._loop = self._context, None, None
            await context.release()
            raise
        watch_forks(self, Client._on_fork)
        return self

    def _on_fork(self) -> None:
        """Belong to no thread of this process, so that every call is looked at first."""
        self._thread = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye to the server and close, once it has read what it was sent (see `notify`).

        Calls in flight end with `Unavailable`, those that wait for a connection or for their next attempt with
        `Closed`. Closing twice is harmless. Cancelled, it closes without waiting.

        Raises:
            UsageError: On another loop.
        """
        context = self._context
        if context is None or not self._thread:  # in a forked child there is nothing to close
            return
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; close it there")
        if self.state is ClientState.CLOSED:
            await self._ended.wait()
            return
        self._idempotent.close()
        try:
            await self._pool.close(self._timeout)
        finally:
            try:
                await context.release()
            finally:
                self._ended.set()

    async def ready(self, timeout: float | None = None) -> None:
        """Wait for a connection, to one of the servers where there are several.

        Args:
            timeout: Seconds to wait; the client's own by default.

        Raises:
            DeadlineExceeded: There was none in time; the message says what went wrong.
            Unimplemented: The server speaks no version of the protocol that this client does, or not its codec.
            ResourceExhausted: `max_in_flight` calls wait for a connection already.
            Closed: The client is closed.
            UsageError: Outside the client's block, or on another loop.
            TypeError, ValueError: `timeout` is no number.
        """
        try:
            await self._connection(self._deadline_after(timeout), wait=True)
        except RpcError as error:
            error.from_call = True
            raise

    # Calls

    @overload
    async def call(self, method: str, /, *args: Any, result_type: type[T], **options: Unpack[CallOptions]) -> T: ...

    @overload
    async def call(self, method: str, /, *args: Any, result_type: Any = ..., **options: Unpack[CallOptions]) -> Any: ...

    async def call(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        result_type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a method and wait for its result.

        A call runs at most once, unless it is idempotent and the client has a `Retry` policy. Cancelling the waiting
        task cancels the handler. A call made inside a handler ends at that handler's deadline if it is earlier.

        Args:
            method: The full name, as in `calc.add`.
            args: The params by position, encoded as soon as there is a connection. Arrays, and read-only views, of
                64 KiB and more are not copied: leave them alone until there is a result; where there is none, because
                of a timeout, say, they may be sent later still. An async iterator among them is sent item by item, in
                the place of the parameter that takes a stream. A `msgspec.Raw` is sent as it is: one that is no
                MessagePack ends the session, and the calls of others with it.
            params: The params by name, instead of `args`.
            timeout: Seconds for all of it, waiting for a connection included; the client's own by default.
            result_type: What to decode the result into; by default whatever MessagePack gives.
            metadata: Text by name that travels with the call, 16 KiB at most; the handler sees it in
                `current_call().metadata`.
            wait_for_ready: As the constructor's, for this call.
            idempotent: Whether running it twice does no more than once, so that the client's `Retry` may do so. Also
                without it, where the server says so.

        Returns:
            The handler's result.

        Raises:
            DeadlineExceeded: No answer in time.
            Unavailable: No connection (without waiting for one), or it broke: the call may or may not have run.
            InvalidArgument: The params can't be encoded, or don't fit the method.
            Unimplemented: No such service or method there.
            ResourceExhausted: A limit was reached, here or there.
            Internal: The handler raised an exception that is no RpcError, or the result is not a `result_type`.
            RpcError: Whatever else the handler chose to raise.
            Closed: The client is closed.
            UsageError: Outside the client's block, on another loop, params by position and by name, several async
                iterators, or a `result_type` that can't be decoded.
            TypeError: `timeout` or `params` is of the wrong kind.
            ValueError: `timeout` is not-a-number.
        """
        now = _monotonic()
        try:
            deadline = now + (self._timeout if timeout is None else timeout)
        except TypeError:
            raise _no_seconds(timeout) from None
        job = current_job()
        if job is not None and job.deadline < deadline:
            deadline = job.deadline
        values = args if params is None else params_of(args, params)  # nearly always: not worth a call of a function
        try:
            decoder = self._decoders[result_type]
        except TypeError:
            decoder = self._decoders.of(result_type)
        attempts: Attempts | None = None
        reason: RpcError | None
        failed: Sequence[Connection] = ()
        tried: list[Connection] | None = None
        if self._budget is not None:
            tried = connections_tried.get() if self._hedge is not None else None
            if tried:  # it is a second attempt
                failed = tried
            else:
                self._budget.calls += 1
        try:
            while True:
                connection = self._pool.usable
                if connection is None or get_ident() != self._thread:
                    self._check_usable()
                    if not deadline > now:
                        raise _too_late(method, deadline, "began")
                    try:
                        connection = await self._pool.connection(deadline, wait_for_ready, method, besides=failed)
                    except (Unavailable, ResourceExhausted) as error:
                        if attempts is None or not await self._may_try_again(attempts, error, tried, sent=False):
                            raise
                        continue
                    finally:
                        now = _monotonic()
                if not deadline > now:  # or not a number
                    raise _too_late(method, deadline, "was sent")
                if tried is not None:
                    tried.append(connection)
                create_future = connection.create_future  # else looked for as a method first
                future = create_future()
                try:
                    pending = connection.start(method, values, deadline, deadline - now, decoder, metadata, future)
                except InvalidArgument:  # it can't be encoded: found out here, a stream among the params costs no call
                    if source_of(values)[1] is None:
                        raise
                    break
                self._calls += 1
                try:
                    return await future
                except asyncio.CancelledError:
                    connection.abandon(pending)
                    raise
                except (NeverRan, RpcError) as ended:
                    if isinstance(ended, RpcError):
                        reason = ended
                    else:
                        reason = self._pool.after(ended, wait_for_ready)
                        if tried:
                            tried.remove(connection)  # it was no attempt
                    if reason is not None:
                        if self._budget is None:
                            raise reason from None
                        if attempts is None:
                            idempotent = flag("idempotent", idempotent) or method in self._idempotent
                            attempts = Attempts(self._budget, idempotent=idempotent, deadline=deadline)
                        if not await self._may_try_again(attempts, reason, tried):
                            raise reason from None
                        failed = (*failed, connection)
                    now = _monotonic()
                finally:
                    reason = None
                    del future, pending  # they hold the error, which holds this frame, and so the params
            request = self._stream_request(
                method,
                values,
                timeout=deadline - _monotonic(),
                idle_timeout=timeout,
                window=0,
                item_type=Any,
                result=decoder,
                metadata=metadata,
                wait_for_ready=wait_for_ready,
            )
            request = dataclasses.replace(request, interceptors=())  # they run around this already
            async with Conversation[Any, Any](self._pool, request) as conversation:
                return await conversation.result()
        except RpcError as error:
            error.from_call = True
            raise
        except RuntimeError:
            self._check_usable()  # asyncio's own words for a wrong loop don't say what to do
            raise

    async def _may_try_again(
        self, attempts: Attempts, error: RpcError, tried: list[Connection] | None, *, sent: bool = True
    ) -> bool:
        """Whether a call that ended so is made again; when it returns, it is time for that."""
        pause = attempts.pause(error, len(tried or ()), sent=sent)
        if pause is None:
            return False
        await self._pool.pause(pause)
        return tried is None or len(tried) < attempts.most  # the other one of a hedged call may have made the last

    @overload
    def stream(self, method: str, /, *args: Any, item_type: type[T], **options: Unpack[StreamOptions]) -> Stream[T]: ...

    @overload
    def stream(
        self, method: str, /, *args: Any, item_type: Any = ..., **options: Unpack[StreamOptions]
    ) -> Stream[Any]: ...

    def stream(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        window: int = WINDOW,
        item_type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> Stream[Any]:
        """Call a method that streams its replies.

        The items are read in a block: `async with client.stream("calc.count", 3) as numbers: async for n in numbers:`.
        Leaving it ends the call on the server too.

        Args:
            method: The full name.
            args: The params by position. An async iterator among them is sent item by item, in the place of the
                parameter that takes a stream; leaving the block closes it.
            params: The params by name, instead of `args`.
            timeout: Seconds for all of it; by default there is no limit, except a calling handler's deadline.
            idle_timeout: Seconds to wait for a connection at most, and then for each next item, here and in the handler
                that waits for one of ours; the client's own `timeout` by default.
            window: Items that the server may be ahead of who reads them, 1 to 65,536 (of more than 4 KiB, one counts
                for several).
            item_type: What to decode each item into; by default whatever MessagePack gives.
            metadata: As for `call`.
            wait_for_ready: As for `call`.

        Returns:
            The stream. Entering its block and reading from it raise what `call` raises, and `DeadlineExceeded` where
            no connection or no item came within `idle_timeout`; reading it from a second task while one waits,
            `UsageError`.

        Raises:
            ValueError: `window` or `idle_timeout` is out of range, or a time not-a-number.
            TypeError: One of them is no number.
            UsageError: Outside the block, params by position and by name, several async iterators, or an `item_type`
                that can't be decoded.
        """
        request = self._stream_request(
            method,
            params_of(args, params),
            timeout=timeout,
            idle_timeout=idle_timeout,
            window=whole_number("window", window, most=MAX_WINDOW),
            item_type=item_type,
            result=NoResult(method),
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        return Stream(self._pool, request)

    @overload
    def open(
        self, method: str, /, *args: Any, item_type: type[T], **options: Unpack[StreamOptions]
    ) -> Conversation[T, Any]: ...

    @overload
    def open(
        self, method: str, /, *args: Any, result_type: type[T], **options: Unpack[StreamOptions]
    ) -> Conversation[Any, T]: ...

    @overload
    def open(
        self, method: str, /, *args: Any, item_type: Any = ..., result_type: Any = ..., **options: Unpack[StreamOptions]
    ) -> Conversation[Any, Any]: ...

    def open(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        window: int = WINDOW,
        item_type: Any = Any,
        result_type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> Conversation[Any, Any]:
        """Call a method that takes a stream, and send its items one by one, reading the replies meanwhile.

        `async with client.open("chat.talk") as talk: await talk.send("hello"); answer = await anext(talk)`. For a
        method that gives one result, `await talk.end()` and `await talk.result()`.

        Args:
            method: The full name.
            args: The params by position, without the one that takes the stream.
            params: The params by name, instead of `args`.
            timeout: As for `stream`.
            idle_timeout: As for `stream`; not for sending, nor for the result.
            window: As for `stream`.
            item_type: What to decode each item of the answer into.
            result_type: What to decode the result into, of a method that gives one.
            metadata: As for `call`.
            wait_for_ready: As for `call`.

        Returns:
            The conversation, a block as for `stream`.

        Raises:
            ValueError, TypeError: As for `stream`.
            UsageError: As for `stream`, or there is an async iterator among the params: `send` gives the items.
        """
        request = self._stream_request(
            method,
            params_of(args, params),
            timeout=timeout,
            idle_timeout=idle_timeout,
            window=whole_number("window", window, most=MAX_WINDOW),
            item_type=item_type,
            result=self._decoders.of(result_type),
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        if request.source is not None:
            raise UsageError(f"open({method!r}) sends items by send(); give an async iterator to stream() or call()")
        return Conversation(self._pool, dataclasses.replace(request, sends=True))

    def _stream_request(
        self,
        method: str,
        values: Any,
        *,
        timeout: float | None,
        idle_timeout: float | None,
        window: int,
        item_type: Any,
        result: Decodes,
        metadata: Mapping[str, str] | None,
        wait_for_ready: bool | None,
    ) -> StreamRequest:
        """What a stream is opened with."""
        self._check_usable()
        rest, source = source_of(values)
        return StreamRequest(
            method=method,
            params=rest,
            source=source,
            sends=source is not None,
            window=window,
            timeout=math.inf if timeout is None else seconds("timeout", timeout),
            idle=self._timeout if idle_timeout is None else _above_0("idle_timeout", idle_timeout),
            items=self._item_decoders.of(item_type),
            result=result,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
            interceptors=self._interceptors,
        )

    async def notify(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> None:
        """Call a method one way: no result, no error, no word of whether it ran.

        Returns when the call is queued for the server. Leaving the client's block waits until the server has read it,
        for the client's `timeout` (or a second) at most, and does not cancel it; but no longer than a second without a
        word of how much it has read, which comes with every quarter of `window_bytes`. What has not left by then is
        lost and counted (`notifications lost`); what ZeroMQ has of it is lost uncounted. Cancelled, it may have been
        queued.

        Args:
            method: The full name.
            args: The params by position.
            params: The params by name, instead of `args`.
            timeout: Seconds for a connection to come about, and for the handler.
            metadata: As for `call`.
            wait_for_ready: As for `call`.

        Raises:
            DeadlineExceeded, Unavailable, InvalidArgument, ResourceExhausted, Closed: As for `call`, as far as this
                side can know.
            UsageError: There is an async iterator among the params.
            TypeError, ValueError: As for `call`.
        """
        deadline = self._deadline_after(timeout)
        values = params_of(args, params)
        connection = self._pool.usable
        try:
            if connection is None or get_ident() != self._thread:
                connection = await self._connection(deadline, wait_for_ready)
            left = deadline - _monotonic()
            if not left > 0:
                raise _too_late(method, deadline, "was sent")
            connection.notify(method, values, left, metadata)
        except RpcError as error:
            error.from_call = True
            if isinstance(error, InvalidArgument) and source_of(values)[1] is not None:
                raise UsageError(f"notify({method!r}) sends no streams: use call() or stream()") from None
            raise
        self._calls += 1
        if self._calls % _YIELD == 1:
            await asyncio.sleep(0)  # a loop of notifies must not keep the loop to itself; behind it, for their order

    def stub(
        self,
        interface: type[T],
        service: str | None = None,
        *,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        window: int = WINDOW,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> T:
        """An object with the methods of an interface, each of which calls the server's.

        The interface is a plain class with annotated methods that raise NotImplementedError: `async def` those that
        give a result, plain `def` those that give an `AsyncIterator`. Type checkers see arguments, results and items.

        Args:
            interface: The class.
            service: The service's name; by default the class's in lower case, words joined by underscores: `Calc` is
                `calc`, `ImageStore` is `image_store`.
            timeout: Seconds for each of its calls, by default the client's; and for the whole of each of its streams,
                by default without a limit.
            idle_timeout: As for `stream`, for each of its streams.
            window: As for `stream`, for each of its streams.
            metadata: As for `call`, for each of its calls and streams.
            wait_for_ready: As for `call`, for each of its calls and streams.

        Returns:
            The stub. Its methods raise what `call` and `stream` raise. A stream opens at its first item, and ends
            when it is used up, dropped, or closed by `aclose`. (For type checkers it has that, and fits
            `contextlib.aclosing`, where the interface says `AsyncGenerator[T, None]` instead of `AsyncIterator[T]`.)

        Raises:
            UsageError: It is a Protocol or an abstract class, or an annotation is missing.
        """
        options = stub_options(
            timeout=timeout,
            idle_timeout=idle_timeout,
            window=window,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        return make_stub(self, interface, service, options, arguments=Arguments, items=StubStream)

    def _deadline_after(self, timeout: float | None) -> float:
        """When a call's time is over that is made now, `time.monotonic()`; from any thread."""
        try:
            deadline = _monotonic() + (self._timeout if timeout is None else timeout)
        except TypeError:
            raise _no_seconds(timeout) from None
        job = current_job()
        return deadline if job is None else min(deadline, job.deadline)

    def _check_usable(self) -> None:
        if self.state is ClientState.CLOSED:
            raise Closed(f"{self!r} is closed")
        if self._loop is None:
            raise UsageError("a Client is used inside `async with Client(...)`")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            text = f"{self!r} belongs to an event loop, and none runs in this thread: threads use aiozpat.sync.Client"
            raise UsageError(text) from None
        if running is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; make one client for each loop and process")

    async def _connection(self, deadline: float, wait: bool | None) -> Connection:
        """The connection that takes calls, waited for if need be."""
        self._check_usable()
        return await self._pool.connection(seconds("timeout", deadline), wait)

    def statistics(self) -> ClientStatistics:
        """A snapshot of what it has done and is doing."""
        connections = self._pool.connections
        return ClientStatistics(
            in_flight=sum(len(connection.calls) for connection in connections)
            + self._pool.waiting
            + self._pool.pausing,
            calls=self._calls + self._pool.streams,
            sessions=self._pool.sessions,
            waiting_bytes=sum(connection.outbox.nbytes for connection in connections),
            notices=MappingProxyType(self._notices.counts()),
        )


def _above_0(what: str, value: float) -> float:
    taken = seconds(what, value)
    if not taken > 0:
        raise ValueError(f"{what} is a number of seconds above 0; got {value!r}")
    return taken


def _too_late(method: str, deadline: float, what: str) -> DeadlineExceeded:
    """The error for a call that has no time left.

    Raises:
        ValueError: The deadline is not-a-number, since its timeout was; looked at here, it costs other calls nothing.
    """
    seconds("timeout", deadline)
    return DeadlineExceeded(f"{method}: the time for it was over before it {what}")


def _no_seconds(timeout: object) -> TypeError:
    return TypeError(f"timeout is a number of seconds; got {timeout!r}")
