"""What the doctor reads off the resets of an unmodified program."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest

from perilune.doctor.program.episodes import check_episodes
from perilune.doctor.program.loop import Loop
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.program.tracer import Log, TracerEnv
from perilune.doctor.report import Finding

SPACES = gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Discrete(2)


class Program:
    """Plays a tracer environment and reads the findings."""

    def __init__(self, original: Any = None) -> None:
        self.log = Log(lambda: None)
        self.original = original
        self.env = self.another()

    def another(self) -> TracerEnv:
        """Return another environment of the program."""
        return TracerEnv(self.log, *SPACES, None, self.original, None)

    def ids(self) -> set[str]:
        """Return the ids of the findings."""
        trace = SimpleNamespace(log=self.log, envs=[self.env])
        return {one.id for one in check_episodes(trace) if isinstance(one, Finding)}


def evaluate(env: TracerEnv, seed: int | None = None) -> None:
    env.reset(seed=seed)
    while not env.step(0)[2]:
        pass


def train(program: Program, evaluated: TracerEnv, **when: bool) -> None:
    """Train for 300 time steps, and evaluate in an environment every 40 steps or at the ends of episodes."""
    env = program.env
    env.reset()
    for step in range(300):
        ended = env.step(0)[2]
        if when.get("at_ends", True) and ended:
            evaluate(evaluated, when.get("seed"))
        if ended or (when.get("then_reset") and step % 40 == 39):
            env.reset()
        if not when.get("at_ends", True) and step % 40 == 39:
            evaluate(evaluated, when.get("seed"))
            if when.get("then_reset"):
                env.reset()


def test_evaluation_in_the_training_environment() -> None:
    program = Program()
    train(program, program.env, at_ends=False)
    assert "environment.evaluation_interferes" in program.ids()


def test_sound_evaluations() -> None:
    for same, when in [
        (False, {"at_ends": False}),
        (False, {"at_ends": True, "seed": 7}),  # the same episodes in each evaluation
        (True, {"at_ends": True}),
        (True, {"at_ends": False, "then_reset": True}),
    ]:
        program = Program()
        train(program, program.env if same else program.another(), **when)
        assert program.ids() == set(), (same, when)


def test_random_first_steps_are_not_an_evaluation() -> None:
    program = Program()
    for episode in range(30):
        program.env.reset()
        for step in range(9):
            ended = program.env.step(0)[2] if (episode * step) % 3 else program.env.step(1)[2]
            if ended:
                break
    assert program.ids() == set()


@pytest.mark.parametrize(
    ("seed", "original", "found"),
    [
        (lambda episode: 5, "CartPole-v1", True),
        (lambda episode: episode, "CartPole-v1", False),
        (lambda episode: None if episode else 5, "CartPole-v1", False),
        (lambda episode: 5, "CliffWalking-v1", False),  # each episode begins in the same state
    ],
)
def test_seeds(seed: Any, original: str, found: bool) -> None:
    program = Program(gymnasium.make(original))
    for episode in range(20):
        program.env.seed(seed(episode))  # as the old interface
        evaluate(program.env)
    assert program.ids() == ({"environment.same_seed"} if found else set())


@pytest.mark.parametrize(
    ("order", "late"),
    [
        ("backward step clip", True),
        ("backward clip step", False),
        ("backward clip step backward clip step", False),
        ("backward step backward clip step", False),  # the gradients of one of two networks are clipped
        ("backward step", False),
    ],
)
def test_clipping(order: str, late: bool) -> None:
    loop, log = Loop(), Program().log
    trace: Any = SimpleNamespace(
        log=log, nodes=[SimpleNamespace(operator="", text="")], error=None, envs=[], read=1, recorder=None
    )
    log.steps.append(SimpleNamespace(terminated=False, truncated=False))  # type: ignore[arg-type]
    for _ in range(12):
        loop.window(trace, Window(0, [Value(-1, kind, None, more="Adam", key=1) for kind in order.split()]))
    ids = {one.id for one in loop.findings(trace) if isinstance(one, Finding)}
    assert ("optimizer.clips_late" in ids) == late
