"""Run an examination in a child process, to protect this process from the agent's code.

The child starts in the working directory of the parent, without standard input. It sends events through a pipe, as
lines of JSON. The agent prints to another pipe, and the parent keeps the end of this output. A third pipe closes when
the parent ends, which ends the child. A memory-mapped file holds the name of the agent's running method, so that the
parent can report which method ended the process.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, NoReturn

import numpy as np

from perilune.doctor.checks import CHECKS
from perilune.doctor.events import Collector, Done, Event, Stopped, decode, encode
from perilune.doctor.examiner import run_checks
from perilune.doctor.loading import load_factory
from perilune.doctor.locate import crashed_at
from perilune.doctor.report import NotRun, Report
from perilune.doctor.session import Session
from perilune.doctor.supervise import MORE, PATIENCE, STUBBORN, TooLong
from perilune.errors import ExaminationError

MAX_EVENT = 2**26  # bytes
TAIL = 10_000  # bytes of the agent's output that the parent keeps
PAGE = 64  # bytes for the name of the running method
MEMORY_SHARE = 0.75  # of the machine's memory, for the data of the child
PROCESSES = 8192  # processes and threads in addition to the running ones
START_UP = 30.0  # CPU seconds that the child may use before and after the examination
FAILED = 70  # exit code of a child that cannot continue
THREADS = {"OMP_NUM_THREADS": "1"}  # by default, because several threads are slower for small networks

# The child imports Perilune from where the parent did.
COMMAND = (
    "import sys, json; job = json.loads(sys.argv[1]); sys.path[:] = job.pop('path'); "
    "from perilune.doctor.isolation import serve; serve(**job)"
)


class _Child(NamedTuple):
    pid: int
    wait: Callable[[], int]  # returns the exit code; negative: a signal
    events: int  # file descriptor
    output: int  # file descriptor
    page: Path


def examine_file(
    name: str,
    budget: float,
    seed: int,
    watch: Callable[[str], object] = str,
    arguments: Sequence[str] | None = None,
    adapter: Path | None = None,
) -> Report:
    """Examine the factory in ``FILE:FACTORY``, or a program, in a new process.

    Args:
        name: ``FILE:FACTORY``, or a program if ``arguments`` are given.
        budget: Time limit in seconds of CPU time.
        seed: Seed of the agent and of the examination.
        watch: Is called with the title of each check, and how far it is.
        arguments: Command-line arguments of the program, or None if ``name`` is ``FILE:FACTORY``.
        adapter: File to which the adapter of the program is written, or None.
    """
    with _page() as page:
        job = {
            **{"path": sys.path, "agent": name, "budget": budget, "seed": seed, "page": str(page)},
            **{"arguments": arguments, "adapter": str(adapter) if adapter else None},
        }
        child = subprocess.Popen(  # noqa: S603 -- this program
            [sys.executable, "-P", "-c", COMMAND, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # on Windows: Ctrl-C does not reach it
            env={**THREADS, **os.environ},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with child.stdin, child.stdout as events, child.stderr as output:
            running = _Child(child.pid, child.wait, events.fileno(), output.fileno(), page)
            return _follow(running, budget, watch)


def examine_forked(factory: Callable[..., Any], budget: float, seed: int) -> Report:
    """Examine ``factory`` in a fork of this process."""
    with _page() as page:
        (events, to_events), (output, to_output), (alive, to_alive) = os.pipe(), os.pipe(), os.pipe()
        with warnings.catch_warnings(action="ignore"):  # about threads of BLAS, which the fork does not need
            pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.close(to_alive)
                for number in (1, 2):
                    os.dup2(to_output, number)
                _serve(_agent(lambda _: factory, budget, seed), budget, page, to_events, alive)
            finally:
                os._exit(FAILED)
        for end in (to_events, to_output, alive):
            os.close(end)
        try:
            wait = lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: E731
            return _follow(_Child(pid, wait, events, output, page), budget, str)
        finally:
            for end in (events, output, to_alive):
                os.close(end)


@contextmanager
def _page() -> Iterator[Path]:
    """Create a file for the name of the running method, and remove it on exit."""
    with tempfile.TemporaryDirectory(prefix="perilune-", ignore_cleanup_errors=True) as directory:
        page = Path(directory) / "running"
        page.write_bytes(bytes(PAGE))
        yield page


def can_fork() -> bool:
    """Return whether the agent can run in a fork of this process. Locks that other threads hold would stay locked."""
    if not hasattr(os, "fork") or sys.platform == "darwin":  # on macOS, system libraries do not survive a fork
        return False
    if threading.active_count() > 1:
        return False
    torch = sys.modules.get("torch")
    return not {"jax", "tensorflow"} & {*sys.modules} and not (torch is not None and torch.cuda.is_available())


def _follow(child: _Child, budget: float, watch: Callable[[str], object]) -> Report:
    """Collect the events of the child until it ends. Return the report."""
    collector = Collector([check.title for check in CHECKS], watch)
    codes: list[int] = []
    tail = bytearray()

    def reap() -> None:
        codes.append(child.wait())
        _kill(child.pid)  # processes that the agent started, which keep the pipes open

    def drain() -> None:
        with suppress(OSError):
            while chunk := os.read(child.output, 2**16):
                tail[:] = (tail + chunk)[-TAIL:]

    limit = PATIENCE * _cpu_limit(budget)
    reaper, drainer, guard = (
        *(threading.Thread(target=work, daemon=True) for work in (reap, drain)),
        threading.Timer(limit, _kill, [child.pid]),
    )
    guard.daemon = True
    for thread in (reaper, drainer, guard):
        thread.start()
    readable = True
    try:
        with os.fdopen(child.events, "rb", closefd=False) as pipe:
            while readable and not collector.done and (line := pipe.readline(MAX_EVENT)):
                try:
                    collector(decode(line))
                except (ValueError, TypeError, KeyError, AttributeError):  # incomplete, or the agent wrote it
                    readable = False
        if readable and not collector.done:
            reaper.join()  # for its exit code
    finally:
        overdue = guard.finished.is_set()
        guard.cancel()
        if reaper.is_alive():
            _kill(child.pid)
        for thread in (reaper, drainer):
            thread.join(STUBBORN)
    if collector.done:
        return collector.finished()
    code = codes[0] if codes else 0
    if collector.stopped:
        collector.cut(collector.stopped, "limit")
    elif overdue or code == -getattr(signal, "SIGXCPU", 0):
        collector.cut(f"the agent's code could not be interrupted at its time limit. {MORE}", "limit")
    else:
        output = tail.decode(errors="replace")
        how = _how_it_ended(code, output) if readable else "its results cannot be read"
        collector.crashed(how, child.page.read_bytes().rstrip(b"\0").decode(), crashed_at(output))
    return collector.finished()


def _how_it_ended(code: int, output: str) -> str:
    if code < 0:
        known = {one.value: one.name for one in signal.Signals}
        how = f"signal {-code} ({known.get(-code, 'unknown')})"
        return f"{how}, which the system sends if memory runs out" if how.endswith("(SIGKILL)") else how
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
    return f"exit code {code}, after printing {last[-200:]!r}" if last else f"exit code {code}"


def _kill(pid: int) -> None:
    """End the child and all processes that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # on Windows, this ends the process at once


def _cpu_limit(budget: float) -> float:
    """Return the CPU seconds that a child may use: for the file, for the examination, and to start."""
    return 2 * budget + START_UP


# In the child


def serve(
    agent: str, budget: float, seed: int, page: str, arguments: list[str] | None, adapter: str | None
) -> NoReturn:
    """Examine ``FILE:FACTORY`` or a program in this process, which ``examine_file`` started."""
    alive, events = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    if arguments is None:
        work = _agent(lambda stuck: load_factory(agent, budget, stuck), budget, seed)
    else:
        work = _program(agent, arguments, budget, seed, Path(adapter) if adapter else None)
    _serve(work, budget, Path(page), events, alive)


class _Channel(NamedTuple):
    """What an examination tells the parent process."""

    publish: Callable[[Event], None]
    announce: Callable[[str], None]  # the name of the agent's running method
    stuck: Callable[[TooLong], object]


def _agent(
    load: Callable[[Callable[[TooLong], object]], Callable[..., Any]], budget: float, seed: int
) -> Callable[[_Channel], None]:
    """Return a function that examines the agents of the factory that ``load`` returns."""

    def work(channel: _Channel) -> None:
        try:
            factory = load(channel.stuck)
        except ExaminationError as error:
            for check in CHECKS:
                channel.publish(NotRun(check.title, str(error)))
            channel.publish(Done())
        else:
            session = Session(factory, seed, np.random.default_rng(seed))
            session.budget, session.announce, session.caught = budget, channel.announce, BaseException
            run_checks(session, channel.publish, channel.stuck)

    return work


def _program(
    name: str, arguments: list[str], budget: float, seed: int, adapter: Path | None
) -> Callable[[_Channel], None]:
    """Return a function that examines a program."""

    def work(channel: _Channel) -> None:
        from perilune.doctor.program.examine import examine_program  # noqa: PLC0415 -- only the child needs it

        examine_program(name, arguments, budget, seed, adapter, *channel)

    return work


def _serve(work: Callable[[_Channel], None], budget: float, page: Path, events: int, alive: int) -> NoReturn:
    """Run the examination, send its events, and end the process without waiting for the agent's threads.

    Reading ``alive`` returns when the parent ends.
    """
    process = os.getpid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 -- open until the process ends
    sys.stdout = sys.stderr = open(  # noqa: SIM115
        1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
    faulthandler.enable(2)
    _limit_resources(_cpu_limit(budget))
    os.environ.update({**THREADS, **os.environ})
    with page.open("r+b") as file:
        running = mmap.mmap(file.fileno(), PAGE)

    def publish(event: Event) -> None:
        if os.getpid() != process:  # the agent forked the process, and this is the copy
            os._exit(0)
        data = encode(event)
        while data:
            data = data[os.write(events, data) :]

    def announce(name: str) -> None:
        running[:] = name.encode()[:PAGE].ljust(PAGE, b"\0")

    def stuck(late: TooLong) -> None:
        try:
            publish(Stopped(str(late)))
        finally:
            os._exit(FAILED)

    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # its other threads did not survive the fork
    try:
        work(_Channel(publish, announce, stuck))
    except BaseException:  # such as one that a signal handler of the agent raises
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)


def _end_with_parent(alive: int) -> None:
    with suppress(OSError):  # the agent closed it
        os.read(alive, 1)
        os._exit(FAILED)


def _limit_resources(cpu_seconds: float) -> None:
    """Limit CPU time, memory, and the number of processes and threads, where the system supports it."""
    try:
        import resource  # noqa: PLC0415 -- missing on Windows
    except ImportError:
        return
    limits = {
        "RLIMIT_CPU": process_time() + cpu_seconds,
        "RLIMIT_DATA": MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "RLIMIT_CORE": 0,
    }
    if threads := len([*Path("/proc").glob("[0-9]*/task/*")]):  # Linux only
        limits["RLIMIT_NPROC"] = threads + PROCESSES
    for name, limit in limits.items():
        kind = getattr(resource, name)
        soft, hard = resource.getrlimit(kind)
        lowest = min(one for one in (int(limit), soft, hard) if one != resource.RLIM_INFINITY)
        with suppress(OSError, ValueError):  # macOS accepts some limits only in part
            resource.setrlimit(kind, (lowest, hard))
