"""What every server answers under the reserved name `aiozpat`: ping, info, statistics, health."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aiozpat.codec import JSON, pack, schema_of
from aiozpat.observability.statistics import ServerStatistics
from aiozpat.protocol.records import RECORD_BYTES, VERSIONS
from aiozpat.rpc.interface import method
from aiozpat.rpc.service import Method, Service

_log = logging.getLogger("aiozpat.server")
_json = JSON()

_MOST = RECORD_BYTES // 2  # bytes of what is said of all methods; another codec may take more than MessagePack


class DescribedMethod(msgspec.Struct):
    """What a client wants to know of a method."""

    name: str
    idempotent: bool = False


class DescribedService(msgspec.Struct):
    """What a client wants to know of a service."""

    methods: list[DescribedMethod]


class Information(msgspec.Struct):
    """What a client wants to know of a server, from its `info`."""

    services: list[DescribedService]

    @property
    def idempotent(self) -> frozenset[str]:
        """The full names of idempotent methods."""
        return frozenset(method.name for service in self.services for method in service.methods if method.idempotent)


def reserved_service(
    name: str,
    version: str,
    services: Iterable[Service],
    codecs: Sequence[str],
    statistics: Callable[[], ServerStatistics],
    draining: Callable[[], bool],
) -> Service:
    """The service that describes a server.

    Its methods are answered whatever the server's limits say, and while it drains; they take nobody's place, so each
    client may have 64 of these calls running and no more.

    Args:
        name: The server's name.
        version: This library's.
        services: What the server serves.
        codecs: Their names.
        statistics: A snapshot of what it does.
        draining: Whether it takes no new calls.
    """
    return Service.reserved(version, Introspection(name, version, tuple(services), codecs, statistics, draining))


class Introspection:
    """The methods of the reserved service; arguments as for `reserved_service`."""

    def __init__(
        self,
        name: str,
        version: str,
        services: tuple[Service, ...],
        codecs: Sequence[str],
        statistics: Callable[[], ServerStatistics],
        draining: Callable[[], bool],
    ) -> None:
        self._name = name
        self._version = version
        # At once, not when it is asked for: it takes milliseconds, which many clients at a time would make seconds.
        self._named = [_service(service, _named) for service in services]
        self._described = [_service(service, _described) for service in services]
        if (nbytes := len(pack(self._described))) > _MOST:
            _log.warning("info would have %d bytes: it says nothing of types", nbytes)
            self._described = self._named
        self._codecs = list(codecs)
        self._statistics = statistics
        self._draining = draining

    @method(idempotent=True)
    async def ping(self) -> str:
        """Answer `pong`."""
        return "pong"

    @method(idempotent=True)
    async def info(self, schemas: bool = True) -> dict[str, Any]:
        """Services, methods, versions; and the types of params and results as JSON Schema, unless that is too much."""
        return {
            "name": self._name,
            "version": self._version,
            "protocol": list(VERSIONS),
            "codecs": self._codecs,
            "services": self._described if schemas else self._named,
        }

    @method(idempotent=True)
    async def statistics(self) -> dict[str, Any]:
        """What the server has done and is doing."""
        plain: dict[str, Any] = _plain(self._statistics())
        return plain

    @method(idempotent=True)
    async def health(self) -> dict[str, str]:
        """Whether it serves, or drains."""
        return {"status": "draining" if self._draining() else "serving"}


def _service(service: Service, describe: Callable[[Method], dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": service.name,
        "version": service.version,
        "methods": [describe(one) for one in service.methods],
    }


def _named(one: Method) -> dict[str, Any]:
    return {"name": one.name, "idempotent": one.options.idempotent}


def _described(one: Method) -> dict[str, Any]:
    signature = one.signature
    about = inspect.getdoc(one.handler) or ""
    return {
        **_named(one),
        "about": about.encode("utf-8", "replace").decode(),
        "params": _schema(one.params.kind),
        "sends": None if signature.stream_at is None else _schema(signature.sends),
        "streams": signature.replies,
        "result": _schema(signature.result),
    }


def _schema(kind: Any) -> dict[str, Any]:
    """A type's JSON Schema; `{}`, which allows anything, for what JSON Schema can't say."""
    try:
        found = schema_of(kind)
        pack(found)  # a default in it may be what can't be encoded
        _json.encode(found)
        return found
    except Exception as error:  # also what a model's own schema raises
        _log.debug("no JSON Schema for %r: %s", kind, error)
        return {}


def _plain(value: Any) -> Any:
    """A snapshot as dicts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value
