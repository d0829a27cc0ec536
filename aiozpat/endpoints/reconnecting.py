"""What connects again where libzmq will not: it gives up peers that break its rules."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from aiozpat.endpoints.base import Endpoint
from aiozpat.transport import MonitorEvent, MonitorEventKind, Place, Socket, place_at, place_of

_GIVEN_UP = 1.0  # seconds after which a connection that is not tried again was given up
_LONGEST = 5  # how often that is doubled at most, for who is given up again and again
_CALM = 120.0  # seconds without that, after which it is a second again
_SURE = 0.1  # seconds; libzmq says within a millisecond or so that it tries again
_AT_LAST = 60.0  # seconds after which others that come and go are waited for no more
_READ = 5.0  # seconds for what has come from who was given up to be read; others may keep the queues full for ever


@dataclass(slots=True)
class _GivenUp:
    """How often libzmq has given up an endpoint of late."""

    in_a_row: int = 0
    last: float = -math.inf  # when, by the loop's clock

    def pause(self, now: float) -> float:
        """Seconds to wait for libzmq to say that it tries again, and for who is given up each time."""
        if now - self.last > _CALM:
            self.in_a_row = 0
        return _GIVEN_UP * 2.0 ** min(self.in_a_row, _LONGEST)

    def once_more(self, now: float) -> None:
        """It has done so again."""
        self.in_a_row += 1
        self.last = now


@dataclass(slots=True)
class _Missed:
    """A connection that has ended.

    Attributes:
        place: Where it led to.
        timer: Until it is connected to again, should libzmq not try.
        since: When it ended, by the loop's clock.
        due: When it is clear that libzmq does not try.
        let_go: libzmq knows nothing of it any more.
    """

    place: Place
    timer: asyncio.TimerHandle
    since: float
    due: float
    let_go: bool = False

    def is_sure(self, now: float) -> bool:
        """Whether libzmq would have said by now that it tries again."""
        return now - self.since >= _SURE


class Reconnecting(Endpoint):
    """An endpoint that connects again where libzmq will not; arguments as for `Endpoint`."""

    _breach: ClassVar[str] = "a message over SocketOptions.max_message_bytes"  # what a peer is given up for

    def _prepare(self) -> None:
        super()._prepare()
        self._live: dict[int, tuple[str, Place]] = {}  # by file descriptor
        # By the endpoints that were given for connecting.
        self._given: dict[str, Place] = {}  # where they lead to
        self._places: dict[str, Place] = {}  # where they have led to, last
        self._greeted: set[str] = set()  # whose latest connection has shaken hands
        self._missed: dict[str, _Missed] = {}  # whose connection has ended
        self._given_up: defaultdict[str, _GivenUp] = defaultdict(_GivenUp)

    def _connect(self, socket: Socket, endpoint: str) -> None:
        socket.watch(self._on_event)
        if self._missed:
            socket.drain_events()
            self._let_go(socket)
        super()._connect(socket, endpoint)
        self._given[endpoint] = place_of(endpoint)

    def _on_event(self, event: MonitorEvent) -> None:
        """Something happened to a connection."""
        if event.kind is MonitorEventKind.CONNECTED:
            self._on_connected(event.value, event.endpoint)
        elif event.kind is MonitorEventKind.HANDSHAKE_SUCCEEDED:
            if (endpoint := self._given_as(event.endpoint, place_of(event.endpoint))) is not None:
                self._greeted.add(endpoint)
        elif event.kind is MonitorEventKind.DISCONNECTED:
            self._on_gone(event.value)
            if (lost := self._live.pop(event.value, None)) is not None:
                self._miss(*lost)
        elif event.kind is MonitorEventKind.CONNECT_RETRIED and self._missed:
            self._on_retried(event.endpoint)

    def _on_connected(self, fd: int, name: str) -> None:
        place = place_at(name, fd)
        endpoint = self._given_as(name, place)
        if endpoint is not None:
            self._live[fd] = (endpoint, place)
            self._places[endpoint] = place
            self._greeted.discard(endpoint)

    def _given_as(self, name: str, place: Place) -> str | None:
        """The endpoint that was given for what libzmq calls so: by the address, once it has connected."""
        given = self._given
        if name in given:
            return name
        of_name = place_of(name)
        for endpoint, there in given.items():
            if there in (place, of_name) or self._places.get(endpoint) == place:
                return endpoint
        # A host's name that stands for another address by now: one that has no connection.
        live = {endpoint for endpoint, _ in self._live.values()}
        for endpoint, there in given.items():
            if not there.is_address and there.port == place.port and endpoint not in live:
                return endpoint
        return None

    def _on_retried(self, name: str) -> None:
        """libzmq tries again, where it was connected last."""
        place = place_of(name)
        for endpoint, missed in list(self._missed.items()):
            unsure = missed.place.port == place.port and not (missed.place.is_address and place.is_address)
            if not missed.let_go and (name == endpoint or missed.place == place or unsure):
                missed.timer.cancel()
                del self._missed[endpoint]

    def _miss(self, endpoint: str, place: Place) -> None:
        """A connection has ended: libzmq says at once that it tries again, unless it never will."""
        if self._loop is None or self._socket is None or endpoint in self._missed or endpoint in self._socket.bound:
            return
        now = self._loop.time()
        due = now + self._given_up[endpoint].pause(now)
        timer = self._loop.call_at(due, self._connect_again, endpoint)
        self._missed[endpoint] = _Missed(place, timer, now, due)

    def _connect_again(self, endpoint: str) -> None:
        socket, loop = self._socket, self._loop
        if socket is None or loop is None:
            return
        socket.drain_events()  # a loop that stood still has not heard yet that libzmq tries again
        missed = self._missed.get(endpoint)
        if missed is None:
            return
        now = loop.time()
        # Those that ended just now are tried again most likely; and to let go drops what is unread.
        unsure = now - missed.since < _AT_LAST and not all(one.is_sure(now) for one in self._missed.values())
        if unsure or (now - missed.due < _READ and socket.has_input()):
            missed.timer = loop.call_later(_SURE, self._connect_again, endpoint)
            return
        self._let_go(socket)
        del self._missed[endpoint]
        self._given_up[endpoint].once_more(now)
        self._note_given_up(endpoint)
        for _ in range(sum(one.endpoint == endpoint and not one.is_bind for one in self._addresses)):
            socket.connect_again(endpoint)

    def _let_go(self, socket: Socket) -> None:
        """Disconnect what libzmq does not try again; before each `connect`, as `Socket.disconnect` says."""
        for endpoint, missed in self._missed.items():
            if not missed.let_go:
                missed.let_go = True
                if socket.has_input():
                    text = f"{self!r}: of what had come from {endpoint}, which is given up, some may be dropped unread"
                    self._notices.note("unread may be dropped", text)
                socket.disconnect(endpoint)
                for fd in [fd for fd, (of, _) in self._live.items() if of == endpoint]:  # where it was given twice
                    del self._live[fd]
                    self._on_gone(fd)

    def _on_gone(self, fd: int) -> None:
        """A connection has ended."""

    def _note_given_up(self, endpoint: str) -> None:
        self._notices.note("connection given up", f"{self!r}: {self._why_given_up(endpoint)}; connecting again")

    def _why_given_up(self, endpoint: str) -> str:
        if endpoint in self._greeted:
            return f"{endpoint} broke ZeroMQ's rules, by {self._breach} most likely"
        # libzmq has no event for a socket type that does not match: the connection ends without a handshake.
        return f"no handshake with {endpoint}: its socket type does not go with {self._kind.name}, or it speaks no ZMTP"

    def _forget(self) -> None:
        """The socket is gone, with its connections: none of them is to be tried again."""
        self._live.clear()
        self._greeted.clear()
        for missed in self._missed.values():
            missed.timer.cancel()
        self._missed.clear()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._forget()
