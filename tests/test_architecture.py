"""What the package shows and loads. The direction of imports is checked by import-linter (``make lint``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import perilune

ROOT = Path(perilune.__file__).parent
OPTIONAL = {
    *(
        "matplotlib",
        "av",
        "PIL",
        "IPython",
        "jinja2",
        "pebble",
        "scipy",
        "starlette",
        "tensorboardX",
        "torch",
        "uvicorn",
    )
}


def test_package_root_holds_at_most_six_modules() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= 6


def test_command_line_loads_no_optional_library() -> None:
    modules = "perilune.cli.training, perilune.cli.viewing"
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert OPTIONAL.isdisjoint(loaded.stdout.split())
