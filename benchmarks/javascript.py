"""Compare the JavaScript physics of LunarLander-v3, in the pages of `perilune export --to js`, with Gymnasium.

    python -m benchmarks.javascript

The pre-trained agent plays 100 episodes in Gymnasium and in JavaScript, from the same start states and with the same
random numbers. Then the JavaScript physics repeats the actions of each Gymnasium episode, and the program measures how
far the two trajectories drift apart. Needs Node.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from perilune import DQN
from perilune._utils.arrays import Array
from perilune._utils.statistics import interquartile_mean
from perilune.export import javascript, policy
from perilune.training.evaluation import SCORE_SEEDS

EPISODES = 100
SOLVED = 200  # return
DRAWS = 2_100  # random numbers of the longest episode: 14 for the start state, 2 for each of 1,001 steps
UNITS = np.array([10.0, 20 / 3])  # units of length per unit of obs[0] and obs[1]


def gymnasium_episode(agent: DQN, seed: int) -> dict[str, Any]:
    """Play an episode in Gymnasium. Return its actions, states, return, outcome and random numbers."""
    env = gym.make("LunarLander-v3")
    obs, _ = env.reset(seed=seed)
    actions, states, total, ended = [], [obs], 0.0, False
    while not ended:
        actions.append(int(agent.act(obs)))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        states.append(obs)
        total += float(reward)
        ended = terminated or truncated
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).random(DRAWS)
    return {"actions": actions, "states": np.array(states), "total": total, "random": random.tolist()}


def javascript_episodes(agent: DQN, episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Play episodes in Node, with ``random`` and, if given, ``actions``."""
    templates = Path(str(resources.files("perilune.export"))) / "templates"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "policy.mjs")
        file.write_text(javascript.module(policy.from_agent(agent.agent, agent.env)), encoding="utf-8")
        request = {
            "planck": str(templates / "vendor" / "planck.min.js"),
            "game": (templates / "demo" / "lunar_lander.mjs").as_uri(),
            "policy": file.as_uri(),
            "episodes": episodes,
        }
        program = str(Path(__file__).with_suffix(".mjs"))
        node = subprocess.run(["node", program], input=json.dumps(request), capture_output=True, text=True, check=True)  # noqa: S603, S607
    found: list[dict[str, Any]] = json.loads(node.stdout)
    return found


def drifts(episode: dict[str, Any], repeated: dict[str, Any]) -> Array:
    """Return the distance between two trajectories after each step, in units of length of the physics (the pad: 4)."""
    first, second = episode["states"], np.array(repeated["states"])
    steps = min(len(first), len(second))
    distance: Array = np.linalg.norm((first[:steps, :2] - second[:steps, :2]) * UNITS, axis=1)
    return distance


def summary(returns: list[float]) -> str:
    values = np.array(returns)
    return (
        f"mean {values.mean():6.1f}, IQM {float(interquartile_mean(values)):6.1f}, min {values.min():6.1f}, "
        f"solved {np.mean(values >= SOLVED):.0%}"
    )


def main() -> None:
    """Print the comparison."""
    agent = DQN.pretrained("LunarLander-v3")
    episodes = [gymnasium_episode(agent, SCORE_SEEDS + index) for index in range(EPISODES)]
    played = javascript_episodes(agent, [{"random": each["random"]} for each in episodes])
    repeated = javascript_episodes(agent, [{key: each[key] for key in ("random", "actions")} for each in episodes])
    print(f"Return over {EPISODES} episodes from the same start states")
    print(f"  Gymnasium   {summary([each['total'] for each in episodes])}")
    print(f"  JavaScript  {summary([each['total'] for each in played])}")
    drift = [drifts(episode, again) for episode, again in zip(episodes, repeated, strict=True)]
    touched = [int(np.argmax(each["states"][:, 6:].any(axis=1))) for each in episodes]
    print("Distance between trajectories with the same actions, in units of length (the pad: 4)")
    for step in (1, 50, 100, 200):
        reached = [each[step] for each, contact in zip(drift, touched, strict=True) if contact > step]
        if reached:
            print(f"  after {step:3d} steps  median {np.median(reached):.1e}, largest {max(reached):.1e} (in the air)")
    for name, values in (
        ("first contact", [each[min(contact, len(each)) - 1] for each, contact in zip(drift, touched, strict=True)]),
        ("the end", [each[-1] for each in drift]),
    ):
        print(f"  at {name:13} median {np.median(values):.1e}, largest {max(values):.1e}")


if __name__ == "__main__":
    main()
