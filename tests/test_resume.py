"""A stopped run resumes to the same weights, logs and counters, even from an older checkpoint."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from fixtures_runs import decode, resealed
from perilune import DQN, DQNConfig, History, recording
from perilune.agent import state
from perilune.cli import main
from perilune.envs import Env
from perilune.errors import PeriluneWarning
from perilune.nn.backend import installed, using
from perilune.runs import checkpoint, inspection, layout
from perilune.runs.weights import load_weights
from perilune.training.events import Episode, Event, Metrics, WarmingUp
from perilune.training.loop import training_events
from perilune.training.slots import WARMING_EVERY

SMALL: dict[str, Any] = {
    "hidden": (8,), "batch_size": 8, "buffer_size": 150, "learning_starts": 40, "epsilon_decay_steps": 60,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "steps": 280, "eval_every": 110, "eval_episodes": 1, "metrics_every": 4, "max_episode_steps": 40,
    "quiet": True, "pictures": False,
}  # fmt: skip


class PowerCutError(Exception):
    """A simulated power cut."""


def cut(after: int) -> Callable[..., Iterator[Event]]:
    """Return ``training_events`` with a power cut after ``after`` events."""

    def cut_training(*arguments: Any) -> Iterator[Event]:
        yield from itertools.islice(events := training_events(*arguments), after)
        for _ in events:
            raise PowerCutError

    return cut_training


def lines(directory: Path) -> dict[str, list[Any]]:
    """Return the logs of a run without wall-clock times."""
    found = {}
    for name in layout.FILES.values():
        records = [json.loads(line) for line in (directory / name).read_text().splitlines()]
        found[name] = [{key: value for key, value in record.items() if "seconds" not in key} for record in records]
    return found


def weights(directory: Path, name: str = "final") -> bytes:
    return DQN.load(directory / layout.WEIGHTS[name]).agent.online.parameters.tobytes()


def everything(directory: Path) -> dict[str, Any]:
    """Return all results that must not depend on how often a run was stopped."""
    last, agent = checkpoint.latest(directory)
    arrays = {name: array.tobytes() for name, array in state.arrays(agent).items()}
    weights_too = {name: weights(directory, name) for name in layout.WEIGHTS}
    return {**lines(directory), **weights_too, "agent": last.agent, "arrays": arrays}


def stopped(dqn: Callable[[], DQN], directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """Train with power cuts at random events; return their number."""
    monkeypatch.setattr(recording, "SHARE", math.inf)  # a checkpoint at every episode
    generator = np.random.default_rng(5)
    target: dict[str, Any] = {"run_dir": directory}
    for stops in itertools.count():
        with monkeypatch.context() as patch:
            events = int(generator.integers(10, 60)) + 5 * stops  # more each time, to reach the next safe point
            patch.setattr(recording, "training_events", cut(events))
            try:
                dqn().train(**settings, **target)
            except PowerCutError:
                target = {"run_dir": directory, "resume": True}
            else:
                return stops
    raise AssertionError


FAMILY: list[tuple[int, dict[str, Any]]] = [
    (3, {"priority_alpha": 0.6, "learning_rate_schedule": "linear", "learning_rate_decay_steps": 300}),
    (1, {"head": "qr", "quantiles": 4, "optimism": 0.5, "max_action_repeat": 6, "ema_decay": 0.9, "n_step": 5}),
    (3, {"head": "c51", "atoms": 5, "value_range": (0, 9), "noisy": True, "dueling": True, "optimizer": "adamw"}),
    (2, {"td_lambda": 0.8, "epochs": 2, "buffer_size": 8, "max_action_repeat": 3}),
]
MORE: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (3, {"n_step": 1, "double": False, "tau": 1.0, "target_update_interval": 7, "optimizer": "sgd", "momentum": 0.9}),
    (1, {"mirror": True, "munchausen": 0.9, "epsilon_decay": 0.9, "optimizer": "rmsprop", "train_freq": 3}),
]


@pytest.mark.parametrize(
    ("num_envs", "agent"), [*FAMILY, *(pytest.param(*one, marks=pytest.mark.long) for one in MORE)], ids=str
)
def test_stopped_and_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: dict[str, Any], num_envs: int
) -> None:
    config = DQNConfig(**SMALL | agent)
    settings = TRAINING | {"num_envs": num_envs, "checkpoint_seconds": 1e-9}
    DQN("CartPole-v1", config=config, seed=3).train(run_dir=tmp_path / "whole", **settings)
    assert stopped(lambda: DQN("CartPole-v1", config=config, seed=3), tmp_path / "parts", monkeypatch, **settings) > 0
    expected, found = everything(tmp_path / "whole"), everything(tmp_path / "parts")
    for part, value in expected.items():
        assert found[part] == value, part


@pytest.mark.skipif("numba" not in installed(), reason="needs Numba")
def test_stopped_and_resumed_run_is_equal_with_the_compiled_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = {"layer_norm": True, "head": "qr", "quantiles": 4, "munchausen": 0.9, "mirror": True, "ema_decay": 0.9}
    with using("numba"):
        test_stopped_and_resumed_run_equals_an_uninterrupted_run(tmp_path, monkeypatch, agent, 1)


def test_long_episode_is_saved_and_resumed_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perilune.training.loop.SAFE_POINT_EVERY", 7)
    settings = TRAINING | {"checkpoint_seconds": 1e-9}
    agent = SMALL | {"n_step": 3, "max_action_repeat": 4}
    DQN("CartPole-v1", seed=3, **agent).train(run_dir=tmp_path / "whole", **settings)
    assert stopped(lambda: DQN("CartPole-v1", seed=3, **agent), tmp_path / "parts", monkeypatch, **settings) > 1
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")


def test_videos_of_a_stopped_run_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TRAINING | {"steps": 200, "num_envs": 2, "checkpoint_seconds": 1e-9, "video_every": 2}
    DQN("CartPole-v1", **SMALL).train(run_dir=tmp_path / "whole", **settings)
    assert stopped(lambda: DQN("CartPole-v1", **SMALL), tmp_path / "parts", monkeypatch, **settings) > 1
    videos = sorted((tmp_path / "whole" / "videos").glob("*.mp4"))
    assert len(videos) >= 2
    assert sorted(path.name for path in (tmp_path / "parts" / "videos").glob("*.mp4")) == [path.name for path in videos]
    for video in videos:
        frames, again = (decode(path).frames for path in (video, tmp_path / "parts" / "videos" / video.name))
        assert len(frames) == len(again)
        assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, again, strict=True)) < 1
    assert not list((tmp_path / "parts").rglob("*.partial"))


def test_second_run_of_a_trained_agent_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(out: Path) -> None:
        dqn = DQN("CartPole-v1", seed=1, **SMALL)
        dqn.train(run_dir=tmp_path / "first", overwrite=True, **TRAINING)
        with monkeypatch.context() as patch:
            if out.name == "parts":
                patch.setattr(recording, "training_events", cut(9))
            dqn.train(run_dir=out, **TRAINING)

    second(tmp_path / "whole")
    with pytest.raises(PowerCutError):
        second(tmp_path / "parts")
    fresh = DQN("CartPole-v1", seed=1, **SMALL)
    fresh.train(run_dir=tmp_path / "parts", resume=True, quiet=True, pictures=False)
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")
    assert fresh.agent.env_steps == 2 * TRAINING["steps"]


def interrupt(kind: type[Event], times: int = 1) -> Callable[[Event], None]:
    """Return a callback that raises SIGINT at the first ``times`` events of ``kind``."""
    left = [signal.SIGINT] * times

    def callback(event: Event) -> None:
        if isinstance(event, kind) and left:
            signal.raise_signal(left.pop())

    return callback


@pytest.mark.parametrize("kind", [Episode, WarmingUp])
def test_interrupted_and_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path, kind: type[Event], capfd: pytest.CaptureFixture[str]
) -> None:
    agent, settings, run = SMALL, TRAINING, tmp_path / "run"
    if kind is WarmingUp:
        agent, settings = agent | {"learning_starts": 1_500, "buffer_size": 1_500}, settings | {"steps": 1_600}
    DQN("CartPole-v1", seed=3, **agent).train(run_dir=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        DQN("CartPole-v1", seed=3, **agent).train(run_dir=run, callback=interrupt(kind), **settings)
    printed = capfd.readouterr().err
    assert "saving a checkpoint at the end of this episode" in printed
    assert f"Resume with: perilune resume {run}" in printed
    stopped_at, _ = checkpoint.latest(run)
    assert not stopped_at.training.finished
    if kind is Episode:
        assert stopped_at.logs[0].size == (run / "episodes.jsonl").stat().st_size  # the log needs no truncation
    else:
        assert stopped_at.agent.env_steps == 0
        assert load_weights(run / "final.safetensors")[1].env_steps == WARMING_EVERY
    DQN("CartPole-v1", seed=3, **agent).train(run_dir=run, resume=True, quiet=True, pictures=False)
    assert everything(run) == everything(tmp_path / "whole")


def test_second_interrupt_stops_immediately(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=tmp_path / "run", callback=interrupt(Metrics, 2), **TRAINING)
    assert "Interrupt again" in capfd.readouterr().err
    assert "Saved checkpoint" in raised.value.__notes__[0]
    assert checkpoint.latest(tmp_path / "run")[0].agent.env_steps == 0  # nothing was saved after the first one


def test_interrupt_while_stopping_still_prints_the_resume_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted_twice(*arguments: Any) -> Iterator[Event]:
        for event in training_events(*arguments):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            yield event

    run = tmp_path / "run"
    monkeypatch.setattr(recording, "training_events", interrupted_twice)
    monkeypatch.setattr(recording.Recorder, "save_final", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        main(["train", "CartPole-v1", "--quiet", "--out", str(run), "--steps", "1500"])
    assert ended.value.code == 130
    printed = capfd.readouterr().err
    assert printed.endswith(f"000000000000.safetensors. Resume with: perilune resume {run}\n")
    assert "Traceback" not in printed


def test_failed_run_is_marked_until_it_is_resumed(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, Episode) and event.episode == 3:
            raise ZeroDivisionError("in my callback")

    run = tmp_path / "my run"
    with pytest.raises(ZeroDivisionError) as raised:
        DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=run, callback=fail, **TRAINING)
    assert f"Resume with: perilune resume '{run}'" in raised.value.__notes__[0]
    found = inspection.describe(run)
    assert found["state"] == f"failed; resume with: perilune resume '{run}'"
    error = re.fullmatch(r"ZeroDivisionError: in my callback \(after (\d+) environment steps\)", found["error"])
    assert error is not None
    assert int(error[1]) == History.load(run).episodes[-1].env_steps
    assert f"  error                       {error[0]}" in inspection.summary(found, "")
    DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=run, resume=True, quiet=True, pictures=False)
    assert (inspection.describe(run)["state"], inspection.describe(run)["error"]) == ("finished", None)


# Environments with a state that the seed of reset does not set


STATEFUL = TRAINING | {"steps": 120, "eval_every": 60, "checkpoint_seconds": 1e-9}


class Noisy(gym.RewardWrapper[Any, Any]):
    """Adds noise of its own generator to every reward."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.generator = np.random.default_rng(0)

    def reward(self, reward: Any) -> float:
        return float(reward + self.generator.normal())


class Scaled(gym.Wrapper[Any, Any, Any, Any]):
    """Divides observations by a running scale, kept as an attribute that Perilune does not know."""

    scale = 1.0

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        self.scale = 0.9 * self.scale + 0.1 * float(np.abs(obs).max())
        return (obs / np.float32(1 + self.scale), *rest)


def interrupted_and_resumed(run: Path, wrap: Callable[[Env], Env], again: Callable[[Env], Env] | None = None) -> None:
    """Train ``wrap(CartPole)`` with a power cut, and resume the run in a new environment."""
    dqn = DQN(wrap(gym.make("CartPole-v1")), seed=3, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "SHARE", math.inf)
        patch.setattr(recording, "training_events", cut(25))
        with pytest.raises(PowerCutError):
            dqn.train(run_dir=run, **STATEFUL)
    assert checkpoint.latest(run)[0].agent.env_steps > 40
    resumed = DQN((again or wrap)(gym.make("CartPole-v1")), seed=3, **SMALL)
    resumed.train(run_dir=run, resume=True, quiet=True, pictures=False)


@pytest.mark.parametrize(
    ("wrap", "again"),
    [
        (Noisy, None),
        (Scaled, None),
        (
            lambda env: gym.wrappers.TransformReward(env, lambda reward: reward),
            lambda env: gym.wrappers.TransformReward(env, lambda reward: -reward),
        ),
    ],
    ids=["own generator", "own state", "changed function"],
)
def test_inexact_resume_is_reported_and_names_the_wrapper(tmp_path: Path, wrap: Any, again: Any) -> None:
    name = type(wrap(gym.make("CartPole-v1"))).__name__
    with pytest.warns(PeriluneWarning, match=rf"does not resume exactly: .* save the state of {name}\.") as warned:
        interrupted_and_resumed(tmp_path / "run", wrap, again)
    assert len({str(warning.message) for warning in warned}) == 1


def test_statistics_of_wrappers_are_saved(tmp_path: Path) -> None:
    def wrap(env: Env) -> Env:
        return gym.wrappers.NormalizeReward(gym.wrappers.NormalizeObservation(env))

    DQN(wrap(gym.make("CartPole-v1")), seed=3, **SMALL).train(run_dir=tmp_path / "whole", **STATEFUL)
    interrupted_and_resumed(tmp_path / "parts", wrap)
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")


def test_extended_run_keeps_the_statistics_of_wrappers(tmp_path: Path) -> None:
    agent = DQN(gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), seed=3, **SMALL)
    agent.train(run_dir=tmp_path / "run", **TRAINING | {"steps": 60})
    before = agent.env.return_rms.count  # type: ignore[attr-defined]
    fresh = DQN(gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), seed=3, **SMALL)
    fresh.train(run_dir=tmp_path / "run", resume=True, change=["steps"], steps=61, quiet=True, pictures=False)
    assert before < fresh.env.return_rms.count < before + 600  # type: ignore[attr-defined]


# Damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests must not change it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=out, **TRAINING | {"checkpoint_seconds": 1e-9})
    return out


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run after a power cut, with several checkpoints. Tests must not change it."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "SHARE", math.inf)
        patch.setattr(recording, "training_events", cut(60))
        with pytest.raises(PowerCutError):
            DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=out, **TRAINING | {"checkpoint_seconds": 1e-9})
    assert len(checkpoint.paths(out)) >= 2
    return out


@pytest.fixture
def broken(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run that tests may change."""
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def one_bit(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def many_earlier_steps(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose earlier episodes would take long to replay."""
    content["training"]["played"][0]["actions"] = [0] * 1_001
    return content


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit of the header": lambda path: one_bit(path, 0.02),
    "one bit of the arrays": lambda path: one_bit(path, 0.9),
    "foreign": lambda path: path.write_text("[1, 2]"),
    "wrong name": lambda path: shutil.copy(path, path.with_name("999999999999.safetensors")),
    "values not finite": lambda path: resealed(path, arrays={"replay.reward": lambda array: array * np.inf}),
    "unknown action": lambda path: resealed(path, arrays={"replay.action": lambda array: array + 5}),
    "many earlier steps": lambda path: resealed(path, many_earlier_steps),
    "missing array": lambda path: resealed(path, arrays={"online": None}),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest_checkpoint_is_skipped_on_resume(broken: Path, whole: Path, damage: str) -> None:
    DAMAGE[damage](checkpoint.paths(broken)[-1])
    assert any(finding.fault for finding in inspection.verify(broken))
    with pytest.warns(PeriluneWarning, match="skipped a checkpoint: "):
        DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=broken, resume=True, quiet=True, pictures=False)
    assert everything(broken) == everything(whole)
    assert all(finding.fault is None for finding in inspection.verify(broken))


@pytest.mark.filterwarnings("always")
def test_skipped_checkpoint_is_reported_once(broken: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint.paths(broken)[-1].write_bytes(b"")
    assert "resuming skips this checkpoint" in "".join(inspection.describe(broken)["health"])
    main(["resume", str(broken), "--quiet"])
    assert capfd.readouterr().err.count("skipped a checkpoint") == 1


# Finished runs


def test_resuming_a_finished_run_keeps_pictures_and_restores_missing_videos(tmp_path: Path) -> None:
    run = tmp_path / "run"
    DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=run, **TRAINING | {"pictures": True, "steps": 80})
    curves, video = run / "plots" / "curves.png", run / "videos" / "best.mp4"
    curves.write_bytes(b"my own")
    video.unlink()
    DQN("CartPole-v1", seed=3, **SMALL).train(run_dir=run, resume=True, quiet=True)
    assert curves.read_bytes() == b"my own"
    assert video.stat().st_size > 1000  # it was missing


def test_episode_budget_replaces_used_up_steps(tmp_path: Path, whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    had = checkpoint.latest(run)[0].agent.episodes
    main(["resume", str(run), "--episodes", "3", "--quiet"])
    capfd.readouterr()
    there, _ = checkpoint.latest(run)
    assert there.agent.episodes == had + 3
    assert (there.setup.train.steps, there.setup.train.episodes) == (None, had + 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bogus=1", "expected one of "),
        ("num_envs=3", "expected one of "),
        (f"learning_rate={'[' * 10_000}", "learning_rate=[[["),
    ],
)
def test_invalid_change_error_lists_changeable_settings(
    whole: Path, change: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(whole), "--steps", "100", "--change", change])
    assert ended.value.code
    printed = capfd.readouterr().err
    assert message in printed
    assert len(printed) < 2_000
