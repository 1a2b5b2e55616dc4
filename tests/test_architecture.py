"""Layout and imports of the package. import-linter checks the direction of imports (``make lint``)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import perilune
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.training.loop import training_events
from worlds import Numbered, small

ROOT = Path(perilune.__file__).parent
OPTIONAL = {
    *(
        "matplotlib",
        "numba",
        "av",
        "PIL",
        "IPython",
        "jinja2",
        "optuna",
        "pebble",
        "scipy",
        "starlette",
        "tensorboardX",
        "torch",
        "uvicorn",
    )
}


def test_package_root_holds_at_most_six_modules() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= 6


def test_command_line_imports_no_optional_library() -> None:
    modules = "perilune.cli.training, perilune.cli.viewing"
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert OPTIONAL.isdisjoint(loaded.stdout.split())


def lines_without_docstrings(path: Path) -> int:
    source = path.read_text(encoding="utf-8")
    strings = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return len(source.splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in strings)


def test_modules_that_run_in_a_training_step_match_documentation() -> None:
    page = (ROOT.parents[1] / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    listed = {name: int(lines) for name, lines in re.findall(r"^\| `([\w/]+\.py)` \| (\d+) \|", page, re.MULTILINE)}
    assert listed == {name: lines_without_docstrings(ROOT / name) for name in listed}
    assert len(listed) <= 8
    assert sum(listed.values()) <= 1_000

    called: set[str] = set()
    functions: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            called.add(path.relative_to(ROOT).as_posix())
            functions.add(frame.f_code.co_name)

    class Traced(Numbered):
        """Record every function that runs from one step in the middle of an episode, after the warm-up, to the next."""

        def step(self, action: int) -> Any:
            sys.setprofile(note if len(self.seeds) > 12 and self.steps == 3 and not called else None)
            return super().step(action)

    plain = {"layer_norm": False, "double": False, "n_step": 1, "tau": 1.0, "max_grad_norm": None, "activation": "relu"}
    agent = Agent(2, 3, small(**plain), 0)
    list(training_events(agent, Traced(lengths=(9,)), TrainConfig(steps=200, eval_episodes=1, metrics_every=1_000)))
    assert {"learn", "backward", "act", "add"} <= functions
    assert called == set(listed)
