"""What a process is prepared for when its first endpoint opens."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, resource
import aiozpat

MIB = 1024 * 1024

def take_and_free(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        [b"x" * MIB for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

async def main():
    async with aiozpat.Puller(bind="tcp://127.0.0.1:*"):
        take_and_free(5)
        print(take_and_free(10))

asyncio.run(main())
"""
_BLOCKS, _PAGES_EACH = 80, 256


def _faults(**variables: str) -> int:
    """Page faults of a program that takes and frees messages' worth of memory, again and again."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(  # noqa: S603 - our own program
        command, env=env | variables, capture_output=True, text=True, timeout=15, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_memory_of_large_messages_is_used_again() -> None:
    assert _faults() < _PAGES_EACH


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_what_the_environment_says_of_malloc_holds() -> None:
    assert _faults(MALLOC_MMAP_THRESHOLD_=str(256 * 1024)) > _BLOCKS * _PAGES_EACH // 2
