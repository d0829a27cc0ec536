"""Every example runs as its docstring says, and every code block of the README runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import LOOPBACK

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py"))
ALONE = [path for path in EXAMPLES if path.name not in ("server.py", "client.py")]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


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
    following = [code for language, code in BLOCKS if language == "text"]
    if "print(" in PYTHON[number]:
        assert output
        assert output in following


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
