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
    """libzmq's `zmq_getsockopt` as pyzmq itself has it loaded; None where it can't be found (Windows, PyPy)."""
    try:
        from zmq.backend.cython import _zmq  # its module is the one library that surely is, or knows, the right libzmq

        library = ctypes.PyDLL(_zmq.__file__)  # it never blocks, so the GIL is kept
        version = (ctypes.c_int * 3)()
        library.zmq_version(*(ctypes.byref(version, 4 * place) for place in range(3)))
        if tuple(version) == zmq.zmq_version_info()[:3]:
            return library.zmq_getsockopt
    except (ImportError, OSError, AttributeError):
        pass
    return None


_getsockopt = _straight()


def asking(socket: zmq.Socket[Any], option: int) -> tuple[Callable[[], int], array[int]]:
    """How to ask for an option that is a C int: a function that does it, and the place where it leaves the answer.

    The function gives 0 where all is well.

    Args:
        socket: Open whenever the function is called; one that is closed is no longer there to be asked.
        option: Its number, or better the member of `zmq.SocketOption`.
    """
    answer = array("i", [0])
    if _getsockopt is None:
        return partial(_ask_pyzmq, zmq.backend.Socket.get.__get__(socket), option, answer), answer
    there, size = ctypes.c_int.from_buffer(answer), ctypes.c_size_t(answer.itemsize)
    # Ready-made arguments, so that nothing is converted at the call.
    handle, number = ctypes.c_void_p.from_param(socket.underlying), ctypes.c_int.from_param(int(option))
    return partial(_getsockopt, handle, number, ctypes.byref(there), ctypes.byref(size)), answer


def _ask_pyzmq(get: Callable[[int], int], option: int, answer: array[int]) -> int:
    answer[0] = get(option)
    return 0
