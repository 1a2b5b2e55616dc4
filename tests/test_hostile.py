"""Run directories with links, pipes and devices in place of files, files that take much time, and hostile requests.

``make torture`` also runs the long versions.
"""

from __future__ import annotations

import ast
import cProfile
import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from matplotlib.figure import Figure

import perilune
from fixtures_runs import TinyRun, resealed, unsealed
from perilune import cli
from perilune.errors import FileFormatError
from perilune.runs import archive, checkpoint, files, layout
from perilune.viz.encoding import VideoWriter

LONG = pytest.mark.long
ROOT = Path(perilune.__file__).parent


@contextmanager
def deadline(seconds: int = 120) -> Iterator[None]:
    """Raise TimeoutError in the block if it hangs."""

    def expired(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Links, pipes and devices


OBSTACLES: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda path, victim: path.symlink_to(victim),
    "dangling": lambda path, victim: path.symlink_to(victim.with_name("new")),
    "hard": lambda path, victim: path.hardlink_to(victim),
    "pipe": lambda path, _: os.mkfifo(path),
    "device": lambda path, _: path.symlink_to("/dev/full"),
}
# Every command that writes to a run by default, and the files that it writes.
COMMANDS = {
    "plot": ("plots/curves.png", "plots/curves.svg"),
    "report --episodes 0": ("report.html",),
    "video --max-episode-steps 2": ("videos/best.mp4", "videos/best.jsonl"),
    "video --overlay --max-episode-steps 2": ("videos/best-overlay.mp4", "videos/best-overlay.jsonl"),
    "video --stages --max-episode-steps 2": ("videos/stages.mp4",),
    "maps": ("maps/values.png", "maps/weights.svg"),
    "resume --episodes 2 --tensorboard": (
        *(layout.LOCK, layout.OWNER, "config.json", "host.json", *layout.FILES.values(), *layout.WEIGHTS.values()),
        *("initial_state.png", "plots/curves.png", "videos/best.mp4", "videos/episode-00006.mp4"),
        *("snapshots/00003.safetensors", "checkpoints/000000000110.safetensors"),
    ),
}


class Attacked:
    """A copy of a run beside files that no command may change."""

    def __init__(self, source: Path, place: Path) -> None:
        self.run, self.victim = place / "run", place / "outside" / "victim"
        shutil.copytree(source, self.run)
        shutil.copytree(self.run, self.victim.parent / "copy")
        self.victim.write_bytes(b"years of work")
        self.before = self.outside()

    def outside(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.victim.parent.rglob("*") if path.is_file()}

    def replace(self, name: str, obstacle: str) -> None:
        """Put an obstacle, or a link to the copy of a directory, in place of a file or directory of the run."""
        path = self.run / name
        path.parent.mkdir(exist_ok=True)
        if name in layout.DIRECTORIES:
            shutil.rmtree(path, ignore_errors=True)
            path.symlink_to(self.victim.parent / "copy" / name, target_is_directory=True)
            (self.victim.parent / "copy" / name).mkdir(exist_ok=True)
        else:
            path.unlink(missing_ok=True)
            OBSTACLES[obstacle](path, self.victim)

    def check(self, command: str, capsys: pytest.CaptureFixture[str]) -> int:
        """Run a command. Check that nothing outside the run changed, and return the exit status."""
        status = 0
        with deadline():
            try:
                cli.main([*command.split(), str(self.run)])
            except SystemExit as stopped:
                status = int(stopped.code or 0)
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert status in {0, 1}, error
        assert self.outside() == self.before
        return status


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("video --max")])
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_commands_write_nothing_outside_the_run(
    tiny_run: TinyRun, tmp_path: Path, command: str, obstacle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    attacked = Attacked(tiny_run.history.directory, tmp_path)
    video, steps = COMMANDS[command]
    attacked.replace(f"{video}{files.PARTIAL}", obstacle)
    assert attacked.check(command, capsys) == 0  # an unfinished file is removed
    assert video in {path.relative_to(attacked.run).as_posix() for path in attacked.run.rglob("*.mp4")}
    attacked.replace(steps, obstacle)
    assert attacked.check(command, capsys) == (obstacle != "hard")  # the new file replaces the link
    attacked.replace("videos", "link")
    assert attacked.check(command, capsys) == 1


def draw_once_per_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all figures of a format look like the first one: drawing takes almost all the time of some commands."""
    draw, pictures = Figure.savefig, dict[str, bytes]()

    def savefig(figure: Figure, buffer: IO[bytes], *, format: str, **settings: Any) -> None:  # noqa: A002
        if format not in pictures:
            first = io.BytesIO()
            draw(figure, first, format=format, **settings)
            pictures[format] = first.getvalue()
        buffer.write(pictures[format])

    monkeypatch.setattr(Figure, "savefig", savefig)


@LONG
@pytest.mark.filterwarnings("ignore::perilune.errors.PeriluneWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_outside_the_run(
    tiny_run: TinyRun, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_once_per_format(monkeypatch)
    names = [name for file in COMMANDS[command] for name in (file, f"{file}{files.PARTIAL}")]
    attacks = [(name, obstacle) for name in names for obstacle in OBSTACLES]
    attacks += [(name, "link") for name in layout.DIRECTORIES]
    assert Attacked(tiny_run.history.directory, tmp_path / "intact").check(command, capsys) == 0
    for number, (name, obstacle) in enumerate(attacks):
        attacked = Attacked(tiny_run.history.directory, tmp_path / str(number))
        attacked.replace(name, obstacle)
        attacked.check(command, capsys)
        shutil.rmtree(tmp_path / str(number))


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_only_regular_files_are_read_and_written(tmp_path: Path, obstacle: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "name.mp4"
    victim.write_bytes(b"years of work")
    OBSTACLES[obstacle](path, victim)
    accesses: list[Callable[[], object]] = [lambda: files.open_log(path), lambda: files.opened(path, "r+b").__enter__()]
    if obstacle != "hard":  # reading is harmless, and a new file replaces the link
        accesses += [lambda: files.read(path, 100), lambda: files.write(path, b"x"), lambda: VideoWriter(path, 1)]
    for access in accesses:
        with deadline(), pytest.raises(FileFormatError, match=r"is a link|is not a regular file|is a hard link"):
            access()
    assert (victim.read_bytes(), (tmp_path / "new").exists()) == (b"years of work", False)


def test_directories_of_a_run_may_not_be_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    path = tmp_path / "run" / "plots" / "curves.png"
    path.parent.parent.mkdir()
    path.parent.symlink_to(tmp_path / "outside")
    files.write(path, b"mine")  # not a run
    for mark in files.MARKS:
        (tmp_path / "run" / mark).symlink_to("missing")
        with pytest.raises(FileFormatError, match="plots is a link"):
            files.write(path, b"x")
        with pytest.raises(FileFormatError, match="plots is a link"):
            files.read(path, 100)
        (tmp_path / "run" / mark).unlink()
    assert path.read_bytes() == b"mine"


WRITERS = {"write_text", "write_bytes", "touch", "mkstemp", "NamedTemporaryFile", "copyfile", "imsave", "savefig"}


def writes(path: Path) -> bool:
    """Return whether a module opens files to write, or calls a function that does, except to a buffer in memory."""
    text = path.read_text(encoding="utf-8")
    if not re.search(rf"open|{'|'.join(WRITERS)}", text):
        return False
    for call in ast.walk(ast.parse(text)):
        name = getattr(call.func, "attr", getattr(call.func, "id", "")) if isinstance(call, ast.Call) else ""
        if name not in WRITERS | {"open", "fdopen"}:
            continue
        values = [ast.unparse(value) for value in (*call.args, *(word.value for word in call.keywords))]
        is_mode = any(re.fullmatch(r"'[rbt]*[wax+][bt+]*'", value) for value in values)
        if is_mode or (name in WRITERS and values[:1] != ["buffer"]):
            return True
    return False


def test_one_module_writes_all_files() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if writes(path)}
    # The others write to the null device, to an open file, to a new file, or in the process of an examined program.
    allowed = {"cli/__init__.py", "doctor/examination.py", "viz/encoding.py", "doctor/loading.py"}
    doctor = {"doctor/isolation.py", "doctor/program/files.py", "doctor/program/examine.py"}
    assert found == {"runs/files.py", *allowed, *doctor}


# Files that take much time


def test_empty_arrays_are_limited_in_number(tiny_run: TinyRun, tmp_path: Path, torture: bool) -> None:
    newest = checkpoint.paths(tiny_run.history.directory)[-1]
    kind, content, _ = unsealed(newest)
    texts = kind, json.dumps(content), "0" * 64
    metadata = dict(zip(("kind", "perilune", "arrays", "sha256"), (*texts, archive._seal(*texts)), strict=True))
    path = tmp_path / newest.name
    for count, message in ((1_000, "checksum|too few"), (16_000, "has 16,000 arrays, but"), (10**6, "are allowed")):
        if count == 10**6 and not torture:
            continue
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        header = json.dumps({"__metadata__": metadata} | {f"{number:x}": empty for number in range(count)}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        started = time.process_time()
        with pytest.raises(FileFormatError, match=message):
            checkpoint.load(path)
        if torture:
            spent = time.process_time() - started
            print(f"\n{count:,} empty arrays are refused in {spent:.2f} s")
            assert spent < 2


def test_long_list_of_actions_is_read_without_python_calls(tiny_run: TinyRun, tmp_path: Path, torture: bool) -> None:
    newest = checkpoint.paths(tiny_run.history.directory)[-1]
    path = tmp_path / newest.name
    shutil.copyfile(newest, path)
    count = 20_000_000 if torture else 100_000  # 60 MB: the limit is 64 MiB

    def longer(content: Any) -> Any:
        training = content["training"] | {
            "episodes": [{"number": 1, "seed": 0, "epsilon": 0.1, "actions": [0] * count}]
        }
        return content | {"training": training}

    resealed(path, longer)
    profile, started = cProfile.Profile(), time.process_time()
    read = profile.runcall(checkpoint.read, path)
    spent = time.process_time() - started
    assert len(read.training.episodes[0].actions) == count
    calls = sum(entry.callcount for entry in profile.getstats())
    assert calls < 10_000  # a call for each action would take seconds
    if torture:
        print(
            f"\na checkpoint of {path.stat().st_size / 2**20:.0f} MiB with {count:,} actions is read in {spent:.1f} s"
        )
        assert spent < 20
