"""A training that was stopped anywhere goes on as if nothing had been: the same weights, lines, counters to the bit."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_runs import decode
from perilune import DQN, DQNConfig, recording
from perilune.runs import checkpoint, recorder, runlog
from perilune.training.events import Event
from perilune.training.loop import training

SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 8, "buffer_size": 150, "learning_starts": 40}
TRAINING: dict[str, Any] = {
    "steps": 400, "eval_every": 150, "eval_episodes": 2, "metrics_every": 4, "max_episode_steps": 40,
    "quiet": True, "pictures": False,
}  # fmt: skip


class PowerCutError(Exception):
    """The power is cut."""


def cut(after: int) -> Callable[..., Iterator[Event]]:
    """``training``, in which the power is cut after so many events."""

    def cut_training(*arguments: Any) -> Iterator[Event]:
        yield from itertools.islice(events := training(*arguments), after)
        for _ in events:
            raise PowerCutError

    return cut_training


def lines(directory: Path) -> dict[str, list[Any]]:
    """The logs of a run, without what the clock says."""
    found = {}
    for name in runlog.FILES.values():
        records = [json.loads(line) for line in (directory / name).read_text().splitlines()]
        found[name] = [{key: value for key, value in record.items() if key != "seconds"} for record in records]
    return found


def weights(directory: Path, name: str = "final") -> bytes:
    return DQN.load(directory / runlog.WEIGHTS[name]).agent.online.parameters.tobytes()


def everything(directory: Path) -> dict[str, Any]:
    """All of a run that must come out the same: not what the clock says, nor which checkpoints were taken."""
    last = checkpoint.latest(directory)
    return {
        **lines(directory),
        "final": weights(directory),
        "best": weights(directory, "best"),
        "agent": last.agent,
        "arrays": last.arrays,
        "replay": last.replay,
    }


def stopped(dqn: Callable[[], DQN], directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """Train with the power cut again and again, anywhere; how often."""
    monkeypatch.setattr(recorder, "SHARE", math.inf)  # a checkpoint at every episode
    generator = np.random.default_rng(5)
    resume: dict[str, Any] = {"run_dir": directory}
    for stops in itertools.count():
        with monkeypatch.context() as patch:
            patch.setattr(recording, "training", cut(int(generator.integers(2, 50))))
            try:
                dqn().train(**settings, **resume)
            except PowerCutError:
                resume = {"run_dir": directory, "resume": True}
            else:
                return stops
    raise AssertionError


FAMILY: list[dict[str, Any]] = [
    {},
    {"n_step": 1, "double": False, "tau": 1.0, "target_update_interval": 7, "optimizer": "sgd", "momentum": 0.9},
    {"priority_alpha": 0.6, "learning_rate_schedule": "linear", "learning_rate_decay_steps": 300},
    {"head": "qr", "quantiles": 4, "optimism": 0.5, "max_action_repeat": 6, "ema_decay": 0.9, "n_step": 5},
    {"head": "c51", "atoms": 5, "value_range": (0, 100), "noisy": True, "dueling": True, "optimizer": "adamw"},
    {"mirror": True, "munchausen": 0.9, "epsilon_decay": 0.9, "optimizer": "rmsprop", "train_freq": 3},
]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("agent", FAMILY, ids=lambda agent: ",".join(agent) or "default")
def test_stopped_and_gone_on_with_is_the_same_as_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: dict[str, Any], num_envs: int
) -> None:
    config = DQNConfig(**SMALL | agent)
    settings = TRAINING | {"num_envs": num_envs, "checkpoint_seconds": 1e-9}
    DQN("CartPole-v1", config=config, seed=3).train(run_dir=tmp_path / "whole", **settings)
    stops = stopped(lambda: DQN("CartPole-v1", config=config, seed=3), tmp_path / "parts", monkeypatch, **settings)
    assert stops > 3
    expected, found = everything(tmp_path / "whole"), everything(tmp_path / "parts")
    for part, value in expected.items():
        assert found[part] == value, part


def test_an_episode_that_is_long_is_saved_in_its_middle_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perilune.training.loop.REST_EVERY", 7)
    settings = TRAINING | {"checkpoint_seconds": 1e-9}
    agent = SMALL | {"n_step": 3, "max_action_repeat": 4}
    DQN("CartPole-v1", seed=3, **agent).train(run_dir=tmp_path / "whole", **settings)
    under_way = []
    read = checkpoint.latest

    def latest(directory: Path) -> checkpoint.Checkpoint:
        found = read(directory)
        under_way.extend(len(flight.actions) for flight in found.training.flights)
        return found

    monkeypatch.setattr(checkpoint, "latest", latest)
    assert stopped(lambda: DQN("CartPole-v1", seed=3, **agent), tmp_path / "parts", monkeypatch, **settings) > 3
    assert max(under_way) >= 7
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")


def test_films_that_were_being_made_are_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TRAINING | {"steps": 150, "num_envs": 2, "checkpoint_seconds": 1e-9, "video_every": 2}
    agent = SMALL | {"epsilon_decay_steps": 1_000}
    DQN("CartPole-v1", **agent).train(run_dir=tmp_path / "whole", **settings)
    assert stopped(lambda: DQN("CartPole-v1", **agent), tmp_path / "parts", monkeypatch, **settings) > 3
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")
    videos = sorted((tmp_path / "whole" / "videos").glob("*.mp4"))
    assert len(videos) >= 3
    assert sorted(path.name for path in (tmp_path / "parts" / "videos").glob("*.mp4")) == [path.name for path in videos]
    for video in videos:
        frames, again = (decode(path).frames for path in (video, tmp_path / "parts" / "videos" / video.name))
        assert len(frames) == len(again)
        assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, again, strict=True)) < 1
    assert not list((tmp_path / "parts").rglob("*.partial"))


def test_an_agent_that_was_trained_before_goes_on_in_its_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(second: dict[str, Any]) -> None:
        dqn = DQN("CartPole-v1", seed=1, **SMALL)
        dqn.train(run_dir=tmp_path / "first", overwrite=True, **TRAINING)
        dqn.train(**TRAINING, **second)

    twice({"run_dir": tmp_path / "whole"})
    dqn = DQN("CartPole-v1", seed=1, **SMALL)
    dqn.train(run_dir=tmp_path / "first", overwrite=True, **TRAINING)
    monkeypatch.setattr(recording, "training", cut(9))
    with pytest.raises(PowerCutError):
        dqn.train(run_dir=tmp_path / "parts", **TRAINING)
    monkeypatch.undo()
    fresh = DQN("CartPole-v1", seed=1, **SMALL)
    fresh.train(resume=True, run_dir=tmp_path / "parts", quiet=True, pictures=False)
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")
    assert fresh.agent.env_steps == 2 * TRAINING["steps"]
