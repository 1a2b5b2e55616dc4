"""Videos of the stages of a run, side by side."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import gymnasium as gym
import numpy as np
import pytest

from fixtures_runs import TinyRun, cartpole
from perilune import DQN, History
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.envs import rendering
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.training.evaluation import SCORE_SEEDS, play_episode
from perilune.viz import video
from perilune.viz.encoding import VideoWriter
from perilune.viz.overlay import (
    NO_SCALE,
    Panel,
    Scale,
    add_panel,
    advantages,
    label_corner,
    latest_actions,
    resize,
    side_by_side,
    widen,
)  # fmt: skip
from perilune.viz.video import record_stages, run_stages


@pytest.mark.parametrize(
    ("steps", "end", "chosen"),
    [
        ([0, 5, 10, 15, 20, 25, 30], 30, [0, 2, 4]),
        ([0, 5131, 15731, 20893, 35194, 40535, 60000], 60000, [0, 3, 5]),
        ([0, 9, 19, 31], 19, [0, 1]),  # snapshots after the best weights and duplicates are omitted
        ([0], 100, [0]),
        ([20, 40], 30, [0]),
    ],
)
def test_stages_use_snapshots_nearest_to_the_start_one_third_and_two_thirds(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], end: int, chosen: list[int]
) -> None:
    kept = [Path(str(step)) for step in steps]
    monkeypatch.setattr(video.weights, "weights_file", lambda run, checkpoint: Path(str(end)))
    monkeypatch.setattr(video.snapshots, "paths", lambda run: kept)
    monkeypatch.setattr(video.weights, "load_weights", lambda path: (None, SimpleNamespace(env_steps=int(path.name))))
    *during, last = run_stages(Path("run"))
    assert during == [(f"{steps[index]:,} steps", kept[index]) for index in chosen]
    assert last == (f"best, {end:,} steps", Path(str(end)))


SEEDS = (2, 1, 10)  # agents whose poles fall early, late, and in between


def stage(seed: int) -> tuple[str, Agent]:
    """Return an untrained agent."""
    return f"seed {seed}", DQN("CartPole-v1", hidden=(8,), seed=seed).agent


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """Collect frames instead of encoding them."""
    found: list[Array] = []
    monkeypatch.setattr(VideoWriter, "add", lambda self, image: found.append(image))
    monkeypatch.setattr(VideoWriter, "close", lambda self: None)
    return found


def alone(title: str, agent: Agent, overlay: bool, scale: Scale) -> list[Array]:
    """Return every third image of one stage, and the last one, at half width."""
    panel, env = Panel(title, ("push left", "push right") if overlay else (), 50), cartpole()
    recent: tuple[int, ...] = ()
    found = []
    for now in play_episode(agent.greedy_action, env, SCORE_SEEDS, 60):
        recent = latest_actions(recent, now, 50)
        if now.step % 3 == 0 or now.action is None:
            image = resize(rendering.frame(env), 240)
            now = now._replace(image=image, q_values=agent.q_values(now.obs[None])[0])  # noqa: PLW2901
            found.append(add_panel(now, panel, scale, recent))
    return found


@pytest.mark.parametrize("overlay", [False, True])
def test_stages_play_in_lock_step_and_keep_their_last_image(tmp_path: Path, rows: list[Array], overlay: bool) -> None:
    stages = [stage(seed) for seed in SEEDS]
    endings = record_stages(stages, cartpole(), tmp_path / "a.gif", overlay=overlay, max_episode_steps=60)
    values = [
        q
        for _, agent in stages
        for now in play_episode(agent.greedy_action, cartpole(), SCORE_SEEDS, 60)
        for q in advantages(agent.q_values(now.obs[None])[0])
    ]
    own = [alone(*each, overlay, widen(NO_SCALE, values)) for each in stages]
    lengths = [len(images) for images in own]
    assert len(set(lengths)) == len(SEEDS)
    assert len(rows) == 16 + max(lengths) + 32  # the first image stays for a second, and the last one for two
    for number, row in enumerate(rows):
        images = [images[min(max(number - 16, 0), len(images) - 1)] for images in own]
        expected = side_by_side(images, 3)
        np.testing.assert_array_equal(row, label_corner(expected, "start") if number < 17 else expected)
    scores = [DQN("CartPole-v1", hidden=(8,), seed=seed).evaluate(1, 60) for seed in SEEDS]
    assert [ending.title for ending in endings] == [title for title, _ in stages]
    assert [ending.reward for ending in endings] == [score.returns[0] for score in scores]
    assert [(ending.outcome,) for ending in endings] == [score.outcomes for score in scores]


@pytest.mark.parametrize(
    ("ending", "steps", "fps", "rate", "shown"),
    [
        (".mp4", 90, 4, 12, 91),  # three times as fast, with all time steps
        (".gif", 540, 50, Fraction(100, 6), 91),  # twice as fast, with every sixth time step
    ],
)
def test_long_episode_is_shown_faster_with_a_label(
    tmp_path: Path, ending: str, steps: int, fps: int, rate: Fraction, shown: int
) -> None:
    env = gym.make("MountainCar-v0", render_mode="rgb_array", max_episode_steps=steps)
    env.metadata = env.metadata | {"render_fps": fps}
    agent, path = DQN(env, hidden=(8,), seed=1).agent, tmp_path / f"video{ending}"
    agent.greedy_action = lambda obs: 1  # type: ignore[method-assign]  # it stays in the valley
    calls: list[tuple[int, int]] = []
    record_stages([("", agent)], env, path, tell=lambda done, of: calls.append((done, of)))
    assert len(calls) == shown
    assert calls[0] == (0, steps)
    assert calls[-1] == (steps, steps)
    assert calls == sorted(calls)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == pytest.approx(float(rate), rel=0.05)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        seconds = float(container.duration) / 1e6
    assert 6 <= seconds <= (11.1 if ending == ".mp4" else 13.1)
    corner = frames[len(frames) // 2][: 60 if ending == ".mp4" else 40, :40]
    assert corner.min() < 60  # dark text on MountainCar's white sky


def test_stages_of_a_run_go_from_initial_to_best_weights(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = tiny_run.history.directory
    chosen = run_stages(run, "final")
    assert chosen[0] == ("0 steps", run / "snapshots" / "00000.safetensors")
    assert chosen[-1] == (f"final, {tiny_run.dqn.agent.env_steps} steps", run / "final.safetensors")
    steps = [DQN.load(path).agent.env_steps for _, path in chosen]
    assert steps == sorted(steps)
    assert [title for title, _ in chosen[:-1]] == [f"{step} steps" for step in steps[:-1]]
    endings = History.load(run).record_stages(tmp_path / "video.gif", checkpoint="final", overlay=True)
    assert [ending.title for ending in endings] == [title for title, _ in chosen]
    assert [ending.reward for ending in endings] == [DQN.load(path).evaluate(1).returns[0] for _, path in chosen]


def test_error_names_missing_weights_and_snapshots(tiny_run: TinyRun, tmp_path: Path) -> None:
    half = tmp_path / "half"
    (half / "snapshots").mkdir(parents=True)
    for name in ("config.json", "snapshots/00000.safetensors"):
        shutil.copy(tiny_run.history.directory / name, half / name)
    with pytest.raises(RunDirectoryError, match="half has no best weights"):
        History.load(half).record_stages(tmp_path / "video.mp4")
    shutil.copy(tiny_run.history.directory / "best.safetensors", half)
    (half / "snapshots" / "00001.safetensors").write_bytes(b"cut off")
    with pytest.raises(FileFormatError, match="00001"):
        History.load(half).record_stages(tmp_path / "video.mp4")
    shutil.rmtree(half / "snapshots")
    with pytest.raises(RunDirectoryError, match=r"half has no snapshots/ .* Train again, or record a video"):
        History.load(half).record_stages(tmp_path / "video.mp4")
    assert not (tmp_path / "video.mp4").exists()
