"""Settings as TOML: what Perilune writes, Python's parser reads back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils import toml

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT.filter(lambda text: text != "none"), nested
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_values_are_read_back(values: dict[str, Any]) -> None:
    assert tomllib.loads("\n".join(toml.entry(name, value) for name, value in values.items())) == values


def test_none_nan_and_tuples_are_written() -> None:
    assert toml.entry("a", None) == 'a = "none"'
    assert toml.entry("b", float("nan")) == "b = nan"
    assert toml.entry("c d", (1, (2.5, "x"))) == '"c d" = [1, [2.5, "x"]]'


@pytest.mark.parametrize("value", ["none", [None], {"a": object()}, {1: 2}, "\ud800", 1j])
def test_values_that_toml_cannot_represent_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"stands for None|cannot represent|surrogates"):
        toml.entry("a", value)
