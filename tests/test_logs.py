"""Logs that are followed while they are written, cut off and replaced come to what a reading from scratch gives."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_runs import TinyRun
from perilune.runs import files, layout, logs
from perilune.runs.logs import LogReader, Table
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics


def line(number: int, **values: Any) -> bytes:
    record = {
        "episode": number, "env_steps": 10 * number, "reward": number / 3, "length": 10, "loss": None, "epsilon": 0.5,
        "target_syncs": number, "ended": "terminated", "outcome": "landed",
    }  # fmt: skip
    return json.dumps(record | values).encode() + b"\n"


def same(one: Table, other: Table) -> bool:
    """Whether two tables hold the same, whatever numbers stand for texts."""
    columns = [name for name in one.columns if name not in one.labels]
    return (
        one.columns.keys() == other.columns.keys()
        and all(np.array_equal(one.columns[name], other.columns[name], equal_nan=True) for name in columns)
        and all(one.texts(name) == other.texts(name) for name in one.labels)
        and one.fault == other.fault
    )


@pytest.mark.parametrize("kind", [Episode, Metrics, Evaluated, HealthWarning])
def test_a_log_is_what_the_library_reads_of_it(tiny_run: TinyRun, kind: Any) -> None:
    table = LogReader(tiny_run.history.directory / layout.FILES[kind], kind).read()
    records: Sequence[Any] = logs.read_log(tiny_run.history.directory, kind)
    assert table.rows == len(records)
    for name in kind._fields:
        values = [getattr(record, name) for record in records]
        if name in table.labels:
            assert table.texts(name) == values
        else:
            np.testing.assert_array_equal(table.columns[name], np.array(values, np.float64))
    assert table.fault is None


def test_steps_and_rewards_are_exact_and_null_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(line(1, env_steps=2**53 - 1, reward=0.1, loss=None) + line(2, reward=-1.7e308, outcome=None))
    table = LogReader(path, Episode).read()
    assert table.columns["env_steps"].tolist() == [2**53 - 1, 20]
    assert table.columns["reward"].tolist() == [0.1, -1.7e308]
    assert np.isnan(table.columns["loss"]).all()
    assert table.texts("outcome") == ["landed", None]
    assert table.texts("ended") == ["terminated", "terminated"]


def test_a_log_of_an_earlier_version_has_no_outcomes(tmp_path: Path) -> None:
    record = json.loads(line(1))
    del record["outcome"]
    (tmp_path / "log").write_bytes(json.dumps(record).encode() + b"\n")
    table = LogReader(tmp_path / "log", Episode).read()
    assert table.texts("outcome") == [None]
    assert table.fault is None


def test_a_line_counts_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogReader(path, Episode)
    assert (log.read().rows, log.read().fault) == (0, None)  # not there yet
    written = line(1) + line(2)
    for size in range(len(written) + 1):
        path.write_bytes(written[:size])
        assert log.read().rows == written[:size].count(b"\n")
    assert log.read().fault is None


BAD = [
    b"\n", b"{}\n", b"null\n", b"\0\0\0\n", b"[1]\n", b"\xff\xfe\n", b'{"episode": 1\n', b'"\n', line(1)[1:],
    line(1)[:-1] + line(2), line(1, ended="no such end"), line(1, reward="<script>"), line(1, reward=[1]),
    line(1, env_steps=None), line(1, length=True), line(1).replace(b"0.5", b"NaN"), line(1).replace(b"0.5", b"1e999"),
    line(1).replace(b"0.5", b"9" * 400), line(1).replace(b'"landed"', b'"\\ud800"'),
    line(1)[:-2] + b', "more": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_line_is_left_out_and_said(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(line(1) + line(2) + bad + line(3) + bad)
    table = LogReader(tmp_path / "x.jsonl", Episode).read()
    assert table.columns["episode"].tolist() == [1, 2, 3]
    assert table.fault == "x.jsonl: 2 damaged lines were skipped, the first is line 3"


def test_a_line_longer_than_any_takes_no_memory_and_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(1) + b"[" * (3 * files.PIECE + 5))
    log = LogReader(path, Episode)
    assert log.read().rows == 1
    with path.open("ab") as file:
        file.write(b"\n" + line(2))
    table = log.read()
    assert table.columns["episode"].tolist() == [1, 2]
    assert table.fault == "x.jsonl: 1 damaged line was skipped, the first is line 2"
    assert same(LogReader(path, Episode).read(), table)


def test_what_goes_on_from_before_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogReader(path, Episode)
    path.write_bytes(line(1) + line(2) + line(3))
    before = log.read()
    with path.open("r+b") as file:  # as resume does: cut off, and written on, here past where it was
        file.truncate(len(line(1)))
        file.seek(0, os.SEEK_END)
        file.write(line(2, reward=7.0) + line(3) + line(4))
    after = log.read()
    assert after.columns["reward"].tolist() == [1 / 3, 7.0, 1.0, 4 / 3]
    assert before.columns["reward"].tolist() == [1 / 3, 2 / 3, 1.0]  # who drew that still can
    assert after.version != before.version
    path.unlink()
    assert log.read().rows == 0
    path.write_bytes(line(9))
    assert log.read().columns["episode"].tolist() == [9]


def open_files() -> int:
    """How many this process has, where the system tells."""
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.exists() else 0


def test_links_pipes_and_directories_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(line(1))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "link": "is a link",
        "pipe": "is not a regular file",
        "directory": "is not a regular file",
    }.items():
        before = open_files()
        table = LogReader(tmp_path / name, Episode).read()
        assert table.rows == 0
        assert table.fault is not None
        assert open_files() == before
        assert words in table.fault


def test_there_is_an_end_to_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_ROWS", 3)
    monkeypatch.setattr(files, "PIECE", 2 * len(line(1)))
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(line(number) for number in range(1, 10)))
    table = LogReader(path, Episode).read()
    assert table.rows == 4  # as many as came with the third
    assert table.fault == "x.jsonl: only the first 3 lines are read"


def test_texts_without_end_are_cut_short(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"".join(line(number, outcome=f"{number}" * 2_000) for number in range(10, 300)))
    table = LogReader(tmp_path / "log", Episode).read()
    assert table.rows == 290
    assert len(table.labels["outcome"]) == logs.MOST_LABELS
    assert max(len(text or "") for text in table.labels["outcome"]) == logs.LONGEST_LABEL
    assert table.texts("outcome")[-1] is None


lines = st.one_of(
    st.integers(1, 10_000).map(line),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: line(1, reward=value)),
    st.sampled_from(["landed", "crashed", None, "<b>", "é"]).map(lambda value: line(2, outcome=value)),
    st.sampled_from(BAD[:-1]),
)
changes = st.one_of(
    st.tuples(st.just("append"), st.lists(lines, max_size=5).map(b"".join)),
    st.tuples(st.just("append"), st.binary(max_size=20)),
    st.tuples(st.just("cut"), st.integers(0, 2_000)),
    st.tuples(st.just("replace"), st.lists(lines, max_size=5).map(b"".join)),
    st.tuples(st.just("remove"), st.just(b"")),
)


@given(st.lists(st.tuples(changes, st.booleans()), max_size=12), st.sampled_from([64, 300, 2**20]))
def test_however_it_changed_it_comes_to_a_reading_from_scratch(
    steps: list[tuple[tuple[str, Any], bool]], piece: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PIECE", max(piece, 400))  # longer than a line is
        path = Path(directory) / "log"
        log = LogReader(path, Episode)
        for (what, value), look in steps:
            content = path.read_bytes() if path.exists() else b""
            if what == "append":
                with path.open("ab") as file:
                    file.write(value)
            elif what == "cut" and path.exists():
                os.truncate(path, min(value, len(content)))
            elif what == "replace":
                (path.with_name("beside")).write_bytes(value)
                path.with_name("beside").replace(path)
            elif what == "remove":
                path.unlink(missing_ok=True)
            if look:
                log.read()
        assert same(log.read(), LogReader(path, Episode).read())


def test_many_lines_that_come_in_pieces_are_all_there(tmp_path: Path) -> None:
    count, pieces = 60_000, 3
    path = tmp_path / "log"
    log = LogReader(path, Episode)
    for piece in range(pieces):
        with path.open("ab") as file:
            file.write(b"".join(line(number) for number in range(piece * count + 1, (piece + 1) * count + 1)))
        table = log.read()
        assert table.rows == (piece + 1) * count
    np.testing.assert_array_equal(table.columns["episode"], np.arange(1, count * pieces + 1))
    assert table.columns["reward"].sum() == pytest.approx(math.comb(count * pieces + 1, 2) / 3)
