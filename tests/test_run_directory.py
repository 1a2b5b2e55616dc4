"""The run directory: strict JSON that another program can read, and nobody's files lost."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_runs import TinyRun, episode, evaluated
from perilune import DQNConfig, TrainConfig
from perilune.agent.config import build, to_json
from perilune.errors import FileFormatError, PeriluneError, RunDirectoryError
from perilune.runs import layout, lock, logs, manifest
from perilune.training.events import Episode, Event, Metrics, Started, Timestep

AGENT, TRAIN = DQNConfig(hidden=(8, (4, "tanh"))), TrainConfig(steps=2_000)


def start(directory: Path) -> None:
    """A new run without events."""
    layout.create(directory)
    content = {"environment": "CartPole-v1", "reward_threshold": 475.0, "seed": 4}
    content |= {"agent": to_json(AGENT), "train": to_json(TRAIN)}
    manifest.write_config(directory, {"format": manifest.FORMAT, **content})


def strict(line: str) -> Any:
    """``line`` as JSON, where NaN and Infinity are none."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(line, parse_constant=refuse)


def metrics(loss: float) -> Metrics:
    return Metrics(100, 60, loss, 1.0, 2.0, 3.0, 1e-3, 0.5)


# Writing


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    start(tmp_path)
    episodes = [episode(1, -200.25), episode(2, 0.1 + 0.2, loss=None, ended="truncated"), episode(3, ended="budget")]
    evaluations = [evaluated(10, 1 / 3), evaluated(20, -5.0, best=False)]
    with logs.open_log(tmp_path) as log:
        events: list[Event] = [
            Started(None),
            *episodes,
            metrics(0.25),
            *evaluations,
            Timestep(1, 0, np.zeros(1), 0, 0.0),
        ]
        for event in events:
            log.write(event)
    run = logs.read_run(tmp_path)
    assert run.episodes == episodes
    assert run.metrics == [metrics(0.25)]
    assert run.evaluations == evaluations


def test_the_header_gives_the_settings_back(tmp_path: Path) -> None:
    start(tmp_path)
    config = logs.read_run(tmp_path).config
    assert build(DQNConfig, config["agent"]) == AGENT
    assert build(TrainConfig, config["train"]) == TRAIN
    assert (config["environment"], config["seed"], config["reward_threshold"]) == ("CartPole-v1", 4, 475.0)


def test_a_family_is_what_differs_in_the_seed_alone() -> None:
    config = {"environment": "CartPole-v1", "seed": 1, "agent": {"lr": 0.1, "head": "dqn"}, "train": {"steps": 10}}
    same = {"train": {"steps": 10}, "agent": {"head": "dqn", "lr": 0.1}, "environment": "CartPole-v1", "seed": 2}
    assert manifest.family(config) == manifest.family(same)
    others = [config | {"environment": "CartPole-v0"}, config | {"more": None}, config | {"train": {"steps": 11}}]
    others.append(config | {"agent": {"lr": 0.1, "head": "dqn", "seed": 1}})  # a setting of that name is one
    assert len({manifest.family(one) for one in [config, *others]}) == 5
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(FileFormatError, match="nested too deeply"):
        manifest.family(config | {"agent": nested})


def test_the_host_is_told_without_who_and_where(tmp_path: Path) -> None:
    start(tmp_path)
    host = strict((tmp_path / "host.json").read_text())
    assert {"perilune", "python", "numpy", "gymnasium", "blas", "platform", "cpus"} <= host.keys()
    assert str(Path.home()) not in json.dumps(host)


def test_the_blas_that_is_told_is_numpys_whoever_else_brings_one() -> None:
    before = manifest.host()["blas"]
    import scipy.linalg  # noqa: F401, PLC0415 -- which has one of its own

    assert {**manifest.host()["blas"], "num_threads": 0} == {**before, "num_threads": 0}


def test_a_trained_run_is_strict_json_line_by_line(tiny_run: TinyRun) -> None:
    directory = tiny_run.history.directory
    for name in ("config.json", "host.json"):
        assert isinstance(strict((directory / name).read_text()), dict)
    for name in ("episodes.jsonl", "metrics.jsonl", "evaluations.jsonl"):
        text = (directory / name).read_text()
        assert text.endswith("}\n")
        assert all(isinstance(strict(line), dict) for line in text.splitlines())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_null(tmp_path: Path, value: float) -> None:
    start(tmp_path)
    with logs.open_log(tmp_path) as log:
        log.write(episode(1, value, loss=value))
        log.write(metrics(value))
    (line,) = (tmp_path / "episodes.jsonl").read_text().splitlines()
    assert (strict(line)["reward"], strict(line)["loss"]) == (None, None)
    assert logs.read_run(tmp_path).metrics[0].loss is None


def test_a_line_is_on_disk_before_the_training_goes_on(tmp_path: Path) -> None:
    start(tmp_path)
    with logs.open_log(tmp_path) as log:
        log.write(episode(1))
        assert len(logs.read_run(tmp_path).episodes) == 1
        log.write(episode(2))
        assert len(logs.read_run(tmp_path).episodes) == 2


def test_log_is_closed_when_training_fails(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(ZeroDivisionError), logs.open_log(tmp_path) as log:
        log.write(episode(1, 1 / 0))
    with pytest.raises(ValueError, match="closed file"):
        log.write(episode(2))


# Reading


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    start(tmp_path)
    with logs.open_log(tmp_path) as log:
        log.write(episode(1))
        log.write(episode(2))
    path = tmp_path / "episodes.jsonl"
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for length in range(second, len(whole)):
        path.write_bytes(whole[:length])
        assert [e.episode for e in logs.read_run(tmp_path).episodes] == [1]


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        b"",
        b"null",
        b"[1, 2]",
        b"17",
        b'{"episode": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(episode(2)._asdict() | {"more": 1}).encode(),
        json.dumps(episode(2)._asdict() | {"reward": "a lot"}).encode(),
        json.dumps(episode(2)._asdict() | {"episode": None}).encode(),
        json.dumps(episode(2)._asdict() | {"length": [3]}).encode(),
        json.dumps(episode(2)._asdict() | {"ended": 3}).encode(),
        json.dumps(episode(2)._asdict() | {"reward": 10**400}).encode(),  # larger than any float
        json.dumps(episode(2)._asdict() | {"outcome": 3}).encode(),
    ],
)
def test_a_damaged_line_is_named_by_file_and_number(tmp_path: Path, damaged: bytes) -> None:
    start(tmp_path)
    good = json.dumps(episode(1)._asdict()).encode()
    (tmp_path / "episodes.jsonl").write_bytes(b"\n".join([good, good, damaged, good, b""]))
    with pytest.raises(FileFormatError, match=r"episodes\.jsonl, line 3, is damaged"):
        logs.read_run(tmp_path)


@given(st.binary(max_size=60), st.integers(0, 600))
def test_whatever_is_in_a_file_the_error_is_ours(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    directory = tmp_path_factory.mktemp("run")
    start(directory)
    with logs.open_log(directory) as log:
        for number in range(1, 4):
            log.write(episode(number))
    for name in ("episodes.jsonl", "config.json"):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[:at] + junk + content[at + len(junk) :])
    try:
        run = logs.read_run(directory)
    except PeriluneError:
        return
    assert all(isinstance(record, Episode) for record in run.episodes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "format None"),
        ('{"format": 2}', "format 2; this version of Perilune reads 1"),
        ('{"format": 1}', "environment"),
        ('{"format": 1, "environment": 3}', "environment"),
        ("[" * 2_000, "not JSON"),
        ("[" * 100_000, "100,000 objects, lists and strings; at most 2,048 are read"),
    ],
)
def test_a_config_of_another_kind_is_refused(tmp_path: Path, content: str, said: str) -> None:
    start(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(FileFormatError, match=said):
        logs.read_run(tmp_path)


@pytest.mark.parametrize("key", ["environment", "seed", "agent", "train", "reward_threshold"])
def test_a_config_without_one_of_its_parts_is_refused(tmp_path: Path, key: str) -> None:
    start(tmp_path)
    config = strict((tmp_path / "config.json").read_text())
    del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileFormatError, match=key):
        logs.read_run(tmp_path)


def test_a_directory_without_a_run_is_named(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunDirectoryError, match=f"{directory} is not a run"):
            logs.read_run(directory)


# Making room


def test_a_new_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    with lock.acquire(tmp_path / "a" / "b"):
        layout.create(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [layout.LOCK]


def test_a_run_is_never_overwritten_unasked(tmp_path: Path) -> None:
    start(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunDirectoryError, match=r"already exists.*--overwrite"):
        layout.create(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwriting_removes_a_whole_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.history.directory, tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("*"))) > 12
    layout.create(tmp_path / "run", overwrite=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [layout.LOCK]


def test_overwriting_removes_nothing_that_somebody_put_beside_the_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.history.directory, run)
    mine = ["notes.txt", "plots/mine.png", "videos/mine.mp4", "videos/more/episode-00001.mp4", "best.safetensors.old"]
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    layout.create(run, overwrite=True)
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert left == sorted([*mine, layout.LOCK])


def test_a_run_that_was_killed_can_be_overwritten(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("best.safetensors.partial", "videos/episode-00007.mp4.partial"):
        (tmp_path / name).touch()
    layout.create(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_somebody_elses_is_not_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="not a run's"):
        layout.create(tmp_path, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("below", [".", "x", "x/y"])
def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / below
    with pytest.raises(RunDirectoryError, match=f"{directory} cannot be written"), lock.acquire(directory):
        pass
    assert (tmp_path / "file").is_file()


def test_the_free_directory_is_the_first_that_is_not_there(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        directory = layout.free_directory("ALE/Some:Game-v5", 2, tmp_path)
        directory.mkdir()
        names.append(directory.name)
    assert names == ["ALE_Some_Game-v5-seed2", "ALE_Some_Game-v5-seed2-2", "ALE_Some_Game-v5-seed2-3"]
