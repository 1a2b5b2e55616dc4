"""Logs: strict JSON lines, read as records or as a table, while the file grows, shrinks or is damaged."""

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

from fixtures_runs import TinyRun, episode, evaluated
from perilune.errors import FileFormatError
from perilune.runs import files, layout, logs, tables
from perilune.runs.lines import TAIL
from perilune.runs.tables import LogReader, Table
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics, Started, Timestep


def metrics(loss: float) -> Metrics:
    return Metrics(100, 60, loss, 1.0, 2.0, 3.0, 1e-3, 0.5)


def line(number: int, **values: Any) -> bytes:
    record = {
        "episode": number, "env_steps": 10 * number, "reward": number / 3, "length": 10, "loss": None, "epsilon": 0.5,
        "target_syncs": number, "ended": "terminated", "outcome": "landed",
    }  # fmt: skip
    return json.dumps(record | values).encode() + b"\n"


def same(one: Table, other: Table) -> bool:
    """Return whether two tables hold the same rows."""
    pairs = ((column, other.columns[name]) for name, column in one.columns.items())
    return one.fault == other.fault and all(
        np.array_equal(column, again, equal_nan=column.dtype != object) for column, again in pairs
    )


# Writing


def test_written_events_are_read_back(tmp_path: Path) -> None:
    episodes = [episode(1, -200.25), episode(2, 0.1 + 0.2, loss=None, ended="truncated"), episode(3, ended="budget")]
    evaluations = [evaluated(10, 1 / 3), evaluated(20, -5.0, best=False)]
    others: list[Event] = [Started(None), Timestep(1, 0, np.zeros(1), 0, 0.0, image=np.zeros(1))]
    with logs.LogWriter(tmp_path) as log:
        for event in (*others, *episodes, metrics(0.25), *evaluations):
            log.write(event)
            assert len(logs.read_log(tmp_path, Episode)) <= 3  # each line can be read at once
    assert logs.read_log(tmp_path, Episode) == episodes
    assert logs.read_log(tmp_path, Metrics) == [metrics(0.25)]
    assert logs.read_log(tmp_path, Evaluated) == evaluations
    assert logs.read_log(tmp_path, HealthWarning) == []
    assert logs.last_record(tmp_path, Episode) == episodes[-1]
    assert logs.last_record(tmp_path, HealthWarning) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_non_finite_number_is_written_as_null(tmp_path: Path, value: float) -> None:
    with logs.LogWriter(tmp_path) as log:
        log.write(episode(1, value, loss=value))
    record = json.loads((tmp_path / "episodes.jsonl").read_text(), parse_constant=pytest.fail)
    assert (record["reward"], record["loss"]) == (None, None)
    assert logs.read_log(tmp_path, Episode)[0].loss is None


def test_log_is_closed_when_training_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), logs.LogWriter(tmp_path) as log:
        log.write(episode(1, 1 / 0))
    with pytest.raises(ValueError, match="closed file"):
        log.write(episode(2))


# Reading


@pytest.mark.parametrize("kind", [Episode, Metrics, Evaluated, HealthWarning])
def test_table_and_records_agree(tiny_run: TinyRun, kind: Any) -> None:
    directory = tiny_run.history.directory
    assert directory is not None
    table = LogReader(directory / layout.FILES[kind], kind).read()
    records: Sequence[Any] = logs.read_log(directory, kind)
    assert table.rows == len(records)
    for name in kind._fields:
        column = table.columns[name]
        np.testing.assert_array_equal(column, np.array([getattr(record, name) for record in records], column.dtype))
    assert table.fault is None


def test_numbers_are_exact_and_null_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(line(1, env_steps=2**53 - 1, reward=0.1, loss=None) + line(2, reward=-1.7e308, outcome=None))
    table = LogReader(path, Episode).read()
    assert table.columns["env_steps"].tolist() == [2**53 - 1, 20]
    assert table.columns["reward"].tolist() == [0.1, -1.7e308]
    assert np.isnan(table.columns["loss"]).all()
    assert table.columns["outcome"].tolist() == ["landed", None]


def test_unfinished_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    log = LogReader(path, Episode)
    assert (log.read().rows, log.read().fault) == (0, None)  # the log does not exist yet
    written = line(1) + line(2)
    for size in range(0, len(written) + 1, 3):
        path.write_bytes(written[:size])
        ended = written[:size].count(b"\n")
        assert log.read().rows == len(logs.read_log(tmp_path, Episode)) == ended
        last = logs.last_record(tmp_path, Episode)
        assert (0 if last is None else last.episode) == ended
    assert log.read().fault is None


BAD = [
    b"\n", b"{}\n", b"null\n", b"\0\0\0\n", b"[1]\n", b"\xff\xfe\n", b'{"episode": 1\n', b'"\n', line(1)[1:],
    line(1)[:-1] + line(2), line(1, ended="no such end"), line(1, reward="<script>"), line(1, reward=[1]),
    line(1, env_steps=None), line(1, length=True), line(1).replace(b"0.5", b"NaN"), line(1).replace(b"0.5", b"1e999"),
    line(1).replace(b"0.5", b"9" * 400), line(1).replace(b'"landed"', b'"\\ud800"'), line(1, more=1),
    line(1, outcome=3), line(1, length=-1), line(1, env_steps=2**53 + 1),
    line(1)[:-2] + b', "more": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_error_names_the_damaged_line(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_bytes(line(1) + line(2) + bad + line(3) + bad)
    table = LogReader(tmp_path / "episodes.jsonl", Episode).read()
    assert table.columns["episode"].tolist() == [1, 2, 3]
    assert table.fault == "episodes.jsonl: 2 damaged lines were skipped, starting at line 3"
    with pytest.raises(FileFormatError, match=r"episodes\.jsonl, line 3, is damaged: .*Delete this line"):
        logs.read_log(tmp_path, Episode)
    last = logs.last_record(tmp_path, Episode)
    assert (last.episode if last else None) == (3 if len(bad) < TAIL else None)


def test_overlong_line_is_skipped_without_loading_it(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(1) + b"[" * (3 * files.PIECE + 5))
    log = LogReader(path, Episode)
    assert log.read().rows == 1
    with path.open("ab") as file:
        file.write(b"\n" + line(2))
    table = log.read()
    assert table.columns["episode"].tolist() == [1, 2]
    assert table.fault == "x.jsonl: damaged line 2 was skipped"
    assert same(LogReader(path, Episode).read(), table)


def test_truncated_and_extended_log_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogReader(path, Episode)
    path.write_bytes(line(1) + line(2) + line(3))
    before = log.read()
    with path.open("r+b") as file:  # as a resumed run does
        file.truncate(len(line(1)))
        file.seek(0, os.SEEK_END)
        file.write(line(2, reward=7.0) + line(3) + line(4))
    after = log.read()
    assert after.columns["reward"].tolist() == [1 / 3, 7.0, 1.0, 4 / 3]
    assert before.columns["reward"].tolist() == [1 / 3, 2 / 3, 1.0]  # an earlier table stays valid
    assert after.version != before.version
    path.unlink()
    assert log.read().rows == 0
    path.write_bytes(line(9))
    assert log.read().columns["episode"].tolist() == [9]


def test_links_pipes_and_directories_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(line(1))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    listing = Path("/proc/self/fd")
    for name, fault in (("link", "is a link"), ("pipe", "not a regular file"), ("directory", "not a regular file")):
        before = len(list(listing.iterdir())) if listing.exists() else 0
        table = LogReader(tmp_path / name, Episode).read()
        assert table.rows == 0
        assert table.fault is not None
        assert fault in table.fault
        assert before == (len(list(listing.iterdir())) if listing.exists() else 0)  # nothing stays open


def test_number_of_rows_and_strings_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(line(number, outcome=f"{number}" * 2_000) for number in range(10, 300)))
    table = LogReader(path, Episode).read()
    assert table.rows == 290
    texts = set(table.columns["outcome"]) - {None}
    assert len(texts) == tables.MOST_TEXTS
    assert max(map(len, texts)) == tables.LONGEST_TEXT
    assert table.columns["outcome"][-1] is None
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    monkeypatch.setattr(files, "PIECE", 2 * len(line(1)))
    path.write_bytes(b"".join(line(number) for number in range(1, 10)))
    table = LogReader(path, Episode).read()
    assert table.rows == 4  # the fourth row is in the same piece as the third
    assert table.fault == "x.jsonl: only the first 3 lines are read"


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
def test_incremental_reading_equals_reading_at_once(steps: list[tuple[tuple[str, Any], bool]], piece: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PIECE", max(piece, 400))  # longer than a line
        path = Path(directory) / "log"
        log = LogReader(path, Episode)
        for (what, value), look in steps:
            content = path.read_bytes() if path.exists() else b""
            if what == "append":
                path.write_bytes(content + value)
            elif what == "cut" and path.exists():
                os.truncate(path, min(value, len(content)))
            elif what == "replace":
                path.with_name("beside").write_bytes(value)
                path.with_name("beside").replace(path)
            elif what == "remove":
                path.unlink(missing_ok=True)
            if look:
                log.read()
        assert same(log.read(), LogReader(path, Episode).read())
