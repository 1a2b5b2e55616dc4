"""The commands evaluate, info, verify and list."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune._utils.console import aside, say
from perilune._utils.text import number
from perilune.api import DQN
from perilune.envs.known import ENVIRONMENTS, presets
from perilune.errors import FileFormatError, PeriluneError, UsageError
from perilune.export.artifact import contract_of, find_artifact, load_policy
from perilune.export.write import CONTRACT
from perilune.runs import checkpoint, inspection, logs, manifest, pretrained, weights
from perilune.runs.search import find_runs
from perilune.runs.status import UNREADABLE, read_status
from perilune.training.evaluation import ENDLESS, evaluate
from perilune.training.events import Evaluated
from perilune.viz.summary import finite
from perilune.viz.terminal import progress_bar


def make_env(options: Namespace, env_id: str) -> envs.Env:
    """Make the environment of ``--env``, or by default ``env_id``, with the arguments of ``--env-kwargs``."""
    kwargs = dict(getattr(options, "env_kwargs", ()))
    return envs.make(options.env, **kwargs) if options.env else envs.make_named(env_id, **kwargs)


def load(options: Namespace) -> DQN:
    """Return the agent that the options select. Warn if its run used other environment arguments."""
    if options.pretrained:
        return DQN.pretrained(make_env(options, pretrained_id(options)))
    path = weights.weights_file(options.source, options.checkpoint)
    dqn = DQN.load(path, make_env(options, weights.load_weights(path)[1].environment))
    if options.source.is_dir() and (options.source / "config.json").exists():
        config, here = manifest.read_config(options.source), envs.description(dqn.env)
        if config["environment"] == envs.name(dqn.env) and config.get("made") not in (None, here):
            made = config["made"]
            hint = "Pass the arguments of that environment with --env-kwargs."
            aside(f"perilune: the run was trained in {made}, but the agent now plays in {here}. {hint}")
    return dqn


def pretrained_id(options: Namespace) -> str:
    """Return the ID of the environment of the pre-trained agent. Raise UsageError if the options select another one."""
    env_id, env = str(options.source), getattr(options, "env", "")
    if env:
        raise UsageError(f"--env {env} cannot be combined with --pretrained. Pass only {env_id} and --pretrained.")
    if options.source.exists() and env_id not in pretrained.available():
        raise UsageError(
            f"{env_id} cannot be combined with --pretrained. To use this run or file, omit --pretrained. To use a "
            "pre-trained agent, pass the ID of its environment instead."
        )
    pretrained.entry(env_id)  # refuse another environment even if it cannot be made
    return env_id


def agent_name(options: Namespace) -> str:
    """Describe the agent that the options select."""
    if options.pretrained:
        return f"{options.source}, pre-trained"
    return f"{options.source}, {options.checkpoint} checkpoint" if options.source.is_dir() else str(options.source)


def show(options: Namespace, content: object, text: str) -> None:
    """Print ``content`` as one JSON object if ``--json`` is given, else ``text``."""
    say(json.dumps(content, allow_nan=False) if options.json else text)


def run_evaluate(options: Namespace) -> None:
    """Evaluate a trained agent on fixed start states that training never uses."""
    artifact = None if options.pretrained else find_artifact(options.source)
    title = agent_name(options) if artifact is None else str(artifact)
    env, policy, env_steps = _trained(options) if artifact is None else _exported(options, artifact)
    with one_blas_thread(), progress_bar(f"perilune: evaluating {title}") as tell:
        result = evaluate(policy, env, options.episodes, max_episode_steps=options.max_episode_steps, tell=tell)
    run = options.source.is_dir() and not options.pretrained and artifact is None
    names = ("mean_return", "iqm_return", "std_return", "min_return", "max_return", "solved_share", "outcome_shares")
    content = {
        "environment": envs.name(env),
        "checkpoint": options.checkpoint if run else title,
        "env_steps": env_steps,
        "episodes": options.episodes,
        "solved_mark": result.reward_threshold,
        **{name: getattr(result, name) for name in (*names, "returns", "lengths", "outcomes")},
    }
    lines = [
        f"{title}, {options.episodes} greedy episode{'' if options.episodes == 1 else 's'}",
        f"  mean return         {result.mean_return:9.2f}",
        f"  interquartile mean  {result.iqm_return:9.2f}",
        f"  standard deviation  {result.std_return:9.2f}",
        f"  minimum             {result.min_return:9.2f}",
        f"  maximum             {result.max_return:9.2f}",
    ]
    if result.solved_share is not None:
        lines.append(f"  at or above {result.reward_threshold:<8g}{result.solved_share:9.0%}")
    lines += [f"  {label:<20}{share:9.0%}" for label, share in (result.outcome_shares or {}).items()]
    endless = sum(length == ENDLESS for length in result.lengths)
    if endless and options.max_episode_steps is None and envs.time_limit(env) is None:
        lines.append(f"  {endless} of the episodes did not end and were truncated after {ENDLESS:,} steps")
    show(options, content, "\n".join(lines))


class Playable(NamedTuple):
    """What ``evaluate`` plays."""

    env: envs.Env
    policy: Callable[[Array], int]
    env_steps: int | None


def _trained(options: Namespace) -> Playable:
    dqn = load(options)
    return Playable(dqn.env, dqn.agent.greedy_action, dqn.agent.env_steps)


def _exported(options: Namespace, artifact: Path) -> Playable:
    if options.checkpoint != "best":
        raise UsageError(
            f"--checkpoint {options.checkpoint} requires a run directory, but {artifact} is an exported policy with "
            "fixed weights. Omit --checkpoint."
        )
    contract = contract_of(artifact)
    if contract is None and not options.env:
        raise UsageError(f"{artifact} has no {CONTRACT} beside it. Pass the environment with --env.")
    env = envs.flattened(make_env(options, "" if contract is None else contract.environment))
    if contract is not None and not options.env and contract.environment_description != (here := envs.description(env)):
        hint = "Pass the arguments of that environment with --env-kwargs."
        aside(f"perilune: the agent was exported for {contract.environment_description}, but plays in {here}. {hint}")
    return Playable(env, load_policy(artifact, env), None if contract is None else contract.env_steps)


def run_info(options: Namespace) -> None:
    """Show the counters, settings and machine of a run or weights file."""
    if options.pretrained:
        source = pretrained.weights_file(pretrained_id(options))
    else:
        source = options.source if options.source.is_dir() else weights.weights_file(options.source)
    with progress_bar(f"perilune: reading {source}"):
        found = inspection.describe(source)
    if options.pretrained:
        found["pretrained"] = msgspec.to_builtins(pretrained.entry(str(options.source)))
    show(options, found, "\n".join(inspection.summary(found, str(source))))


def run_verify(options: Namespace) -> None:
    """Check that the files of a run are readable and match their checksums."""
    run = options.run
    with progress_bar(f"perilune: checking {run}"):
        findings = list(inspection.verify(run))
    faults = [fault for _, fault in findings if fault is not None]
    count = f"{len(faults)} of {len(findings)} files are damaged" if faults else f"all {len(findings)} checks passed"
    say(f"{run}: {count}. Videos and images have no checksum and were not checked.\n")
    for path, fault in findings:
        name = "directories" if path == run else path.relative_to(run)
        say(f"{'OK     ' if fault is None else 'DAMAGED'}  {name}")
    if faults:
        raise FileFormatError("\n  ".join([f"{run} is damaged", *faults]))
    if not checkpoint.paths(run):
        aside(f"perilune: {run} has no checkpoint, so it cannot be resumed.")


def run_list(options: Namespace) -> None:
    """List runs, presets, pre-trained agents and known environments."""
    if options.path.exists():
        next(options.path.iterdir(), None)  # raises if it is not a directory or cannot be read
    found, incomplete = find_runs(options.path)
    if incomplete:
        aside(f"perilune: {incomplete}")
    runs = [_summary(directory) for directory in sorted(found)]
    tuned = {name: vars(preset.train)["steps"] for name, preset in presets.available().items()}
    fast = sorted(vars(presets.preset(name, presets.FAST).train)["steps"] for name in tuned)
    agents = {name: agent.score.mean for name, agent in pretrained.available().items()}
    row = "  {run:<35} {environment:<19} {env_steps:>10,} steps  {state:<13}best {shown}"
    lines = [
        f"Runs in {options.path}:" if runs else f"No runs in {options.path}.",
        *(row.format(**run, shown=number(run["best"])) for run in runs),
        "\nPresets (--preset) and their budgets:",
        f"  {presets.RECOMMENDED:<20}reliable, high final return: the preset of the environment, or default",
        f"  {presets.FAST:<20}least CPU time until solved: from {fast[0]:,} to {fast[-1]:,} steps",
        *(f"  {name:<20}{steps:>10,} steps" for name, steps in tuned.items()),
        "\nPre-trained agents (--pretrained) and their mean returns:",
        *(f"  {name:<20}{number(score):>10}" for name, score in agents.items()),
        "\nKnown environments, with named observations, actions or outcomes:",
        *(f"  {name}" for name in ENVIRONMENTS),
        "Perilune trains in any Gymnasium environment with discrete actions and observations that it can flatten.",
    ]
    content = {"runs": runs, "presets": tuned, "pretrained": agents, "environments": list(ENVIRONMENTS)}
    show(options, content, "\n".join(lines))


def _summary(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": str(directory),
        "environment": "",
        "state": UNREADABLE,
        "env_steps": 0,
        "best": None,
    }
    with suppress(PeriluneError):
        found["environment"] = manifest.read_config(directory)["environment"]
        found |= {"state": read_status(directory).state, "env_steps": logs.env_steps(directory)}
        returns = [score.mean_return for score in logs.read_log(directory, Evaluated)]
        found["best"] = max(filter(finite, returns), default=None)
    return found
