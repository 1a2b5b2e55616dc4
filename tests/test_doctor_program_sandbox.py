"""What unmodified programs do apart from learning has no effect outside them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from perilune.doctor.program import sandbox
from test_doctor_program_sources import run, write, write_notebook

# Programs leave files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

ENV = """
import gymnasium
env = gymnasium.make("CartPole-v1")
env.reset()
env.step(0)
"""


def test_files_are_written_to_a_scratch_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
import glob, os, pathlib, shutil, tempfile
import numpy as np
os.makedirs("out/deep", exist_ok=True)
with open("out/deep/log.txt", "w") as file:
    file.write("hello")
assert open({str(tmp_path / "out/deep/log.txt")!r}).read() == "hello"
assert os.listdir("out") == ["deep"] and glob.glob("out/deep/*.txt") == ["out/deep/log.txt"]
shutil.rmtree("out")
assert not os.path.exists("out")
pathlib.Path("out").mkdir()
np.savez("out/b.npz", x=np.ones(3))
assert np.load("out/b.npz")["x"].sum() == 3
os.rename("out/b.npz", "out/c.npz")
assert [path.name for path in pathlib.Path("out").iterdir()] == ["c.npz"]
with open("data.txt", "a") as file:
    file.write(" and more")
assert open("data.txt").read() == "real and more"
os.remove("data.txt")
assert not os.path.exists("data.txt")
with tempfile.TemporaryDirectory() as directory:
    open(os.path.join(directory, "x"), "w").close()
    assert os.listdir(directory) == ["x"]
try:
    open("missing/file.txt", "w")
except FileNotFoundError:
    missing = True
{ENV}"""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("real")
    path = write(tmp_path, code)
    trace = run(path)
    assert trace.error is None
    assert trace.namespace["missing"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data.txt", "train.py"]
    assert (tmp_path / "data.txt").read_text() == "real"


def test_files_beside_the_program_are_found_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.txt").write_text("3")
    path = write(tmp_path, f"episodes = int(open('config.txt').read())\n{ENV}")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert run(path).namespace["episodes"] == 3


def test_processes_network_and_waiting_have_no_effect(tmp_path: Path) -> None:
    code = f"""
import os, signal, socket, subprocess, sys, time, urllib.request
refused = []
for call in (
    lambda: socket.create_connection(("localhost", 1)),
    lambda: urllib.request.urlopen("http://localhost:1"),
    lambda: subprocess.Popen(["touch", {str(tmp_path / "made")!r}]),
    lambda: os.fork(),
):
    try:
        call()
    except OSError as error:
        refused.append(str(error))
assert os.system({f"touch {tmp_path / 'made'}"!r}) == 0
assert subprocess.run(["nvidia-smi"], text=True).stdout == ""
assert subprocess.check_output(["nvidia-smi"]) == b""
time.sleep(1e6)
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.setrecursionlimit(50)
{ENV}
os._exit(3)
"""
    before = socket.create_connection, os.system, time.sleep, open
    trace = run(write(tmp_path, code))
    assert "exit code" in str(trace.error)
    assert len(trace.namespace["refused"]) == 4
    assert all("without network" in text for text in trace.namespace["refused"])
    assert not (tmp_path / "made").exists()
    assert before == (socket.create_connection, os.system, time.sleep, open)


@pytest.mark.parametrize(
    ("prompt", "line", "expected"),
    [
        ("Render? (y/n) ", "", "n"),
        ("Press Enter", "", ""),
        ("How many episodes: ", "n = int(input('How many episodes: '))", "1000"),
        ("Seed: ", "n = int(input('Seed: '))", "1"),
        ("1) train 2) test: ", "mode = input()", "1"),
    ],
)
def test_prompts_get_a_sensible_answer(prompt: str, line: str, expected: str) -> None:
    assert sandbox.answer(prompt, line, 0) == expected


def test_a_prompt_that_repeats_forever_ends_the_program(tmp_path: Path) -> None:
    trace = run(write(tmp_path, "while input('Mode: ') != 'something else': pass"))
    assert isinstance(trace.error, EOFError)


def test_packages_that_display_or_log_are_stand_ins(tmp_path: Path) -> None:
    cells = (
        """\
import matplotlib, wandb
import matplotlib.pyplot as plt
import seaborn as sns
from IPython import display
from tensorboardX import SummaryWriter
from tqdm import tqdm, trange
from tqdm.notebook import tqdm as bar
wandb.init(project="x", config={"lr": 0.5})
lr = wandb.config.lr
figure, (left, right) = plt.subplots(1, 2)
line, = left.plot([1, 2])
line.set_data([1], [2])
inline = "inline" in matplotlib.get_backend()
class Writer(SummaryWriter):
    def __init__(self):
        super().__init__(log_dir="runs")
        self.count = 0
Writer().add_scalar("loss", 1.0, 2)
with tqdm(total=3) as progress:
    progress.update(2)
    progress.set_description(f"{lr:.2f}")
numbers = [*trange(3), *bar([7])]
""",
        ENV + "display.clear_output(wait=True)\nplt.pause(1)\nplt.show()\ndisplay.display(plt.gcf())",
    )
    trace = run(write_notebook(tmp_path, *cells))
    assert trace.error is None
    assert trace.namespace["lr"] == 0.5
    assert trace.namespace["inline"] is False
    assert trace.namespace["numbers"] == [0, 1, 2, 7]
    assert trace.namespace["progress"].n == 2


def test_missing_arguments_are_reported(tmp_path: Path) -> None:
    code = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('env')\nparser.parse_args()\n"
    trace = run(write(tmp_path, code))
    assert "after --" in str(trace.error)
    assert run(write(tmp_path, code + ENV), "CartPole-v1").error is None


def test_problems_name_the_exception_and_the_line_of_the_program(tmp_path: Path) -> None:
    trace = run(write(tmp_path, f"{ENV}\nimport json\njson.loads('[')\n"))
    (problem,) = trace.problems()
    assert problem.startswith("the program raised JSONDecodeError")
    assert problem.endswith("(train.py:8)")
