"""The rules that give advice: when they apply, and which commands they suggest."""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_runs import episode
from perilune import cli
from perilune.cli.settings import choose
from perilune.envs.known.presets import FAST, RECOMMENDED, available, for_budget, preset
from perilune.envs.known.record import Preset
from perilune.runs.logs import Run
from perilune.training.evaluation import Evaluation
from perilune.training.events import Episode, Evaluated, Metrics
from perilune.viz.report.advice import TEXTS, Advice, advise, check
from perilune.viz.report.facts import Facts

STEPS = 60_000
ALWAYS = {"one_seed", "early", "solved"}  # these rules also apply to healthy runs
HEALTHY = [-150.0, -120, -90, -40, 20, 90, 160, 210, 240, 245, 250, 248]


def evaluations(returns: list[float], std: float = 20.0) -> list[Evaluated]:
    every = STEPS // max(1, len(returns))
    best = np.maximum.accumulate(returns)
    return [
        Evaluated(every * (n + 1), 10 * (n + 1), value, std, value - 30, bool(value == best[n]), 9.0 * (n + 1))
        for n, value in enumerate(returns)
    ]


def metrics(**columns: Any) -> list[Metrics]:
    """Return sixty records; each field is a number or an array of sixty."""
    known = {"loss": 2.0, "mean_q": 40.0, "mean_td_target": 40.0, "gradient_norm": 5.0, "learning_rate": 1e-3}
    values = {name: np.broadcast_to(column, 60) for name, column in (known | columns).items()}
    return [
        Metrics(1000 * (n + 1), 1000 * n, epsilon=0.05, **{name: float(column[n]) for name, column in values.items()})
        for n in range(60)
    ]


def training(returns: list[float]) -> list[Episode]:
    """Return two hundred episodes with returns slightly below those of the evaluations."""
    rewards = np.interp(np.linspace(0, 1, 200), np.linspace(0, 1, len(returns)), returns) - 20
    return [
        episode(n + 1, float(reward), env_steps=300 * (n + 1), length=300, epsilon=max(0.05, 1 - n / 100))
        for n, reward in enumerate(rewards)
    ]


def facts(
    returns: list[float] | None = None,
    *,
    std: float = 20.0,
    lines: list[Metrics] | None = None,
    episodes: list[Episode] | None = None,
    best: Evaluation | None = None,
    train: dict[str, Any] | None = None,
    name: str = "moon",
    mark: float | None = 200.0,
    environment: str = "LunarLander-v3",
    purpose: str = RECOMMENDED,
    **agent: Any,
) -> Facts:
    """Return a run with the settings of a preset of its environment, except ``agent`` and ``train``."""
    returns = HEALTHY if returns is None else returns
    known = preset(environment, purpose)
    config = {
        "environment": environment, "reward_threshold": mark, "seed": 7,
        "agent": asdict(replace(known.agent, **agent)),
        "train": asdict(replace(known.train, **{"steps": STEPS} | (train or {}))),
    }  # fmt: skip
    config = json.loads(json.dumps(config))
    run = Run(
        Path("runs") / name, config, training(returns) if episodes is None else episodes,
        metrics() if lines is None else lines, evaluations(returns, std), [],
    )  # fmt: skip
    return Facts(run, best, seeds=5)


def greedy(*outcomes: str) -> Evaluation:
    returns = tuple(250.0 if outcome == "landed" else -50.0 for outcome in outcomes)
    return Evaluation(returns, (100,) * len(returns), 200.0, outcomes, ("landed", "crashed", "flew off", "hovered"))


UNTUNED: dict[str, Any] = {"environment": "Lander-v0"}  # an environment without a preset of its own
FLAT = [-150.0, -148, -152, -151, -149, -150]
RISING = [-300.0, -280, -200, -100, -20, 80]
FELL = [-100.0, 100, 250, 240, 60, 40]
CLIPPED = metrics(gradient_norm=33.0)

# For each rule: a run to which it applies, parts of its observation, and the settings that its command changes.
CASES: dict[str, tuple[Facts, tuple[str, ...], dict[str, Any]]] = {
    "unfinished": (facts(train={"steps": 100_000}), ("60,000 of 100,000",), {}),
    "short": (facts(RISING), ("30%", "60,000 of 200,000"), {}),
    "fell": (
        facts(FELL, learning_rate_schedule="constant"), ("250.0", "30,000", "50.0"),
        {"learning_rate_schedule": "linear", "learning_rate_decay_steps": STEPS, "learning_rate_end": 5e-5},
    ),
    "flat": (facts(FLAT, double=False), ("-149.0", "-149.5"), {"double": True}),
    "rises": (facts(RISING), ("-150.0", "30.0"), {}),
    "random": (
        facts(RISING, episodes=[episode(n, env_steps=300 * n, epsilon=0.6) for n in range(1, 201)], **UNTUNED),
        ("60%",),
        {"epsilon_decay_steps": STEPS // 4},
    ),
    "overestimates": (
        facts(lines=metrics(mean_q=np.linspace(0, 2_000, 60)), double=False), ("1762.7", "250.0"), {"double": True},
    ),
    "loss_grows": (
        facts(FLAT, lines=metrics(loss=np.geomspace(1, 1e4, 60)), **UNTUNED), ("31", "3.35e+03"),
        {"learning_rate": 0.00033},
    ),
    "time_limit": (
        facts(best=greedy("landed", "landed", "hovered", "crashed"), gamma=0.99), ("25%", "50%"), {"gamma": 0.995},
    ),
    "small_buffer": (facts(RISING, buffer_size=5_000), ("5,000", "60,000"), {"buffer_size": STEPS}),
    "clipped": (facts(RISING, lines=CLIPPED, **UNTUNED), ("100%", "10", "33"), {"max_grad_norm": 33.0}),
    "hidden_by_exploration": (
        facts(episodes=training([-150.0] * 12), **UNTUNED), ("249.0", "-170.0", "0.05"), {"epsilon_end": 0.01},
    ),
    "some_fail": (facts(best=greedy(*["landed"] * 17, *["crashed"] * 3)), ("205.0", "3 of 20", "-50.0"), {}),
    "look": (facts(best=greedy(*["landed"] * 4, "crashed", *["landed"] * 2)), ("episode 5", "-50.0", "crashed"), {}),
    "one_seed": (replace(facts(), seeds=1), ("one seed",), {}),
    "early": (facts(train={"steps": 100_000}), ("40,000 of 100,000",), {"steps": STEPS}),
    "solved": (facts(), ("250.0", "200"), {}),
}  # fmt: skip


def applied(name: str, about: Facts) -> Advice:
    """Return the advice of a rule; fail if it does not apply."""
    advice = check(name, about)
    assert advice is not None
    return advice


def test_every_advice_rule_is_tested() -> None:
    assert [*TEXTS] == [*CASES]


@pytest.mark.parametrize("name", CASES)
def test_rule_quotes_its_numbers_and_skips_healthy_runs(name: str) -> None:
    about, words, _ = CASES[name]
    advice = applied(name, about)
    assert all(word in advice.observation for word in words)
    assert advice.suggestion.endswith(".")
    if name not in ALWAYS:
        assert check(name, facts()) is None
        assert check(name, facts(best=greedy(*["landed"] * 20))) is None
    for other in (facts([], episodes=[], lines=[]), facts([1.0], episodes=[], lines=[]), facts(FLAT, mark=None)):
        check(name, other)


@pytest.mark.parametrize("name", CASES)
def test_command_changes_exactly_the_named_settings(name: str) -> None:
    about, _, changes = CASES[name]
    words = shlex.split(applied(name, about).command)
    command = cli.parse(words[1:])
    if words[1] == "train":
        assert command.seed == 7
        agent, train = choose(command).configs()
        expected = asdict(about.agent) | asdict(about.train) | changes
        differ = {name for name, value in (asdict(agent) | asdict(train)).items() if value != expected[name]}
        assert differ <= {"learning_rate_end", "learning_rate_decay_steps"}  # derived from other settings
        assert changes
    elif words[1] == "bench":
        assert choose(command).configs()[0] == about.agent
        assert command.first_seed == 7
    else:
        assert not changes
        assert words[1] in ("resume", "evaluate", "video")
        assert "runs/moon" in words


LONGER: dict[str, Any] = {"train": {"steps": 100_000}}
EXPLORED = [episode(n, env_steps=300 * n, epsilon=0.9) for n in range(1, 201)]


def at_epsilon(epsilon: float) -> Facts:
    return facts(episodes=[one._replace(epsilon=epsilon) for one in training([-150.0] * 12)], **UNTUNED)


@pytest.mark.parametrize(
    ("name", "about", "part"),
    [
        ("small_buffer", facts(RISING, buffer_size=STEPS // 2), None),
        ("small_buffer", facts(RISING, buffer_size=STEPS // 2 - 1), "29,999"),
        ("early", facts(), None),  # solved only after two thirds of the budget
        ("early", facts(best=greedy(*["landed"] * 20), **LONGER), "40,000"),
        ("early", facts(best=greedy(*["landed"] * 17, *["crashed"] * 3), **LONGER), None),  # some episodes fail
        ("fell", facts([-100, 0, 50, 100, 250, -100]), None),  # a single bad evaluation may be chance
        ("fell", facts([-100, 0, 50, 250, 50, -100]), "250.0"),
        ("fell", facts([10, 11, 12, 11, 10, 10]), None),  # within the noise
        ("fell", facts(FELL, ema_decay=None), "average of the weights"),
        ("fell", facts(FELL, **UNTUNED), "--learning-rate 0.0005"),
        ("fell", facts(FELL), "perilune evaluate runs/moon --checkpoint best"),  # the preset was tuned
        ("rises", facts([10, 10, 10, 10, 11, 12]), None),
        ("rises", facts(RISING, **LONGER), None),  # the run is unfinished
        ("flat", facts(FLAT, **UNTUNED), "--epsilon-decay-steps 60000"),  # all settings are those of the preset
        ("flat", facts(FLAT, episodes=EXPLORED, **UNTUNED), None),  # contradicts the advice to explore less
        ("random", facts(FLAT, episodes=EXPLORED, **UNTUNED), "90%"),
        ("hidden_by_exploration", at_epsilon(0.98), None),
        ("hidden_by_exploration", at_epsilon(0.061), None),
        ("hidden_by_exploration", at_epsilon(0.06), "(epsilon 0.06)"),
        ("look", facts(best=greedy(*["landed"] * 19, "crashed")), None),
        ("clipped", facts(RISING, lines=CLIPPED, max_grad_norm=5.0, train={"steps": 350_000}), "--max-grad-norm 33.0"),
        ("flat", facts(FLAT, double=False, train={"steps": 350_000}), "--seed 7"),  # back to the preset
        ("unfinished", facts(train={"steps": 100_000, "stop_at_return": 240.0}), None),
        ("unfinished", facts(train={"steps": None, "episodes": 600}), "stopped after 200 of 600 episodes."),
        ("unfinished", facts(train={"steps": None, "episodes": 200}), None),
        ("unfinished", facts(train={"steps": 100_000, "episodes": 200}), None),  # one of two budgets is used up
        ("unfinished", facts(train={"steps": 100_000, "episodes": 600}), "stopped after 60,000 of 100,000 steps."),
        ("unfinished", facts(train={"steps": None, "episodes": 600, "stop_at_return": 240.0}), None),
    ],
)
def test_rule_applies_only_under_its_conditions(name: str, about: Facts, part: str | None) -> None:
    advice = check(name, about)
    assert (advice is None) == (part is None)
    assert part is None or part in " ".join(advice or ())


def test_time_limit_advice_uses_outcomes_of_the_environment() -> None:
    best = replace(greedy("ran out of time", "reached the goal"), labels=("reached the goal", "ran out of time"))
    about = facts(best=best)
    run = replace(about.run, config=about.run.config | {"environment": "MountainCar-v0"})
    observation = applied("time_limit", replace(about, run=run)).observation
    assert (
        observation == "50% of the greedy episodes ended at the time limit (ran out of time), and 50% reached the goal."
    )
    assert check("time_limit", about) is None  # LunarLander has no outcome for the time limit


AGAINST_THE_PRESET: dict[str, dict[str, Any]] = {
    "fell": {"returns": FELL},
    "flat": {"returns": FLAT},
    "random": {"returns": RISING, "episodes": EXPLORED},
    "overestimates": {"lines": metrics(mean_q=np.linspace(0, 2_000, 60))},
    "loss_grows": {"returns": FLAT, "lines": metrics(loss=np.geomspace(1, 1e4, 60))},
    "clipped": {"returns": RISING, "lines": CLIPPED},
    "hidden_by_exploration": {"episodes": training([-150.0] * 12)},
}


@pytest.mark.parametrize("name", AGAINST_THE_PRESET)
@pytest.mark.parametrize("budget", [{"steps": 350_000}, {"steps": None, "episodes": 201}])
def test_unfinished_run_gets_no_advice_against_its_preset(name: str, budget: dict[str, Any]) -> None:
    about = AGAINST_THE_PRESET[name] | UNTUNED
    assert applied(name, facts(**about)).command.startswith("perilune train")
    unfinished = check(name, facts(**about, train=budget))
    assert unfinished is None or "train" not in unfinished.command
    finished = applied(name, facts(**about, train={"steps": None, "episodes": 200}))
    assert finished.command.startswith("perilune train")


RETURNS = (HEALTHY, FLAT, RISING, FELL, [250.0] * 12)
LINES = (
    metrics(),
    CLIPPED,
    metrics(mean_q=np.linspace(0, 2_000, 60)),
    metrics(loss=np.geomspace(1, 1e4, 60)),
)
PLAYED = (None, EXPLORED, training([-150.0] * 12))
BEST = (None, greedy(*["landed"] * 20), greedy("landed", "hovered"), greedy(*["landed"] * 9, "crashed"), None)


@pytest.mark.parametrize("environment", ["LunarLander-v3", "CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("purpose", [RECOMMENDED, FAST])
def test_advice_never_contradicts_a_tuned_preset(environment: str, purpose: str, share: float) -> None:
    known = preset(environment, purpose)
    assert known.train.steps is not None
    budget = int(share * known.train.steps)

    def stretched(records: Any) -> Any:
        return [one._replace(env_steps=round(one.env_steps * budget / STEPS)) for one in records]

    logged = [stretched(lines) for lines in LINES]
    commands: dict[str, str] = {}
    kinds = itertools.product(RETURNS, logged)
    for (returns, lines), episodes, best in zip(kinds, itertools.cycle(PLAYED), itertools.cycle(BEST)):
        about = facts(
            returns, lines=lines, episodes=stretched(episodes or training(returns)), best=best,
            environment=environment, purpose=purpose, train={"steps": budget}, **schedules(known, budget),
        )  # fmt: skip
        run = replace(about.run, evaluations=stretched(about.run.evaluations))
        about = replace(about, run=run, seeds=1)
        assert about.is_finished
        commands |= {advice.command: name for name in TEXTS if (advice := check(name, about)) is not None}
    for command, name in commands.items():
        if command.split()[1] in ("train", "bench"):
            agent, train = choose(cli.parse(shlex.split(command)[1:])).configs()
            if name == "early" and share < 1:  # only the budget of the preset is tuned
                agent, train = about.agent, replace(train, steps=budget)
            assert (agent, train) == (about.agent, replace(about.train, video_every=train.video_every)), name
    assert len(commands) > 3


def schedules(known: Preset, budget: int) -> dict[str, int]:
    """Return the settings of a preset that follow the budget."""
    scaled, usual = asdict(for_budget(known.agent, known, budget)), asdict(known.agent)
    return {name: value for name, value in scaled.items() if value != usual[name]}


@pytest.mark.parametrize(("limit", "longest", "cut"), [(None, 100, None), (100, 100, 100), (99, 100, None)])
def test_video_of_a_failure_ends_with_the_failed_episode(limit: int | None, longest: int, cut: int | None) -> None:
    best = replace(greedy("landed", "landed", "crashed", *["landed"] * 4), lengths=(longest,) * 7)
    command = applied("look", facts(best=best, train={"max_episode_steps": limit})).command
    video = cli.parse(shlex.split(command)[1:])
    assert (video.episodes, video.overlay) == (3, True)  # keeps the video of the best agent
    assert video.max_episode_steps == cut


def test_commands_use_the_given_environment_id() -> None:
    about = [facts(FLAT, double=False), facts(train={"steps": 350_000})]
    for one in about:
        for advice in advise(replace(one, env="my_module:LunarLander-v3", seeds=1), most=99):
            words = shlex.split(advice.command)
            assert "my_module:LunarLander-v3" in words
            assert cli.parse(words[1:]) is not None


def test_advice_contains_no_command_twice() -> None:
    hovering: dict[str, Any] = {
        "best": greedy(*["landed"] * 15, *["hovered"] * 5), "gamma": 0.995, "mark": 150.0
    }  # fmt: skip
    first, second = (applied(name, facts(**hovering)) for name in ("time_limit", "some_fail"))
    assert first.command == second.command
    found = advise(facts(**hovering), most=99)
    assert first in found
    assert second not in found
    # Only one suggestion resumes an unfinished run.
    found = advise(facts(**hovering, **LONGER), most=99)
    assert [one.command for one in found if "resume" in one.command] == ["perilune resume runs/moon"]


def test_advice_has_no_command_if_environment_cannot_be_made() -> None:
    known = advise(facts(FLAT, double=False))
    assert all(one.command for one in known)
    assert advise(replace(facts(FLAT, double=False), made=False)) == [one._replace(command="") for one in known]


def test_advice_on_a_short_run_needs_no_curve_and_replaces_advice_on_seeds() -> None:
    first, *others = advise(replace(facts([-150.0]), seeds=1))
    assert "30% of the budget of the preset" in first.observation
    assert first.command.startswith("perilune resume ")
    assert first.command.endswith("--steps 140000")
    assert not any("one seed" in one.observation for one in others)


def test_advice_is_limited_to_the_four_most_important_pieces() -> None:
    about = facts(FELL, lines=CLIPPED, buffer_size=5_000, learning_rate=2e-3, **LONGER)
    advice = advise(replace(about, seeds=1))
    assert len(advice) == 4
    assert [one.observation[:12] for one in advice[:2]] == ["The run stop", "The mean ret"]


def test_advice_ignores_missing_numbers() -> None:
    about = facts()
    run = about.run
    broken = replace(
        run,
        episodes=[*run.episodes, run.episodes[0]._replace(reward=None, epsilon=float("nan"))],  # type: ignore[arg-type]
        evaluations=[*run.evaluations, run.evaluations[0]._replace(mean_return=None)],  # type: ignore[arg-type]
        metrics=[line._replace(loss=None, mean_q=None, gradient_norm=None) for line in run.metrics],  # type: ignore[arg-type]
    )
    assert advise(Facts(broken, seeds=5)) == advise(about)


def test_commands_omit_invalid_environment_id() -> None:
    run = facts().run
    config = run.config | {"environment": "--out=/etc; rm -rf ~ #"}
    assert Facts(replace(run, config=config)).training() == ""


@pytest.mark.parametrize("environment", available())
@pytest.mark.parametrize("other", ["LunarLander-v3", "CartPole-v1"])
def test_command_reproduces_settings_for_any_environment(environment: str, other: str) -> None:
    agent, train = available()[other].agent, available()[other].train
    config = {"environment": environment, "reward_threshold": None, "seed": 0}
    run = replace(facts().run, config=config | {"agent": asdict(agent), "train": asdict(train)})
    command = cli.parse(shlex.split(Facts(run).training())[1:])
    assert choose(command).configs() == (agent, train)
