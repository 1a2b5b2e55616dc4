"""Printing: a terminal may disappear, and control characters are escaped."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perilune._utils.console import aside, say


@pytest.mark.parametrize("opened", [os.pipe, pytest.param(pty.openpty, marks=pytest.mark.long)])
def test_training_survives_a_closed_terminal(opened: Callable[[], tuple[int, int]], tmp_path: Path) -> None:
    reads, writes = opened()
    os.close(reads)
    words = "train CartPole-v1 --steps 400 --hidden 8 --learning-starts 40 --epsilon-decay-steps 90000 --out run --json"
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "perilune", *words.split()],  # epsilon causes a warning too
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=writes,
        timeout=120,
        check=False,
    )
    os.close(writes)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["env_steps"] == 400
    assert (tmp_path / "run" / "notices.jsonl").read_text().count("epsilon") > 0


def test_nothing_is_printed_without_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    aside("lost")
    assert capsys.readouterr().out == ""


def test_printed_text_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\n  two\x1b[31m")
    aside("three\x07\nfour")
    assert capsys.readouterr() == ("one\n  two\\x1b[31m\n", "three\\x07\nfour\n")
