"""Worker processes: a failure in one does not affect the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from perilune.bench.pool import LONGEST, RESTARTS, Local, Workers, each
from perilune.errors import ConfigError, MissingDependencyError


def write(path: Path) -> None:
    """Write the process ID to the file, or fail as its name requests."""

    class LocalError(Exception):
        """Cannot be pickled."""

    match path.name:
        case "raises":
            raise ConfigError("gamma", 2, "from 0 to 1")
        case "is broken":
            raise LocalError("no pickle")
        case "is long":
            raise ValueError("bad state " + "x" * 10**6 + " at the end")
        case "exits":
            os._exit(3)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "is killed once" if not (path.parent / "killed").exists():
            (path.parent / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(str(os.getpid()))
    if path.name == "hangs":
        time.sleep(600)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


in_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_failing_items_do_not_affect_the_others(tmp_path: Path) -> None:
    names = ["raises", "a", "is broken", "exits", "is long", "is killed", "b"]
    assert list(each(write, [], jobs=3)) == []
    events = list(each(write, [tmp_path / name for name in names], jobs=2))
    assert max(len(running) for running, _ in events) <= 2
    ended = {path.name: reason for _, outcomes in events for path, reason in outcomes.items()}
    assert sorted(ended) == sorted(names)
    assert ended["a"] is ended["b"] is None
    assert str(ended["raises"]).startswith("ConfigError: ")
    assert str(ended["is broken"]).startswith("Traceback")
    assert str(ended["is broken"]).endswith("LocalError: no pickle")
    assert str(ended["is long"]).endswith("x at the end")
    assert len(str(ended["is long"])) == LONGEST
    assert ended["exits"] == "the worker process exited with status 3"
    assert str(ended["is killed"]).startswith("the worker process was killed by signal 9 (Killed")
    assert len({(tmp_path / name).read_text() for name in "ab"}) == 2  # a process for each item


def test_missing_pebble_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pebble", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[bench\]"):
        next(each(write, [], jobs=1))


@in_proc
def test_closing_the_generator_stops_the_worker_processes(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    with closing(each(write, [hangs, tmp_path / "later"], jobs=1)) as events:
        next(events)
        until(lambda: hangs.exists() and hangs.read_text())
        pid = int(hangs.read_text())
        assert alive(pid)
        assert next(events) == ([hangs], {})
    until(lambda: not alive(pid))
    assert not (tmp_path / "later").exists()


PARENT = """
import sys
from pathlib import Path
from test_pool import write
from perilune.bench.pool import each
if __name__ == "__main__":
    for event in each(write, [Path(sys.argv[1])], 1):
        pass
"""


@in_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_worker_processes_stop_when_their_parent_ends(tmp_path: Path, number: signal.Signals) -> None:
    script, hangs = tmp_path / "parent.py", tmp_path / "hangs"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, script, hangs]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
    until(lambda: hangs.exists() and hangs.read_text())
    pid = int(hangs.read_text())
    if number is signal.SIGINT:
        os.killpg(parent.pid, number)  # as Ctrl-C in a terminal does
    else:
        parent.kill()
    _, err = parent.communicate()
    assert err.count("Traceback") == (number is signal.SIGINT)  # from the parent itself
    until(lambda: not alive(pid))


def test_reused_process_works_on_several_items_and_canceled_one_does_not_end(tmp_path: Path) -> None:
    names = ["a", "raises", "b", "hangs"]
    with closing(Local(1, reuse=True)) as engine:
        workers = Workers(write, engine)
        workers.submit(tmp_path / name for name in names)
        ended: dict[Path, str | None] = {}
        while not (tmp_path / "hangs").exists():
            ended |= workers.wait()
        assert workers.running() == [tmp_path / "hangs"]
        workers.cancel(lambda path: path.name == "hangs")
        assert len(workers) == 0
        workers.submit([tmp_path / "c"])
        while len(workers):
            ended |= workers.wait()
    assert {path.name: reason is None for path, reason in ended.items()} == {
        "a": True,
        "raises": False,
        "b": True,
        "c": True,
    }
    processes = [(tmp_path / name).read_text() for name in ("a", "b", "c")]
    assert processes[0] == processes[1] != processes[2]


def test_item_whose_process_dies_starts_again(tmp_path: Path) -> None:
    restarted: list[tuple[str, str]] = []
    with closing(Local(1)) as engine:
        workers = Workers(write, engine, lambda path, reason: restarted.append((path.name, reason)))
        workers.submit(tmp_path / name for name in ("is killed once", "exits", "a"))
        ended: dict[Path, str | None] = {}
        while len(workers):
            ended |= workers.wait()
    assert {path.name: reason for path, reason in ended.items()} == {
        "is killed once": None,
        "exits": "the worker process exited with status 3",
        "a": None,
    }
    assert [name for name, _ in restarted] == ["is killed once"] + ["exits"] * RESTARTS
    assert restarted[0][1].startswith("the worker process was killed by signal 9 (Killed")


INTERRUPTIBLE = """
import signal
from contextlib import closing
from perilune.bench.pool import Local

def work(item):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in blocked, "blocked"

if __name__ == "__main__":
    with closing(Local(2)) as engine:
        for future in [engine.schedule(work, item) for item in range(4)]:
            print(future.result().splitlines()[-1])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal mask")
def test_interrupt_does_not_reach_worker_processes_while_they_start(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTIBLE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(  # noqa: S603
        [sys.executable, program], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout.split("\n") == ["AssertionError: blocked"] * 4 + [""], ended.stderr


def test_program_without_a_main_guard_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from perilune.bench.pool import Local\nLocal(1)\n")
    found = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)  # noqa: S603
    assert found.returncode == 1
    assert f"worker processes import {program}, which would run it again. Write its calls under" in found.stderr
