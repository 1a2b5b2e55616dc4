"""Every command with its module, summary and options. Help and completion need no other module."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from perilune.cli.parser import CommandLineError, assignment, count, named, number, path, whole

Option = tuple[str, dict[str, Any]]  # name and keyword arguments of ArgumentParser.add_argument


class Command(NamedTuple):
    """A command. The function ``run_NAME`` of its module runs it. The overview shows the first sentence of its summary.

    With ``settings``, each setting of ``DQNConfig`` and ``TrainConfig`` is also an option.
    """

    module: str
    summary: str
    options: tuple[Option, ...]
    settings: bool = False


def argument(name: str, metavar: str, text: str, convert: Callable[[str], Any] = path, **how: Any) -> Option:
    """Return a positional argument."""
    return name, {"metavar": metavar, "type": convert, "help": text, **how}


def option(name: str, convert: Callable[[str], Any], default: Any, text: str, **how: Any) -> Option:
    """Return an option with a value. With the default SUPPRESS, the parsed options include it only if it is given."""
    metavars: dict[Any, str] = {whole: "N", count: "N", number: "X", path: "PATH", assignment: "NAME=VALUE"}
    return name, {"type": convert, "default": default, "metavar": metavars.get(convert), "help": text, **how}


def flag(name: str, text: str) -> Option:
    """Return an option without a value."""
    return name, {"action": "store_true", "default": False, "help": text}


RUN = argument("run", "RUN", "Run directory.")
RUNS = argument("runs", "RUN", "Run directories, or directories of runs.", nargs="*", default=[])
SOURCE = argument("source", "RUN_OR_FILE", "Run directory or .safetensors file. With --pretrained, an environment ID.")
EXPORTED = argument(
    "source",
    "RUN_OR_FILE",
    "Run directory, .safetensors file, or exported policy (directory of an ONNX export, .onnx or .py file). With "
    "--pretrained, an environment ID.",
)
PRETRAINED = flag("--pretrained", "Use the pre-trained agent of an environment, such as LunarLander-v3.")
ENV = option("--env", str, "", "Environment ID. Required if a module registers it: my_module:MyEnv-v0.", metavar="ID")
ENV_KWARGS = option(
    "--env-kwargs", assignment, SUPPRESS, "Keyword arguments of the environment, such as enable_wind=True.", nargs="+"
)
JSON = flag("--json", "Print the result as one JSON object.")
QUIET = flag("--quiet", "Do not show progress.")
CLUSTER = (
    option(
        "--jobs",
        whole,
        None,
        "Number of seeds to train at the same time (>= 1). Default: 1, or with --cluster, the number of its CPUs.",
    ),
    option(
        "--cluster",
        str,
        None,
        "Address of a Ray cluster to train on, or auto for the one that runs on this machine. All its machines must "
        "share the directory --out.",
        metavar="ADDRESS",
    ),
)
TENSORBOARD = flag("--tensorboard", "Write TensorBoard event files into RUN/tensorboard.")
# Options that select an agent and how it plays.
AGENT = (
    *(SOURCE, PRETRAINED),
    option("--checkpoint", str, "best", "Weights of the run to use.", choices=("best", "final")),
    option("--max-episode-steps", count, None, "Steps after which an episode is truncated (>= 1)."),
    ENV,
    ENV_KWARGS,
)

COMMANDS = {
    "train": Command(
        "training",
        "Train a DQN and record it in a run directory.",
        (
            option("--seed", whole, SUPPRESS, "Random seed (>= 0). Default: 0."),
            option(
                "--seeds",
                whole,
                None,
                "Number of seeds to train and score (>= 1), starting at --seed, as bench learning does. Run the "
                "command again to resume. Default: one run, without a summary.",
            ),
            CLUSTER[0],
            option(
                "--cluster",
                str,
                None,
                "Address of a Ray cluster, or auto for the one that runs on this machine. With --seeds, the cluster "
                "trains the seeds, and all its machines must share the directory --out. Without --seeds, it runs only "
                "the --workers that step the environments.",
                metavar="ADDRESS",
            ),
            option(
                "--out",
                path,
                None,
                "Run directory (default: runs/ENV-seedN, or the next free name). With --seeds, directory of runs and "
                "results (default: runs/bench/ENV[-PRESET]).",
            ),
            flag("--overwrite", "Replace an existing run in the run directory. Not with --seeds."),
            *(QUIET, JSON, TENSORBOARD, ENV_KWARGS),
        ),
        settings=True,
    ),
    "resume": Command(
        "training",
        "Resume a run exactly from its last checkpoint.",
        (
            RUN,
            option("--steps", whole, None, "Environment steps to add to the budget (>= 1)."),
            option("--episodes", whole, None, "Episodes to add to the budget (>= 1)."),
            option("--change", assignment, [], "Settings to change, such as learning_rate=1e-4.", nargs="+"),
            *(ENV, ENV_KWARGS, QUIET, JSON, TENSORBOARD),
        ),
    ),
    "evaluate": Command(
        "runs",
        "Evaluate a trained agent or an exported policy on fixed start states that training never uses. The agent acts "
        "greedily. Evaluating an exported Python file runs its code.",
        (EXPORTED, *AGENT[1:], option("--episodes", whole, 100, "Episodes to play (>= 1)."), JSON),
    ),
    "export": Command(
        "export",
        "Export a trained agent as ONNX, C, JavaScript or one Python file.",
        (
            *AGENT,
            option(
                "--to",
                str,
                None,
                "Target of the export (onnx, c, js or python).",
                choices=("onnx", "c", "js", "python"),
                required=True,
            ),
            option("--out", path, None, "Directory to write. Default: exports/ENV-TARGET."),
            flag("--int8", "Store the weights as 8-bit integers (C only)."),
            option("--episodes", whole, 100, "Greedy episodes for the score in contract.json (>= 0)."),
            flag("--overwrite", "Replace an earlier export in the directory."),
            JSON,
        ),
    ),
    "list": Command(
        "runs",
        "List runs, presets, pre-trained agents and known environments.",
        (argument("path", "DIR", "Directory of runs.", nargs="?", default=Path("runs")), JSON),
    ),
    "info": Command(
        "runs",
        "Show the counters, settings and machine of a run or weights file, and whether the run can be resumed.",
        (SOURCE, PRETRAINED, JSON),
    ),
    "verify": Command("runs", "Check that the files of a run are readable and match their checksums.", (RUN,)),
    "watch": Command(
        "viewing",
        "Show runs in a browser, during and after training.",
        (
            argument("path", "DIR", "Run directory or directory of runs.", nargs="?", default=Path("runs")),
            option("--port", whole, 8080, "Port (0 to 65535). 0 selects a free port."),
            option("--host", str, "127.0.0.1", "Address to listen on. Anyone who can reach it can see the runs."),
        ),
    ),
    "plot": Command(
        "viewing",
        "Plot the learning curves of one or more runs, as PNG and SVG.",
        (
            RUNS,
            option("--x", str, "steps", "Horizontal axis.", choices=("steps", "episodes")),
            option("--out", path, None, "Output directory. Default: RUN/plots, or . for several runs."),
        ),
    ),
    "video": Command(
        "viewing",
        "Record a video of a trained agent. The agent acts greedily.",
        (
            *AGENT,
            option("--out", path, None, "Output file (.mp4 or .gif). Default: RUN/videos/CHECKPOINT.mp4, or FILE.mp4."),
            option("--episodes", whole, 1, "Episodes to play, one after the other (>= 1)."),
            flag("--overlay", "Show Q-values, the chosen action, the return so far and the outcome."),
            flag("--stages", "Show stages side by side: the untrained agent, two snapshots, and the best agent."),
        ),
    ),
    "report": Command(
        "viewing",
        "Write an HTML report on runs: curves, videos, settings, scores and suggestions.",
        (
            RUNS,
            option(
                "--out",
                path,
                None,
                "Output file (.html or .htm). Default: RUN/report.html, or ./report.html for several runs.",
            ),
            option("--episodes", whole, 100, "Greedy episodes for the score of each run (>= 0)."),
            ENV,
        ),
    ),
    "maps": Command(
        "viewing",
        "Plot what a run has learned: values, actions, visited states, units and gradients.",
        (
            RUN,
            option("--x", str, None, "Observation on the horizontal axis, by name or index."),
            option("--y", str, None, "Observation on the vertical axis, by name or index."),
            option("--out", path, None, "Output directory. Default: RUN/maps."),
        ),
    ),
    "play": Command(
        "viewing",
        "Play an environment yourself, alone or against an agent.",
        (
            argument("env", "ENV", "ID of a Gymnasium environment.", named),
            argument(
                "source",
                "RUN_OR_FILE",
                "Run directory or .safetensors file of the agent to play against.",
                nargs="?",
                default=None,
            ),
            flag("--pretrained", "Play against the pre-trained agent of the environment."),
            option("--seed", whole, 0, "Seed of the first start state (>= 0)."),
            ENV_KWARGS,
        ),
    ),
    "doctor": Command(
        "doctor",
        "Examine a DQN program and report its faults. "
        "Exit status: 0 if the agent is healthy, 1 if it has faults, 2 if the doctor could not check enough of it.",
        (
            argument(
                "agent",
                "PROGRAM",
                "Training program (FILE.py, FILE.ipynb or MODULE:CLASS), with its own arguments after --. Or "
                "FILE:FACTORY, a function that returns an adapter.",
                named,
                nargs="?",
                default=None,
            ),
            option(
                "--write-adapter", path, None, "Also write an adapter for the agent of the program to this new file."
            ),
            option("--new", path, None, "Write an adapter template with comments to this file and exit."),
            option(
                "--explain", str, None, "Explain this finding, such as td_target.mean, and exit.", metavar="FINDING"
            ),
            option("--html", path, None, "Also write the report to this HTML file, with pictures."),
            option("--sarif", path, None, "Also write the report to this SARIF file, for editors and code hosts."),
            flag("--mcp", "Serve the doctor to a coding assistant over standard input and output, as MCP tools."),
            option("--budget", number, 60.0, "CPU time that the examination may use (> 0).", metavar="SECONDS"),
            option("--seed", whole, 0, "Seed for the factory (>= 0)."),
            JSON,
        ),
    ),
    "bench learning": Command(
        "bench",
        "Train several seeds and score each on 100 fixed episodes. An interrupted benchmark resumes.",
        (
            option("--seeds", whole, 10, "Number of seeds (>= 1)."),
            option("--first-seed", whole, 0, "First seed (>= 0)."),
            *CLUSTER,
            option("--out", path, None, "Directory of runs and results. Default: runs/bench/ENV[-PRESET]."),
            option(
                "--against",
                str,
                None,
                "Also train agents of other libraries on the same seeds: sb3, sbx, cleanrl, or several, as in sb3,sbx.",
                metavar="NAMES",
            ),
            *(QUIET, JSON, ENV_KWARGS),
        ),
        settings=True,
    ),
    "tune": Command(
        "tuning",
        "Search for settings with Optuna, and compare the best ones with the preset on fresh seeds. An interrupted "
        "search resumes.",
        (
            option("--trials", whole, 50, "Number of trials, including those of an interrupted search (>= 1)."),
            option("--seeds-per-trial", whole, 3, "Training seeds of each trial (>= 1)."),
            option("--first-seed", whole, 0, "First training seed of each trial (>= 0)."),
            *CLUSTER,
            option(
                "--objective",
                str,
                "final-iqm",
                "Value to optimize: final-iqm (interquartile mean over seeds of the final return), auc (mean return "
                "during training) or cpu-seconds-to-solved.",
                choices=("final-iqm", "auc", "cpu-seconds-to-solved"),
            ),
            option(
                "--search-space",
                path,
                None,
                "Settings to vary and their ranges (TOML). Default: a space around the preset, without the settings "
                "that are given as options.",
            ),
            option("--sampler", str, "tpe", "How to choose settings.", choices=("tpe", "cmaes", "random")),
            option(
                "--pruner",
                str,
                "asha",
                "How to stop bad trials early: asha (compares all seeds together, at a quarter and a half of the "
                "budget), wilcoxon (compares finished seeds; at least 5 per trial) or none.",
                choices=("asha", "wilcoxon", "none"),
            ),
            option(
                "--comparison-seeds",
                whole,
                10,
                "New seeds for the final comparison of the winner with the starting point (>= 0; 0 skips it).",
            ),
            option("--seed", whole, 0, "Seed of the sampler (>= 0)."),
            option("--out", path, None, "Directory of the search. Default: runs/tune/ENV[-PRESET]."),
            option(
                "--storage",
                str,
                None,
                "Journal file, or URL of a database, which several processes can share. Default: OUT/journal.log.",
                metavar="FILE_OR_URL",
            ),
            *(QUIET, JSON, ENV_KWARGS),
        ),
        settings=True,
    ),
    "bench compare": Command(
        "bench",
        "Compare two results of bench learning: the margin of A over B, and its uncertainty.",
        (
            argument("a", "A", "Directory of results, or its scores.json."),
            argument("b", "B", "Results to compare with, from the same environment."),
            JSON,
        ),
    ),
    "bench speed": Command(
        "bench",
        "Measure the time of an update and, in a clone of the repository, of a training run.",
        (option("--steps", whole, 10_000, "Environment steps of each training run."), JSON),
    ),
    "bench doctor": Command(
        "bench",
        "Inject known faults into reference agents and count which ones the doctor finds.",
        (
            option("--agents", str, (), "Reference agents. Default: all.", nargs="+", metavar="NAME"),
            option("--jobs", whole, 1, "Examinations to run at the same time (>= 1)."),
            option("--out", path, Path("runs", "bench", "doctor"), "Output directory."),
            JSON,
        ),
    ),
}

BASH = """_perilune() {
  local words
  case "${COMP_WORDS[*]:1} " in
%s
    *) words="%s" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}") $(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _perilune perilune"""


def completion(shell: str, options: dict[str, list[str]]) -> str:
    """Return the completion script for ``shell``, given the options of each command.

    Raises:
        CommandLineError: the shell is not bash, zsh or fish.
    """
    first = " ".join(sorted({name.split()[0] for name in options}))
    if shell == "fish":
        lines = [f"complete -c perilune -n __fish_use_subcommand -a '{first}'"]
        for name, words in options.items():
            seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
            lines += [f"complete -c perilune -n '{seen}' -l {word[2:]}" for word in words if word.startswith("--")]
        return "\n".join(lines)
    if shell not in ("bash", "zsh"):
        raise CommandLineError(f"perilune: no completion for {shell!r}: expected bash, zsh or fish.")
    benchmarks = [name.removeprefix("bench ") for name in options if name.startswith("bench ")]
    cases = [
        f'    "{name} "*) words="{" ".join(words)}" ;;' for name, words in (options | {"bench": benchmarks}).items()
    ]
    bash = BASH % ("\n".join(cases), first)
    return f"autoload -U bashcompinit && bashcompinit\n{bash}" if shell == "zsh" else bash
