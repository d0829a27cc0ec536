"""The command line, where it is not the demo's."""

from __future__ import annotations

import pytest

from aiozpat.cli.main import main


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert "demo" in shown.err
