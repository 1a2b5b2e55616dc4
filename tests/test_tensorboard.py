"""Event files contain every point of the logs once, also after an interruption."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures_runs import cartpole, episode
from perilune import DQN, History, cli, recording
from perilune._utils.arrays import Array
from perilune.errors import MissingDependencyError, RunDirectoryError
from perilune.training.events import Event, HealthWarning
from perilune.training.loop import training_events
from perilune.viz import tensorboard
from perilune.viz.tensorboard import MAX_FRAMES, MAX_SIDE, Animation, scalars

AGENT: dict[str, Any] = {"hidden": (8,), "batch_size": 8, "buffer_size": 150, "learning_starts": 40}
TRAINING: dict[str, Any] = {
    "steps": 400, "eval_every": 150, "eval_episodes": 2, "metrics_every": 20, "quiet": True, "pictures": False,
    "video_every": 4,
}  # fmt: skip

Values = dict[str, list[tuple[int, Any]]]


def records(path: Path) -> Iterator[Any]:
    """Yield the events of a file, each stored as length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event as Record  # noqa: PLC0415

    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Record.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
    assert at == len(content)


def shown(run: Path) -> Values:
    """Return (step, value) of every tag as TensorBoard shows them: a session start drops later points."""
    found: Values = defaultdict(list)
    for path in sorted((run / "tensorboard").iterdir()):
        for record in records(path):
            if record.HasField("session_log"):
                for tag, values in found.items():
                    found[tag] = [(step, value) for step, value in values if step < record.step]
            for value in record.summary.value:
                image = value.image.encoded_image_string
                found[value.tag].append((record.step, image or value.simple_value))
    return found


def expected(history: History) -> Values:
    """Return the points that the run's logs contain."""
    tags: Values = defaultdict(list)
    logs: tuple[tuple[str, Sequence[Any], str], ...] = (
        ("episode", history.episodes, "reward length loss epsilon"),
        ("update", history.run.metrics, "updates loss mean_q mean_td_target gradient_norm learning_rate epsilon"),
        ("evaluation", history.evaluations, "episodes mean_return std_return min_return seconds cpu_seconds"),
    )
    for group, log, names in logs:
        for record in log:
            for name in names.split():
                if getattr(record, name) is not None:
                    tags[f"{group}/{name}"].append((record.env_steps, getattr(record, name)))
    return tags


def assert_shows(run: Path, history: History) -> None:
    found = shown(run)
    for tag, values in expected(history).items():
        assert [step for step, _ in found[tag]] == [step for step, _ in values]
        np.testing.assert_allclose([value for _, value in found[tag]], [value for _, value in values], rtol=1e-6)
    others = {"video", "outcomes/balanced", "outcomes/fell", "outcomes/left_the_track"}
    assert found.keys() - expected(history).keys() <= others


class InterruptedTrainingError(Exception):
    """Stop training without closing its files."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A finished training run with event files. Tests must not change it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return DQN(cartpole(), seed=3, **AGENT).train(run_dir=run, tensorboard=True, **TRAINING)


def test_event_file_contains_every_value_of_the_logs(whole: History) -> None:
    assert_shows(whole.directory, whole)
    (path,) = (whole.directory / "tensorboard").iterdir()
    first, *others = records(path)
    assert first.file_version == "brain.Event:2"
    times = [record.wall_time for record in others]
    assert times == sorted(times)
    assert abs(times[-1] - path.stat().st_mtime) < 2  # seconds since the epoch
    for label in ("balanced", "fell", "left_the_track"):
        assert len(shown(whole.directory)[f"outcomes/{label}"]) == len(whole.episodes)


def test_recorded_episode_is_an_animation_at_its_step(whole: History) -> None:
    videos = shown(whole.directory)["video"]
    recorded = [one for one in whole.episodes if one.episode == 1 or one.episode % 4 == 0]
    assert [step for step, _ in videos] == [one.env_steps for one in recorded]
    for (_, gif), one in zip(videos, recorded, strict=True):
        image = Image.open(io.BytesIO(gif))
        assert (image.format, image.size) == ("GIF", (240, 160))
        assert 1 < image.n_frames <= one.length + 1  # type: ignore[attr-defined]


def test_writing_event_files_does_not_change_training(whole: History, tmp_path: Path) -> None:
    without = DQN(cartpole(), seed=3, **AGENT).train(run_dir=tmp_path / "run", **TRAINING)
    assert not (tmp_path / "run" / "tensorboard").exists()
    for name in ("final.safetensors", "best.safetensors", "episodes.jsonl", "metrics.jsonl"):
        assert (without.directory / name).read_bytes() == (whole.directory / name).read_bytes()


@pytest.mark.parametrize("after", [55, 130])
def test_resumed_training_has_every_point_once(
    whole: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run = tmp_path / "run"

    def interrupted(*arguments: Any) -> Iterator[Event]:
        yield from itertools.islice(training_events(*arguments), after)
        raise InterruptedTrainingError

    monkeypatch.setattr(recording, "training_events", interrupted)
    with pytest.raises(InterruptedTrainingError):
        DQN(cartpole(), seed=3, **AGENT).train(run_dir=run, tensorboard=True, **TRAINING)
    monkeypatch.undo()
    history = DQN(cartpole(), seed=3, **AGENT).train(
        resume=True, run_dir=run, tensorboard=True, quiet=True, pictures=False
    )
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert_shows(run, history)
    found, right = shown(run), shown(whole.directory)
    for times in (found, right):
        del times["evaluation/seconds"], times["evaluation/cpu_seconds"]
    assert found == right


def test_resumed_run_without_event_files_gets_all_points(tmp_path: Path) -> None:
    run = tmp_path / "run"
    agent = DQN(cartpole(), seed=3, **AGENT)
    agent.train(run_dir=run, **TRAINING)
    history = agent.train(resume=True, run_dir=run, change=["steps"], **TRAINING | {"steps": 500}, tensorboard=True)
    assert history.episodes[0].env_steps < 400 < history.episodes[-1].env_steps
    assert_shows(run, history)


def test_missing_tensorboardx_is_reported_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[tensorboard\]"):
        DQN(cartpole(), **AGENT).train(run_dir=tmp_path / "run", tensorboard=True, **TRAINING)
    assert not (tmp_path / "run").exists()


def test_error_names_the_unwritable_event_directory(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with (
        pytest.raises(RunDirectoryError, match="tensorboard cannot be written"),
        tensorboard.event_file(tmp_path, 50, 0),
    ):
        pass


def test_tensorboard_option_writes_event_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    small = "--episodes 3 --steps None --learning-starts 70 --eval-episodes 1 --hidden 8 --quiet --json --tensorboard"
    cli.main(["train", "CartPole-v1", "--out", run, *small.split()])
    assert len(shown(tmp_path / "run")["episode/reward"]) == 3
    cli.main(["resume", run, "--episodes", "2", "--quiet", "--json", "--tensorboard"])
    assert len(shown(tmp_path / "run")["episode/reward"]) == 5


def test_outcome_shares_cover_the_recent_episodes() -> None:
    one = episode(4, loss=None, outcome="flew off")
    assert dict(scalars(one, ["landed", "flew off", "flew off", None], ("landed", "flew off", "hovered"))) == {
        "outcomes/landed": 0.25, "outcomes/flew_off": 0.5, "outcomes/hovered": 0.0,
        "episode/reward": 1.0, "episode/length": 10, "episode/epsilon": 0.9,
    }  # fmt: skip
    assert list(scalars(episode(4, ended="budget"), [], ())) == []
    assert list(scalars(HealthWarning(1, "what", "words"), [], ())) == []


def gray(value: int, height: int = 400, width: int = 600) -> Array:
    return np.full((height, width, 3), value, np.uint8)


def values(animation: Animation) -> tuple[list[int], int]:
    """Return the gray level of every frame of the GIF, and the duration of a frame in milliseconds."""
    image = Image.open(io.BytesIO(animation.gif()))
    shades = []
    for place in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(place)
        shades.append(int(np.asarray(image.convert("RGB"))[5, 5, 0]))
    return shades, image.info["duration"]


def test_short_animation_keeps_its_frames_and_speed() -> None:
    animation = Animation(fps=25)
    for value in (0, 80, 160, 240):
        animation.add(gray(value))
    assert animation.size == (MAX_SIDE, 160)
    assert values(animation) == ([0, 80, 160, 240], 40)


def test_long_animation_is_thinned_evenly() -> None:
    animation = Animation(fps=50)
    for number in range(1_000):
        animation.add(gray(number // 4, 40, 60))
        assert len(animation._frames) <= MAX_FRAMES
    assert animation.size == (60, 40)  # not enlarged
    shades, milliseconds = values(animation)
    assert shades == [number // 4 for number in range(0, 1_000, 16)]
    assert milliseconds == 100  # instead of 320, so that the animation takes six seconds
