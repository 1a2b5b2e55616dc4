"""Test the adapters for common agents: each update is the agent's own update on the doctor's batch."""

from __future__ import annotations

import copy
import importlib.util
import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from doctor_agents import Array, Linear, examine, ids
from perilune import doctor
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.doctor.adapters import PeriluneAdapter, Script, StableBaselines3Adapter, online_agent, replay_agent
from perilune.doctor.numbered_env import NumberedEnv

BATCH_SIZE = 32  # of agents whose batch size is a global variable of their module
COLUMNS = ("obs", "action", "reward", "next_obs", "terminated")


def batch(rows: int = 12, seed: int = 0) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, rows, 4)).astype(np.float32)
    reward = rng.normal(size=rows).astype(np.float32)
    return obs, rng.integers(2, size=rows), reward, next_obs, rng.random(rows) < 0.5


def as_columns(rows: Any) -> tuple[Array, ...]:
    return tuple(np.array(column) for column in zip(*rows, strict=True))


class Replays(Linear):
    """Learns from batches that it samples from a list, as subclasses do from other memories."""

    batch_size = 32

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.memory: Any = []

    def learn(self) -> None:
        if len(self.memory) >= 1000:  # warm-up
            self.train_batch(*as_columns(random.sample(self.memory, self.batch_size)))


class FromDeque(Replays):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.memory = deque(maxlen=5000)


class ByIndex(Replays):
    def learn(self) -> None:
        if len(self.memory) >= 1000:
            places = np.random.choice(len(self.memory), self.batch_size)  # noqa: NPY002 -- with duplicates
            self.train_batch(*as_columns([self.memory[place] for place in places]))


class GlobalBatchSize(Replays):
    batch_size = property()  # type: ignore[assignment]

    def learn(self) -> None:
        self.train_batch(*as_columns(random.sample(self.memory, BATCH_SIZE)))


class Memory:
    def __init__(self) -> None:
        self.stored = 0

    def draw_batch(self, count: int) -> dict[str, Array]:
        raise AssertionError("the adapter replaces this method")


class FromObject(Replays):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.memory = Memory()

    def learn(self) -> None:
        if self.memory.stored >= 1000:
            drawn = self.memory.draw_batch(self.batch_size)
            self.train_batch(*(drawn[name] for name in COLUMNS))


class FromArrays(Replays):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.stored = 0
        for name, shape, dtype in zip(COLUMNS, [(50, 4), (50,), (50,), (50, 4), (50,)], "fifff", strict=True):
            setattr(self, f"{name}_memory", np.zeros(shape, dtype))

    def learn(self) -> None:
        if self.stored >= 50:
            places = np.random.choice(min(self.stored, 50), self.batch_size)  # noqa: NPY002 -- with duplicates
            obs, action, reward, next_obs, terminated = (getattr(self, f"{name}_memory")[places] for name in COLUMNS)
            self.train_batch(obs, action, reward, next_obs, terminated.astype(bool))


def adapted(kind: type[Replays], seed: int = 0) -> Any:
    settings: dict[str, Any] = {"memory": "memory"}
    if kind is FromObject:
        settings |= {
            "draw": "draw_batch",
            "size": "memory.stored",
            "batch": lambda *columns: dict(zip(COLUMNS, columns, strict=True)),
        }
    elif kind is FromArrays:
        settings = {"memory": {f"{name}_memory": name for name in COLUMNS}, "size": "stored"}
    elif kind is GlobalBatchSize:
        settings["batch_size"] = "BATCH_SIZE"
    return replay_agent(kind(seed), learn="learn", q_values="q_values", observation_size=4, **settings)


KINDS = [Replays, FromDeque, ByIndex, GlobalBatchSize, FromObject, FromArrays]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 12, 100])
def test_replay_agent_learns_from_exactly_the_given_batch(kind: type[Replays], rows: int) -> None:
    adapter, same = adapted(kind), Linear()
    for seed in range(3):
        adapter.train_batch(*batch(rows, seed))
        same.train_batch(*batch(rows, seed))
    assert not np.array_equal(same.w, Linear().w)
    assert np.allclose(adapter.agent.w, same.w, atol=1e-6)
    assert np.array_equal(adapter.q_values(batch()[0]), adapter.agent.q_values(batch()[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_replay_agent_restores_the_memory(kind: type[Replays]) -> None:
    adapter = adapted(kind)
    before = {name: copy.deepcopy(value) for name, value in vars(adapter.agent).items() if name not in ("w", "b")}
    memories = {name: id(value) for name, value in vars(adapter.agent).items() if "memory" in name}
    adapter.train_batch(*batch())
    after = vars(adapter.agent)
    assert {name: id(after[name]) for name in memories} == memories
    assert after.get("stored") == before.get("stored")
    assert BATCH_SIZE == 32


@pytest.mark.parametrize("kind", KINDS)
def test_copy_of_a_replay_agent_is_independent(kind: type[Replays]) -> None:
    adapter = adapted(kind)
    other = copy.deepcopy(adapter)
    before = adapter.q_values(batch()[0])
    other.train_batch(*batch())
    assert np.array_equal(adapter.q_values(batch()[0]), before)
    assert not np.array_equal(other.q_values(batch()[0]), before)


def test_missing_mask_of_a_replay_agent_is_found() -> None:
    class NoMask(ByIndex):
        def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
            super().train_batch(obs, action, reward, next_obs, np.zeros_like(terminated))

    assert examine(lambda seed=0: adapted(ByIndex, seed)).faults == []
    assert "td_target.no_mask" in ids(examine(lambda seed=0: adapted(NoMask, seed)))


def test_optional_members_take_names_and_functions() -> None:
    class Acts(Replays):
        epsilon = 1.0

        def act(self, obs: Array) -> int:
            return 0 if self.epsilon == 0 else 1

    def act(agent: Acts, obs: Array, epsilon: float) -> int:
        agent.epsilon = epsilon
        return agent.act(obs)

    adapter = replay_agent(
        Acts(),
        memory="memory",
        learn="learn",
        q_values="q_values",
        observation_size=4,
        gamma=0.5,
        act=act,
        target_q_values="q_values",
    )
    assert adapter.gamma == 0.5
    assert [adapter.act(np.zeros(4), epsilon) for epsilon in (0.0, 1.0)] == [0, 1]  # type: ignore[attr-defined]
    assert adapter.target_q_values(np.zeros((3, 4))).shape == (3, 2)  # type: ignore[attr-defined]
    assert not hasattr(adapter, "sync_target")


class Online(Linear):
    def observe(self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool) -> None:
        row = obs[None], np.array([action]), np.array([reward]), next_obs[None], np.array([terminated])
        self.train_batch(*row)


def online(kind: type[Online]) -> Any:
    return online_agent(kind(), learn="observe", q_values="q_values", observation_size=4)


def test_online_agent_learns_from_each_transition_in_turn() -> None:
    adapter, same = online(Online), Linear()
    adapter.train_batch(*batch())
    for row in range(12):
        same.train_batch(*(column[row : row + 1] for column in batch()))
    assert np.allclose(adapter.agent.w, same.w)
    assert not np.allclose(same.w, Linear().w)


def test_online_agent_may_take_one_step_per_transition() -> None:
    class NoMask(Online):
        def observe(self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool) -> None:
            super().observe(obs, action, reward, next_obs, terminated=False)

    assert examine(lambda: online(Online)).faults == []
    assert "td_target.no_mask" in ids(examine(lambda: online(NoMask)))


SCRIPT = """
import argparse
import random
import numpy as np

def step(w, obs, action, error):
    for row, which in enumerate(action):
        w[:, which] -= rate * error[row] * obs[row] / len(action)

def values(obs):
    return obs @ w

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    rate, gamma = args.rate, 0.9
    w = np.ones((4, 2))
    replay = Replay = type("Replay", (), {"sample": lambda self, count: 1 / 0})()
    total = 0
    for t in range(10_000):
        if t % 2 == 1:
            total += 1
            obs, action, reward, next_obs, terminated = replay.sample(args.batch)
            if len(obs) != args.batch:
                continue
            target = reward + gamma * (next_obs @ w).max(axis=1)
            step(w, obs, action, (obs @ w)[np.arange(len(obs)), action] - target)
        env.step(0)
        raise AssertionError("the loop does not run")
"""


def script(tmp_path: Path, *arguments: str) -> Any:
    (tmp_path / "script.py").write_text(SCRIPT)
    return replay_agent(
        Script(tmp_path / "script.py", "replay", arguments),
        memory="replay",
        learn="update",
        q_values="values",
        batch_size="args.batch",
        gamma=0.9,
        observation_size=4,
    )


def test_script_learns_with_its_own_statements(tmp_path: Path) -> None:
    adapter = script(tmp_path, "--rate", "0.25")
    obs, action, reward, next_obs, _ = columns = batch()
    w = np.ones((4, 2))
    error = (obs @ w)[np.arange(12), action] - reward - 0.9 * (next_obs @ w).max(axis=1)
    for row, which in enumerate(action):
        w[:, which] -= 0.25 * error[row] * obs[row] / 12
    adapter.train_batch(*columns)
    assert np.allclose(adapter.q_values(obs), obs @ w)
    assert adapter.agent.total == 1


def test_copy_of_a_script_has_its_own_variables(tmp_path: Path) -> None:
    adapter = script(tmp_path)
    other = copy.deepcopy(adapter)
    other.train_batch(*batch())
    assert np.array_equal(adapter.agent.w, np.ones((4, 2)))
    assert not np.array_equal(other.q_values(batch()[0]), adapter.q_values(batch()[0]))


def test_finding_about_a_script_points_to_its_line(tmp_path: Path) -> None:
    report = doctor.check_agent(lambda: script(tmp_path), budget=600.0)
    (finding,) = [one for one in report.faults if one.id == "td_target.no_mask"]
    line = 1 + SCRIPT.splitlines().index("            target = reward + gamma * (next_obs @ w).max(axis=1)")
    assert str(finding.where).startswith(f"{tmp_path / 'script.py'}:{line}")


def test_script_whose_loop_uses_another_memory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with pytest.raises(ValueError, match=r"memory='rb' is invalid: .* does not call rb.sample\(\)"):
        Script(tmp_path / "script.py", "rb")


def test_script_that_learns_in_a_function(tmp_path: Path) -> None:
    (tmp_path / "tutorial.py").write_text(
        """
SIZE = 8
weight = [1.0]
memory = []

def learn():
    global seen
    rows = [memory[index] for index in range(SIZE)]
    seen = [row[2] for row in rows]
    weight[0] += sum(seen)

while True:
    learn()
    env.step(0)
"""
    )
    adapter = replay_agent(
        Script(tmp_path / "tutorial.py"),
        memory="memory",
        learn="learn",
        q_values=lambda script, obs: obs * script.weight[0],
        batch_size="SIZE",
        gamma=0.9,
        observation_size=4,
    )
    other = copy.deepcopy(adapter)
    other.train_batch(*batch(5))
    assert np.allclose(other.agent.seen, batch(5)[2])
    assert np.isclose(other.agent.weight[0], 1 + batch(5)[2].sum())
    assert adapter.agent.weight == [1.0]
    assert other.agent.SIZE == 8


def test_file_without_a_training_loop_is_not_a_script(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def train():\n    env.step(0)\nfor one in range(3):\n    print(one)\n")
    with pytest.raises(ValueError, match=r"module\.py has no loop outside functions"):
        Script(tmp_path / "module.py")


def test_perilune_adapter_makes_the_same_update_as_the_agent() -> None:
    config = DQNConfig(batch_size=16, buffer_size=100, learning_starts=16, n_step=1)
    one, other = (Agent(4, 2, config, seed=3) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(40):
        step = rng.normal(size=4), int(rng.integers(2)), float(rng.normal()), rng.normal(size=4)
        for agent in (one, other):
            agent.remember(*step, terminated=False, truncated=True)
    drawn = other.replay.sample(16, other.generators.replay)
    PeriluneAdapter(other).train_batch(drawn.obs, drawn.action, drawn.reward, drawn.next_obs, drawn.discount == 0)
    one.learn()
    assert not np.array_equal(one.online.parameters, Agent(4, 2, config, seed=3).online.parameters)
    assert np.allclose(one.online.parameters, other.online.parameters, atol=1e-7)


class Model(SimpleNamespace):
    """Compares the spaces in ``set_env``, as Stable-Baselines3 does."""

    def set_env(self, env: Any) -> None:
        if env.observation_space != self.observation_space or env.action_space != self.action_space:
            raise ValueError("spaces do not match")
        self.env = env

    def learn(self, env_steps: int) -> None:
        obs, _ = self.env.reset()
        for _ in range(env_steps):
            obs, *_ = self.env.step(0)
            assert obs.shape == self.observation_space.shape


BOXES = [
    gym.spaces.Box(-1, 1, (4,), np.float32),
    gym.spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
    gym.spaces.Box(0, 255, (4,), np.float64),
]


@pytest.mark.parametrize("box", BOXES)
def test_stable_baselines3_adapter_runs_in_an_environment_with_other_spaces(box: gym.spaces.Box) -> None:
    model = Model(
        gamma=0.99,
        n_envs=1,
        observation_space=box,
        action_space=gym.spaces.Discrete(2, seed=1),
        learning_starts=50_000,
        target_update_interval=10_000,
        _logger=None,
    )
    env = NumberedEnv(4, 2)
    StableBaselines3Adapter(model).run(env, 1000)
    assert len(env.steps) >= 990
    assert model.learning_starts <= 250
    assert model.target_update_interval <= 100


def test_stable_baselines3_adapter_rejects_several_environments() -> None:
    with pytest.raises(ValueError, match="n_envs=4 is invalid: expected 1"):
        StableBaselines3Adapter(SimpleNamespace(n_envs=4))


needs_sb3 = pytest.mark.skipif(importlib.util.find_spec("sb3_contrib") is None, reason="sb3-contrib is not installed")


@needs_sb3
@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN"])
@pytest.mark.parametrize("box", BOXES)
def test_stable_baselines3_adapter_supports_each_algorithm_and_box(algorithm: str, box: gym.spaces.Box) -> None:
    import sb3_contrib  # noqa: PLC0415 -- optional
    import stable_baselines3  # noqa: PLC0415

    kind = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)

    class World(gym.Env[Any, Any]):
        observation_space = box
        action_space = gym.spaces.Discrete(2)

    adapter = StableBaselines3Adapter(kind("MlpPolicy", World(), seed=0, buffer_size=500, device="cpu"))
    obs = batch()[0]
    q = np.asarray(adapter.q_values(obs).detach())
    assert q.shape == (12, 2)
    for _ in range(20):
        adapter.train_batch(*batch())
    trained = np.asarray(adapter.q_values(obs).detach())
    assert not np.allclose(trained, q, atol=1e-6)
    assert np.allclose(adapter.target_q_values(obs).detach(), q)
    adapter.sync_target()
    assert np.allclose(adapter.target_q_values(obs).detach(), trained)
    assert [adapter.act(row, 0.0) for row in obs] == trained.argmax(axis=1).tolist()
    for row in zip(*batch(40), [False] * 40, strict=True):
        adapter.remember(*row)
    assert [np.asarray(column).shape for column in adapter.sample(8)] == [(8, 4), (8, 1), (8, 1), (8, 4), (8, 1)]
    env = NumberedEnv(4, 2)
    adapter.run(env, 300)
    assert len(env.steps) >= 300


needs_tianshou = pytest.mark.skipif(importlib.util.find_spec("tianshou") is None, reason="tianshou is not installed")


@needs_tianshou
@pytest.mark.parametrize("n_step", [1, 3])
def test_tianshou_adapter_makes_the_same_update_as_the_algorithm(n_step: int) -> None:
    import torch  # noqa: PLC0415 -- optional
    from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy  # noqa: PLC0415
    from tianshou.algorithm.optim import AdamOptimizerFactory  # noqa: PLC0415
    from tianshou.utils.net.common import Net  # noqa: PLC0415

    from perilune.doctor.adapters import TianshouAdapter  # noqa: PLC0415

    torch.manual_seed(0)
    net = Net(state_shape=4, action_shape=2, hidden_sizes=[16])
    policy = DiscreteQLearningPolicy(model=net, action_space=gym.spaces.Discrete(2))
    made = DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=1e-3),
        gamma=0.9,
        n_step_return_horizon=n_step,
        target_update_freq=10,
        is_double=False,
    )
    adapter = TianshouAdapter(made, 4)
    obs, action, reward, next_obs, terminated = columns = batch()
    expected, rows = copy.deepcopy(net), np.arange(12)
    optimizer = torch.optim.Adam(expected.parameters(), lr=1e-3)
    with torch.no_grad():
        bootstrap = 0.9**n_step * expected(next_obs)[0].max(dim=1).values
        target = torch.as_tensor(reward) + bootstrap * torch.as_tensor(1 - terminated.astype(np.float32))
    torch.nn.functional.mse_loss(expected(obs)[0][rows, action], target).backward()
    optimizer.step()
    adapter.train_batch(*columns)
    assert not np.allclose(adapter.q_values(obs).detach(), adapter.target_q_values(obs).detach(), atol=1e-5)
    assert np.allclose(adapter.q_values(obs).detach(), expected(obs)[0].detach(), atol=1e-6)
