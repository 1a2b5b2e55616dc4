"""The one-file DQN and the library learn bit-identical weights from the same seed."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.training.evaluation import evaluate
from perilune.training.events import Episode
from perilune.training.loop import training_events

PAGE = Path(__file__).parents[1] / "examples" / "one_file_dqn.py"
STEPS = 2_500

# Settings under which a short run fills the buffer, finishes the epsilon decay, has errors beyond huber_delta, and
# updates the target network often. The defaults would take longer.
HURRIED = {
    "HIDDEN": (24, 40, 16),
    "BATCH_SIZE": 32,
    "BUFFER_SIZE": 700,
    "WARMUP_STEPS": 333,
    "TARGET_UPDATE_EVERY": 70,
    "EPSILON_DECAY_STEPS": 600,
    "HUBER_DELTA": 0.25,
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the page as a module, so that a test may change its settings."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the page sets it if it is missing
    spec = importlib.util.spec_from_file_location("one_file_dqn", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_dqn(page: ModuleType, steps: int) -> DQNConfig:
    """Return the settings of the page as settings of the library."""
    return DQNConfig(
        hidden=page.HIDDEN,
        activation="relu",
        layer_norm=False,
        initializer="he",
        loss="huber",
        huber_delta=page.HUBER_DELTA,
        optimizer="adam",
        learning_rate=page.LEARNING_RATE,
        learning_rate_schedule="linear",
        learning_rate_end=0.0,
        learning_rate_decay_steps=steps,
        max_grad_norm=None,
        batch_size=page.BATCH_SIZE,
        train_freq=1,
        gamma=page.GAMMA,
        n_step=1,
        double=False,
        target_update_interval=page.TARGET_UPDATE_EVERY,
        tau=1.0,
        buffer_size=page.BUFFER_SIZE,
        learning_starts=page.WARMUP_STEPS,
        epsilon_start=page.EPSILON_START,
        epsilon_end=page.EPSILON_FLOOR,
        epsilon_decay_steps=page.EPSILON_DECAY_STEPS,
    )


@pytest.mark.parametrize(
    ("settings", "max_episode_steps", "seed"),
    # With seeds 4 and 6, shifting epsilon by one step changes an action.
    [({}, None, 0), pytest.param(HURRIED, None, 4, marks=pytest.mark.long), (HURRIED, 15, 6)],
    ids=["as it is", "many updates", "many updates and a time limit"],
)
def test_page_and_library_learn_bit_identical_weights(
    page: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    max_episode_steps: int | None,
    seed: int,
) -> None:
    for name, value in settings.items():
        monkeypatch.setattr(page, name, value)
    env = gym.make("CartPole-v1", max_episode_steps=max_episode_steps)
    config = plain_dqn(page, STEPS)
    agent = Agent(4, 2, config, seed)
    first = {name: view.copy() for name, view in agent.online.named_parameters().items()}

    episodes = [
        event
        for event in training_events(agent, env, TrainConfig(steps=STEPS, eval_every=None, eval_episodes=1))
        if isinstance(event, Episode)
    ]
    network, rewards = page.train(env, STEPS, seed)

    named = agent.online.named_parameters()
    for array, (name, view) in zip(network, named.items(), strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, view), name
    assert rewards == [episode.reward for episode in episodes if episode.ended != "budget"]
    assert page.evaluate(env, network, 5) == list(evaluate(agent.greedy_action, env, 5).returns)

    # The test covers many updates, target copies and episodes.
    assert agent.updates == STEPS - page.WARMUP_STEPS
    assert agent.target_syncs >= 5
    assert len(rewards) > 20
    assert all(not np.array_equal(view, first[name]) for name, view in named.items())
    ends = {episode.ended for episode in episodes}
    assert ("truncated" in ends) == (max_episode_steps is not None)
    assert "terminated" in ends


def test_page_has_at_most_180_lines() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 180


def test_page_imports_only_numpy_and_gymnasium() -> None:
    imported = set()
    for node in ast.walk(ast.parse(PAGE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy", "gymnasium"}


@pytest.mark.parametrize("steps", [1_100, pytest.param(2_500, marks=pytest.mark.long)])
def test_page_runs_as_a_script(tmp_path: Path, steps: int) -> None:
    command = [sys.executable, "-W", "error", str(PAGE), "CartPole-v1", "--steps", str(steps), "--seed", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    *progress, score = done.stdout.splitlines()
    assert ["step   2,500" in line and "reward (last 20)" in line for line in progress] == [True] * (steps // 2_500)
    assert score.startswith("greedy, 100 episodes: mean ")
    assert not list(tmp_path.iterdir())
