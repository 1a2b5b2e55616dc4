"""A real terminal, as a process that is shown in one sees it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys


def shown(script: str, **variables: str) -> tuple[str, str]:
    """What ``script`` writes on standard error, run in a terminal of 80 columns: as it comes, and without escapes.

    ``variables`` are more of its environment.
    """
    master, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= variables
    process = subprocess.Popen(  # noqa: S603 -- our own words
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=terminal, env=environment
    )
    os.close(terminal)
    raw = b""
    while True:
        try:
            chunk = os.read(master, 65_536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        raw += chunk
    os.close(master)
    assert process.wait() == 0
    text = raw.decode()
    return text, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
