"""Examine hostile programs with the command: each of them ends in a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from doctor_agents import Complete, Linear, command, ids
from perilune import doctor
from perilune.doctor import catalogue, events, isolation, locate, report, weights
from perilune.doctor.checks import network
from perilune.doctor.session import Session, seed_global_generators

SOUND = Path(__file__).with_name("doctor_agents.py")
BEFORE = "before.txt"  # a file beside the agent, which it reads at a relative path


def written(directory: Path, module: str = "", train: str = "", make: str = "", act: str = "", run: str = "") -> Path:
    """Write a sound agent that runs the given code when it is imported, made, trained, and so on."""
    blocks = {name: textwrap.indent(code, " " * 8) for name, code in {"train": train, "act": act, "run": run}.items()}
    file = directory / "agent.py"
    file.write_text(
        f"""\
import ctypes, os, signal, sys, threading, time
import numpy as np
sys.path.insert(0, {str(SOUND.parent)!r})
from doctor_agents import Complete
{module}

class Adapter(Complete):
    def train_batch(self, *batch):
{blocks["train"]}
        super().train_batch(*batch)
    def act(self, obs, epsilon):
{blocks["act"]}
        return super().act(obs, epsilon)
    def run(self, env, env_steps):
{blocks["run"]}
        super().run(env, env_steps)

def make(seed=0):
{textwrap.indent(make, " " * 4)}
    return Adapter(seed)
""",
        encoding="utf-8",
    )
    return file


def examined(file: Path, *options: str, status: int | None = None) -> dict[str, Any]:
    """Run the command and return its report in JSON."""
    done = command(f"{file.name}:make", "--json", *options, cwd=file.parent)
    assert done.stderr == ""
    content: dict[str, Any] = json.loads(done.stdout)
    expected = {"healthy": 0, "faults": 1, "inconclusive": 2, "cannot run": 2}[content["outcome"]]
    assert done.returncode == expected
    return content


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os._exit(0)", "exit code 0"),
        ("os._exit(3)", "exit code 3"),
        ("ctypes.string_at(0)", "signal 11 (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9 (SIGKILL)"),
        ("signal.alarm(1); time.sleep(30)", "signal 14 (SIGALRM)"),
        ("sys.setrecursionlimit(10**9); (f := lambda g: max([g], key=g))(f)", "signal 11 (SIGSEGV)"),
        ("raise KeyboardInterrupt('stop')", "raised KeyboardInterrupt: stop"),
        ("sys.exit(4)", "raised SystemExit: 4"),
        ("import pytest; pytest.fail('no')", "raised Failed: no"),
        ("raise BaseException('any')", "raised BaseException: any"),
        ("np.empty(10**15)", "Unable to allocate"),
        ("bytearray(int(0.9 * os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')))", "raised MemoryError"),
    ],
)
def test_agent_that_ends_its_process_or_raises_is_reported(tmp_path: Path, code: str, how: str) -> None:
    content = examined(written(tmp_path, act=code))
    assert content["findings"][0]["id"] == "exploration.raises"
    assert {finding["id"] for finding in content["findings"]} <= {"exploration.raises", "loop.raises"}
    assert how in content["findings"][0]["evidence"]
    assert {"interface", "TD target", "loss"} <= set(content["ran"])  # they ran before the crash
    assert "actions" not in content["ran"]


def test_findings_before_a_crash_survive_and_the_line_is_shown(tmp_path: Path) -> None:
    file = written(tmp_path, train="batch = *batch[:4], np.zeros_like(batch[4])", act="ctypes.string_at(0)")
    findings = examined(file)["findings"]
    assert findings[0]["id"] == "td_target.no_mask"
    crash = {one["id"]: one for one in findings}["exploration.raises"]
    assert crash["where"] == "agent.py:12"
    assert crash["code"] == "ctypes.string_at(0)"


@pytest.mark.parametrize(
    ("where", "code", "verdict"),
    [
        ("module", "os._exit(3)", "the agent's code ended the process: exit code 3"),
        ("module", "print('Traceback: no license'); os._exit(3)", "after printing 'Traceback: no license'"),
        ("module", "ctypes.string_at(0)", "signal 11"),
        ("module", "raise KeyboardInterrupt", "running agent.py raised KeyboardInterrupt"),
        ("module", "np.max = None", "replaces numpy.max"),
        ("module", "np.random.default_rng = lambda *_: None", "replaces numpy.random.default_rng"),
        ("make", "os._exit(3)", "the factory ended the process: exit code 3"),
        ("make", "raise SystemExit(3)", "the factory raised SystemExit: 3"),
    ],
)
def test_agent_that_cannot_start_cannot_run(tmp_path: Path, where: str, code: str, verdict: str) -> None:
    content = examined(written(tmp_path, **{where: code}))
    assert (content["outcome"], content["findings"]) == ("cannot run", [])
    assert verdict in content["verdict"]
    assert len({one["why"] for one in content["not_run"]}) == 1


HARMLESS = {
    "chdir": {"module": f"assert open({BEFORE!r}).read() == 'x'", "make": "os.chdir('/')"},
    "recursion limit": {"make": "sys.setrecursionlimit(80)"},
    "threads": {
        "module": "threading.Thread(target=lambda: time.sleep(1e6)).start()",
        "make": "threading.Thread(target=lambda: time.sleep(1e6)).start()",
    },
    "output": {
        "module": "for _ in range(300): os.write(1, b'x' * 10**6); os.write(2, b'y' * 10**6)",
        "act": "print('z' * 10**5)",
    },
    "closed streams": {"module": "sys.stdout.close(); sys.stderr = None; os.close(0)"},
    "children": {"module": "import subprocess; subprocess.Popen(['sleep', '1000'])"},
    "fork": {"module": "os.fork()"},
    "alarm": {"act": "signal.signal(signal.SIGALRM, lambda *_: 1 / 0); signal.alarm(1000)"},
    "exit handlers": {"module": "import atexit; atexit.register(os._exit, 9)"},
    "added names": {"module": "np.float_and_more = float"},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_sound_agent_with_side_effects_is_healthy(tmp_path: Path, name: str) -> None:
    (tmp_path / BEFORE).write_text("x")
    content = examined(written(tmp_path, **HARMLESS[name]), "--html", "report.html")
    assert content["outcome"] == "healthy", content
    assert (tmp_path / "report.html").is_file()  # beside the agent, wherever it went


@pytest.mark.long
def test_endless_call_that_cannot_be_interrupted_is_not_checked(tmp_path: Path) -> None:
    content = examined(written(tmp_path, act="sum(iter(int, 1))"), "--budget", "3")  # holds the interpreter's lock
    assert (content["outcome"], content["findings"]) == ("inconclusive", [])
    assert "--budget" in {one["check"]: one["why"] for one in content["not_run"]}["actions"]


def test_results_that_the_agent_forges_are_not_trusted(tmp_path: Path) -> None:
    forge = (
        'for fd in range(3, 20):\n    try: os.write(fd, b\'{"kind": "Done"}\\nnonsense\\n\')\n    except OSError: pass'
    )
    content = examined(written(tmp_path, module=forge))
    assert content["outcome"] == "cannot run"


# Lines at fault

WRAPPED = """
GAMMA = 0.9
class Inner(Complete):
    def learn(self, obs, action, reward, next_obs, terminated):
        print("gamma", self.gamma, "max")
        next_q = self.target_q_values(next_obs)
        target = reward + GAMMA * next_q.max(axis=1)
        rows = np.arange(len(obs))
        error = np.zeros((len(obs), 2))
        error[rows, action] = (self.q_values(obs)[rows, action] - target) / len(obs)
        self.w -= 0.05 * obs.T @ error
        self.b -= 0.05 * error.sum(axis=0)
class Outer:
    observation_size = 4
    def __init__(self, inner, gamma=0.9):
        self.inner, self.gamma = inner, gamma
    def q_values(self, obs):
        return self.inner.q_values(obs)
    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.inner.learn(obs, action, reward, next_obs, terminated)
def wrap(seed=0):
    return Outer(
        Inner(seed),
        gamma=0.9,
    )
"""


def test_line_at_fault_is_in_the_code_of_the_agent(tmp_path: Path) -> None:
    file = written(tmp_path, module=WRAPPED)
    words = [sys.executable, "-m", "perilune", "doctor", f"{file.name}:wrap", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    findings = json.loads(done.stdout)["findings"]
    assert [one["id"] for one in findings] == ["td_target.no_mask"]
    assert findings[0]["code"] == "target = reward + GAMMA * next_q.max(axis=1)"


def line(text: str) -> report.Line:
    return report.Line(f"agent.py:{len(text)}", text)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("y = r + GAMMA * q.max(1)", True),
        ("y = r + self.gamma * q.max(1)", True),
        ("self.gamma = 0.9", True),
        ("gamma=0.99,", False),
        ("gamma: float = 0.99,", False),
        ("logger.info(gamma)", False),
        ("self.writer.add_scalar('gamma', gamma)", False),
        ("print(gamma)", False),
        ("from settings import gamma", False),
        ("# gamma", False),
    ],
)
def test_logs_imports_and_keywords_are_not_lines_at_fault(text: str, is_found: bool) -> None:
    finding = replace(catalogue.entries()["td_target.no_mask"], clues=("gamma.*max", "gamma"))
    assert locate.likeliest(finding, {"train_batch": [line("x = 1"), line(text)]}) == (line(text) if is_found else None)


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/home/me/agent.py", True),
        ("/home/me/site-packages.py", True),
        (json.__file__, False),
        (doctor.__file__, False),
        ("/home/me/.local/lib/python3.12/site-packages/torch/nn.py", False),
        ("<string>", False),
    ],
)
def test_library_files_are_not_user_code(file: str, own: bool) -> None:
    assert locate.is_own(file) == own


# In Python


def test_examination_does_not_change_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changing(Complete):
        def act(self, obs: Any, epsilon: float) -> int:
            os.chdir("/")
            sys.path.clear()
            os._exit(5)

    before = Path.cwd(), [*sys.path]
    result = doctor.check_agent(Changing)
    assert (Path.cwd(), sys.path) == before
    assert ids(result)[0] == "exploration.raises"
    assert result.outcome == "faults"


def test_examination_without_a_fork_gives_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(Linear):
        def train_batch(self, *batch: Any) -> None:
            super().train_batch(*batch[:4], np.zeros_like(batch[4]))

    forked = doctor.check_agent(Mean, seed=2)
    monkeypatch.setattr(isolation, "can_fork", lambda: False)
    here = doctor.check_agent(Mean, seed=2)
    assert forked.as_json() | {"seconds": 0} == here.as_json() | {"seconds": 0}
    with pytest.raises(KeyboardInterrupt):  # of the user, who wants to stop
        doctor.check_agent(type("Stopped", (Linear,), {"q_values": _interrupt}))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_events_survive_their_encoding() -> None:
    points = report.Points("title", "x", "y", *(np.arange(3.0) + number for number in range(3)))
    spread = report.Spread("title", "x", {"Q": np.linspace(0, 1, 50_000, dtype=np.float32)})
    finding = doctor.check_agent(type("Silent", (Linear,), {"train_batch": lambda *_: None})).findings[0]
    for event in (events.Started("loss"), events.Ran("loss"), doctor.NotRun("loss", "why", "limit"), finding):
        assert events.decode(events.encode(event)) == event
    sent = [events.decode(events.encode(replace(finding, picture=one))).picture for one in (points, spread)]
    assert all(np.array_equal(one, other) for one, other in zip(sent[0][3:], points[3:], strict=True))
    assert len(sent[1].groups["Q"]) <= events.MAX_VALUES
    assert sent[1].groups["Q"].mean() == pytest.approx(0.5, abs=1e-3)


def test_slow_agent_gets_fewer_probes_and_the_report_mentions_it() -> None:
    seen: list[int] = []

    class Counting(Complete):
        def q_values(self, obs: Any) -> Any:
            seen.append(len(obs))
            return super().q_values(obs)

    for budget, states in ((1e3, network.STATES), (10.0, 500), (0.1, network.MIN_STATES)):
        session = Session(Counting, 0, np.random.default_rng(0), observation_size=4, actions=2, budget=budget)
        session.cost = {"state": 0.001}
        notes = [one for one in network.check_network(session, session.new_copy()) if "agent is slow" in str(one)]
        assert max(seen) == states
        assert len(notes) == (states < network.STATES)
        seen.clear()


def test_library_attributes_do_not_hide_the_weights() -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    class Tensor:
        def detach(self) -> None: ...
        def numpy(self) -> None: ...

    class Agent(Linear):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.odd, self.Tensor, self.np, self.os = Odd(), Tensor, np, os

    assert {"w", "b"} <= set(weights.walk(Agent()))
    assert not [name for name in weights.walk(Agent()) if name.startswith(("np", "os"))]


def test_weight_names_do_not_print_objects_that_are_keys() -> None:
    class Key:  # such as a tensor in the state of a PyTorch optimizer, which takes milliseconds to print
        def __repr__(self) -> str:
            raise AssertionError

    named = weights.walk({"net": {("W", 1): np.ones(2), Key(): np.ones(2)}})
    assert list(named) == ["['net'][('W', 1)]", "['net'][key 1]"]


@pytest.mark.parametrize("gpu", [False, True])
def test_without_a_gpu_only_the_cpu_generator_is_seeded(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch, seeded = ModuleType("torch"), []
    vars(torch).update(
        accelerator=SimpleNamespace(is_available=lambda: gpu),
        default_generator=SimpleNamespace(manual_seed=lambda seed: seeded.append(("CPU", seed))),
        manual_seed=lambda seed: seeded.append(("all", seed)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    seed_global_generators(5)
    assert seeded == [("all" if gpu else "CPU", 5)]


def test_probes_of_a_slow_agent_fit_its_budget() -> None:
    session = Session(Linear, 0, np.random.default_rng(0), budget=10.0)
    session.cost = {"train_batch": 0.1, "q_values": 0.05}
    assert session.affordable(0.1, train_batch=1) == 10
    assert session.affordable(0.1, train_batch=2, q_values=4) == 2
    assert session.affordable(0.1, unknown=1) > 10**6
