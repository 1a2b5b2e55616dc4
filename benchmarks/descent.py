"""Where the points of LunarLander go: fuel of the pre-trained agent, and a bound for any agent.

    python -m benchmarks.descent
    python -m benchmarks.descent --epsilon 0.03 0   # also continue the training with each epsilon, for 40,000 steps

docs/explanation/tuning.md, "What separates 287 from the optimum", has the results.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from perilune import DQN
from perilune.agent.dqn import Agent
from perilune.envs.known import presets
from perilune.training.evaluation import SCORE_SEEDS

ENVIRONMENT = "LunarLander-v3"
EPISODES = 100
MAIN, SIDES = 2, (1, 3)  # actions
SECONDS = 0.02  # per time step
RADIUS = 0.9  # from the center of the lander to the surface when its legs touch it
TOUCH = 1.0  # m/s, a soft touch


@dataclass(frozen=True)
class Descent:
    """One episode.

    Attributes:
        score: sum of the rewards.
        main: time steps of the main engine.
        side: time steps of a side engine.
        contact: time steps until both legs touch the surface.
        rest: time steps from then to the end.
        rest_main: time steps of the main engine from then to the end.
    """

    score: float
    main: int
    side: int
    contact: int
    rest: int
    rest_main: int


def play(agent: Agent, env: gym.Env[Any, Any], seed: int) -> Descent:
    """Return one greedy episode."""
    obs, _ = env.reset(seed=seed)
    score, actions, contact, done = 0.0, list[int](), None, False
    while not done:
        actions.append(agent.greedy_action(obs))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        score += float(reward)
        if contact is None and obs[6] and obs[7]:
            contact = len(actions)
        done = terminated or truncated
    contact = len(actions) if contact is None else contact
    main = [action == MAIN for action in actions]
    return Descent(
        score, sum(main), sum(one in SIDES for one in actions), contact, len(actions) - contact, sum(main[contact:])
    )


def describe(agent: Agent) -> str:
    """Return means over episodes as text."""
    env = gym.make(ENVIRONMENT)
    episodes = [play(agent, env, SCORE_SEEDS + episode) for episode in range(EPISODES)]
    means = {name: float(np.mean([getattr(one, name) for one in episodes])) for name in asdict(episodes[0])}
    fuel = 0.3 * means["main"] + 0.03 * means["side"]
    return (
        f"return {means['score']:.1f}, without fuel {means['score'] + fuel:.1f}; main engine {means['main']:.1f} time "
        f"steps, side engines {means['side']:.1f}; contact after {means['contact']:.0f}, then {means['rest']:.0f} to "
        f"the end, with {means['rest_main']:.1f} of the main engine"
    )


def velocity_changes(env: gym.Env[Any, Any]) -> tuple[float, float]:
    """Return how much the vertical velocity changes in one time step, without engine and with the main engine."""
    lander: Any = env.unwrapped

    def mean_change(action: int) -> float:
        changes = []
        for seed in range(20):
            env.reset(seed=seed)
            before = lander.lander.linearVelocity.y
            for _ in range(20):
                env.step(action)
                changes.append(lander.lander.linearVelocity.y - before)
                before = lander.lander.linearVelocity.y
                lander.lander.angle = lander.lander.angularVelocity = 0  # upright
        return float(np.mean(changes))

    return mean_change(0), mean_change(MAIN)


def vertical_descent(height: float, velocity: float, falling: float, braking: float) -> tuple[float, float]:
    """Return the time steps of the engine, and of the descent, that fall freely first and then brake fully.

    Args:
        height: above the touch, in meters.
        velocity: upward, in m/s.
        falling: change of the velocity per time step without the engine.
        braking: change of the velocity per time step with the engine.
    """
    best = (0.0, 0.0)
    for free in range(300):
        y, v, burns = height, velocity, 0
        for _ in range(free):
            v += falling
            y += v * SECONDS
        while v < -TOUCH and y > 0:
            v += braking
            y += v * SECONDS
            burns += 1
        if y <= 0:
            break
        rest = y / (TOUCH * SECONDS)  # at a constant velocity
        best = burns + rest * -falling / (braking - falling), free + burns + rest
    return best


def bound() -> str:
    """Return the mean of the best vertical descents from 200 start states as text."""
    env = gym.make(ENVIRONMENT)
    lander: Any = env.unwrapped
    falling, braking = velocity_changes(env)
    found = []
    for seed in range(200):
        env.reset(seed=seed)
        position, velocity = lander.lander.position.y - lander.helipad_y, lander.lander.linearVelocity.y
        found.append(vertical_descent(position - RADIUS, velocity, falling, braking))
    engine, steps = np.mean(found, axis=0)
    return (
        f"bound of the vertical motion: main engine {engine:.1f} time steps ({0.3 * engine:.1f} points), touch after "
        f"{steps:.0f}; the engine pushes with {(braking - falling) / -falling:.2f} times the gravity"
    )


def trained_further(epsilon: float, steps: int, seed: int) -> Agent:
    """Continue the training of the pre-trained agent with a constant epsilon."""
    source = DQN.pretrained(ENVIRONMENT).agent
    config = replace(
        presets.preset(ENVIRONMENT).agent, learning_rate=3e-4, learning_rate_end=1e-5, learning_rate_decay_steps=steps,
        epsilon_start=epsilon, epsilon_end=epsilon, epsilon_decay_steps=1,
    )  # fmt: skip
    dqn = DQN(ENVIRONMENT, config=config, seed=seed)
    for network in (dqn.agent.online, dqn.agent.target, dqn.agent.average):
        assert network is not None
        network.parameters[:] = source.policy_network.parameters
    dqn.train(steps=steps, run_dir=None, quiet=True, eval_every=None)
    return dqn.agent


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    print(bound())
    print(f"pre-trained: {describe(DQN.pretrained(ENVIRONMENT).agent)}", flush=True)
    for epsilon in options.epsilon:
        agent = trained_further(epsilon, options.steps, options.seed)
        print(f"epsilon {epsilon:g}: {describe(agent)}", flush=True)


if __name__ == "__main__":
    main()
