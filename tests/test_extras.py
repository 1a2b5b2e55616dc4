"""Install commands for missing extras."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perilune import envs
from perilune._utils.extras import install_command


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ("", 'pip install "perilune[view]"'),  # from an index
        ('{"url": "file:///src/a%20b", "dir_info": {}}', 'pip install "/src/a b[view]"'),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', 'pip install -e "/src[view]"'),
        ('{"url": "file:///a.whl", "archive_info": {}}', 'pip install "/a.whl[view]"'),
        (
            '{"url": "https://x.org/y", "vcs_info": {"vcs": "git"}}',
            'pip install "perilune[view] @ git+https://x.org/y"',
        ),
    ],
)
def test_install_command_fits_how_perilune_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, command: str
) -> None:
    installed = tmp_path / "perilune-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: perilune\nVersion: 0.1.0\n")
    if origin:
        (installed / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("view") == command
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [])  # not installed: from the directory of the source
    root = Path(__file__).parents[1]
    assert install_command("view") == f'pip install "{root}[view]"'
    monkeypatch.chdir(root)
    assert install_command("view") == 'pip install ".[view]"'


@pytest.mark.parametrize(
    ("message", "needs", "extra"),
    [
        ('Box2D is not installed, run `pip install "gymnasium[box2d]"`', "Box2D and pygame", "lunar"),
        ('pygame is not installed, run `pip install "gymnasium[classic-control]"`', "pygame", "view"),
    ],
)
def test_missing_library_of_an_environment_has_its_own_extra(message: str, needs: str, extra: str) -> None:
    assert str(envs.missing("it", ImportError(message))) == f"it needs {needs}: {install_command(extra)}"
