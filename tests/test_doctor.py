"""Test the doctor's catalogue, reports, command and pytest items, and the faulty agents in examples/broken."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import random
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import perilune
from doctor_agents import Linear, command, examine, ids
from perilune import doctor
from perilune.doctor import catalogue, loading, numbered_env, report
from perilune.doctor.checks import CHECKS
from perilune.doctor.checks import optimizer as optimizers
from perilune.doctor.session import KeptGenerators
from perilune.nn import SGD, Adam, RMSProp

ROOT = Path(perilune.__file__).parents[2]
BROKEN = ROOT / "examples" / "broken"
FINDINGS = ROOT / "src" / "perilune" / "doctor" / "findings"


# References


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (SGD(1, np.float64, momentum=0.9), lambda gradients: optimizers.momentum(gradients, 0.9)),
        (RMSProp(1, np.float64), lambda gradients: optimizers.rmsprop(gradients, 0.99, 1e-8)),
        (Adam(1, np.float64), optimizers.adam),
    ],
)
def test_reference_optimizers_match_those_of_perilune(optimizer: Any, reference: optimizers.Steps) -> None:
    gradients = np.array([0.3, -0.1, 2.0, 0.0, 0.7])
    weight, steps = np.zeros(1), []
    for gradient in gradients:
        before = weight.copy()
        optimizer.step(weight, np.array([gradient]), 1.0)
        steps.append(float((before - weight)[0]))
    assert np.allclose(steps, reference(gradients), rtol=1e-6)


def test_adam_without_corrections_matches_hand_computation() -> None:
    # 0.1 / sqrt(0.001) = 3.162, then 0.19 / sqrt(0.001999) = 4.250. With corrections all steps are equal.
    assert optimizers.adam(np.ones(3)) == pytest.approx([1, 1, 1], rel=1e-6)
    uncorrected = optimizers.adam(np.ones(2), correct=(False, False))
    assert uncorrected == pytest.approx([3.16228, 4.24957], rel=1e-5)


def test_faulty_optimizers_differ_from_every_correct_one() -> None:
    def shape(reference: optimizers.Steps) -> Any:
        steps = reference(optimizers.ERRORS)
        return steps / steps[0]

    correct = [shape(reference) for *_, reference in optimizers.correct_optimizers()]
    for _, name, reference in optimizers.faulty_optimizers():
        wrong = shape(reference)
        nearest = min(float(np.abs(wrong - right).max() / np.abs(wrong).max()) for right in correct)
        # A step counter that starts too high has little effect.
        assert nearest > optimizers.CLOSE or "grows by" in name, name


def test_numbered_environment_encodes_every_state() -> None:
    env = numbered_env.NumberedEnv(5, 2)
    seen = [env.reset()[0]]
    for _ in range(50):
        obs, _, terminated, truncated, _ = env.step(0)
        seen.append(obs)
        assert not (terminated and truncated)
        if terminated or truncated:
            seen.append(env.reset()[0])
    assert numbered_env.state_numbers(np.array(seen)).tolist() == list(range(len(seen)))
    assert {step.terminated for step in env.steps} == {step.truncated for step in env.steps}
    assert (numbered_env.state_numbers(np.array(seen).astype(int).astype(np.float32)) == -1).all()
    assert env.late == 0


def test_observations_of_many_calls_are_decoded_at_once() -> None:
    numbers = np.random.default_rng(0).integers(numbered_env.COUNT, size=(3, numbered_env.DECODED_AT_ONCE // 8))
    decoder = numbered_env.Decoder()
    found = [decoder(numbered_env.codes(one, 4).astype(np.float32)) for one in numbers]
    found.append(decoder(np.full((1, 4), 0.5, np.float32)))
    decoder.finish()
    assert [one.tolist() for one in found] == [*numbers.tolist(), [-1]]


def test_steps_that_draw_random_numbers_leave_the_generators_unchanged() -> None:
    def states() -> tuple[Any, ...]:
        kind, keys, *others = np.random.get_state()  # noqa: NPY002
        return random.getstate(), kind, keys.tolist(), *others

    kept, before = KeptGenerators(), states()
    for step in range(3 * KeptGenerators.STEPS):
        with kept.step():
            if step % KeptGenerators.STEPS:
                draw = (random.random, np.random.rand, np.random.randn)[step % 3]
                draw()
        assert states() == before


def test_step_may_import_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(get_rng_state=lambda: SimpleNamespace(equal=lambda other: other.other_tensors))
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    before, draw = random.getstate(), random.random
    with KeptGenerators().step():
        monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
        draw()
    assert random.getstate() == before


# Catalogue and report


def finding(name: str) -> doctor.Finding:
    fields = re.findall(r"{(\w+)", catalogue.entries()[name].evidence)
    return catalogue.finding(name, **dict.fromkeys(fields, 0))


def in_order(*names: str) -> list[doctor.Finding]:
    return report.in_order([finding(name) for name in names], catalogue.causes())


def test_every_finding_has_a_page_and_a_check() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (FINDINGS.parent).rglob("*.py"))
    files = {f"{path.parent.name}.{path.stem}" for path in FINDINGS.glob("*/*.md") if path.stem != "index"}
    assert files == set(catalogue.entries())
    named = {name for name in re.findall(r'"([a-z_]+\.[a-z_]+)"', code) if name.split(".")[0] in catalogue.components()}
    assert named <= files
    built = {"no_bias_correction", "counter", "no_memory", "raises", "no_input", "relu_derivative", "chain"}
    assert {name.split(".")[1] for name in files - named} <= built


@pytest.mark.parametrize("name", catalogue.entries())
def test_page_of_a_finding_has_the_common_structure(name: str) -> None:
    entry, body = catalogue.entries()[name], catalogue.page(name)
    assert re.findall(r"^#+ .+", body.partition("```")[0] + body.rpartition("```")[2], re.MULTILINE) == [
        f"# {entry.title}",
        *(f"## {title}" for title in catalogue.SECTIONS),
    ]
    assert not entry.title.endswith(".")
    assert len(re.findall(r"\.(?: |$)", entry.why)) <= 3  # sentences
    assert all((entry.why, entry.fix, entry.how_to_check, finding(name).evidence))
    before, after = re.fullmatch(r"# before\n(.+)\n# after\n(.+)", entry.example, re.DOTALL).groups()  # type: ignore[union-attr]
    for snippet in (before, after):
        ast.parse("def code():\n" + textwrap.indent(snippet, "    "))


def test_findings_are_ordered_by_cause_and_severity() -> None:
    ordered = in_order("forward.narrow", "td_target.gamma", "forward.one_sign", "td_target.gamma")
    assert [one.id for one in ordered] == ["td_target.gamma", "forward.one_sign", "forward.narrow"]
    assert [one.caused_by for one in ordered] == [None, None, "forward.one_sign"]
    ordered = in_order("td_target.n_step", "loss.sum", "backward.sign")
    assert [one.severity for one in ordered] == ["error", "warning", "note"]


CORE = [row[0] for row in report.CORE]


@pytest.mark.parametrize(
    ("result", "outcome", "headline"),
    [
        (doctor.Report([finding("td_target.n_step")], ran=CORE), "healthy", "No fault found"),  # a note is not a fault
        (doctor.Report([finding("loss.sum")], ran=CORE), "faults", "Found 1 fault"),
        (doctor.Report([finding("loss.raises")]), "faults", "Found 1 fault"),
        (doctor.Report(), "cannot run", "Cannot examine this agent"),
        (
            doctor.Report([], [doctor.NotRun("interface", "no gamma")]),
            "cannot run",
            "Cannot examine this agent: no gamma",
        ),
        *(
            (doctor.Report(ran=[one for one in CORE if one != title]), "inconclusive", "Inconclusive")
            for title in CORE[1:]
        ),
        (doctor.Report([], [doctor.NotRun("replay", "why", "limit")], CORE), "inconclusive", "Inconclusive"),
        (doctor.Report([], [doctor.NotRun("replay", "why", "crash")], CORE), "inconclusive", "Inconclusive"),
        (doctor.Report([], [doctor.NotRun("replay", "why")], CORE), "healthy", "No fault found; 1 check did not run"),
        (doctor.Report([], [doctor.NotRun("training loop", "why", "adapter")], CORE[:-1]), "healthy", "No fault found"),
        (doctor.Report([], [doctor.NotRun("training loop", "why")], CORE[:-1]), "inconclusive", "Inconclusive"),
        (doctor.Report(ran=["interface", "probe problems", "training loop"]), "healthy", "No fault found"),
    ],
)
def test_only_an_agent_with_all_core_checks_is_healthy(result: doctor.Report, outcome: str, headline: str) -> None:
    assert (result.outcome, result.healthy) == (outcome, outcome == "healthy")
    assert result.verdict.startswith(headline)


def test_core_checks_exist() -> None:
    assert {title for row in report.CORE for title in row} <= {check.title for check in CHECKS} | {"probe problems"}


def test_causes_of_findings_form_no_cycle() -> None:
    names = sorted(catalogue.entries())
    for one in names:
        assert in_order(one)[0].caused_by is None
        assert all(in_order(one, other)[0].caused_by is None for other in names if one < other)


# The command


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "perilune", "doctor", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)  # noqa: S603


AGENT = """
import os
import numpy as np
os.write(1, b"NOISE")
class Adapter:
    gamma, observation_size = 0.9, 4
    def __init__(self, seed):
        self.w = np.random.default_rng(seed).normal(0, 0.5, (4, 2))
        self.old = self.w.copy()
    def q_values(self, obs):
        print("NOISE")
        return obs @ self.w
    def train_batch(self, obs, action, reward, next_obs, terminated):
        target = reward + self.gamma * MASK * (next_obs @ self.old).max(axis=1)
        error = np.zeros((len(obs), 2))
        rows = np.arange(len(obs))
        error[rows, action] = (self.q_values(obs)[rows, action] - target) / len(obs)
        self.w -= 0.05 * obs.T @ error
def make(seed=0):
    return Adapter(seed)
"""


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    good, bad = AGENT.replace("MASK", "~terminated"), AGENT.replace("MASK", "1")
    shell = "if len('x') > 1:\n    !pip list\nfiles = !ls\nlen?\n"
    sources = ["%%bash\nls -l | wc\n", shell, "%matplotlib inline\n" + bad, "raise SystemExit('training starts here')"]
    cells = [{"cell_type": "markdown", "source": ["# mine"]}]
    cells += [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources]
    package = "import argparse\nargparse.ArgumentParser().parse_args()\nfrom ..base import make\n"
    files = {
        "good.py": good,
        "bad.py": bad,
        "book.ipynb": json.dumps({"cells": cells}),
        "raises.py": "1 / 0",
        "empty.ipynb": "{}",
        "trains.py": "while True:\n    pass\n",
        "nothing.py": "def make():\n    return 3\n",
        "late.py": "def make(seed=0):\n    import good\n    return good.make(seed)\n",
        "mine/__init__.py": "",
        "mine/base.py": good,
        "mine/agents/__init__.py": "",
        "mine/agents/first.py": package,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_faults_give_exit_status_1_and_a_page(agents: Path) -> None:
    done = run("bad.py:make", "--html", "report.html", cwd=agents)
    assert (done.returncode, done.stderr) == (1, "")
    title = catalogue.entries()["td_target.no_mask"].title
    assert title in done.stdout
    assert "target = reward + self.gamma * 1" in done.stdout
    assert "NOISE" not in done.stdout
    written = (agents / "report.html").read_text(encoding="utf-8")
    assert title in written
    assert "src=" not in written


def test_page_is_written_if_the_reader_of_the_text_stops(agents: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "perilune", "doctor", "bad.py:make", "--html", "report.html"]
    subprocess.run(words, stdout=write, stderr=subprocess.DEVNULL, check=False, cwd=agents)  # noqa: S603
    os.close(write)
    assert (agents / "report.html").stat().st_size > 0


def test_fault_in_a_notebook_is_located_by_line(agents: Path) -> None:
    done = command("book.ipynb:make", "--json", cwd=agents)
    (found,) = json.loads(done.stdout)["findings"]
    assert found["id"] == "td_target.no_mask"
    # Lines are counted over all cells, with a heading line before each cell.
    assert found["where"] == "book.ipynb (all cells):24"


@pytest.mark.parametrize("cell", ["make=lambda: Adapter(0)", "from good import make", "class make(Adapter): pass"])
def test_cells_after_the_factory_are_not_run(agents: Path, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [])
    sources = [AGENT.split("def make", maxsplit=1)[0], cell, "raise SystemExit('too far')"]
    content = {"cells": [{"cell_type": "code", "source": source} for source in sources]}
    (agents / "other.ipynb").write_text(json.dumps(content))
    assert callable(loading.load_factory(f"{agents / 'other.ipynb'}:make"))


# late.py imports its neighbor in the factory, and first.py is a module of a package.
@pytest.mark.parametrize("name", ["good.py:make", "late.py:make", "mine/agents/first.py:make"])
def test_sound_agent_gives_exit_status_0(agents: Path, name: str) -> None:
    done = command(name, cwd=agents)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("No fault found")
    assert "NOISE" not in done.stdout


def test_exhausted_budget_without_findings_gives_exit_status_2(agents: Path) -> None:
    (agents / "slow.py").write_text(
        "from time import process_time\nfrom good import Adapter\n"
        "class make(Adapter):\n    def train_batch(self, *batch):\n        end = process_time() + 0.02\n"
        "        while process_time() < end: pass\n"
        "        super().train_batch(*batch)\n"
    )
    done = command("slow.py:make", "--budget", "2", cwd=agents)
    assert done.returncode == 2
    assert done.stdout.startswith("Inconclusive")
    assert "CPU time was reached" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no program given"),
        (["nowhere.py:make"], "file 'nowhere.py' does not exist"),
        (["nowhere.py"], "file 'nowhere.py' does not exist"),
        (["good"], "expected FILE.py, FILE.ipynb, MODULE:CLASS or FILE.py:FACTORY"),
        (["good.py:make", "--write-adapter", "new.py"], "pass a program"),
        (["good.py", "--write-adapter", "good.py"], "already exists"),
        (["good.py", "--write-adapter", "new.txt"], "Python file"),
        (["good.py:make", "--budget", "nan"], "budget"),
        (["good.py:make", "--seed", "-1"], "seed"),
        (["good.py:make", "--html", "nowhere/report.html"], "a file in an existing directory"),
        (["--new", "good.py"], "already exists"),
        (["--new", "notes.txt"], "Python file"),
    ],
)
def test_invalid_arguments_print_one_line_and_give_exit_status_2(
    agents: Path, arguments: list[str], message: str
) -> None:
    done = command(*arguments, cwd=agents)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.py:make"], "without q_values, train_batch, gamma"),
        (["good.py:mak"], "has no callable 'mak'. It has these callables: Adapter, make"),
        (["raises.py:make"], "running raises.py raised ZeroDivisionError"),
        (["empty.ipynb:make"], "is not a notebook"),
        (["trains.py:make", "--budget", "1"], "did not end within 1 s of CPU time. If it trains an agent"),
    ],
)
def test_agent_that_cannot_be_examined_gives_exit_status_2(agents: Path, arguments: list[str], message: str) -> None:
    done = command(*arguments, "--json", cwd=agents)
    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr, content["outcome"], content["healthy"]) == (2, "", "cannot run", False)
    assert message in content["verdict"]


def test_explain_prints_a_page_or_the_nearest_names(tmp_path: Path) -> None:
    done = command("--explain", "td_target.mean", cwd=tmp_path)
    assert done.returncode == 0
    assert all(text in done.stdout for text in ("mean of the next Q-values", "next_q.max(axis=1)", *catalogue.SECTIONS))
    assert "td_target.no_mask" in command("--explain", "td_target", cwd=tmp_path).stdout
    done = command("--explain", "td_targt.mean", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean td_target.mean" in done.stderr


def test_new_writes_an_adapter_that_works_once_filled_in(tmp_path: Path) -> None:
    assert command("--new", "mine.py", cwd=tmp_path).returncode == 0
    text = (tmp_path / "mine.py").read_text(encoding="utf-8")
    documented = re.findall(r"``(\w+)\(", doctor.AgentAdapter.__doc__ or "")
    assert all(f"def {method}(" in text for method in set(documented) - {"target_parameters"})
    text = re.sub(r'raise NotImplementedError\("for example: (.*)"\)', r"\1", text)
    replacements = {
        "= 8  #": "= 4  #",
        "= 0.99  #": "= 0.9  #",
        "return self.agent.network.forward(obs)": "return self.agent.q_values(obs)",
        " self.agent.learn(": " self.agent.train_batch(",
        'raise NotImplementedError("create your agent here")': "return Adapter(Linear(seed))",
    }
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new, 1)
    scope: dict[str, Any] = {"Linear": Linear}
    exec(text, scope)  # noqa: S102
    assert examine(scope["make"]).healthy


# Examples


GALLERY = {
    "classic": {
        "forward.one_sign", "loss.all_actions", "backward.no_input", "backward.relu_derivative",
        "target_network.shared", "backward.one_bias", "optimizer.step_per_sample", "optimizer.counter",
        "loss.derivative",
    },
    "double_trouble": {"target_network.tau_reversed", "td_target.double_swapped"},
    "fit_predict": {"loss.others_to_zero"},
    "functions": {"td_target.no_mask", "td_target.own_action"},
    "old_loop": {"exploration.inverted", "environment.truncation_as_end", "replay.newest_only"},
    "one_tensor": {"target_network.shared", "loss.broadcast", "backward.accumulates"},
    "pure_python": {"backward.sign"},
    "squashed": {"forward.output_activation"},
}  # fmt: skip


@pytest.mark.parametrize("name", [path.stem for path in BROKEN.glob("*.py")])
def test_faults_of_broken_examples_are_found_and_located(name: str) -> None:
    if name == "one_tensor" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    roots = [one for one in examine(loading.load_factory(f"{BROKEN / name}.py:make")).faults if one.caused_by is None]
    assert {one.id for one in roots} == GALLERY[name]
    assert all(one.where is not None and f"{name}.py:" in one.where for one in roots)


# In the order of docs/tutorials/find-the-bug.md.
FIXED = (
    "forward.one_sign", "loss.all_actions", "backward.no_input", "backward.relu_derivative", "target_network.shared",
    "backward.one_bias", "loss.derivative", "backward.too_early", "optimizer.counter", "optimizer.step_per_sample",
)  # fmt: skip


@pytest.mark.parametrize("fixes", [pytest.param(n, marks=() if n in (7, 10) else pytest.mark.long) for n in range(11)])
def test_walkthrough_fixes_one_fault_at_a_time(fixes: int, tmp_path: Path) -> None:
    walkthrough = runpy.run_path(str(ROOT / "examples" / "fix_classic.py"))
    assert len(walkthrough["diffs"]()) == len(FIXED)
    agent = tmp_path / "classic.py"
    agent.write_text(walkthrough["stage"](fixes), encoding="utf-8")
    found = set(ids(examine(loading.load_factory(f"{agent}:make"))))
    assert not found & set(FIXED[:fixes])
    assert set(FIXED[fixes : fixes + 1]) <= found
    assert fixes < len(FIXED) or found == set()
