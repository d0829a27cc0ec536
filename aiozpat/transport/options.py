"""The options of a socket, with their units in their names, validated when they are made."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import zmq

from aiozpat.checks import flag, given

MIB = 1024 * 1024
# Past these Linux refuses a TCP option, and libzmq then makes no connection at all, without a word.
_MOST = {
    "max_message_bytes": 2**63 - 1,
    "keepalive_idle_seconds": 32_767,
    "keepalive_interval_seconds": 32_767,
    "keepalive_probes": 127,
}
_LEAST_MESSAGE_BYTES = 600  # libzmq measures the handshake too; CURVE's, with a long identity, has up to 547


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """What may be set on a ZeroMQ socket; the defaults are safe for a service on a network.

    Args:
        send_queue_messages: High-water mark for sending, per peer. `None`: 1000 at level 1, 64 at level 2, where a
            message is a batch of calls.
        receive_queue_messages: The same for receiving. At level 1 as many again, up to 1000 in all, are held ready to
            be taken.
        max_message_bytes: The largest frame sent or accepted, 600 or more: with less, no connection might come about.
            A peer that sends a larger one is disconnected, and the message is lost. Where this end has bound, that is
            neither counted nor logged, since libzmq tells of it as of a peer that leaves: give both ends one limit,
            then the sender is told. Where this end has connected, libzmq does not connect again. Endpoints do so,
            after a second (up to 32 where it happens again and again) and when what came before has been taken (for
            which they wait 5 s), and count it (`connection given up`; what was queued for that peer is lost): all
            but `Proxy`, which should bind where peers may send so much. Clients of a `Server` begin a new session.
        reconnect_seconds: Pause before the first try to connect again.
        reconnect_max_seconds: The longest pause between tries; they back off exponentially.
        connect_timeout_seconds: Time for a TCP connection to come about.
        handshake_timeout_seconds: Time for the ZMTP handshake; silent connections are closed after it.
        keepalive_idle_seconds: TCP keep-alive: silence before the first probe.
        keepalive_interval_seconds: TCP keep-alive: time between probes.
        keepalive_probes: TCP keep-alive: unanswered probes after which the connection is dead.
        unacknowledged_seconds: How long a peer's host may acknowledge nothing of what was sent to it until the
            connection is cut (Linux). `None`: at level 1 what the system says, which is about a quarter of an hour;
            so long a host that has vanished counts as a peer, gets its share of work, and holds up who waits for it.
            With a number, a peer that reads nothing for so long, and has no room left, is cut off too. At level 2
            half a minute, or longer where heartbeats or limits are.
        backlog_connections: Connections that may wait to be accepted.
        ipv6: Whether host names may become IPv6 addresses at level 1; a `Client` tries a host's IPv6 addresses after
            those of IPv4 in any case, and one in brackets is one.
        send_buffer_bytes: The kernel's send buffer; `None` leaves it to the system.
        receive_buffer_bytes: The kernel's receive buffer; `None` leaves it to the system.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: One is out of range, not finite, or too small to connect with.
    """

    send_queue_messages: int | None = None
    receive_queue_messages: int | None = None
    max_message_bytes: int = 16 * MIB
    reconnect_seconds: float = 0.1
    reconnect_max_seconds: float = 1.0
    connect_timeout_seconds: float = 5.0
    handshake_timeout_seconds: float = 5.0
    keepalive_idle_seconds: int = 60
    keepalive_interval_seconds: int = 10
    keepalive_probes: int = 3
    unacknowledged_seconds: float | None = None
    backlog_connections: int = 1024
    ipv6: bool = False
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                flag(f"SocketOptions.{field.name}", value)
                continue
            if value is None and str(field.type).endswith("None"):
                continue
            seconds = str(field.type).startswith("float")
            most = 2**31 / 1000 - 1 if seconds else _MOST.get(field.name, 2**31 - 1)
            kind = "number" if seconds else "whole number"
            text = f"SocketOptions.{field.name} is a {kind} above 0, up to {int(most)}; got {value!r}"
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(text)
            if not (seconds or isinstance(value, int)) or not 0 < value <= most:
                raise ValueError(text)
        if self.max_message_bytes < _LEAST_MESSAGE_BYTES:
            raise ValueError(
                f"SocketOptions.max_message_bytes is at least {_LEAST_MESSAGE_BYTES}, which the handshake "
                f"of a connection may take; got {self.max_message_bytes}"
            )
        if self.reconnect_max_seconds < self.reconnect_seconds:
            raise ValueError("SocketOptions.reconnect_max_seconds is at least reconnect_seconds")

    def with_defaults(self, messages: int, unacknowledged_seconds: float) -> SocketOptions:
        """These options, with that high-water mark and that time where none was chosen."""
        return replace(
            self,
            send_queue_messages=self.send_queue_messages or messages,
            receive_queue_messages=self.receive_queue_messages or messages,
            unacknowledged_seconds=self.unacknowledged_seconds or unacknowledged_seconds,
        )

    def settings(self) -> list[tuple[int, int]]:
        """The options as libzmq takes them: (number, value), milliseconds and seconds as it wants them."""
        settings: list[tuple[int, int]] = [
            (zmq.SNDHWM, self.send_queue_messages or 1000),
            (zmq.RCVHWM, self.receive_queue_messages or 1000),
            (zmq.MAXMSGSIZE, self.max_message_bytes),
            (zmq.RECONNECT_IVL, _milliseconds(self.reconnect_seconds)),
            (zmq.RECONNECT_IVL_MAX, _milliseconds(self.reconnect_max_seconds)),
            (zmq.CONNECT_TIMEOUT, _milliseconds(self.connect_timeout_seconds)),
            (zmq.HANDSHAKE_IVL, _milliseconds(self.handshake_timeout_seconds)),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, self.keepalive_idle_seconds),
            (zmq.TCP_KEEPALIVE_INTVL, self.keepalive_interval_seconds),
            (zmq.TCP_KEEPALIVE_CNT, self.keepalive_probes),
            (zmq.BACKLOG, self.backlog_connections),
        ]
        if self.unacknowledged_seconds is not None:
            settings.append((zmq.TCP_MAXRT, _milliseconds(self.unacknowledged_seconds)))
        if self.send_buffer_bytes is not None:
            settings.append((zmq.SNDBUF, self.send_buffer_bytes))
        if self.receive_buffer_bytes is not None:
            settings.append((zmq.RCVBUF, self.receive_buffer_bytes))
        return settings


def options_given(options: SocketOptions | None) -> SocketOptions:
    """The options that were given, or the defaults.

    Raises:
        TypeError: They are something else.
    """
    return given(options, SocketOptions, "options are aiozpat.SocketOptions(...)") or SocketOptions()


def linger_milliseconds(seconds: float) -> int:
    """How libzmq takes a linger: 24 days at most, which is all that it can count to."""
    return round(min(seconds * 1000, 2**31 - 1))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
