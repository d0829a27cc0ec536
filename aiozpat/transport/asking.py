"""Asking a socket about itself, straight from libzmq.

pyzmq's `get` looks its options up in an enumeration, in Python, each time: 0.7 us and some 25 bytecodes for what libzmq
knows in a few nanoseconds. That is as much as to receive a message, and it is asked for about as often.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import zmq
import zmq.backend


def _straight() -> Any:
    """libzmq's own `zmq_getsockopt`, surely of the libzmq that pyzmq uses; None where that is not to be had.

    As on Windows, whose libraries don't tell what they use in turn, and with PyPy.
    """
    try:
        from zmq.backend.cython import _zmq

        backend: Any = zmq.backend.Socket
        if backend is not _zmq.Socket:  # PYZMQ_BACKEND names another one
            return None
        getsockopt = ctypes.PyDLL(_zmq.__file__)["zmq_getsockopt"]  # it never blocks, so the GIL is kept
        everywhere = ctypes.PyDLL(None)
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    # A libzmq that the whole process sees (by LD_PRELOAD, say) is taken before the one that pyzmq brings.
    other = getattr(everywhere, "zmq_getsockopt", None)
    return getsockopt if other is None or _address(other) == _address(getsockopt) else None


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _without_result(function: Any) -> Any:
    """A C function again, but giving None: a result to be converted costs a tenth of the call."""
    if function is None:
        return None
    silent = type(function)(_address(function))
    silent.restype = None
    return silent


_getsockopt = _straight()
_getsockopt_silently = _without_result(_getsockopt)


def asking(socket: zmq.Socket[Any], option: int, *, fails: bool = True) -> tuple[Callable[[], int | None], array[int]]:
    """How to ask for an option that is a C int: a function that does it, and the place where it leaves the answer.

    Args:
        socket: Open whenever the function is called; one that is closed is no longer there to be asked.
        option: Its number, or better the member of `zmq.SocketOption`.
        fails: Whether asking can fail: then the function gives 0 where all is well. Without, it may give None.
    """
    answer = array("i", [0])
    if _getsockopt is None:
        return partial(_ask_pyzmq, zmq.backend.Socket.get.__get__(socket), option, answer), answer
    there, size = ctypes.c_int.from_buffer(answer), ctypes.c_size_t(answer.itemsize)
    # Ready-made arguments, so that nothing is converted at the call.
    handle, number = ctypes.c_void_p.from_param(socket.underlying), ctypes.c_int.from_param(int(option))
    function = _getsockopt if fails else _getsockopt_silently
    return partial(function, handle, number, ctypes.byref(there), ctypes.byref(size)), answer


def _ask_pyzmq(get: Callable[[int], int], option: int, answer: array[int]) -> int:
    answer[0] = get(option)
    return 0
