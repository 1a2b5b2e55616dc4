"""The doctor's parts: its references, its order of causes, its doors, and the gallery of broken agents."""

from __future__ import annotations

import importlib.util
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perilune
from perilune import doctor
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.doctor import catalogue, causes, loading, optimizers, page, pointing, scaffold, terminal, worlds
from perilune.doctor.adapters import PerilunePatient
from perilune.doctor.balance import NoBalance, still_reward
from perilune.doctor.report import Component, Finding, Points, Spread
from perilune.doctor.supervise import TooLong, supervised
from perilune.doctor.ward import Ward
from perilune.errors import ExaminationError
from perilune.nn.optimizers import SGD, Adam, RMSProp
from test_doctor_patients import Linear

ROOT = Path(perilune.__file__).parents[2]
BROKEN = ROOT / "examples" / "broken"


class NoMask(Linear):
    """Terminal states bootstrap."""

    def train_batch(self, *batch: Any) -> None:
        super().train_batch(*batch[:4], np.zeros_like(batch[4]))


class Mean(Linear):
    """The mean of the next values is taken for their largest."""

    def train_batch(self, *batch: Any) -> None:
        obs, action, reward, next_obs, terminated = batch
        next_q = next_obs @ self.target[0] + self.target[1]
        less = self.gamma * (next_q.max(axis=1) - next_q.mean(axis=1))
        super().train_batch(obs, action, reward - less * ~terminated, next_obs, terminated)


class Shouting(Linear):
    """Weights that begin with one sign, around 1."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.w = 1 + 0.1 * self.w
        self.target = self.w.copy(), self.b.copy()


class Uphill(Linear):
    """The sign is wrong."""

    def train_batch(self, *batch: Any) -> None:
        before = self.w.copy(), self.b.copy()
        super().train_batch(*batch)
        self.w, self.b = 2 * before[0] - self.w, 2 * before[1] - self.b


# The references


def test_reference_optimisers_are_those_that_perilune_learns_with() -> None:
    gradients = np.array([0.3, -0.1, 2.0, 0.0, 0.7])
    ours: list[tuple[Any, np.ndarray[Any, Any]]] = [
        (SGD(1, np.float64, momentum=0.9), optimizers.momentum(gradients, 0.9)),
        (RMSProp(1, np.float64), optimizers.rmsprop(gradients, 0.99, 1e-8)),
        (Adam(1, np.float64), optimizers.adam(gradients)),
    ]
    for optimizer, steps in ours:
        weight, path = np.zeros(1), []
        for gradient in gradients:
            before = weight.copy()
            optimizer.step(weight, np.array([gradient]), 1.0)
            path.append(float((before - weight)[0]))
        assert np.allclose(path, steps, rtol=1e-6), type(optimizer)


def test_adam_by_hand() -> None:
    # With a constant gradient every step of Adam is as long as the first; without the corrections it is not:
    # 0.1 / sqrt(0.001) = 3.162, then 0.19 / sqrt(0.001999) = 4.250.
    assert optimizers.adam(np.ones(3)) == pytest.approx([1, 1, 1], rel=1e-6)
    uncorrected = optimizers.adam(np.ones(2), correct=(False, False))
    assert uncorrected == pytest.approx([3.16228, 4.24957], rel=1e-5)


def test_no_broken_optimiser_passes_for_a_sound_one() -> None:
    from perilune.doctor.checks.optimizer import CLOSE, ERRORS  # noqa: PLC0415

    def shape(reference: optimizers.Steps) -> Any:
        steps = reference(ERRORS)
        return steps / steps[0]

    sound = [shape(reference) for _, reference in optimizers.sound()]
    for _, words, reference in optimizers.broken():
        wrong = shape(reference)
        nearest = min(float(np.abs(wrong - right).max() / np.abs(wrong).max()) for right in sound)
        late = "runs on" in words and nearest < CLOSE  # a counter that is far ahead from the first update on
        assert nearest > CLOSE or late, words


def test_the_still_reward_is_the_value_less_the_bootstrap() -> None:
    ward = Ward(Linear, 0, np.random.default_rng(0))
    list(doctor.examination.ADMISSION.find(ward))
    case = ward.fresh()
    for terminated in (True, False):
        transition = ward.transitions(1, terminated)
        q = case.q(transition.obs)[0, transition.action[0]]
        bootstrap = 0.0 if terminated else 0.9 * case.q(transition.next_obs).max()
        assert still_reward(case, transition, 1.0) == pytest.approx(q - bootstrap, abs=1e-4)


def test_where_the_reward_has_no_say_there_is_no_still_reward() -> None:
    class Deaf(Linear):
        def train_batch(self, obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> None:
            super().train_batch(obs, action, 0 * reward + 1e6, next_obs, terminated)

    ward = Ward(Deaf, 0, np.random.default_rng(0))
    list(doctor.examination.ADMISSION.find(ward))
    with pytest.raises(NoBalance):
        still_reward(ward.fresh(), ward.transitions(1), 1.0)


def test_a_numbered_environment_tells_every_state() -> None:
    world = worlds.Numbered(5, 2, lambda obs: None)
    seen = [world.reset()[0]]
    ends = 0
    while ends < 6:
        obs, _, terminated, truncated, _ = world.step(0)
        seen.append(obs)
        assert not (terminated and truncated)
        if terminated or truncated:
            ends += 1
            seen.append(world.reset()[0])
    assert worlds.number(np.array(seen)).tolist() == list(range(len(seen)))
    assert (
        {step.terminated for step in world.diary.steps}
        == {step.truncated for step in world.diary.steps}
        == {True, False}
    )
    assert (worlds.number(np.array(seen).astype(int).astype(np.float32)) == -1).all()
    assert world.diary.after_the_end == 0


def test_what_takes_too_long_is_ended_even_if_it_listens_to_nobody() -> None:
    def stubborn() -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:  # noqa: S110
                pass

    with pytest.raises(TooLong):
        supervised(stubborn, 0.2, 10, lambda: None)


# Causes


def finding(name: str) -> Finding:
    return catalogue.found(name, "evidence")


def test_what_follows_carries_its_cause_and_stands_behind_it() -> None:
    ordered = causes.sorted_out(
        [finding(name) for name in ("forward.narrow", "td_target.gamma", "forward.one_sign", "td_target.gamma")]
    )
    assert [one.id for one in ordered] == ["td_target.gamma", "forward.one_sign", "forward.narrow"]
    assert [one.caused_by for one in ordered] == [None, None, "forward.one_sign"]


def test_graver_roots_come_first_and_nothing_causes_itself() -> None:
    ordered = causes.sorted_out([finding("td_target.n_step"), finding("loss.sum"), finding("backward.sign")])
    assert [one.severity for one in ordered] == ["error", "warning", "note"]
    for name in catalogue.CATALOGUE:
        assert causes.sorted_out([finding(name)])[0].caused_by is None


def test_no_two_findings_can_cause_each_other() -> None:
    for one in catalogue.CATALOGUE:
        for other in catalogue.CATALOGUE:
            if one < other:
                assert any(found.caused_by is None for found in causes.sorted_out([finding(one), finding(other)]))


def test_every_entry_has_all_its_words_and_a_place_in_the_docs() -> None:
    page = (ROOT / catalogue.PAGE).read_text(encoding="utf-8")
    headings = [line[3:] for line in page.splitlines() if line[:3] == "## "]
    components = set(Component.__args__)  # type: ignore[attr-defined]
    for name, entry in catalogue.CATALOGUE.items():
        assert name.split(".")[0] in components & set(headings)
        assert all(entry)
        assert f"| `{name}` | {entry.severity} | {entry.title} |" in page
        assert not entry.title.endswith(".")


# The doors


def test_a_note_is_no_fault() -> None:
    report = doctor.Report([finding("td_target.n_step")])
    assert report.healthy
    assert report.as_json()["healthy"] is True


def test_the_json_has_what_it_promises() -> None:
    content = doctor.examine(NoMask).as_json()
    assert set(content) == {"healthy", "findings", "not_run", "seconds"}
    assert {"id", "component", "severity", "title", "evidence", "where", "remedy", "caused_by"} <= set(
        content["findings"][0]
    )
    assert all(set(check) == {"check", "why"} for check in content["not_run"])
    assert json.loads(json.dumps(content)) == content


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perilune", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)  # noqa: S603


AGENT = """
import os
import numpy as np
os.write(1, b"NOISE")
class Patient:
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
        self.w -= 0.01 * obs.T @ error
def make(seed=0):
    return Patient(seed)
"""


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(AGENT.replace("MASK", "~terminated"))
    (tmp_path / "bad.py").write_text(AGENT.replace("MASK", "1"))
    cells = [{"cell_type": "markdown", "source": ["# mine"]}]
    cells += [{"cell_type": "code", "source": ["%%bash\n", "ls -l | wc\n"]}]
    cells += [{"cell_type": "code", "source": ["if len('x') > 1:\n", "    !pip list\n", "files = !ls\n", "len?\n"]}]
    cells += [{"cell_type": "code", "source": ["%matplotlib inline\n", *AGENT.replace("MASK", "1").splitlines(True)]}]
    cells += [{"cell_type": "code", "source": ["raise SystemExit('training would start here')"]}]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def test_the_command_says_by_its_status_how_it_went(agents: Path) -> None:
    good, bad = run("good.py:make", cwd=agents), run("bad.py:make", cwd=agents)
    assert (good.returncode, bad.returncode) == (0, 1), good.stderr + bad.stderr
    assert good.stdout.startswith("No fault was found")
    assert "After a terminated transition the future is still counted" in bad.stdout
    assert "target = reward + self.gamma * 1" in bad.stdout
    assert "NOISE" not in good.stdout + bad.stdout
    assert good.stderr == bad.stderr == ""


def test_the_command_writes_json_and_a_page(agents: Path) -> None:
    done = run("bad.py:make", "--json", "--html", "report.html", cwd=agents)
    content = json.loads(done.stdout)
    assert [one["id"] for one in content["findings"]] == ["td_target.no_mask"]
    written = (agents / "report.html").read_text(encoding="utf-8")
    assert "After a terminated transition" in written
    assert "http" not in written.split("<style>")[1].split("</style>")[1].replace("https://arxiv", "")


def test_a_notebook_is_run_as_far_as_its_factory(agents: Path) -> None:
    done = run("book.ipynb:make", "--json", cwd=agents)
    (found,) = json.loads(done.stdout)["findings"]
    assert found["id"] == "td_target.no_mask"
    place = int(found["where"].removeprefix("book.ipynb (all cells):"))
    assert place == 24  # of all cells together, each after a line with its number


@pytest.mark.parametrize(
    "definition", ["make=lambda: Patient(0)", "from good import make", "class make(Patient): pass"]
)
def test_a_notebook_ends_where_the_factory_gets_its_name(agents: Path, definition: str) -> None:
    cells = [
        AGENT.split("def make", maxsplit=1)[0].replace("MASK", "~terminated"),
        definition,
        "raise SystemExit('too far')",
    ]
    content = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    (agents / "other.ipynb").write_text(json.dumps(content))
    done = run("other.ipynb:make", cwd=agents)
    assert done.returncode == 0, done.stderr


def test_a_file_may_import_its_neighbours_late_and_reads_no_arguments_of_ours(agents: Path) -> None:
    (agents / "late.py").write_text(
        "import argparse\nargparse.ArgumentParser().parse_args()\n"
        "def make(seed=0):\n    import good\n    return good.make(seed)\n"
    )
    done = run("late.py:make", cwd=agents)
    assert done.returncode == 0, done.stderr


def test_a_file_of_a_package_may_import_relatively(agents: Path) -> None:
    (agents / "mine" / "agents").mkdir(parents=True)
    for part in ("mine", "mine/agents"):
        (agents / part / "__init__.py").touch()
    (agents / "mine" / "base.py").write_text((agents / "good.py").read_text())
    (agents / "mine" / "agents" / "first.py").write_text("from ..base import make\n")
    done = run("mine/agents/first.py:make", cwd=agents)
    assert done.returncode == 0, done.stderr


def test_no_fault_found_in_too_little_time_is_not_health(agents: Path) -> None:
    (agents / "slow.py").write_text(
        "import time\nfrom good import Patient\n"
        "class Slow(Patient):\n    def train_batch(self, *batch):\n        time.sleep(0.05)\n"
        "        super().train_batch(*batch)\n"
        "def make(seed=0):\n    return Slow(seed)\n"
    )
    done = run("slow.py:make", "--budget", "2", cwd=agents)
    assert done.returncode == 2
    assert "2 s were not enough" in done.stderr
    assert done.stdout.startswith("The time was up before a verdict")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ([], "which agent"),
        (["nowhere.py:make"], "no file 'nowhere.py'"),
        (["good.py"], "names no factory"),
        (["good.py:mak"], "has no callable 'mak'; it has Patient, make"),
        (["good.py:np"], "no callable"),
        (["raises.py:make"], "running raises.py raised ZeroDivisionError"),
        (["empty.ipynb:make"], "is no notebook"),
        (["trains.py:make", "--budget", "1"], "took longer than 1 s. If it trains when it is imported"),
        (["nothing.py:make"], "lacks q_values, train_batch, gamma, observation_size"),
        (["good.py:make", "--budget", "0"], "budget"),
        (["good.py:make", "--budget", "nan"], "budget"),
        (["good.py:make", "--seed", "-1"], "seed=-1 is invalid: expected a whole number >= 0"),
        (["good.py:make", "--html", "nowhere/report.html"], "a file in a directory that exists"),
        (["good.py:make", "--html", "."], "a file in a directory that exists"),
        (["--new", "good.py"], "exists already"),
        (["--new", "notes.txt"], "Python file"),
    ],
)
def test_what_cannot_be_examined_ends_in_one_line_and_status_2(agents: Path, what: list[str], said: str) -> None:
    (agents / "raises.py").write_text("1 / 0")
    (agents / "empty.ipynb").write_text("{}")
    (agents / "trains.py").write_text("import time\nwhile True:\n    time.sleep(0.01)\n")
    (agents / "nothing.py").write_text("def make():\n    return 3\n")
    done = run(*what, cwd=agents)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_scaffold_is_a_python_file_that_says_what_to_fill_in(tmp_path: Path) -> None:
    done = run("--new", "mine.py", cwd=tmp_path)
    assert done.returncode == 0
    done = run("mine.py:make", cwd=tmp_path)
    assert done.returncode == 2
    assert "make your agent here" in done.stderr
    for method in doctor.patient.OPTIONAL:
        assert f"def {method}(" in scaffold.TEXT or method == "target_parameters"


def test_a_filled_scaffold_is_examined(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    scaffold.write_scaffold(path)
    text = path.read_text(encoding="utf-8")
    text = text.replace("self.observation_size = 8", "self.observation_size = 4").replace(
        "self.gamma = 0.99", "self.gamma = 0.9"
    )
    text = text.replace(
        'raise NotImplementedError("for example: return self.agent.network.forward(obs)")',
        "return self.agent.q_values(obs)",
    )
    text = text.replace(
        'raise NotImplementedError("for example: self.agent.learn(obs, action, reward, next_obs, terminated)")',
        "self.agent.train_batch(obs, action, reward, next_obs, terminated)",
    )
    text = text.replace('raise NotImplementedError("make your agent here")', "return Patient(Linear(seed))")
    path.write_text("from test_doctor_patients import Linear\n" + text, encoding="utf-8")
    assert doctor.examine(loading.load_factory(f"{path}:make")).healthy


def test_the_terminal_shows_roots_with_what_they_bring_and_what_was_not_checked(tmp_path: Path) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text("first\nweights = ones\n", encoding="utf-8")
    root = catalogue.found("forward.one_sign", "W0 100%", f"{agent}:2")
    report = doctor.Report(causes.sorted_out([finding("forward.narrow"), root]), [doctor.NotRun("replay", "no sample")])
    written = io.StringIO()
    terminal.show(report, written)
    lines = [" ".join(line.split()) for line in written.getvalue().splitlines()]
    assert lines[0] == "One fault was found, and 1 more that follows from it (0.0 s)"
    assert "1. All weights begin with the same sign, so that all units say the same" in lines
    assert "error forward.one_sign" in lines
    assert "proof W0 100%" in lines
    assert any("weights = ones" in line for line in lines)
    assert any(line.startswith("brings Different states") for line in lines)
    assert lines[-1] == "replay no sample"
    assert not any(line.startswith("2.") for line in lines)


def test_the_page_shows_what_an_agent_says_as_text() -> None:
    tags: list[str] = []

    class Collect(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

    hostile = catalogue.found("loss.raises", "<script>alert(1)</script>", "<img src=x>:1")
    written = page.html(doctor.Report([hostile], [doctor.NotRun("<b>", "<script>")]), "<script>x</script>.py:make")
    Collect().feed(written)
    assert "section" in tags
    assert "script" not in tags
    assert "img" not in tags


def test_the_picture_of_a_target_shows_what_was_expected_and_what_was_found() -> None:
    (finding,) = [finding for finding in doctor.examine(Mean).findings if finding.id == "td_target.mean"]
    assert isinstance(finding.picture, Points)
    x, found, right = finding.picture[3:]
    assert np.array_equal(x, right)
    # Of two actions the mean lies below the larger one by half their distance, and never above it.
    assert (found < right + 1e-3).all()
    assert (found < right - 0.1).any()


def test_the_picture_of_new_weights_shows_every_layers_values() -> None:
    (finding,) = [finding for finding in doctor.examine(Shouting).findings if finding.id == "forward.one_sign"]
    assert isinstance(finding.picture, Spread)
    assert list(finding.picture.groups) == ["Q"]  # one layer, whose outputs are Q
    # A sum of four normal numbers of spread 2, each times about 1.
    assert finding.picture.groups["Q"].std() == pytest.approx(4, rel=0.15)


def test_a_page_has_its_pictures_and_without_matplotlib_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    report = doctor.examine(Mean)
    written = page.html(report, "mean.py:make")
    assert written.count("<svg") == sum(finding.picture is not None for finding in report.findings) > 0
    assert "found: Q(obs, action) less the reward" in written
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = page.html(report, "mean.py:make")
    assert "<svg" not in written
    assert "pip install &#x27;perilune[view]&#x27;" in written


def test_pytest_items_fail_pass_and_skip(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from perilune.doctor import pytest_items\nfrom test_doctor import NoMask\ntest_agent = pytest_items(NoMask)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-v", str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{Path(__file__).parent}", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)  # noqa: S603
    assert "test_agent[ends of episodes] FAILED" in done.stdout, done.stdout + done.stderr
    assert "test_agent[interface] PASSED" in done.stdout
    assert "test_agent[replay] SKIPPED" in done.stdout
    assert "After a terminated transition the future is still counted" in done.stdout
    assert done.stdout.count("FAILED") == 2  # once in the list, once in the summary


# Ready-made patients, and the gallery


def test_perilunes_own_patient_trains_what_the_agent_would() -> None:
    config = DQNConfig(batch_size=16, buffer_size=100, learning_starts=16)
    one, other = (Agent(4, 2, config, seed=3) for _ in range(2))
    generator = np.random.default_rng(0)
    for _ in range(40):
        step = generator.normal(size=4), int(generator.integers(2)), float(generator.normal()), generator.normal(size=4)
        for agent in (one, other):
            agent.remember(*step, terminated=False, truncated=True)
    batch = other.replay.sample(16, other.generators.replay)
    patient = PerilunePatient(other)
    patient.train_batch(batch.obs, batch.action, batch.reward, batch.next_obs, batch.discount == 0)
    one.learn()
    # Truncated after one step, so that each is worth gamma, while the patient's batch counts n steps.
    assert not np.array_equal(one.online.parameters, Agent(4, 2, config, seed=3).online.parameters)
    other_again = Agent(4, 2, DQNConfig(batch_size=16, buffer_size=100, learning_starts=16, n_step=1), seed=3)
    PerilunePatient(other_again).train_batch(batch.obs, batch.action, batch.reward, batch.next_obs, np.zeros(16, bool))
    assert np.allclose(one.online.parameters, other_again.online.parameters, atol=1e-7)


GALLERY = {
    "classic": {
        "forward.one_sign", "loss.all_actions", "backward.no_input", "backward.relu_derivative",
        "target_network.shared", "backward.one_bias", "optimizer.step_per_sample", "optimizer.counter",
        "loss.derivative",
    },
    "double_trouble": {"target_network.tau_reversed", "td_target.double_swapped"},
    "fit_predict": {"loss.others_to_zero"},
    "functions": {"td_target.no_mask", "td_target.own_action"},
    "old_loop": {"exploration.inverted", "environment.reset_as_next", "replay.newest_only"},
    "one_tensor": {"target_network.shared", "loss.broadcast", "backward.accumulates"},
    "pure_python": {"backward.sign"},
    "squashed": {"forward.output_activation"},
}  # fmt: skip


@pytest.mark.parametrize("name", GALLERY)
def test_what_the_gallery_has_wrong_is_found_and_pointed_at(name: str) -> None:
    if name == "one_tensor" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    report = doctor.examine(loading.load_factory(f"{BROKEN / name}.py:make"))
    roots = {one.id for one in report.faults if one.caused_by is None}
    assert roots == GALLERY[name]
    for one in report.faults:
        if one.caused_by is None:
            assert one.where is not None
            assert one.where.rpartition(":")[0].endswith(f"{name}.py")


# In the order of docs/why_does_my_dqn_not_learn.md.
MENDED = (
    "forward.one_sign", "loss.all_actions", "backward.no_input", "backward.relu_derivative", "target_network.shared",
    "backward.one_bias", "loss.derivative", "backward.too_early", "optimizer.counter", "optimizer.step_per_sample",
)  # fmt: skip


@pytest.mark.parametrize("mends", range(11))
def test_the_walkthrough_mends_cause_by_cause(mends: int, tmp_path: Path) -> None:
    walkthrough = runpy.run_path(str(ROOT / "examples" / "mend_classic.py"))
    assert len(walkthrough["diffs"]()) == len(MENDED)
    agent = tmp_path / "classic.py"
    agent.write_text(walkthrough["stage"](mends), encoding="utf-8")
    found = {one.id for one in doctor.examine(loading.load_factory(f"{agent}:make")).faults}
    assert not found & set(MENDED[:mends])
    assert set(MENDED[mends : mends + 1]) <= found
    if mends == len(MENDED):
        assert found == set()


def test_every_agent_of_the_gallery_is_known_here() -> None:
    assert {path.stem for path in BROKEN.glob("*.py")} == set(GALLERY)
    assert len(GALLERY) >= 8


@pytest.mark.parametrize(("patient", "expected"), [(NoMask, "td_target.no_mask"), (Uphill, "backward.sign")])
def test_small_patients_are_told_apart(patient: Callable[..., Any], expected: str) -> None:
    report = doctor.examine(patient)
    assert [one.id for one in report.faults if one.caused_by is None] == [expected]


def test_the_lines_that_ran_are_the_owners() -> None:
    lines = pointing.lines_run(lambda: Linear().q_values(np.zeros((1, 4))))
    assert any("obs @ self.w" in line.text for line in lines)
    assert {Path(line.file).name for line in lines} <= {"test_doctor_patients.py", "test_doctor.py"}


def test_errors_of_loading_are_ours() -> None:
    with pytest.raises(ExaminationError):
        loading.load_factory("x")
