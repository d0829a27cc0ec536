"""Every example runs as its docstring says, and every code block of the README runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

import aiozpat
from tests.support import LOOPBACK, PATIENCE, until

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py"))
ALONE = [path for path in EXAMPLES if path.name not in ("server.py", "client.py")]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

# The parts of examples that can run apart: those that serve until Ctrl-C, and those that end by themselves.
APART: dict[str, tuple[list[str], list[str]]] = {
    "dealer_router.py": (["server {0}"], ["client {0} anna", "client {0} ben"]),
    "pair.py": ([], ["till {0}", "shop {0}"]),
    "pipeline.py": ([], [*["worker {0} {1} {2}"] * 3, "sink {0} {1} {2}", "ventilator {0} {1} {2}"]),
    "proxy.py": (["proxy {0} {1}", "worker {1}"], ["client {0}"]),
    "publish_subscribe.py": ([], ["subscriber {0}", "publisher {0}"]),
    "request_reply.py": (["server {0}"], ["client {0}"]),
}


def promised(path: Path) -> str:
    """The output that an example's docstring shows."""
    docstring = path.read_text().split('"""')[1]
    lines = docstring.partition("Prints:\n")[2].splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


def run(*arguments: str) -> str:
    """What a program prints."""
    done = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, *arguments], capture_output=True, text=True, timeout=15, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.name)
def test_an_example_prints_what_it_says(path: Path) -> None:
    assert promised(path)
    assert run(str(path)) == promised(path)


@pytest.fixture
def endpoints() -> Iterator[list[str]]:
    """Three endpoints that nobody else can take, as somebody could a port that was free a moment ago."""
    with tempfile.TemporaryDirectory() as folder:  # not `tmp_path`: the system takes 107 characters
        yield [f"ipc://{folder}/{number}" for number in range(3)]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs that obey Ctrl-C even if the tests run in a shell's background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("last_first", [False, True], ids=["in_order", "last_first"])
@pytest.mark.parametrize("name", APART)
def test_the_parts_of_an_example_run_apart(name: str, last_first: bool, endpoints: list[str]) -> None:
    serving, ending = APART[name]
    parts = [part.format(*endpoints).split() for part in (*serving, *ending)]
    lines: list[str] = []
    with ExitStack() as stack:
        programs: list[subprocess.Popen[str]] = []
        for part in reversed(parts) if last_first else parts:
            program = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, str(ROOT / "examples" / name), *part],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
            programs.append(stack.enter_context(program))
            stack.callback(program.kill)
        if last_first:
            programs.reverse()
        for number, program in reversed(list(enumerate(programs))):  # those that end by themselves come first
            if number < len(serving):
                program.send_signal(signal.SIGINT)
            output, problems = program.communicate(timeout=15)
            assert (program.returncode, problems) == (0, ""), parts[number]
            lines += output.splitlines()
    assert sorted(lines) == sorted(promised(ROOT / "examples" / name).splitlines())


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("name", "part"),
    [("pair.py", "till {0}"), ("publish_subscribe.py", "publisher {0}"), ("pipeline.py", "ventilator {0} {1} {2}")],
)
def test_a_part_that_waits_ends_by_ctrl_c(name: str, part: str, endpoints: list[str]) -> None:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "examples" / name), *part.format(*endpoints).split()],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as program:
        end = time.monotonic() + PATIENCE
        while not Path(endpoints[0].removeprefix("ipc://")).exists() and time.monotonic() < end:
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        _, problems = program.communicate(timeout=PATIENCE)
    assert (program.returncode, problems) == (0, "")


def example(name: str) -> Any:
    """An example's functions."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / name)))


async def test_a_worker_that_has_died_idle_takes_no_job_along() -> None:
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind=LOOPBACK) as router:
        group.create_task(example("least_loaded.py").broker(router))
        with zmq.Context() as context, context.socket(zmq.DEALER) as dead:
            dead.routing_id = b"dead"
            dead.connect(router.endpoint)
            dead.send(b"READY")
            await until(lambda: router.statistics().received == 1)
        with contextlib.suppress(aiozpat.PeerUnreachable):
            while True:
                await router.send(b"dead", "are you there?")
        async with aiozpat.Dealer(connect=router.endpoint) as client, aiozpat.Dealer(connect=router.endpoint) as worker:
            await client.send("job")
            await until(lambda: router.statistics().received == 2)
            await worker.send("READY")
            assert (await worker.recv(PATIENCE)).body == b"job"


@pytest.mark.parametrize("name", ["forward.py", "dealer_router.py"])
async def test_who_does_not_read_holds_up_nobody_else(name: str) -> None:
    tight = aiozpat.SocketOptions(send_queue_messages=3, send_buffer_bytes=4096)
    functions = example(name)
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind=LOOPBACK, options=tight) as router:
        group.create_task(functions.forward(router) if name == "forward.py" else functions.serve(router))
        with zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
            deaf.rcvhwm, deaf.rcvbuf, deaf.linger = 1, 4096, 0
            deaf.connect(router.endpoint)
            async with aiozpat.Dealer(connect=router.endpoint) as other:
                if name == "forward.py":
                    deaf.send_multipart([b"name", b"deaf"])
                    await until(lambda: router.statistics().received == 1)
                    answer = ""
                    while answer != "deaf is not here":
                        await other.send("upper", "x" * 10_000, "deaf")
                        answer = (await other.recv(PATIENCE)).text()
                else:
                    for _ in range(300):
                        deaf.send(bytes(10_000))
                    await until(lambda: router.statistics().received == 300)
                    await other.send_many(["1", "2", "3"])
                    assert [(await other.recv(PATIENCE)).text() for _ in range(3)] == ["3", "2", "1"]


@pytest.mark.parametrize("name", APART)
def test_an_example_says_what_parts_it_has(name: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "examples" / name), "nonsense"],
        capture_output=True,
        text=True,
        timeout=15,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_and_the_client_work_together() -> None:
    server = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "examples/server.py"), LOOPBACK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("serving on tcp://127.0.0.1:")
    assert run(str(ROOT / "examples/client.py"), line.split()[-1]) == promised(ROOT / "examples/client.py")
    server.terminate()
    _, problems = server.communicate(timeout=15)
    assert (server.returncode, problems) == (0, "")


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_python_block_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    program = tmp_path / "block.py"
    program.write_text(PYTHON[number])
    output = run(str(program))
    if "print(" in PYTHON[number]:
        assert output
        assert BLOCKS[BLOCKS.index(("python", PYTHON[number])) + 1] == ("text", output)


def test_the_first_two_bash_blocks_are_one_line_each() -> None:
    bash = [code for language, code in BLOCKS if language == "bash"]
    assert BLOCKS[0][0] == BLOCKS[1][0] == "bash"
    assert all(code.count("\n") == 1 for code in bash[:2])
    assert "aiozpat demo" in bash[0]
    assert "pytest" in bash[1]


@pytest.mark.timeout(60)
def test_the_demo_of_the_first_block_shows_the_overtaking() -> None:
    output = run("-m", "aiozpat", "demo", "--no-throughput")
    assert "overtook #1" in output
    assert "9 of 9 requests answered" in output
    assert "0 wrong, 0 missing" in output
