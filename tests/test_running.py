"""`aiozpat.run`: in which threads, how often, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import aiozpat
from tests.support import PATIENCE

_AFTER_THE_MAIN_THREAD = """
import threading
import aiozpat

async def main():
    return "ran"

def work():
    threading.main_thread().join()
    print(aiozpat.run(main()))

threading.Thread(target=work).start()
"""


def test_a_program_may_begin_when_the_main_thread_has_ended() -> None:
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _AFTER_THE_MAIN_THREAD], capture_output=True, text=True, timeout=15, check=False
    )
    assert (ended.stdout, ended.stderr) == ("ran\n", "")


def test_the_collectors_threshold_is_what_it_was_when_all_programs_have_ended() -> None:
    before = gc.get_threshold()
    first_runs, second_runs, first_has_ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    async def first() -> None:
        first_runs.set()
        await asyncio.to_thread(second_runs.wait, PATIENCE)

    async def second() -> None:
        second_runs.set()
        await asyncio.to_thread(first_has_ended.wait, PATIENCE)
        seen.append(gc.get_threshold()[0])

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(aiozpat.run, first())
        assert first_runs.wait(PATIENCE)
        two = pool.submit(aiozpat.run, second())
        one.result(PATIENCE)
        first_has_ended.set()
        two.result(PATIENCE)
    assert seen[0] >= 20_000
    assert gc.get_threshold() == before
