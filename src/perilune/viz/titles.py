"""Describe runs in the titles of figures: environment, seed and outcome."""

from __future__ import annotations

from collections.abc import Sequence

from perilune._utils.text import number, printable
from perilune.runs.logs import Run
from perilune.training.events import Evaluated
from perilune.viz.summary import finite


def named(runs: Sequence[Run]) -> str:
    """Return the environments of the runs and, for a single run, the seed.

    Args:
        runs: The runs.
    """
    environments = sorted({printable(run.config["environment"]) for run in runs})
    words = " and ".join(environments) if len(environments) <= 2 else f"{len(environments)} environments"
    return words + (f", seed {runs[0].config['seed']}" if len(runs) == 1 else "")


def scored(run: Run) -> list[Evaluated]:
    """Return the evaluations of a run whose mean return is finite.

    Args:
        run: The run.
    """
    return [one for one in run.evaluations if finite(one.mean_return)]


def outcome(runs: Sequence[Run]) -> str:
    """Return the outcome of runs of one environment, for example "solved at 31,000 steps, final 284.3 (20 episodes)".

    Args:
        runs: The runs.
    """
    if len(runs) == 1:
        return _outcome(runs[0])
    finals = [evaluations[-1].mean_return for run in runs if (evaluations := scored(run))]
    known = any(run.config["reward_threshold"] is not None for run in runs)
    solved = sum(_first_solved(run) is not None for run in runs)
    words = f"{solved} of {len(runs)} runs solved" if known else f"{len(runs)} runs"
    return f"{words}, final {number(min(finals))} to {number(max(finals))}" if finals else "no evaluation yet"


def _outcome(run: Run) -> str:
    evaluations, threshold = scored(run), run.config["reward_threshold"]
    if not evaluations:
        return "no evaluation yet"
    best, final = max(one.mean_return for one in evaluations), evaluations[-1].mean_return
    if (first := _first_solved(run)) is not None:
        words = f"solved at {first.env_steps:,} steps, {'but ' if final < threshold else ''}final {number(final)}"
    else:
        words = f"{'' if threshold is None else 'not solved, '}best {number(best)}, final {number(final)}"
    episodes = run.config.get("train", {}).get("eval_episodes")
    words += f" ({episodes} episodes)" if isinstance(episodes, int) else ""
    return words + (", training failed" if run.failure else "")


def _first_solved(run: Run) -> Evaluated | None:
    """Return the first evaluation that reaches the reward threshold, if any."""
    threshold = run.config["reward_threshold"]
    if threshold is None:
        return None
    return next((one for one in scored(run) if one.mean_return >= threshold), None)
