"""The command that installs an optional library, for how Perilune itself was installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perilune.errors import MissingDependencyError


def missing(what: str, extra: str) -> MissingDependencyError:
    """Return the error for a missing library, with the command that installs it.

    Args:
        what: the feature and the library that it needs, such as "plots need matplotlib".
        extra: the extra of Perilune that has the library.
    """
    return MissingDependencyError(f"{what}: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return the command that installs ``extra`` from where Perilune was installed: a clone, a file, git or an index.

    Args:
        extra: an extra of Perilune.
    """
    # These take a tenth of the time to start a command, and only an error needs them.
    from importlib import metadata  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415
    from urllib.request import url2pathname  # noqa: PLC0415

    try:
        origin: dict[str, Any] = json.loads(metadata.distribution("perilune").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # the source is on the path, but not installed
        root = Path(__file__).parents[3]
        origin = {"url": root.as_uri()} if (root / "pyproject.toml").is_file() else {}
    url = origin.get("url", "")
    if "vcs_info" in origin:
        return f'pip install "perilune[{extra}] @ {origin["vcs_info"]["vcs"]}+{url}"'
    if not url.startswith("file:"):
        return f'pip install "perilune[{extra}]"'
    path = Path(url2pathname(urlsplit(url).path))
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f'pip install {editable}"{"." if path == Path.cwd() else path}[{extra}]"'
