"""A run may say whatever its format allows, and be called anything: it is told and drawn all the same, or refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from fixtures_runs import TinyRun
from perilune import cli
from perilune.errors import FileFormatError
from perilune.runs import inspection, layout, logs
from perilune.viz import plots
from perilune.viz.report import content as report


@pytest.fixture
def run(tiny_run: TinyRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.history.directory, tmp_path / "run"))


def shown(run: Path, out: Path) -> tuple[str, bytes, bytes]:
    """All that is made of a run for people: what is told, its curves, and its report."""
    read = logs.read_run(run)
    curves = plots.curves([read]).save(out, "curves")
    report.write_report([read], out / "report.html", 0, lambda words: None)
    told = "\n".join(inspection.summary(inspection.describe(run), str(run)))
    return told, curves[0].read_bytes(), (out / "report.html").read_bytes()


def rewritten(run: Path, value: Any) -> None:
    """Let every number of every log be ``value``, where a log can say so; else it stays."""
    for kind, name in layout.FILES.items():
        records = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for field, hint in get_type_hints(kind).items():
            if hint in (int, float, float | None) and (hint is not int or value in (0, 2**53)):
                records = [record | {field: value} for record in records]
        (run / name).write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("value", [None, 0, 1e308, -1e308, 2**53])
def test_whatever_the_numbers_of_its_logs_a_run_is_shown(run: Path, tmp_path: Path, value: Any) -> None:
    rewritten(run, value)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"reward_threshold": value}))
    told, curves, page = shown(run, tmp_path)
    assert "best evaluation             " + ("-" if value is None else "") in told
    assert len(curves) > 10_000
    assert b"</html>" in page


@pytest.mark.parametrize("name", ["$\\frac{$\n", "", "\x1b[31m\x00" * 200])
def test_whatever_its_environment_is_called_a_run_is_shown(run: Path, tmp_path: Path, name: str) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"environment": name}))
    lines = [json.loads(line) | {"outcome": name} for line in (run / "episodes.jsonl").read_text().splitlines()]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told, _, _ = shown(run, tmp_path)
    assert f"run of {name}" in told


@pytest.mark.parametrize(
    ("key", "value"), [("seed", True), ("seed", 10**400), ("reward_threshold", 10**400), ("reward_threshold", True)]
)
def test_a_config_that_says_what_none_can_is_refused(run: Path, key: str, value: Any) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(FileFormatError, match=f"config.json is invalid: .*{key}") as raised:
        logs.read_run(run)
    assert len(str(raised.value)) < 500


@pytest.mark.filterwarnings("ignore::perilune.errors.PeriluneWarning")  # of so short a training
def test_whatever_its_directory_is_called_a_run_is_shown(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    strange = run.rename(run.with_name(os.fsdecode(b"r\xff\x1b[2J$\\frac{$")))
    again = Path(shutil.copytree(strange, strange.with_name(f"{strange.name}2")))
    out = strange.with_name(os.fsdecode(b"\xfe"))
    commands: Sequence[tuple[object, ...]] = (
        ("info", strange), ("verify", strange), ("plot", strange), ("plot", strange, again, "--out", out),
        ("report", strange, "--episodes", 1), ("report", strange, again, "--episodes", 0, "--out", out / "r.html"),
        ("maps", strange), ("video", strange), ("video", strange, "--out", out / "v.gif"),
        ("evaluate", strange, "--episodes", 1), ("resume", strange, "--steps", 1, "--quiet"),
    )  # fmt: skip
    for command in commands:
        cli.main([str(word) for word in command])
        said, aside = capfd.readouterr()
        assert said
        assert "\x1b" not in said + aside
    assert b"r\\udcff" in (out / "r.html").read_bytes()
