"""Import every module, then train, read and examine, where functions exist that Windows also has.

``test_platforms.py`` runs this script in a process of its own. Paths, the console and file locks of Windows are not
simulated.
"""

from __future__ import annotations

import asyncio  # noqa: F401 -- these modules of Python have other code for Windows
import importlib
import importlib.abc
import multiprocessing
import os
import pkgutil
import signal
import socket
import sys
import warnings
from pathlib import Path

import numpy  # noqa: F401 -- also has other code for Windows

LIBRARIES = ("av", "matplotlib.pyplot", "mcp.server.mcpserver", "pygame", "rich.console", "uvicorn")
MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty")
MISSING = {
    os: (
        "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC chown chroot fchmod fork forkpty geteuid getgid getpgid "
        "getuid killpg lchown mkfifo mknod nice openpty pread pwrite sched_getaffinity setpgid setsid statvfs sysconf "
        "uname wait wait3 wait4"
    ),
    signal: (
        "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH "
        "SIGXCPU alarm getitimer pause pthread_kill pthread_sigmask setitimer sigwait"
    ),
    socket: "AF_UNIX SO_REUSEPORT",
}
SETTINGS = "--steps 150 --hidden 8 --learning-starts 50 --batch-size 8 --eval-episodes 1"
COMMANDS = (
    f"train CartPole-v1 --out run {SETTINGS}",
    "evaluate run --episodes 1",
    "resume run --steps 50",
    "info run",
    "verify run",
    "plot run",
)
BENCHMARK = f"bench learning CartPole-v1 --out bench --seeds 2 --jobs 2 {SETTINGS}"
EXAMINATIONS = ("doctor doctor_agents.py:Complete --budget 1 --json", "doctor program.py --budget 2 --json")


class Refuse(importlib.abc.MetaPathFinder):
    """Makes the import of POSIX modules fail."""

    def find_spec(self, name: str, *_: object) -> None:
        """Raise ModuleNotFoundError for a POSIX module."""
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def simulate() -> None:
    """Remove what only POSIX systems have, and fail when Perilune uses the default encoding."""
    sys.meta_path.insert(0, Refuse())
    for name in MODULES:
        sys.modules.pop(name, None)
    for module, names in MISSING.items():
        for name in names.split():
            vars(module).pop(name, None)
    warnings.filterwarnings("error", category=EncodingWarning, module="perilune")


def run(words: str) -> None:
    """Run a command of Perilune. Raise SystemExit if it fails."""
    from perilune import cli  # noqa: PLC0415 -- after ``simulate``

    print(f"== {words}", flush=True)
    cli.main(words.split())


def main() -> None:
    """Import all modules, and run the commands in the working directory. With the argument "bench", run only that."""
    for name in LIBRARIES:
        importlib.import_module(name)
    simulate()
    multiprocessing.set_start_method("spawn")
    import perilune  # noqa: PLC0415
    from perilune.doctor import isolation  # noqa: PLC0415

    for module in pkgutil.walk_packages(perilune.__path__, "perilune."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    if sys.argv[1:] == ["bench"]:
        run(BENCHMARK)
        return
    for words in COMMANDS:
        run(words)
    here = str(Path(__file__).parent)
    simulation = f"import sys; sys.path.insert(0, {here!r}); import without_posix; without_posix.simulate(); "
    isolation.COMMAND = simulation + isolation.COMMAND
    for words in EXAMINATIONS:
        try:
            run(words)
        except SystemExit as end:
            if end.code not in (0, 1, 2):
                raise


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a worker process of ``bench learning``
    simulate()
