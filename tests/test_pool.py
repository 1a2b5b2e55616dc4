"""Processes of their own: what happens in one of them does not happen to the others."""

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

from perilune.bench import pool
from perilune.bench.pool import Ended, Running, each
from perilune.errors import ConfigError


def write(path: Path) -> None:
    """Work for the processes: what it does is in the file's name."""
    if path.name == "raises":
        raise ConfigError("gamma", 2, "from 0 to 1")
    if path.name == "is broken":
        raise ZeroDivisionError("nothing to share")
    if path.name.startswith("talks"):
        if path.name == "talks on and on":
            pool.LONGEST = 10**7
        raise ValueError("bad state " + "x" * 10**6 + " at the end")
    if path.name == "exits":
        sys.exit(3)
    if path.name == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(str(os.getpid()))
    if path.name == "hangs":
        time.sleep(60)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Whether a process still lives is read where Linux shows it; elsewhere these tests cannot tell.
in_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_what_goes_wrong_in_one_process_leaves_the_others_alone(tmp_path: Path) -> None:
    names = ["raises", "a", "is broken", "exits", "is killed", "b"]
    ended: dict[str, str | None] = {}
    most = 0
    for event in each(write, [tmp_path / name for name in names], jobs=2):
        if isinstance(event, Running):
            most = max(most, len(event.items))
        else:
            ended[event.item.name] = event.reason
    assert most == 2
    assert sorted(ended) == sorted(names)
    assert [name for name, reason in ended.items() if reason is None] == [name for name in ended if len(name) == 1]
    assert ended["raises"] == "ConfigError: gamma=2 is invalid: expected from 0 to 1."
    broken = str(ended["is broken"])
    assert broken.startswith("Traceback")  # nobody foresaw it
    assert broken.endswith("ZeroDivisionError: nothing to share")
    assert ended["exits"] == "its process ended by itself with status 3"
    assert str(ended["is killed"]).startswith("its process died of signal 9 (Killed")
    assert len({(tmp_path / name).read_text() for name in "ab"}) == 2  # each in a process of its own


@pytest.mark.parametrize(("name", "left_out"), [("talks", True), ("talks on and on", False)])
def test_a_reason_that_no_pipe_has_room_for_is_told_and_holds_nothing_up(
    tmp_path: Path, name: str, left_out: bool
) -> None:
    ended = [one for one in each(write, [tmp_path / name, tmp_path / "a"], jobs=1) if isinstance(one, Ended)]
    reason = ended[0].reason
    assert reason is not None
    assert reason.startswith("Traceback")
    assert reason.endswith("xxx at the end")
    assert ("characters are left out" in reason) == left_out
    assert (len(reason) < pool.LONGEST + 100) == left_out
    assert ended[1].reason is None


def test_nothing_to_do_starts_nothing() -> None:
    assert list(each(write, [], jobs=3)) == []


@in_proc
def test_who_stops_listening_stops_the_processes(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    with closing(each(write, [hangs, tmp_path / "later"], jobs=1)) as events:
        next(events)
        until(lambda: hangs.exists() and hangs.read_text())
        pid = int(hangs.read_text())
        assert alive(pid)
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
def test_processes_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    script, hangs = tmp_path / "parent.py", tmp_path / "hangs"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    parent = subprocess.Popen([sys.executable, script, hangs], env=environment)  # noqa: S603 -- our own words
    until(lambda: hangs.exists() and hangs.read_text())
    pid = int(hangs.read_text())
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid))


def test_ended_without_a_reason_is_done(tmp_path: Path) -> None:
    events = list(each(write, [tmp_path / "x"], jobs=5))
    assert events[-1] == Ended(tmp_path / "x", None)
    assert all(isinstance(event, Running) for event in events[:-1])
