"""The client for threads: `aiozpat.Client`'s names, arguments and errors; its methods block.

There is no `state_changes`, which nobody could wait for without a thread of its own: `state` tells, and `ready` waits.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from aiozpat.checks import named
from aiozpat.codec import Codec
from aiozpat.errors import Closed, UsageError
from aiozpat.observability.statistics import ClientStatistics
from aiozpat.rpc.interceptors import ClientInterceptor
from aiozpat.rpc.options import CallOptions, StreamOptions
from aiozpat.rpc.retry import Retry
from aiozpat.rpc.settings import BACKLOG_BYTES, WINDOW, WINDOW_BYTES
from aiozpat.rpc.states import ClientState
from aiozpat.rpc.stub import make_stub, stub_options
from aiozpat.sync.background import Lease, check_thread
from aiozpat.sync.sources import named_sources_in, sources_in
from aiozpat.sync.streams import Conversation, Stream
from aiozpat.sync.stub import IterableArguments, StubStream
from aiozpat.sync.works import Call, LoopClient
from aiozpat.transport import SocketOptions

T = TypeVar("T")


class Client:
    """Calls the methods of a server, from any number of threads at once; each method blocks the thread that calls it.

    For scripts and thread pools (enter the pool's block first: its end waits for calls, which the client's end ends):
    where an event loop runs, use `aiozpat.Client`. All sync clients of a process share
    one event loop in a thread of its own, on uvloop where it is installed, which ends with the last of them.

    Entering the block begins to connect, and does not wait for it: `ready` does. An exception that hits a thread while
    it waits, such as KeyboardInterrupt, cancels the call on the server too. A child process that was forked makes
    clients of its own.

    Args:
        endpoint, timeout, wait_for_ready, name, heartbeat, codec, retry, max_in_flight, window_bytes, backlog_bytes,
            options: As for `aiozpat.Client`.
        interceptors: As there: coroutine functions, which run on the shared loop and so must not block.

    Raises:
        InvalidEndpoint, UsageError, ValueError, TypeError: As there.
    """

    _lease = Lease("nobody")  # of the class too: __del__ runs even if __init__ raised

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
    ) -> None:
        self._client = LoopClient(
            endpoint,
            timeout=timeout,
            wait_for_ready=wait_for_ready,
            name=name,
            heartbeat=heartbeat,
            codec=codec,
            retry=retry,
            interceptors=interceptors,
            max_in_flight=max_in_flight,
            window_bytes=window_bytes,
            backlog_bytes=backlog_bytes,
            options=options,
        )
        self._lease = Lease(", ".join(self.endpoints))
        self._entered = False
        self._closing = threading.RLock()  # reentrant: a signal's handler may close, too

    def __repr__(self) -> str:
        return f"<aiozpat.sync.Client of {', '.join(self.endpoints)}, {self.state.value}>"

    def __del__(self) -> None:
        if self._lease.held and not self._lease.forked:
            if not self._lease.over:  # else its end was interrupted
                warnings.warn(f"{self!r} was left open; use `with`", ResourceWarning, source=self, stacklevel=1)
            self._lease.drop(self._client.close)

    @property
    def endpoint(self) -> str:
        """The server's endpoint; the first of `endpoints`."""
        return self._client.endpoint

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The servers' endpoints."""
        return self._client.endpoints

    @property
    def state(self) -> ClientState:
        """Whether calls can be sent now."""
        return ClientState.CLOSED if self._lease.over or self._lease.forked else self._client.state

    # Life

    def __enter__(self) -> Self:
        self._lease.begin()
        try:
            self._lease.take()
            self._lease.run(self._enter)
        except BaseException:
            self.close()
            raise
        return self

    async def _enter(self) -> None:
        await self._client.__aenter__()
        self._entered = True
        self._lease.adopt(self._client)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye to the server and close; calls in flight, in other threads, end with `Unavailable` or `Closed`.

        Closing twice is harmless. Interrupted, it closes without waiting for the server's goodbye.

        Raises:
            UsageError: An event loop runs in this thread.
        """
        check_thread()
        if self._lease.forked:
            return  # before the lock, which a thread may hold that is not here
        with self._closing:
            if not self._lease.begun or (self._lease.over and not self._lease.held):
                return
            if self._lease.held:
                try:
                    with contextlib.suppress(Closed):  # the loop has ended by itself, and closed it
                        self._lease.run(self._close)
                except BaseException:
                    self._lease.drop(self._client.close)  # interrupted: the loop may not have come to it
                    raise
            self._lease.end()

    async def _close(self) -> None:
        if self._entered:
            await self._client.close()

    def ready(self, timeout: float | None = None) -> None:
        """Wait for a connection, to one of the servers where there are several.

        Args:
            timeout: Seconds to wait; the client's own by default.

        Raises:
            DeadlineExceeded: There was none in time; the message says what went wrong.
            Unimplemented: The server speaks no version of the protocol that this client does.
            Closed: The client is closed.
        """
        self._lease.run(lambda: self._client.ready(timeout))

    # Calls

    @overload
    def call(self, method: str, /, *args: Any, result_type: type[T], **options: Unpack[CallOptions]) -> T: ...

    @overload
    def call(self, method: str, /, *args: Any, result_type: Any = ..., **options: Unpack[CallOptions]) -> Any: ...

    def call(
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

        A call runs at most once, unless it is idempotent and the client has a `Retry` policy. An exception that hits
        the waiting thread, such as KeyboardInterrupt, cancels the handler. A call made inside a handler ends at that
        handler's deadline if it is earlier.

        Args:
            method: The full name, as in `calc.add`.
            args: The params by position. An iterator among them, such as a generator, is sent item by item, in the
                place of the parameter that takes a stream; it is pulled in a thread of its own, some items ahead.
                Arrays, and read-only views, of 64 KiB and more are not copied: leave them alone until there is a
                result; where there is none, because of a timeout, say, they may be sent later still.
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
            UsageError: Outside the client's block, params by position and by name, several iterators, a `result_type`
                that can't be decoded, an event loop in this thread, or a process that was forked after the client was
                made.
            TypeError: `timeout` or `params` is of the wrong kind.
            ValueError: `timeout` is not-a-number.
        """
        by_name = None if params is None else named_sources_in(params)
        request = (method, sources_in(args), by_name, result_type, metadata, wait_for_ready, idempotent)
        return self._lease.do(Call(self._client, request, timeout))

    def notify(
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
        as `aiozpat.Client` does, and does not cancel it. Those of one thread are sent in order.

        Args:
            method: The full name.
            args: The params by position.
            params: The params by name, instead of `args`.
            timeout: Seconds for a connection to come about, and for the handler.
            metadata: As for `call`.
            wait_for_ready: As for `call`.

        Raises:
            DeadlineExceeded, Unavailable, InvalidArgument, ResourceExhausted, Closed, UsageError: As for `call`, as
                far as this side can know.
        """
        self._lease.run(
            lambda: self._client.notify(
                method, *args, params=params, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready
            )
        )

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

        The items are read in a block: `with client.stream("calc.count", 3) as numbers: for n in numbers:`. Leaving it
        ends the call on the server too.

        Args:
            method: The full name.
            args: The params by position. An iterator among them is sent item by item, as for `call`; leaving the
                block closes it if it is a generator, as soon as its current `next` returns.
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
            no item came within `idle_timeout`; entering it raises ValueError where `window` is out of range.
        """
        values = sources_in(args)
        by_name = named_sources_in(params)
        return Stream(
            self._lease,
            method,
            lambda: self._client.stream(
                method,
                *values,
                params=by_name,
                timeout=timeout,
                idle_timeout=idle_timeout,
                window=window,
                item_type=item_type,
                metadata=metadata,
                wait_for_ready=wait_for_ready,
            ),
        )

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

        `with client.open("chat.talk") as talk: talk.send("hello"); answer = next(talk)`. For a method that gives one
        result, `talk.end()` and `talk.result()`.

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
            UsageError: There is an iterator among the params.
        """
        if any(isinstance(value, Iterator) for value in (*args, *named(params or {}).values())):
            raise UsageError(f"open({method!r}) sends items by send(); give an iterator to stream() or call()")
        return Conversation(
            self._lease,
            method,
            lambda: self._client.open(
                method,
                *args,
                params=params,
                timeout=timeout,
                idle_timeout=idle_timeout,
                window=window,
                item_type=item_type,
                result_type=result_type,
                metadata=metadata,
                wait_for_ready=wait_for_ready,
            ),
        )

    def stub(
        self,
        interface: type,
        service: str | None = None,
        *,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        window: int = WINDOW,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> Any:
        """An object with the methods of an interface, each of which calls the server's and waits for it.

        The interface is the one of `aiozpat.Client.stub`. Its `async def` methods become plain ones here, those that
        give an `AsyncIterator` give a `Stream`, and those that take one take any iterable. Type checkers know nothing
        of that: for them the stub is `Any`.

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
            The stub. Its methods raise what `call` and `stream` raise.

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
        return make_stub(self, interface, service, options, arguments=IterableArguments, items=StubStream.of)

    def statistics(self) -> ClientStatistics:
        """A snapshot of what it has done and is doing.

        Raises:
            UsageError: An event loop runs in this thread, or the process was forked.
        """
        if not self._lease.held:
            return self._client.statistics()  # nothing changes it
        return self._lease.run(self._statistics)

    async def _statistics(self) -> ClientStatistics:
        return self._client.statistics()
