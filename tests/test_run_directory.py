"""Run directories: settings and machine, creation and replacement, and runs with unusual content or names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_runs import TinyRun, episode
from perilune import cli
from perilune.errors import FileFormatError, PeriluneError, RunDirectoryError
from perilune.runs import files, inspection, layout, lock, logs, manifest
from perilune.training.events import Episode
from perilune.viz import plots
from perilune.viz.report.content import write_report

LONG = pytest.mark.long


def config_with(**changed: Any) -> str:
    """Return config.json with changed values; ... removes a value."""
    content = {"format": 1, "environment": "X", "reward_threshold": 475.0, "seed": 4, "agent": {}, "train": {}}
    return json.dumps({key: value for key, value in (content | changed).items() if value is not ...})


def start(directory: Path) -> None:
    """Make a new run without events."""
    layout.create(directory)
    manifest.write_config(directory, json.loads(config_with()))


def edit(run: Path, **values: Any) -> None:
    """Change values of config.json."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))


@pytest.fixture
def run(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run that tests may change."""
    assert tiny_run.history.directory is not None
    return Path(shutil.copytree(tiny_run.history.directory, tmp_path / "run"))


def test_several_processes_can_write_the_same_file_at_the_same_time(tmp_path: Path) -> None:
    """Two tasks of an array job, for example, write the same scores.json."""
    path = tmp_path / "scores.json"
    contents = [bytes([letter]) * 1_000 for letter in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: [files.write(path, content) for _ in range(50)], contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_family_ignores_only_the_seed() -> None:
    config = {"environment": "CartPole-v1", "seed": 1, "agent": {"lr": 0.1, "head": "dqn"}, "train": {"steps": 10}}
    same = {"train": {"steps": 10}, "agent": {"head": "dqn", "lr": 0.1}, "environment": "CartPole-v1", "seed": 2}
    assert manifest.family(config) == manifest.family(same)
    others = [config | {"environment": "CartPole-v0"}, config | {"more": None}, config | {"train": {"steps": 11}}]
    others.append(config | {"agent": {"lr": 0.1, "head": "dqn", "seed": 1}})
    assert len({manifest.family(one) for one in [config, *others]}) == 5
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(FileFormatError, match="nested too deeply"):
        manifest.family(config | {"agent": nested})


def test_host_has_versions_and_no_user_data(tmp_path: Path) -> None:
    start(tmp_path)
    host = json.loads((tmp_path / "host.json").read_text())
    assert {"perilune", "python", "numpy", "gymnasium", "blas", "platform", "cpus"} <= host.keys()
    assert str(Path.home()) not in json.dumps(host)
    before = manifest.host()["blas"]
    import scipy.linalg  # noqa: F401, PLC0415 -- it loads another BLAS

    assert {**manifest.host()["blas"], "num_threads": 0} == {**before, "num_threads": 0}


@given(st.binary(max_size=60), st.integers(0, 600))
def test_damaged_files_raise_perilune_errors(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int) -> None:
    directory = tmp_path_factory.mktemp("run")
    start(directory)
    with logs.LogWriter(directory) as log:
        for number in range(1, 4):
            log.write(episode(number))
    for name in ("episodes.jsonl", "config.json"):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[:at] + junk + content[at + len(junk) :])
    try:
        read = logs.read_run(directory)
    except PeriluneError:
        return
    assert all(isinstance(record, Episode) for record in read.episodes)


INVALID: list[tuple[str, Any]] = [
    *(("environment", 3), ("seed", True), ("seed", 10**400), ("reward_threshold", True)),
    *((key, ...) for key in ("environment", "seed", "agent", "train", "reward_threshold")),
]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "format None"),
        ('{"format": 2}', "format 2; this version of Perilune reads format 1"),
        ('{"format": 1}', "environment"),
        ("[" * 2_000, "not JSON"),
        *((config_with(**{key: value}), f"config.json .*{key}|is not JSON") for key, value in INVALID),
        ("[" * 100_000, "100,000 objects, lists and strings, but at most 2,048 are allowed"),
    ],
)
def test_invalid_config_is_refused(tmp_path: Path, content: str, message: str) -> None:
    start(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(FileFormatError, match=message) as raised:
        logs.read_run(tmp_path)
    assert len(str(raised.value)) < 500


def test_error_names_the_directory_without_a_run(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunDirectoryError, match=f"{directory} is not a run"):
            logs.read_run(directory)


# Creation and replacement


def test_overwriting_removes_the_run_and_nothing_else(run: Path) -> None:
    mine = ["notes.txt", "plots/mine.png", "videos/mine.mp4", "videos/more/episode-00001.mp4", "best.safetensors.old"]
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    for name in ("best.safetensors.partial", "videos/episode-00007.mp4.partial"):  # of a killed process
        (run / name).touch()
    layout.create(run, overwrite=True)
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert left == sorted([*mine, layout.LOCK])


def test_overwriting_leaves_an_empty_directory(run: Path) -> None:
    layout.create(run, overwrite=True)
    assert [path.name for path in run.iterdir()] == [layout.LOCK]


@pytest.mark.parametrize("overwrite", [False, True])
def test_directory_with_other_files_is_not_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="do not belong to a run"):
        layout.create(tmp_path, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("content", ["{}", '{"name": "other"}', "[1]", "// other"])
def test_config_of_another_program_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "main.js").write_text("years of work")
    with pytest.raises(RunDirectoryError, match=r"config\.json does not belong to a run"):
        layout.create(tmp_path, overwrite=True)
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize("below", [".", "x", "x/y"])
def test_error_names_the_unwritable_directory(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / below
    with pytest.raises(RunDirectoryError, match=f"{directory} cannot be written"), lock.acquire(directory):
        pass
    assert (tmp_path / "file").is_file()


def test_free_directory_has_the_first_unused_suffix(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        directory = layout.free_directory("ALE/Some:Game-v5", 2, tmp_path)
        directory.mkdir()
        names.append(directory.name)
    assert names == ["ALE_Some_Game-v5-seed2", "ALE_Some_Game-v5-seed2-2", "ALE_Some_Game-v5-seed2-3"]


# Unusual content and names


def shown(run: Path, out: Path) -> tuple[str, bytes, bytes]:
    """Return the summary, curves and report of a run."""
    read = logs.read_run(run)
    curves = plots.curves([read]).save(out, "curves")
    write_report([read], out / "report.html", 0, lambda words: None)
    summary = "\n".join(inspection.summary(inspection.describe(run), str(run)))
    return summary, curves[0].read_bytes(), (out / "report.html").read_bytes()


@pytest.mark.parametrize("value", [None, *(pytest.param(value, marks=LONG) for value in (0, -1e308, 2**53))])
def test_run_with_extreme_numbers_is_shown(run: Path, tmp_path: Path, value: Any) -> None:
    for kind, name in layout.FILES.items():
        records = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for field, hint in get_type_hints(kind).items():
            if hint in (float, float | None) or (hint is int and value in (0, 2**53)):
                records = [record | {field: value} for record in records]
        (run / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    edit(run, reward_threshold=value)
    summary, curves, page = shown(run, tmp_path)
    assert "best evaluation             " + ("-" if value is None else "") in summary
    assert len(curves) > 10_000
    assert b"</html>" in page


@LONG
@pytest.mark.parametrize("name", ["$\\frac{$\n", "", "\x1b[31m\x00" * 200])
def test_run_with_an_unusual_environment_name_is_shown(run: Path, tmp_path: Path, name: str) -> None:
    edit(run, environment=name)
    lines = [json.loads(line) | {"outcome": name} for line in (run / "episodes.jsonl").read_text().splitlines()]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert f"run of {name}" in shown(run, tmp_path)[0]


@LONG
@pytest.mark.filterwarnings("ignore::perilune.errors.PeriluneWarning")  # about a short training run
def test_run_with_an_unusual_directory_name_is_shown(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    strange = run.rename(run.with_name(os.fsdecode(b"r\xff\x1b[2J$\\frac{$")))
    again = Path(shutil.copytree(strange, strange.with_name(f"{strange.name}2")))
    out = strange.with_name(os.fsdecode(b"\xfe"))
    commands: Sequence[tuple[object, ...]] = (
        ("info", strange), ("verify", strange), ("plot", strange, again, "--out", out),
        ("report", strange, again, "--episodes", 0, "--out", out / "r.html"), ("maps", strange),
        ("video", strange, "--out", out / "v.gif"), ("evaluate", strange, "--episodes", 1),
        ("resume", strange, "--steps", 1, "--quiet"),
    )  # fmt: skip
    for command in commands:
        cli.main([str(word) for word in command])
        printed, err = capfd.readouterr()
        assert printed
        assert "\x1b" not in printed + err
    assert b"r\\udcff" in (out / "r.html").read_bytes()
