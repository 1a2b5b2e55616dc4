"""Printing to a terminal that may close, with control characters escaped."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.console import aside, say
from perilune._utils.text import printable


@pytest.mark.parametrize("opened", [os.pipe, pytest.param(pty.openpty, marks=pytest.mark.long)])
def test_training_survives_a_closed_terminal(opened: Callable[[], tuple[int, int]], tmp_path: Path) -> None:
    reads, writes = opened()
    os.close(reads)
    words = "train CartPole-v1 --steps 400 --hidden 8 --learning-starts 40 --epsilon-decay-steps 90000 --out run --json"
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "perilune", *words.split()],  # the epsilon decay also causes a warning
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


def test_printed_text_keeps_line_breaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    say("one\n  two\x1b[31m")
    aside("three\x07\nfour")
    assert capsys.readouterr() == ("one\n  two\\x1b[31m\n", "three\\x07\nfour\n")
    monkeypatch.setattr(sys, "stderr", None)
    aside("lost")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Mond-Läufe 月 🚀 1", "Mond-Läufe 月 🚀 1"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("two\nlines\r\t\x00\x7f\x9b", "two\\nlines\\r\\t\\x00\\x7f\\x9b"),
        ("left\u202eright", "left\\u202eright"),  # reverses the text after it
        ("\ud800\udcff", "\\ud800\\udcff"),  # bytes of a name that is not UTF-8
        ("\uffff\U000e0001", "\\uffff\\U000e0001"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_escaped_text_is_printable_and_valid_in_xml(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    element = ET.Element("name")
    element.text = shown
    assert ET.fromstring(ET.tostring(element, "utf-8")).text == (shown or None)  # noqa: S314 -- trusted data
