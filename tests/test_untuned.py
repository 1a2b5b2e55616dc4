"""Environments that no preset was tuned on, and the best possible returns in them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from benchmarks import optima, untuned
from gymnasium.utils.env_checker import check_env

from perilune import DQN, presets
from perilune.bench import learning
from perilune.envs import adapter, known
from perilune.runs.scores import Score

MINIGRID = importlib.util.find_spec("minigrid") is not None
NEEDS_MINIGRID = {"EmptyRoom-v0", "LavaGap-v0"}
AVAILABLE = [each for each in untuned.ENVIRONMENTS if MINIGRID or each.name not in NEEDS_MINIGRID]
BY_NAME = {each.name: each for each in untuned.ENVIRONMENTS}


def make(name: str) -> gym.Env[Any, Any]:
    return gym.make(BY_NAME[name].env_id)


# Best possible returns


def test_best_return_of_a_chain_worked_by_hand() -> None:
    # From the first state: stop for 1, or move to the second state with probability 0.5 and end otherwise.
    # The second state pays 4 at its end. The best action is to move: 0.5 * 4 = 2.
    next_state = np.zeros((2, 2, 2))
    next_state[0, 1, 1] = 0.5
    chain = optima.Model([0, 1], np.array([1.0, 0.0]), next_state, np.array([[1.0, 0.0], [4.0, 4.0]]), horizon=5)
    assert chain.best_return() == 2
    assert chain.expected_return(chain.greedy([1, 0])) == 2
    assert chain.expected_return(chain.greedy([0, 0])) == 1
    assert chain.expected_return(chain.uniform()) == 1.5


def test_best_return_with_one_time_step_left_is_the_best_immediate_reward() -> None:
    next_state = np.zeros((2, 2, 2))
    next_state[0, 1, 1] = 1
    chain = optima.Model([0, 1], np.array([1.0, 0.0]), next_state, np.array([[1.0, 0.0], [4.0, 4.0]]), horizon=1)
    assert chain.best_return() == 1


def test_best_return_of_cliff_walking_is_the_path_along_the_edge() -> None:
    found = optima.of_table(gym.make("CliffWalking-v1"), 10_000)
    assert found.best_return() == untuned.BEST_CLIFF == -13
    up, right, down = 0, 1, 2
    edge = [right if state // 12 == 2 and state % 12 < 11 else down for state in range(48)]
    edge[36] = up
    assert found.expected_return(found.greedy(edge)) == -13
    assert found.expected_return(found.greedy([up] * 48)) == -10_000  # never ends


def test_n_step_values_of_a_chain_worked_by_hand() -> None:
    # The first action leads to the second state. There, action 0 pays 1 and action 1 pays -3, and both end the episode.
    next_state = np.zeros((2, 2, 2))
    next_state[0, :, 1] = 1
    chain = optima.Model([0, 1], np.array([1.0, 0.0]), next_state, np.array([[0.0, 0.0], [1.0, -3.0]]), horizon=5)
    assert chain.n_step_values(1, epsilon=0.5, gamma=1) == pytest.approx(np.array([[1, 1], [1, -3]]))
    # Action 1 has the share 0.25: 0.75 * 1 - 0.25 * 3 = 0.
    assert chain.n_step_values(2, epsilon=0.5, gamma=1) == pytest.approx(np.array([[0, 0], [1, -3]]))


def test_uncorrected_3_step_returns_avoid_the_edge_of_the_cliff() -> None:
    cliff = optima.of_table(gym.make("CliffWalking-v1"), 100)

    def best(n_step: int, epsilon: float) -> float:
        return cliff.expected_return(cliff.greedy(cliff.n_step_values(n_step, epsilon).argmax(axis=1).tolist()))

    assert [best(1, 0.3), best(3, 0.01), best(3, 0.1), best(3, 0.3)] == [-13, -13, -15, -17]


@pytest.mark.parametrize(
    ("name", "limit", "best"), [("FrozenLake-v1", 100, 0.74), ("FrozenLake8x8-v1", 200, 0.91), ("Taxi-v4", 200, 7.93)]
)
def test_best_returns_agree_with_the_known_ones(name: str, limit: int, best: float) -> None:
    assert optima.of_table(gym.make(name), limit).best_return() == pytest.approx(best, abs=0.005)


def test_hands_of_blackjack() -> None:
    assert optima.add_card(10, 0, 1) == (21, 1)
    assert optima.add_card(11, 0, 1) == (12, 0)
    assert optima.add_card(17, 1, 10) == (17, 0)
    assert optima.add_card(20, 0, 5) == (optima.BUST, 0)
    assert sum(probability for probability, *_, natural in optima.hands() if natural) == pytest.approx(2 * 4 / 13 / 13)
    assert optima.dealer_sums(20, 0) == {20: 1.0}
    assert optima.dealer_sums(16, 0)[optima.BUST] == pytest.approx(8 / 13)  # 6 to 10, of which four cards count 10


def test_best_and_random_return_of_blackjack() -> None:
    found = optima.blackjack(gym.make("Blackjack-v1"))
    assert found.start.sum() == pytest.approx(1)
    assert found.best_return() == pytest.approx(untuned.BEST_BLACKJACK, abs=1e-4)
    assert found.expected_return(found.uniform()) == pytest.approx(untuned.RANDOM_BLACKJACK, abs=1e-4)


def test_expected_return_of_blackjack_agrees_with_played_episodes() -> None:
    env = gym.make("Blackjack-v1").unwrapped
    found = optima.blackjack(env)
    expected = found.expected_return(found.greedy([int(total < 20) for total, _, _ in found.observations]))
    returns = []
    for episode in range(4_000):
        obs, _ = env.reset(seed=0 if episode == 0 else None)
        terminated = False
        while not terminated:
            obs, reward, terminated, _, _ = env.step(int(obs[0] < 20))
        returns.append(float(reward))
    assert np.mean(returns) == pytest.approx(expected, abs=4 * np.std(returns) / 4_000**0.5)


def test_shortest_episode_of_mountain_car_from_beside_the_goal() -> None:
    # The slope takes 0.0025 * cos(1.5) = 0.0002 from the push of 0.001: the car moves by 0.0008, then by 0.0016.
    assert optima.fewest_steps(0.4995) == 1
    assert optima.fewest_steps(0.4980) == 2
    assert optima.fewest_steps(0.4970) == 3
    assert optima.fewest_steps(-0.5, limit=20) is None


@pytest.mark.long
def test_shortest_episodes_of_steep_mountain_car() -> None:
    assert -optima.shortest_climb(untuned.STEEP) == pytest.approx(untuned.BEST_STEEP, abs=0.05)


# The environments


def test_there_are_ten_environments_without_a_preset() -> None:
    assert len(BY_NAME) == len(untuned.ENVIRONMENTS) == 10
    for each in untuned.ENVIRONMENTS:
        assert known.lookup(each.name).preset is None
        assert presets.preset(each.env_id) == presets.preset(each.env_id, "default")
    assert not BY_NAME.keys() & {"Taxi-v4", "FrozenLake-v1"}  # the default preset was tuned on them


@pytest.mark.parametrize("environment", AVAILABLE, ids=lambda each: each.name)
@pytest.mark.filterwarnings("ignore:.*(infinity|wrapper applied).*")
def test_environments_follow_the_interface_and_fit_perilune(environment: untuned.Untuned) -> None:
    env = adapter.make(environment.env_id)
    check_env(env, skip_render_check=True)
    agent = DQN(env)
    obs, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.act(obs))
    assert adapter.again(env).reset(seed=0)[0] == pytest.approx(obs)


@pytest.mark.parametrize("environment", AVAILABLE, ids=lambda each: each.name)
def test_reward_thresholds_are_the_criteria(environment: untuned.Untuned) -> None:
    spec = make(environment.name).spec
    assert spec is not None
    assert spec.reward_threshold in (None, environment.least)
    assert (spec.reward_threshold is None) == (environment.name in {"CliffWalking-v1", "Blackjack-v1"})


def test_long_pole_moves_slower_than_the_usual_pole() -> None:
    long, usual = make("LongPole-v0"), gym.make("CartPole-v1")
    for env in (long, usual):
        env.reset(seed=1)
    # Without friction, the angular acceleration of a pole at rest is inversely proportional to its length.
    start = long.unwrapped.state[3]
    accelerations = [env.step(1)[0][3] - start for env in (long, usual)]
    assert accelerations[0] == pytest.approx(accelerations[1] / 4, rel=0.02)


def test_torque_noise_changes_what_the_same_actions_do() -> None:
    noisy, usual = make("NoisyAcrobot-v0"), gym.make("Acrobot-v1")
    for env in (noisy, usual):
        env.reset(seed=0)
    assert not np.allclose(noisy.step(1)[0], usual.step(1)[0])


def test_scaled_environments_multiply_observations_and_rewards() -> None:
    for name, usual, factors, reward in (
        ("LargeCartPole-v0", "CartPole-v1", np.full(4, 1000), 100),
        ("UnevenAcrobot-v0", "Acrobot-v1", np.array([1, 1, 1, 1, 1000, 1000]), 1e-3),
    ):
        scaled, original = make(name), gym.make(usual)
        assert scaled.reset(seed=3)[0] == pytest.approx(original.reset(seed=3)[0] * factors)
        a, b = scaled.step(0), original.step(0)
        assert a[0] == pytest.approx(b[0] * factors)
        assert a[1] == pytest.approx(b[1] * reward)


@pytest.mark.skipif(not MINIGRID, reason="needs minigrid")
def test_shortest_paths_of_the_grids() -> None:
    env = make("EmptyRoom-v0")
    obs, _ = env.reset(seed=0)
    assert obs.shape == (151,)
    rewards = [env.step(action)[1] for action in [2] * 5 + [1] + [2] * 5]
    assert sum(map(float, rewards)) == pytest.approx(untuned.BEST_EMPTY)
    env = make("LavaGap-v0")
    lengths = {}
    for seed in range(40):
        env.reset(seed=seed)
        y = int(env.unwrapped.gap_pos[1])  # type: ignore[attr-defined]
        down, across = [1] + [2] * (y - 1) + [0], [2] * 4
        turns = {1: [*across, 1, *[2] * 4], 5: [*down, *across]}
        path = turns.get(y, [*down, *across, 1, *[2] * (5 - y)])
        lengths[y] = len(path)
        steps = [env.step(action) for action in path]
        assert steps[-1][2]  # terminated
        assert float(steps[-1][1]) == pytest.approx(1 - 0.9 * len(path) / 196)
    assert lengths == {1: 9, 2: 11, 3: 11, 4: 11, 5: 10}
    assert 1 - 0.9 * np.mean(list(lengths.values())) / 196 == pytest.approx(untuned.BEST_LAVA)


@pytest.mark.skipif(MINIGRID, reason="needs an environment without minigrid")
def test_missing_minigrid_error_names_the_install_command() -> None:
    with pytest.raises(gym.error.DependencyNotInstalled, match="pip install minigrid"):
        make("EmptyRoom-v0")


# Results


def row(name: str, seed: int, final: float) -> untuned.Row:
    least = BY_NAME[name].least
    return untuned.Row("fast", name, seed, final, final, least, final >= least, 100, 2.0)


def test_table_counts_environments_whose_median_seed_meets_the_criterion() -> None:
    found = [row("LongPole-v0", seed, final) for seed, final in ((50, 500.0), (51, 475.0), (52, 9.0))]
    found += [row("UnevenAcrobot-v0", seed, final) for seed, final in ((50, -0.08), (51, -0.2), (52, -0.5))]
    lines = untuned.table(found).splitlines()
    assert lines[2].endswith("| 500.0, 475.0, 9.0 | **2 of 3** | 2 s |")
    assert lines[3].endswith("| -0.080, -0.200, -0.500 | 1 of 3 | 2 s |")
    assert lines[-1] == "1 of 2 environments meet their criterion."


def test_toy_text_is_scored_by_the_expected_return_of_the_final_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untuned, "ENDLESS", 50)
    agent = DQN("CliffWalking-v1", hidden=(4,), seed=0)
    agent.save(tmp_path / "final")
    score = Score(7, -1.0, -2.0, 100, None, None, None, 100, 3, 1.0)
    found = untuned.row("recommended", BY_NAME["CliffWalking-v1"], tmp_path, score)
    assert found.final == agent.evaluate(1, max_episode_steps=50).mean_return  # nothing is random in this environment
    assert (found.seed, found.best, found.least, found.met) == (7, -2.0, -13.65, False)


def test_command_benchmarks_the_seeds_of_each_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(learning, "benchmark", lambda *given, **named: calls.append((given, named)))
    untuned.main(["--preset", "fast", "--first-seed", "7", "--seeds", "2", "--out", str(tmp_path)])
    assert [given[0] for given, _ in calls] == [each.env_id for each in untuned.ENVIRONMENTS]
    assert all(given[1:] == tuple(vars(presets.preset(given[0], "fast")).values()) for given, _ in calls)
    assert calls[0][1] == {"seeds": range(7, 9), "out": tmp_path / "fast" / "CliffWalking-v1"}
    assert "0 of 0 environments" in capsys.readouterr().out


@pytest.mark.long
def test_command_trains_what_is_missing_and_writes_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = presets.resolve("LongPole-v0", "fast", {"learning_starts": 100}, {"steps": 400, "num_envs": 2})
    monkeypatch.setattr(presets, "resolve", lambda *_: given)
    options = ["--preset", "fast", "--seeds", "1", "--only", "LongPole-v0", "--out", str(tmp_path)]
    untuned.main(options)
    first = capsys.readouterr().out
    assert "| LongPole-v0 | 475.0: reward threshold of CartPole-v1 |" in first
    assert "0 of 1 environments meet their criterion." in first
    text = (tmp_path / untuned.CSV).read_text().splitlines()
    assert text[0].startswith("preset,environment,seed,final,best,least,met")
    assert text[1].startswith("fast,LongPole-v0,50,")
    untuned.main(options)  # keeps the score
    assert capsys.readouterr().out == first
