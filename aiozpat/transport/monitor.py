"""What libzmq tells of a socket's connections, typed, as it happens."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import zmq
import zmq.asyncio
import zmq.backend


class MonitorEventKind(IntEnum):
    """What happened to a connection."""

    CONNECTED = zmq.EVENT_CONNECTED
    CONNECT_RETRIED = zmq.EVENT_CONNECT_RETRIED
    ACCEPTED = zmq.EVENT_ACCEPTED
    CLOSED = zmq.EVENT_CLOSED
    DISCONNECTED = zmq.EVENT_DISCONNECTED
    HANDSHAKE_SUCCEEDED = zmq.EVENT_HANDSHAKE_SUCCEEDED
    HANDSHAKE_FAILED_NO_DETAIL = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    HANDSHAKE_FAILED_PROTOCOL = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    HANDSHAKE_FAILED_AUTH = zmq.EVENT_HANDSHAKE_FAILED_AUTH


class MonitorEvent(NamedTuple):
    """One event of a connection.

    Attributes:
        kind: What happened.
        value: The connection's file descriptor, or an errno, or milliseconds until the next try, by kind.
        endpoint: Of this side where it has accepted the connection, else the peer's: as it was given, or the address
            that its name stands for, once it has connected.
    """

    kind: MonitorEventKind
    value: int
    endpoint: str


_HEAD = struct.Struct("=HI")  # event number and value, in the machine's byte order (zmq_socket_monitor(3))
_EVENTS = sum(MonitorEventKind)
_numbers = itertools.count()


class Monitor:
    """Reads the monitor of one socket and calls back for each event."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watched: zmq.asyncio.Socket,
        on_event: Callable[[MonitorEvent], None],
    ) -> None:
        self._loop = loop
        self._watched = watched
        self._on_event = on_event
        endpoint = f"inproc://aiozpat-monitor-{next(_numbers)}"
        self._socket: Any = watched.context.socket(zmq.PAIR)
        try:
            watched.monitor(endpoint, _EVENTS)
            # Without a mark: while the queue is full, libzmq's I/O thread waits for room with the lock that closing
            # needs.
            self._socket.rcvhwm = 0
            self._socket.connect(endpoint)
            self._fd = int(self._socket.get(zmq.FD))
        except BaseException:
            self._socket.close(linger=0)
            watched.monitor(None, 0)  # libzmq's I/O thread would wait for somebody who reads it
            raise
        self._receive_part: Any = zmq.backend.Socket.recv.__get__(self._socket)
        self._closed = False
        loop.add_reader(self._fd, self.drain)
        loop.call_soon(self.drain)  # the FD is edge-triggered: what came before the reader would be missed

    def drain(self) -> None:
        """Call back for each event there is."""
        while not self._closed:
            try:
                head = self._receive_part(zmq.NOBLOCK)
                endpoint = self._receive_part(zmq.NOBLOCK)
            except zmq.Again:
                return
            number, value = _HEAD.unpack(head)
            if number == zmq.EVENT_MONITOR_STOPPED:
                return
            try:
                self._on_event(MonitorEvent(MonitorEventKind(number), value, endpoint.decode(errors="replace")))
            except BaseException:
                self._loop.call_soon(self.drain)  # the edge is consumed: somebody must look again
                raise

    def abandon(self) -> None:
        """Report nothing any more, and leave all as it is."""
        self._closed = True

    def close(self) -> None:
        """Stop; no event is reported afterwards."""
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._watched.disable_monitor()
        self._socket.close(linger=0)
