"""Text for display: control characters escaped, everything readable unchanged."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("runs/moon 1", "runs/moon 1"),
        ("Mond-Läufe 月 🚀", "Mond-Läufe 月 🚀"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("left\u202eright", "left\\u202eright"),  # reverses the text after it
        ("\ud800\udcff", "\\ud800\\udcff"),  # bytes of a name that is not UTF-8
        ("\uffff\U000e0001", "\\uffff\\U000e0001"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_can_be_shown_and_stored_in_xml(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    element = ET.Element("name")
    element.text = shown
    assert ET.fromstring(ET.tostring(element, "utf-8")).text == (shown or None)  # noqa: S314 -- our own
