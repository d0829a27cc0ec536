"""Frozen snapshots of what a client or server has done and is doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MethodStatistics:
    """One method on one server.

    Attributes:
        calls: Calls that were given to its interceptors and handler.
        errors: Those that did not end with a result.
        running: Its handlers at work, where the method has a limit of its own; else 0.
        queued: Calls that wait for that limit.
    """

    calls: int
    errors: int
    running: int
    queued: int


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A server at one moment.

    Attributes:
        sessions: Clients connected.
        running: Handlers at work, those of the service `aiozpat` apart.
        queued: Calls that wait for a place, for the server's limit or a method's.
        waiting_bytes: Bytes of replies that wait to be sent.
        methods: By full name.
        notices: What went wrong, counted by kind: `refused`, `bad request`, `not azp`, `reset`, `reset not sent`,
            `turned away while draining`, `client lost` (silent), `client gone` (its connection broke), `slow peer
            dropped`, `reply dropped`, `late item`, `notification failed`, `no goodbye`, `call left running`, `thread
            left running`, `lifespan ended`.
    """

    sessions: int
    running: int
    queued: int
    waiting_bytes: int
    methods: Mapping[str, MethodStatistics]
    notices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A client at one moment.

    Attributes:
        in_flight: Calls that wait for their answer, for a connection or for their next attempt.
        calls: Attempts made so far, notifications and streams among them.
        sessions: Tries to open a session so far.
        waiting_bytes: Bytes of calls that wait to be sent.
        notices: What went wrong, counted by kind: `server lost` (silent, or it does not read), `calls lost`,
            `notifications lost`, `late reply`, `late item`, `reset by the server`, `protocol error`, `no socket`. A
            connection that breaks while nothing is in flight is none.
    """

    in_flight: int
    calls: int
    sessions: int
    waiting_bytes: int
    notices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """A level 1 endpoint at one moment.

    Attributes:
        sent: Messages given to ZeroMQ.
        received: Messages taken from ZeroMQ.
        waiting: Messages received that nobody has taken yet.
        notices: What went wrong, counted by kind: `handler failed`, `handler cancelled`, `reply dropped`, `message
            dropped`, `left unread` (at the end), `no delimiter`, `overflow` (how often a queue filled up, not how many
            messages it cost), `not a subscription`, `subscription not counted`, `ready not answered`,
            `connection given up`.
    """

    sent: int
    received: int
    waiting: int
    notices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SideStatistics:
    """What one side of a proxy has passed; libzmq counts frames, not messages.

    Attributes:
        received: Frames that came in from this side.
        received_bytes: Their size.
        sent: Frames that went out to this side.
        sent_bytes: Their size.
    """

    received: int
    received_bytes: int
    sent: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """A proxy at one moment.

    Attributes:
        frontend: What came from and went to clients, publishers or pushers.
        backend: What came from and went to workers, subscribers or pullers.
    """

    frontend: SideStatistics
    backend: SideStatistics
