"""Run unmodified programs of each form on the tracer environment."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from perilune.cli import parse
from perilune.cli.doctor import run_doctor
from perilune.doctor.program.running import Trace
from perilune.errors import ExaminationError

OLD_LOOP = """\
for episode in range(60):
    obs = env.reset()
    done = False
    while not done:
        next_obs, reward, done, info = env.step(env.action_space.sample())
        memory.append((obs, reward, next_obs, done, info))
        obs = next_obs
"""


def run(program: Path | str, *arguments: str) -> Trace:
    """Run a program to its end."""
    trace = Trace(program, list(arguments), lambda trace, window: False)
    trace.run()
    return trace


def write(directory: Path, code: str, name: str = "train.py") -> Path:
    """Write a program."""
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(textwrap.dedent(code))
    return file


def write_notebook(directory: Path, *cells: str) -> Path:
    """Write a notebook with these code cells."""
    sources = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return write(directory, json.dumps({"cells": sources}), "train.ipynb")


def test_old_gym_gives_four_values_and_the_truncation_in_info(tmp_path: Path) -> None:
    setup = 'import gym\nenv = gym.make("LunarLander-v2")\nenv.seed(1)\nmemory = []\n'
    trace = run(write(tmp_path, setup + OLD_LOOP))
    assert trace.error is None
    assert trace.log is not None
    memory = trace.namespace["memory"]
    assert len(memory) == len(trace.log.steps)
    assert memory[0][0].shape == (8,)
    for (_, reward, _, done, info), step in zip(memory, trace.log.steps, strict=True):
        assert reward == step.reward
        assert done == step.ended
        assert info.get("TimeLimit.truncated", False) == step.truncated
    assert any(step.truncated for step in trace.log.steps)
    assert any(step.terminated for step in trace.log.steps)


def test_gym_gives_five_values_to_programs_that_take_five(tmp_path: Path) -> None:
    code = """\
        import gym
        env = gym.make("CartPole-v1")
        obs, info = env.reset(seed=0)
        obs, reward, terminated, truncated, info = env.step(1)
    """
    trace = run(write(tmp_path, code))
    assert trace.error is None
    assert trace.namespace["terminated"] is False


def test_notebook_runs_without_shell_lines_and_magics(tmp_path: Path) -> None:
    cells = (
        "!pip install gym[box2d] \\\n    pyglet\n%matplotlib inline\nimport gym",
        "files = !ls\nshape = (1,  # is this a batch?\n         4)\nmemory = []",
        "%%bash\nexit 1",
        'import asyncio\nenv = gym.make("CartPole-v1")\nenv?\nawait asyncio.sleep(0)',
        OLD_LOOP,
        "display(len(memory))\nget_ipython()",
    )
    path = write_notebook(tmp_path, *cells)
    trace = run(path)
    assert trace.error is None
    assert len(trace.namespace["memory"]) > 300
    lines = [f"# cell {i}\n{cell}" for i, cell in enumerate(cells, start=1)]
    line = "\n".join(lines).splitlines().index("    obs = env.reset()") + 1
    assert line in {node.line for node in trace.nodes if node.text == "env.reset()"}


def test_main_is_called_if_the_program_only_defines_it(tmp_path: Path) -> None:
    body = textwrap.indent("memory = []\n" + OLD_LOOP, "    ")
    env = 'env = gym.make("CartPole-v1")\n'
    for code in (f"{env}def main():\n{body}", f"def main():\n    {env}{body}"):
        trace = run(write(tmp_path, f"import gym\ndef train(agent): pass\n{code}"))
        assert trace.error is None
        assert trace.log is not None
        assert len(trace.log.steps) > 300


def test_program_that_only_defines_functions_reports_what_would_help(tmp_path: Path) -> None:
    trace = run(write(tmp_path, "def train(agent, episodes=3):\n    pass\n"))
    assert isinstance(trace.error, ExaminationError)
    assert "main()" in str(trace.error)
    assert "train requires agent" in str(trace.error)


def test_class_of_a_module_is_constructed_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """\
        import gymnasium
        class Agent:
            def __init__(self, episodes=5):
                self.env, self.episodes = gymnasium.make("CartPole-v1"), episodes
            def train(self):
                for _ in range(self.episodes):
                    self.env.reset()
                    self.env.step(0)
        class Needy:
            def __init__(self, env):
                pass
    """
    write(tmp_path, code, "pack_of_tests/agents.py")
    monkeypatch.chdir(tmp_path)
    trace = run("pack_of_tests.agents:Agent")
    assert trace.error is None
    assert trace.log is not None
    assert len(trace.log.steps) == 5
    assert "requires env" in str(run("pack_of_tests.agents:Needy").error)
    assert "It has Agent, Needy" in str(run("pack_of_tests.agents:Missing").error)
    with pytest.raises(ExaminationError, match="module 'nowhere' was not found"):
        run("nowhere:Agent")


def test_arguments_and_files_beside_the_program(tmp_path: Path) -> None:
    write(tmp_path, "def double(x):\n    y = x * 2\n    return y\n", "helper_of_tests.py")
    code = "import sys, helper_of_tests\nassert __name__ == '__main__'\nz = helper_of_tests.double(int(sys.argv[1]))\n"
    trace = run(write(tmp_path, code + "import gymnasium\nenv = gymnasium.make('CartPole-v1')\n"), "21")
    assert "takes no time step" in str(trace.error)
    assert trace.namespace["z"] == 42
    assert any(node.file.endswith("helper_of_tests.py") and node.text == "x * 2" for node in trace.nodes)


def test_write_adapter_does_not_replace_a_file(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text("pass\n")
    with pytest.raises(ExaminationError, match="already exists"):
        run_doctor(parse(["doctor", str(program), "--write-adapter", str(program)]))
    assert program.read_text() == "pass\n"
