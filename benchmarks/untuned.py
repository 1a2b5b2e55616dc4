"""Train the default presets on ten environments that no preset was tuned on, and compare the results with a criterion.

The environments, their criteria and the rule below were chosen before the first training run:

- An environment with a reward threshold is solved if the mean return of the final weights reaches the threshold. A
  variant of a registered environment has the threshold of the original if its optimal returns are comparable.
- Otherwise, the mean return must be within 5 % of the best known: at least best - 0.05 * abs(best).
- The optimal return of Blackjack is close to 0, because wins and losses cancel out. Its margin is 5 % of the difference
  between the best policy and the uniformly random policy.
- The return of the toy text environments is the exact expected return of the greedy policy, by dynamic programming.
  All others are means over 100 episodes.
- An environment counts if the median of its seeds meets the criterion.

Taxi-v4 and FrozenLake-v1 are not among the ten, because the default preset was tuned on them.

    python -m benchmarks.untuned                 # the recommended preset; can be resumed
    python -m benchmarks.untuned --preset fast
    perilune train benchmarks.untuned:LongPole-v0  # one of the variants

The MiniGrid environments need the package minigrid.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv
from gymnasium.error import DependencyNotInstalled

from benchmarks import optima
from perilune import DQN, presets
from perilune.bench import learning, results
from perilune.runs import files
from perilune.runs.scores import Score
from perilune.training.evaluation import ENDLESS

MODULE = "benchmarks.untuned"
OUT = Path("runs", "bench", "untuned")
CSV = "untuned.csv"
STEEP = 0.003  # gravity

# The variants


def long_pole(render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return CartPole with a pole of four times the usual length."""
    env = CartPoleEnv(render_mode=render_mode)
    env.length = 2.0  # half the length of the pole
    env.polemass_length = env.masspole * env.length
    return env


def noisy_acrobot(render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return Acrobot with a random torque up to the torque of the actions, which is added in every time step."""
    env = AcrobotEnv(render_mode=render_mode)
    env.torque_noise_max = 1.0
    return env


def steep_mountain_car(render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return MountainCar with a gravity of 0.003 instead of 0.0025, so that the car needs more swings."""
    env = MountainCarEnv(render_mode=render_mode)
    env.gravity = STEEP
    return env


def empty_room(**kwargs: Any) -> gym.Env[Any, Any]:
    """Return MiniGrid-Empty-8x8 without the mission."""
    return _without_mission("EmptyEnv", size=8, **kwargs)


def lava_gap(**kwargs: Any) -> gym.Env[Any, Any]:
    """Return MiniGrid-LavaGapS7 without the mission."""
    return _without_mission("LavaGapEnv", size=7, **kwargs)


def _without_mission(name: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Return an environment of MiniGrid that observes the flattened image and direction, but not the mission."""
    try:
        from minigrid import envs  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise DependencyNotInstalled("MiniGrid is not installed. Run `pip install minigrid`.") from error
    observed = gym.wrappers.FilterObservation(getattr(envs, name)(**kwargs), ["direction", "image"])
    return gym.wrappers.FlattenObservation(observed)


class Scaled(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Multiply each entry of the observation and the reward by a factor."""

    def __init__(self, env: gym.Env[Any, Any], factors: tuple[float, ...], reward: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, factors=factors, reward=reward)
        super().__init__(env)
        self.factors, self.reward = np.array(factors, np.float32), reward
        assert isinstance(env.observation_space, gym.spaces.Box)
        low, high = env.observation_space.low * self.factors, env.observation_space.high * self.factors
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and return the scaled observation."""
        obs, info = self.env.reset(**kwargs)
        return obs * self.factors, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the scaled observation and reward."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs * self.factors, float(reward) * self.reward, terminated, truncated, info


def large_cart_pole(render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return CartPole with observations multiplied by 1,000 and rewards multiplied by 100."""
    return Scaled(CartPoleEnv(render_mode=render_mode), (1e3, 1e3, 1e3, 1e3), 100.0)


def uneven_acrobot(render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return Acrobot with angular velocities multiplied by 1,000 and rewards divided by 1,000."""
    return Scaled(AcrobotEnv(render_mode=render_mode), (1, 1, 1, 1, 1e3, 1e3), 1e-3)


# The ten environments


NEAR = 0.05
BEST_CLIFF = -13.0
BEST_BLACKJACK, RANDOM_BLACKJACK = -0.0431, -0.3942
BEST_STEEP = -112.2
BEST_EMPTY = 1 - 0.9 * 11 / 256
BEST_LAVA = 1 - 0.9 * 10.4 / 196


def near(best: float) -> float:
    """Return the least return within 5 % of ``best``."""
    return best - NEAR * abs(best)


@dataclass(frozen=True)
class Untuned:
    """One of the ten environments and its criterion."""

    env_id: str
    least: float
    """Return of the final weights that meets the criterion."""
    source: str
    """Where the criterion comes from."""

    @property
    def name(self) -> str:
        """The ID without the module."""
        return self.env_id.rpartition(":")[2]


def _here(name: str) -> str:
    return f"{MODULE}:{name}"


ENVIRONMENTS = (
    Untuned("CliffWalking-v1", near(BEST_CLIFF), "5 % of the optimum -13 (dynamic programming)"),
    Untuned("FrozenLake8x8-v1", 0.85, "reward threshold; the optimum is 0.913 (dynamic programming)"),
    Untuned(
        "Blackjack-v1",
        BEST_BLACKJACK - NEAR * (BEST_BLACKJACK - RANDOM_BLACKJACK),
        "optimum -0.043, random policy -0.394 (dynamic programming)",
    ),
    Untuned(_here("LongPole-v0"), 475.0, "reward threshold of CartPole-v1"),
    Untuned(_here("NoisyAcrobot-v0"), -100.0, "reward threshold of Acrobot-v1"),
    Untuned(_here("SteepMountainCar-v0"), near(BEST_STEEP), "5 % of the best known, -112.2 (search)"),
    Untuned(_here("EmptyRoom-v0"), near(BEST_EMPTY), "5 % of the optimum 0.961 (11 time steps)"),
    Untuned(_here("LavaGap-v0"), near(BEST_LAVA), "5 % of the optimum 0.952 (10.4 time steps on average)"),
    Untuned(_here("LargeCartPole-v0"), 475.0 * 100, "reward threshold of CartPole-v1"),
    Untuned(_here("UnevenAcrobot-v0"), -100.0 / 1_000, "reward threshold of Acrobot-v1"),
)

for _name, _function, _limit in (
    ("LongPole-v0", "long_pole", 500),
    ("NoisyAcrobot-v0", "noisy_acrobot", 500),
    ("SteepMountainCar-v0", "steep_mountain_car", 200),
    ("EmptyRoom-v0", "empty_room", None),  # MiniGrid has its own time limits
    ("LavaGap-v0", "lava_gap", None),
    ("LargeCartPole-v0", "large_cart_pole", 500),
    ("UnevenAcrobot-v0", "uneven_acrobot", 500),
):
    _least = next(each.least for each in ENVIRONMENTS if each.name == _name)
    if _name not in gym.registry:  # `python -m benchmarks.untuned` imports this module twice
        gym.register(_name, f"{MODULE}:{_function}", max_episode_steps=_limit, reward_threshold=_least)


# Results


def model(environment: Untuned, env: gym.Env[Any, Any]) -> optima.Model | None:
    """Return the model of a toy text environment, or None for the others."""
    spec = env.spec
    if environment.name == "Blackjack-v1":
        return optima.blackjack(env)
    if not hasattr(env.unwrapped, "P"):
        return None
    return optima.of_table(env, (spec.max_episode_steps if spec else None) or ENDLESS)


@dataclass(frozen=True)
class Row:
    """The result of one seed."""

    preset: str
    environment: str
    seed: int
    final: float
    """Return of the final weights: the expected return for toy text, else the mean of 100 episodes."""
    best: float
    """Mean return of the best checkpoint over 100 episodes."""
    least: float
    """Return that meets the criterion."""
    met: bool
    env_steps: int
    cpu_seconds: float | None


def row(preset: str, environment: Untuned, directory: Path, score: Score) -> Row:
    """Return the result of the run in ``directory``."""
    final, env = score.final, gym.make(environment.env_id)
    if (exact := model(environment, env)) is not None:
        agent = DQN.load(directory / "final.safetensors", env)
        final = exact.expected_return(exact.greedy([agent.act(obs) for obs in exact.observations]))
    met = final >= environment.least
    return Row(
        preset,
        environment.name,
        score.seed,
        final,
        score.best,
        environment.least,
        met,
        score.env_steps,
        score.cpu_seconds,
    )


def rows(out: Path, preset: str) -> list[Row]:
    """Return the results of the seeds that the last call trained with a preset, in the order of ``ENVIRONMENTS``."""
    found = []
    for environment in ENVIRONMENTS:
        directory = out / preset / environment.name
        if (directory / results.JSON_FILE).exists():
            scores = results.load(directory).scores
            found += [row(preset, environment, directory / f"seed-{score.seed}", score) for score in scores]
    return found


def table(found: list[Row]) -> str:
    """Return the results of one preset as a Markdown table, and how many environments meet their criterion."""
    lines, count = [], 0
    for environment in ENVIRONMENTS:
        seeds = [each for each in found if each.environment == environment.name]
        if not seeds:
            continue
        digits = 3 if abs(environment.least) < 1 else 1
        finals = ", ".join(f"{each.final:,.{digits}f}" for each in seeds)
        times = [each.cpu_seconds for each in seeds if each.cpu_seconds is not None]
        reached = median(each.final for each in seeds) >= environment.least
        count += reached
        number = f"{sum(each.met for each in seeds)} of {len(seeds)}"
        lines.append(
            [
                environment.name,
                f"{environment.least:,.{digits}f}: {environment.source}",
                finals,
                f"**{number}**" if reached else number,
                f"{median(times):.0f} s" if times else "",
            ]
        )
    header = ["environment", "criterion", "final weights, each seed", "seeds that meet it", "CPU time, median"]
    return f"{results.markdown(header, lines)}\n\n{count} of {len(lines)} environments meet their criterion."


def save(found: list[Row], path: Path) -> None:
    """Write the results as CSV, one row per seed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in found)
    files.write(path, text.getvalue().encode())


def main(arguments: list[str] | None = None) -> int:
    """Train the seeds that have no score yet, and print the table of the preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=presets.RECOMMENDED, help="name of the preset (default: recommended)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--first-seed", type=int, default=50, help="first seed (default: 50)")
    parser.add_argument("--only", nargs="+", metavar="ENV", help="train only these environments")
    parser.add_argument("--out", type=Path, default=OUT, help=f"directory of the results (default: {OUT})")
    options = parser.parse_args(arguments)
    for environment in ENVIRONMENTS:
        if options.only and environment.name not in options.only:
            continue
        agent, train = presets.resolve(environment.env_id, options.preset, {}, {})
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        learning.benchmark(
            environment.env_id, agent, train, seeds=seeds, out=options.out / options.preset / environment.name
        )
    print(table(rows(options.out, options.preset)))
    names = sorted(path.name for path in options.out.iterdir() if path.is_dir())
    save([each for name in names for each in rows(options.out, name)], options.out / CSV)
    return 0


if __name__ == "__main__":
    sys.exit(main())
