"""Every rule applies where the numbers ask for it, not to a healthy run; its command does what it says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_runs import episode
from perilune import cli
from perilune.cli.settings import choose
from perilune.envs.known.presets import PRESETS, preset
from perilune.runs.logs import Run
from perilune.training.evaluation import Evaluation
from perilune.training.events import Episode, Evaluated, Metrics
from perilune.viz.report.advice import RULES, TEXTS, Advice, advise, check
from perilune.viz.report.facts import Facts, option, train_command

STEPS = 60_000
AFTERWARDS = {"one_seed", "early", "solved"}  # what comes next, whatever the run is like
HEALTHY = [-150.0, -120, -90, -40, 20, 90, 160, 210, 240, 245, 250, 248]


def evaluations(returns: list[float], std: float = 20.0) -> list[Evaluated]:
    every = STEPS // max(1, len(returns))
    best = np.maximum.accumulate(returns)
    return [
        Evaluated(every * (n + 1), 10 * (n + 1), value, std, value - 30, bool(value == best[n]), 9.0 * (n + 1))
        for n, value in enumerate(returns)
    ]


def metrics(**columns: Any) -> list[Metrics]:
    """Sixty lines; each column a number or one for every line."""
    known = {"loss": 2.0, "mean_q": 40.0, "mean_td_target": 40.0, "gradient_norm": 5.0, "learning_rate": 1e-3}
    values = {name: np.broadcast_to(column, 60) for name, column in (known | columns).items()}
    return [
        Metrics(1000 * (n + 1), 1000 * n, epsilon=0.05, **{name: float(column[n]) for name, column in values.items()})
        for n in range(60)
    ]


def lived(returns: list[float]) -> list[Episode]:
    """Two hundred episodes that come to what the evaluations come to, a little less."""
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
    **agent: Any,
) -> Facts:
    """A run of LunarLander with its preset's settings but for ``agent`` and ``train``."""
    returns = HEALTHY if returns is None else returns
    known = preset("LunarLander-v3")
    config = {
        "environment": "LunarLander-v3", "reward_threshold": mark, "seed": 7,
        "agent": asdict(replace(known.agent, **agent)),
        "train": asdict(replace(known.train, **{"steps": STEPS} | (train or {}))),
    }  # fmt: skip
    config = json.loads(json.dumps(config))
    run = Run(
        Path("runs") / name, config, lived(returns) if episodes is None else episodes,
        metrics() if lines is None else lines, evaluations(returns, std), [],
    )  # fmt: skip
    return Facts(run, best, seeds=5)


def flown(*outcomes: str) -> Evaluation:
    returns = tuple(250.0 if outcome == "landed" else -50.0 for outcome in outcomes)
    return Evaluation(returns, (100,) * len(returns), 200.0, outcomes, ("landed", "crashed", "flew off", "hovered"))


FLAT = [-150.0, -148, -152, -151, -149, -150]
RISING = [-300.0, -280, -200, -100, -20, 80]

# The rule, the run that it is about, what it must say, and the settings that its command changes.
CASES: dict[str, tuple[Facts, tuple[str, ...], dict[str, Any]]] = {
    "unfinished": (facts(train={"steps": 100_000}), ("60,000 of 100,000",), {}),
    "fell": (
        facts([-100, 100, 250, 240, 60, 40], learning_rate_schedule="constant"), ("250.0", "30,000", "50.0"),
        {"learning_rate_schedule": "linear", "learning_rate_decay_steps": STEPS, "learning_rate_end": 5e-5},
    ),
    "flat": (facts(FLAT, double=False), ("-149.0", "-149.5"), {"double": True}),
    "rises": (facts(RISING), ("-150.0", "30.0"), {}),
    "random": (
        facts(RISING, episodes=[episode(n, env_steps=300 * n, epsilon=0.6) for n in range(1, 201)]), ("60%",),
        {"epsilon_decay_steps": STEPS // 4},
    ),
    "overestimates": (
        facts(lines=metrics(mean_q=np.linspace(0, 2_000, 60)), double=False), ("1762.7", "250.0"), {"double": True},
    ),
    "loss_grows": (
        facts(FLAT, lines=metrics(loss=np.geomspace(1, 1e4, 60))), ("31", "3.35e+03"), {"learning_rate": 0.00033},
    ),
    "hovers": (
        facts(best=flown("landed", "landed", "hovered", "crashed"), gamma=0.99), ("25%", "50%"), {"gamma": 0.995},
    ),
    "small_buffer": (facts(RISING, buffer_size=5_000), ("5,000", "60,000"), {"buffer_size": STEPS}),
    "clipped": (facts(RISING, lines=metrics(gradient_norm=33.0)), ("100%", "10", "33"), {"max_grad_norm": 33.0}),
    "hidden_by_exploration": (
        facts(episodes=lived([-150.0] * 12)), ("249.0", "-170.0", "0.05"), {"epsilon_end": 0.01},
    ),
    "some_fail": (facts(best=flown(*["landed"] * 17, *["crashed"] * 3)), ("205.0", "3 of 20", "-50.0"), {}),
    "look": (facts(best=flown(*["landed"] * 4, "crashed", *["landed"] * 2)), ("episode 5", "-50.0", "crashed"), {}),
    "one_seed": (replace(facts(), seeds=1), ("one seed",), {}),
    "early": (facts(train={"steps": 100_000}), ("40,000 of 100,000",), {"steps": STEPS}),
    "solved": (facts(), ("250.0", "200"), {}),
}  # fmt: skip


def rule(name: str) -> Callable[[Facts], Advice | None]:
    return lambda about: check(name, about)


def test_every_rule_has_texts_and_a_case() -> None:
    assert [*RULES] == [*TEXTS] == [*CASES]


@pytest.mark.parametrize("name", CASES)
def test_rule_gives_the_numbers_and_ignores_healthy_and_empty_runs(name: str) -> None:
    about, words, _ = CASES[name]
    said = rule(name)(about)
    assert said is not None
    for word in words:
        assert word in said.observation
    assert said.suggestion.endswith(".")
    if name not in AFTERWARDS:
        assert rule(name)(facts()) is None
        assert rule(name)(facts(best=flown(*["landed"] * 20))) is None
    for other in (facts([], episodes=[], lines=[]), facts([1.0], episodes=[], lines=[]), facts(FLAT, mark=None)):
        rule(name)(other)


@pytest.mark.parametrize("name", CASES)
def test_command_changes_exactly_the_named_settings(name: str) -> None:
    about, _, changes = CASES[name]
    said = rule(name)(about)
    assert said is not None
    words = shlex.split(said.command)
    assert words[0] == "perilune"
    command = cli.parse(words[1:])
    if command.name == "train":
        assert command.options.seed == 7
        agent, train = choose(command.options).configs()
        expected = asdict(about.agent) | asdict(about.train) | changes
        found = asdict(agent) | asdict(train)
        differ = {name for name in found if found[name] != expected[name]}
        assert differ <= {"learning_rate_end", "learning_rate_decay_steps"}  # which must fit the others
        assert changes
    else:
        assert not changes
        if command.name == "bench learning":
            assert choose(command.options).configs()[0] == about.agent
            assert command.options.first_seed == 7
        else:
            assert command.name in ("resume", "evaluate", "video")
            assert "runs/moon" in words


def test_flat_run_with_preset_settings_explores_longer() -> None:
    said = rule("flat")(facts(FLAT))
    assert said is not None
    assert "--epsilon-decay-steps 20000" in said.command


def test_fell_tries_averaging_then_a_lower_learning_rate() -> None:
    returns = [-100.0, 100, 250, 240, 60, 40]
    without, with_both = rule("fell")(facts(returns, ema_decay=None)), rule("fell")(facts(returns))
    assert without is not None
    assert with_both is not None
    assert "average" in without.suggestion
    assert "--learning-rate 0.0005" in with_both.command


def test_rules_respect_their_thresholds() -> None:
    assert rule("small_buffer")(facts(RISING, buffer_size=STEPS // 2)) is None
    assert rule("small_buffer")(facts(RISING, buffer_size=STEPS // 2 - 1)) is not None
    assert rule("early")(facts()) is None  # solved after two thirds of the budget
    assert rule("fell")(facts([-100, 0, 50, 100, 250, -100])) is None  # once, at the end: it may be chance
    assert rule("fell")(facts([-100, 0, 50, 250, 50, -100])) is not None
    assert rule("fell")(facts([10, 11, 12, 11, 10, 10])) is None  # within the noise
    assert rule("rises")(facts([10, 10, 10, 10, 11, 12])) is None
    assert rule("rises")(facts(RISING, train={"steps": 100_000})) is None  # it is to go on anyway
    assert rule("unfinished")(facts(train={"steps": 100_000, "stop_at_return": 240.0})) is None


def test_high_epsilon_is_not_compared_with_its_final_value() -> None:
    late = lived([-150.0] * 12)
    for epsilon, speaks in ((0.98, False), (0.061, False), (0.06, True)):
        said = rule("hidden_by_exploration")(facts(episodes=[one._replace(epsilon=epsilon) for one in late]))
        assert (said is not None) == speaks
        assert said is None or "(epsilon 0.06)" in said.observation


# What the rules would change of the preset's own values, were the run whole.
AGAINST_THE_PRESET: dict[str, dict[str, Any]] = {
    "fell": {"returns": [-100, 100, 250, 240, 60, 40]},
    "flat": {"returns": FLAT},
    "random": {"returns": RISING, "episodes": [episode(n, env_steps=300 * n, epsilon=0.6) for n in range(1, 201)]},
    "overestimates": {"lines": metrics(mean_q=np.linspace(0, 2_000, 60))},
    "loss_grows": {"returns": FLAT, "lines": metrics(loss=np.geomspace(1, 1e4, 60))},
    "clipped": {"returns": RISING, "lines": metrics(gradient_norm=33.0)},
    "hidden_by_exploration": {"episodes": lived([-150.0] * 12)},
}  # fmt: skip


@pytest.mark.parametrize("name", AGAINST_THE_PRESET)
@pytest.mark.parametrize("budget", [{"steps": 350_000}, {"steps": None, "episodes": 201}])
def test_unfinished_run_does_not_contradict_its_preset(name: str, budget: dict[str, Any]) -> None:
    about = AGAINST_THE_PRESET[name]
    assert rule(name)(facts(**about)) is not None
    assert rule(name)(facts(**about, train=budget)) is None
    assert rule(name)(facts(**about, train={"steps": None, "episodes": 200})) is not None


def test_unfinished_run_questions_settings_beside_the_preset() -> None:
    lines = metrics(gradient_norm=33.0)
    said = rule("clipped")(facts(RISING, lines=lines, max_grad_norm=5.0, train={"steps": 350_000}))
    assert said is not None
    assert "--max-grad-norm 33.0" in said.command
    assert rule("flat")(facts(FLAT, double=False, train={"steps": 350_000})) is not None  # which goes back to it


def test_budget_in_episodes_counts() -> None:
    for budget, seen in (
        ({"steps": None, "episodes": 600}, "The run stopped after 200 of 600 episodes."),
        ({"steps": None, "episodes": 200}, None),
        ({"steps": 100_000, "episodes": 200}, None),  # the first that is reached
        ({"steps": 100_000, "episodes": 600}, "The run stopped after 60,000 of 100,000 steps."),
        ({"steps": None, "episodes": 600, "stop_at_return": 240.0}, None),
    ):
        said = rule("unfinished")(facts(train=budget))
        assert (said and said.observation) == seen


def test_video_of_a_failure_ends_with_the_failed_episode() -> None:
    best = flown("landed", "landed", "crashed", *["landed"] * 4)
    for limit, longest, cut in ((None, 100, False), (100, 100, True), (99, 100, False)):
        said = rule("look")(facts(best=replace(best, lengths=(longest,) * 7), train={"max_episode_steps": limit}))
        assert said is not None
        film = cli.parse(shlex.split(said.command)[1:]).options
        assert (film.episodes, film.overlay) == (3, True)  # which leaves the best agent's film where it is
        assert film.max_episode_steps == (limit if cut else None)
    assert rule("look")(facts(best=flown(*["landed"] * 19, "crashed"))) is None


def test_commands_use_the_given_environment_id() -> None:
    told = replace(facts(FLAT, double=False), env="my_module:LunarLander-v3", seeds=1)
    for said in advise([told, replace(facts(train={"steps": 350_000}), env=told.env)], most=99):
        assert "my_module:LunarLander-v3" in shlex.split(said.command)
        assert cli.parse(shlex.split(said.command)[1:]) is not None


def test_advice_does_not_contradict_itself() -> None:
    # To explore longer, and less.
    explored = [episode(n, env_steps=300 * n, epsilon=0.9) for n in range(1, 201)]
    assert rule("flat")(facts(FLAT)) is not None
    assert rule("flat")(facts(FLAT, episodes=explored)) is None
    assert rule("random")(facts(FLAT, episodes=explored)) is not None
    # A smaller budget, and a larger.
    soon = {"train": {"steps": 100_000}}
    assert rule("early")(facts(best=flown(*["landed"] * 20), **soon)) is not None
    assert rule("early")(facts(best=flown(*["landed"] * 17, *["crashed"] * 3), **soon)) is None


def test_no_two_pieces_of_advice_have_the_same_command() -> None:
    hovering = flown(*["landed"] * 15, *["hovered"] * 5)
    about = facts(best=hovering, gamma=0.995, mark=150.0)
    alone = [rule(name)(about) for name in ("hovers", "some_fail")]
    assert alone[0] is not None
    assert alone[1] is not None
    assert alone[0].command == alone[1].command
    given_ = advise([about], most=99)
    assert alone[0] in given_
    assert alone[1] not in given_
    # More steps for what is to go on anyway are the same too.
    given_ = advise([facts(best=hovering, gamma=0.995, mark=150.0, train={"steps": 100_000})], most=99)
    assert [said.command for said in given_ if "resume" in said.command] == ["perilune resume runs/moon"]


def test_no_command_if_the_environment_cannot_be_made() -> None:
    with_commands = advise([facts(FLAT, double=False)])
    without = advise([replace(facts(FLAT, double=False), made=False)])
    assert [said.observation for said in without] == [said.observation for said in with_commands]
    assert all(said.command for said in with_commands)
    assert not any(said.command for said in without)


def test_at_most_four_pieces_with_the_most_important_first() -> None:
    about = facts(
        [-100, 100, 250, 240, 60, 40], lines=metrics(mean_q=np.linspace(0, 2_000, 60), gradient_norm=33.0),
        buffer_size=5_000, learning_rate=2e-3, train={"steps": 100_000},
    )  # fmt: skip
    given_ = advise([replace(about, seeds=1)])
    assert len(given_) == 4
    assert [said.observation[:12] for said in given_[:2]] == ["The run stop", "The mean ret"]


def test_advice_names_its_run_and_counts_the_others() -> None:
    about = [facts(name="a"), facts(RISING, name="b"), facts(RISING, name="c"), facts(RISING, name="d")]
    said = advise(about)
    assert said[0].observation.startswith("b: Evaluations were still improving")
    assert said[0].observation.endswith("This applies to 3 runs.")
    assert advise(about[:2])[0].observation.startswith("b: ")


def test_missing_numbers_are_ignored() -> None:
    about = facts()
    run = about.run
    broken = replace(
        run,
        episodes=[*run.episodes, run.episodes[0]._replace(reward=None, epsilon=float("nan"))],  # type: ignore[arg-type]
        evaluations=[*run.evaluations, run.evaluations[0]._replace(mean_return=None)],  # type: ignore[arg-type]
        metrics=[line._replace(loss=None, mean_q=None, gradient_norm=None) for line in run.metrics],  # type: ignore[arg-type]
    )
    assert advise([Facts(broken, seeds=5)]) == advise([about])


def test_invalid_environment_id_is_in_no_command() -> None:
    about = facts()
    hostile = replace(about.run, config=about.run.config | {"environment": "--out=/etc; rm -rf ~ #"})
    assert train_command(Facts(hostile)) == ""


@pytest.mark.parametrize("environment", PRESETS)
@pytest.mark.parametrize("other", ["LunarLander-v3", "CartPole-v1"])
def test_command_reproduces_settings_for_any_environment(environment: str, other: str) -> None:
    preset_settings = PRESETS[other]
    config = {
        "environment": environment, "reward_threshold": None, "seed": 0, "agent": asdict(preset_settings.agent),
        "train": asdict(preset_settings.train),
    }  # fmt: skip
    command = cli.parse(shlex.split(train_command(Facts(Run(Path("x"), config, [], [], [], []))))[1:])
    assert choose(command.options).configs() == (preset_settings.agent, preset_settings.train)


UNITS = st.integers(1, 99)


@settings(max_examples=5)
@given(st.lists(st.one_of(UNITS, st.tuples(UNITS, st.sampled_from(["relu", "tanh"]))), min_size=1, max_size=4))
def test_command_reproduces_hidden_layers(hidden: list[Any]) -> None:
    command = cli.parse(["train", "CartPole-v1", *option("hidden", tuple(hidden))])
    assert command.options.hidden == tuple(hidden)
