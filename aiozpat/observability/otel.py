"""Traces of calls by OpenTelemetry; needs `pip install 'aiozpat[otel]'`."""

from __future__ import annotations

from typing import Any

from aiozpat.errors import RpcError, text_of
from aiozpat.observability.calls import AnyCall, Proceed, on_server, outcome
from aiozpat.version import __version__

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError("aiozpat.observability.otel needs OpenTelemetry: pip install 'aiozpat[otel]'") from error

__all__ = ["Tracing"]

# The version of the conventions in which the names below are as used here.
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
# Those of gRPC's conventions, whose status codes these are; the others say something of the caller.
_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_MOST = 1024  # methods whose attributes are kept; on a client they come from the caller
_NOWHERE = Context()


class Tracing:
    """An interceptor that makes a span of each call, for servers and clients; one object may serve many.

    Give it to both, first among their interceptors, and a call is one trace: the client's span, below it the server's,
    below that what the handler does, calls to other services among it. The context travels in the call's metadata
    (`traceparent`, `tracestate`, and `baggage`, with the default propagators). A stream is one span that lasts until
    the stream ends; a call with all its attempts is one.

    Spans follow https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/: they have the method's full name and the
    attributes `rpc.system.name` (`aiozpat`), `rpc.method`, `rpc.response.status_code` and, where they failed,
    `error.type`, which is the status code, or the exception's type where there is none. What is an error is taken from
    https://opentelemetry.io/docs/specs/semconv/rpc/grpc/, whose status codes are the same: on a client all but `OK`; on
    a server UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS. An exception that is no
    RpcError is recorded with its traceback.

    Args:
        tracer_provider: Where spans go; by default OpenTelemetry's global one, also if it is set later.
        propagator: How the context is written into metadata; by default OpenTelemetry's global one.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, propagator: TextMapPropagator | None = None
    ) -> None:
        self._tracer = trace.get_tracer("aiozpat", __version__, tracer_provider, _SCHEMA)
        self._propagator = propagator
        self._attributes: dict[str, dict[str, str]] = {}

    async def __call__(self, call: AnyCall, proceed: Proceed) -> Any:
        """Run the call inside a span."""
        span, context = self._start(call)
        token = attach(context)
        try:
            result = await proceed()
        except BaseException as error:
            if span.is_recording():
                _end(span, call, error)
            raise
        else:
            if span.is_recording():
                _end(span, call, None)
            return result
        finally:
            detach(token)
            span.end()

    def _start(self, call: AnyCall) -> tuple[Span, Context]:
        """The span of a call, and the context that it is the current one in."""
        propagator = self._propagator or propagate.get_global_textmap()
        attributes = self._attributes_of(call.method)
        if on_server(call):
            # Not the context around: it is that of whoever opened the server, not of the caller.
            parent = propagator.extract(call.metadata, _NOWHERE) if call.metadata else _NOWHERE
            span = self._tracer.start_span(call.method, parent, SpanKind.SERVER, attributes)
            return span, trace.set_span_in_context(span, parent)
        span = self._tracer.start_span(call.method, None, SpanKind.CLIENT, attributes)
        context = trace.set_span_in_context(span)
        propagator.inject(call.metadata, context)
        return span, context

    def _attributes_of(self, method: str) -> dict[str, str]:
        attributes = self._attributes.get(method)
        if attributes is None:
            attributes = {"rpc.system.name": "aiozpat", "rpc.method": method}
            if len(self._attributes) < _MOST:
                self._attributes[method] = attributes
        return attributes


def _end(span: Span, call: AnyCall, error: BaseException | None) -> None:
    """Say in a span how its call ended."""
    code = kind = outcome(call, error)
    unexpected = isinstance(error, Exception) and not isinstance(error, RpcError)
    if on_server(call):
        failed = code in _SERVER_ERRORS
    else:
        failed = code != "OK"
        if unexpected:  # it failed here, before there was a status code
            kind = _name_of(type(error))
    if kind == code:
        span.set_attribute("rpc.response.status_code", code)
    if not failed:
        return
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, None if error is None else text_of(error)))
    if unexpected and error is not None:
        span.record_exception(error)


def _name_of(kind: type[object]) -> str:
    """A class's full name, as `exception.type` has it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
