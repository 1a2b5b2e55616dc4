"""Run a script in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys


def shown(script: str, **variables: str) -> tuple[str, str]:
    """Run ``script`` in a terminal of 80 columns.

    Return its standard error, raw and without escape sequences. ``variables`` are added to its environment.
    """
    master, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= variables
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=terminal, env=environment
    )
    os.close(terminal)
    raw = b""
    while True:
        try:
            chunk = os.read(master, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        raw += chunk
    os.close(master)
    assert process.wait() == 0
    text = raw.decode()
    return text, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
