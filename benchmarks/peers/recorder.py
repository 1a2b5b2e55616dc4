"""Record the training of another library in a run directory of Perilune."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.runs import files, layout, lock, logs, manifest
from perilune.training.evaluation import SELECTION_SEEDS, evaluate, greedy_limit
from perilune.training.events import Episode, Evaluated

Policy = Callable[[Array], int]


class Recorder:
    """Record the episodes and evaluations of a training run, and keep the best weights.

    As in Perilune, an evaluation waits for the end of an episode, and its time does not count.

    Args:
        write: writes an event into the run directory.
        env: environment for evaluations.
        train: interval and length of the evaluations, and the budget in ``steps``.

    Attributes:
        policy: the greedy policy. Set it before the first step.
        weights: function that returns a copy of the weights. Set it before the first step.
        best_weights: the weights at the best evaluation so far.
    """

    def __init__(self, write: Callable[[Episode | Evaluated], None], env: envs.Env, train: TrainConfig) -> None:
        self._write, self._env, self._train = write, env, train
        self._episodes, self._checked, self._best = 0, 0, float("-inf")
        self._seconds, self._cpu_seconds = 0.0, 0.0
        self.start()
        self.policy: Policy
        self.weights: Callable[[], Any]
        self.best_weights: Any = None

    def start(self) -> None:
        """Start the clock. Call this when training begins, after imports and the construction of the agent."""
        self._since, self._cpu_since = time.perf_counter(), time.process_time()

    def end_episode(self, env_steps: int, reward: float, length: int, truncated: bool, epsilon: float) -> None:
        """Record the end of an episode. Evaluate if this is due.

        Args:
            env_steps: environment steps so far.
            reward: the return.
            length: time steps of the episode.
            truncated: whether a time limit ended it.
            epsilon: probability of a random action.
        """
        self._episodes += 1
        self._write(
            Episode(
                episode=self._episodes,
                env_steps=env_steps,
                reward=reward,
                length=length,
                loss=None,
                epsilon=epsilon,
                target_syncs=0,
                ended="truncated" if truncated else "terminated",
            )
        )
        every, budget = self._train.eval_every, self._train.steps
        due = every is not None and self._checked // every < env_steps // every
        if due and (budget is None or env_steps < budget):  # the last evaluation follows the last update
            self.evaluate(env_steps)
        self._checked = env_steps

    def evaluate(self, env_steps: int) -> None:
        """Evaluate the current weights on the start states with which Perilune selects checkpoints."""
        self._seconds += time.perf_counter() - self._since
        self._cpu_seconds += time.process_time() - self._cpu_since
        result = evaluate(
            self.policy,
            self._env,
            self._train.eval_episodes,
            first_seed=SELECTION_SEEDS,
            max_episode_steps=greedy_limit(self._env, self._train),
        )
        best = result.mean_return >= self._best
        if best:
            self._best = result.mean_return
            self.best_weights = self.weights()
        self._write(
            Evaluated(
                env_steps=env_steps,
                episodes=self._episodes,
                mean_return=result.mean_return,
                std_return=result.std_return,
                min_return=result.min_return,
                best=best,
                seconds=self._seconds,
                cpu_seconds=self._cpu_seconds,
            )
        )
        self.start()


@contextmanager
def recording(
    environment: str, peer: Any, train: TrainConfig, seed: int, directory: Path, packages: tuple[str, ...]
) -> Iterator[tuple[Recorder, Callable[[int], float]]]:
    """Create a run directory. Give the recorder, and a function that scores its policy on a number of episodes.

    Args:
        environment: Gymnasium ID.
        peer: settings of the other library, a dataclass.
        train: training settings.
        seed: the seed.
        directory: the run directory.
        packages: distributions whose versions belong to the result.
    """
    with lock.acquire(directory), closing(envs.make(environment)) as env:
        layout.create(directory, overwrite=True)
        config = {
            "format": manifest.FORMAT,
            "environment": envs.name(env),
            "reward_threshold": envs.reward_threshold(env),
            "seed": seed,
            "agent": asdict(peer),
            "train": asdict(train),
        }
        files.write_json(directory / "host.json", manifest.host() | {name: metadata.version(name) for name in packages})
        files.write_json(directory / "config.json", config)
        with logs.LogWriter(directory) as log:
            recorder = Recorder(log.write, env, train)

            def score(episodes: int) -> float:
                limit = greedy_limit(env, train)
                return evaluate(recorder.policy, env, episodes, max_episode_steps=limit).mean_return

            yield recorder, score
