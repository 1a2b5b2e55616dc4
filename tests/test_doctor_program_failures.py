"""Programs that cannot run, or stop: one sentence explains why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perilune.cli import parse
from perilune.cli.doctor import run_doctor
from perilune.doctor.events import Collector, Event, Started
from perilune.doctor.program.examine import PROGRAM, examine_program
from perilune.doctor.program.plain import own_exception
from perilune.doctor.report import Finding, NotRun, Passed
from perilune.errors import ExaminationError
from test_doctor_program_sources import run, write

MAKE = "import gymnasium\nenv = gymnasium.make({!r})\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_package", "imports 'no_such_package', which is not installed: pip install no_such_package"),
        ("import sklearn.linear_model", "pip install scikit-learn"),
        ("import gymnasium.no_such_module", "imports 'gymnasium.no_such_module', which gymnasium 1"),
        ("from gymnasium.wrappers import Monitor", "imports 'Monitor' from 'gymnasium.wrappers', which gymnasium 1"),
        ("from gym.spaces import Nothing", "imports 'Nothing' from 'gym.spaces'. The doctor runs programs for gym on"),
        (MAKE.format("ALE/Pong-v5"), 'pip install "gymnasium[atari]"'),
        (MAKE.format("PongNoFrameskip-v4"), 'pip install "gymnasium[atari]"'),
        (MAKE.format("Nothing-v0"), "no environment 'Nothing' is registered"),
        (MAKE.format("Pendulum-v1") + "env.reset()", "DQN chooses among a finite number of actions"),
        ("import sys\nsys.exit()", "ended itself with sys.exit() (train.py:2)"),
        ("import sys\nsys.exit('no GPU')", "the message 'no GPU' (train.py:2)"),
        ("import os\nos._exit(3)", "exit code 3"),
        ("import os\nos.fork()", "in one process"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n', required=True)\np.parse_args()",
            "after --",
        ),
        ("print(1)", "takes no time step in an environment"),
        ("x = {}\nx['a'] += 1", "raised KeyError: 'a' (train.py:2)"),
        ("def f(:", "line 1 of train.py is not valid Python"),
    ],
)
def test_reason_why_a_program_cannot_run(tmp_path: Path, code: str, why: str) -> None:
    (problem,) = run(write(tmp_path, code)).problems()
    assert why in problem


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("empty.py", b"# only a comment\n", "contains no code"),
        ("binary.py", b"\x00\xff\xfe\x80", "is not a text file"),
        ("empty.ipynb", json.dumps({"cells": [{"cell_type": "markdown", "source": ["a"]}]}).encode(), "no code"),
        ("wrong.ipynb", b"x", "is not a notebook"),
        ("never.py", b"while True:\n    pass\n", "took no time step within 0.25 s of CPU time"),
    ],
)
def test_whole_report_is_one_reason(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    events = examined(tmp_path / name, 0.5)
    reasons = {one.why for one in events if isinstance(one, NotRun)}
    assert len(reasons) == 1
    assert why in reasons.pop()
    assert not any(isinstance(one, Finding | Passed) for one in events)


def examined(path: Path, budget: float) -> list[Event]:
    """Examine a program in this process. Return the events."""
    events: list[Event] = []
    examine_program(str(path), [], budget, 0, None, events.append, lambda name: None, lambda late: None)
    assert events[0] == Started(PROGRAM)
    return events


def test_progress_counts_time_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perilune.doctor.program.examine.SHOWN_EVERY", 0.0)
    texts: list[str] = []
    collector = Collector([], texts.append)
    for event in examined(write(tmp_path, MAKE.format("CartPole-v1") + LOOP.format("pass")), 2.0):
        collector(event)
    assert texts[0] == PROGRAM
    assert "the program, time step 17, 0 updates" in texts


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExaminationError, match="is a directory: pass the file that trains"):
        run_doctor(parse(["doctor", str(tmp_path)]))


LOOP = """
for episode in range(30):
    obs, _ = env.reset()
    done = False
    while not done:
        obs, reward, terminated, truncated, _ = env.step(0)
        done = terminated or truncated
        {}
"""


def test_exception_of_the_program_is_a_finding(tmp_path: Path) -> None:
    code = MAKE.format("CartPole-v1") + LOOP.format("seen = {}\n        seen['x'] += episode == 9 and 1")
    trace = run(write(tmp_path, code))
    found = own_exception(trace, 10.0, lambda late: None)
    assert found is not None
    assert found.id == "loop.exception"
    assert found.where == f"{tmp_path / 'train.py'}:11"
    assert "KeyError: 'x'" in found.evidence


def test_exception_that_only_the_tracer_causes_is_no_finding(tmp_path: Path) -> None:
    for line in (
        "assert reward == 1.0",  # holds in CartPole
        "open('missing.txt')",  # the file may exist elsewhere
        "import matplotlib.pyplot as plt; {}[plt.figure()]",
    ):
        trace = run(write(tmp_path, MAKE.format("CartPole-v1") + LOOP.format(line)))
        assert trace.error is not None
        assert own_exception(trace, 10.0, lambda late: None) is None
