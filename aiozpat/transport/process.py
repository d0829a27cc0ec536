"""What concerns the process as a whole: what the first context sets, and what a fork leaves to a child."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from aiozpat.errors import AiozpatError

T = TypeVar("T")

# bytes. A message with as much, freed, would have the same effect: so a larger one changes nothing that is of use.
_KEPT = 8 * 1024 * 1024
_preparing = threading.Lock()
_prepared = False
_opened: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def watch_forks(owner: T, on_fork: Callable[[T], None]) -> None:
    """Call `on_fork` in every child that is forked while there is the owner, with the copy that the child has of it.

    Such a copy must not be used. It holds what waits in the parent, but not libzmq's threads: what is sent by it never
    leaves, without a word, and what it has received is handed out in the parent too.
    """
    _opened[owner] = on_fork


def _after_fork() -> None:
    global _preparing, _prepared
    _preparing, _prepared = threading.Lock(), False  # each child draws routing ids of its own
    for owner, on_fork in _opened.items():
        on_fork(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def prepare() -> None:
    """Prepare the process, unless that was done."""
    global _prepared
    with _preparing:
        if _prepared:
            return
        _prepared = True
        _seed_routing_ids()
        _keep_freed_memory()


def require_files(count: int) -> None:
    """See to it that the process may open so many files more: libzmq ends the process where it gets none for itself.

    Raises:
        AiozpatError: It may not.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        while len(opened) < count:
            opened.append(os.dup(opened[0]))
    except OSError as error:
        raise AiozpatError(
            f"a ZeroMQ socket needs up to {count} open files more: {error.strerror}; close some, or raise the limit of "
            "this process (`ulimit -n`)"
        ) from None
    finally:
        for file in opened:
            os.close(file)


def _seed_routing_ids() -> None:
    """Seed libc's rand(), from which libzmq derives the routing ids it assigns; nobody else does."""
    if os.name == "posix":
        ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))


def _keep_freed_memory() -> None:
    """Let glibc's malloc use the memory of large messages again, instead of giving it back to the system each time.

    It learns that from the size of what is freed (mallopt(3), M_MMAP_THRESHOLD): after a block of this size it keeps
    those up to it, and up to twice as many bytes of free memory at an arena's end. With blocks of 1 MiB it keeps 2 MiB,
    and each message beyond that pays for hundreds of page faults: 16 calls of 1 MiB at once took 1.4 to 1.7 times as
    long. Where MALLOC_* variables are set in the environment, it learns nothing, and what they say holds. Other
    libraries' malloc takes no notice.
    """
    with contextlib.suppress(MemoryError):  # where memory is that scarce, it is not to be kept
        bytes(_KEPT)  # which touches none of its pages
