"""What Perilune needs from an operating system: files, names, text and processes."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from perilune._utils import text
from perilune.doctor.loading import names_factory
from perilune.runs import files, layout

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "perilune"
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
LONGEST = 80  # characters below a run directory; Windows allows 259 for a whole path


def assert_valid_on_windows(names: list[str]) -> None:
    """Check relative paths, and that no two of them are equal in a file system that ignores case."""
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert len(name) <= LONGEST
        for part in name.split("/"):
            assert re.fullmatch(r'[^<>:"\\|?*\x00-\x1f]*[^<>:"\\|?*\x00-\x1f. ]', part), name
            assert not RESERVED.fullmatch(part), name


def without_posix(directory: Path, *arguments: str) -> str:
    """Run commands in ``directory`` without POSIX functions. Return what they print."""
    environment = os.environ | {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "ignore::EncodingWarning"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(SOURCE.parent), str(TESTS)])}
    command = [sys.executable, str(TESTS / "without_posix.py"), *arguments]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=directory, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert_valid_on_windows([path.relative_to(directory).as_posix() for path in directory.rglob("*")])
    return done.stdout


def test_commands_need_no_posix_function(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_bytes((TESTS.parent / "examples" / "one_file_dqn.py").read_bytes())
    (tmp_path / "doctor_agents.py").write_bytes((TESTS / "doctor_agents.py").read_bytes())
    *_, verified, plotted, agent, program = re.split(r"^== .*\n", without_posix(tmp_path), flags=re.MULTILINE)
    assert "checkpoints/000000000200.safetensors" in verified
    assert "curves.png" in plotted
    assert "interface" in json.loads(agent)["ran"]
    assert "training loop" in json.loads(program)["ran"]


@pytest.mark.long
def test_worker_processes_need_no_posix_function(tmp_path: Path) -> None:
    assert "2 seeds, means of 100 greedy episodes" in without_posix(tmp_path, "bench")


def test_run_directories_have_valid_names_that_differ_in_more_than_case(tmp_path: Path) -> None:
    names = [name.replace("*", "0") for name in layout.RUN_FILES] + [*layout.DIRECTORIES, layout.LOCK]
    assert_valid_on_windows([name for name in names if not name.endswith(files.PARTIAL)])
    for environment in ("ns/Env-v0", "my.module:ns/Env-v0", "con.x-v1", "Env-v0"):
        assert_valid_on_windows([layout.free_directory(environment, 0, tmp_path).name])
    layout.free_directory("ns/Env-v0", 3, tmp_path).mkdir()
    assert layout.free_directory("ns/Env-v0", 3, tmp_path).name == "ns_Env-v0-seed3-2"


def uses_default_encoding(call: ast.Call) -> bool:
    """Return whether a call opens a file as text without naming an encoding."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if "encoding" in [keyword.arg for keyword in call.keywords] or "metadata" in owner:  # of an installed package
        return False
    if name in ("read_text", "write_text"):
        return True
    mode = next((one.value for one in call.args[not owner :] if isinstance(one, ast.Constant)), "r")
    is_path = bool(owner) and not call.args[1:] and owner not in ("os", "av", "webbrowser", "self._av")
    return name == "open" and (is_path or not owner) and isinstance(mode, str) and "b" not in mode


def test_no_file_is_read_or_written_in_the_default_encoding() -> None:
    for code in (
        "path.read_text()",
        "open(0)",
        "open(1, 'w')",
        "path.open()",
        "Path(x).open('w')",
        "x.write_text('b')",
    ):
        assert any(isinstance(node, ast.Call) and uses_default_encoding(node) for node in ast.walk(ast.parse(code)))
    found = [
        f"{path.name}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if re.search(rb"\b(open|read_text|write_text)\(", source := path.read_bytes())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and uses_default_encoding(node)
    ]
    assert found == []


def test_file_that_another_process_reads_is_replaced_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, errors = Path.replace, [PermissionError(13, "in use") for _ in range(3)]
    for error, code in zip(errors, (32, 5, 1), strict=True):
        error.winerror = code  # type: ignore[attr-defined] -- exists only on Windows

    def fail_first(source: Path, target: Path) -> Path:
        if errors:
            raise errors.pop(0)
        return replace(source, target)

    monkeypatch.setattr(files, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "replace", fail_first)
    last = errors.pop()
    files.write(tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    errors.append(last)  # another reason
    with pytest.raises(files.RunDirectoryError, match="in use"):
        files.write(tmp_path / "a.json", b"[]")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"{}"]
    errors += [one := PermissionError(13, "still in use")] * 3
    one.winerror = 32  # type: ignore[attr-defined]
    monkeypatch.setattr(files, "SHARING_SECONDS", -1)
    with pytest.raises(files.RunDirectoryError, match="still in use"):
        files.write(tmp_path / "a.json", b"[]")


def test_printed_commands_are_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shlex.split(layout.resume_command(Path("my runs/it's"))) == ["perilune", "resume", "my runs/it's"]
    monkeypatch.setattr(text, "os", SimpleNamespace(name="nt"))
    assert text.quoted(["perilune", "resume", r"C:\runs\moon"]) == r"perilune resume C:\runs\moon"
    assert text.quoted(["resume", r"C:\my runs\moon"]) == r'resume "C:\my runs\moon"'


def test_path_that_the_console_cannot_encode_is_printed_escaped(tmp_path: Path) -> None:
    (tmp_path / "\u6708").mkdir()
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "perilune", "list", "\u6708"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=environment)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert rb"No runs in \u6708" in done.stdout


def test_program_on_another_drive_is_not_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C:").mkdir()  # on other systems, a directory
    (tmp_path / "C:" / "train.py").write_bytes(b"")
    assert not names_factory("C:/train.py")
    assert names_factory("C:/train.py:make")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_examined_agent_ends_with_the_command(tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "agent.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(started)!r}).write_text(f'{{os.getpid()}} ')\n"
        "make = time.sleep(600)\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, "-m", "perilune", "doctor", "agent.py:make"]
    parent = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)  # noqa: S603
    deadline = time.monotonic() + 120
    while not (started.exists() and started.read_text(encoding="utf-8").endswith(" ")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = int(started.read_text(encoding="utf-8"))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{child}").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
