"""The command that examines a DQN program."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perilune._utils import seeding
from perilune._utils.console import say, stderr
from perilune._utils.extras import missing
from perilune.doctor import output
from perilune.doctor.examination import require_budget
from perilune.doctor.isolation import examine_file
from perilune.doctor.loading import names_factory, require_new, write_adapter
from perilune.errors import ConfigError, ExaminationError
from perilune.runs.files import check_regular


def run_doctor(options: Namespace) -> None:
    """Examine a DQN program and report its faults. Exit with status 1 if there are any, and 2 without a verdict."""
    if options.new is not None:
        write_adapter(options.new)
        say(f"Wrote {options.new}. Fill it in, then run: perilune doctor {options.new}:make")
        return
    if options.explain is not None:
        output.explain(options.explain, sys.stdout)
        return
    if options.mcp:
        _serve()
        return
    if not options.agent:
        raise ExaminationError("no program given: pass FILE.py, FILE.ipynb, MODULE:CLASS or FILE.py:FACTORY")
    files = {kind: path for kind in ("html", "sarif") if (path := getattr(options, kind)) is not None}
    for kind, path in files.items():
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(kind, str(path), "a file in an existing directory")
        check_regular(path)  # before the examination
    require_budget(options.budget)
    arguments = None if names_factory(options.agent) else options.arguments  # an invalid name is an error of usage
    if arguments is None and (options.arguments or options.write_adapter):
        raise ExaminationError(
            f"{options.agent!r} is a factory: pass a program, such as FILE.py, to use --write-adapter or arguments "
            "after --"
        )
    if options.write_adapter is not None:
        require_new(options.write_adapter)
    with _progress() as watch:
        result = examine_file(
            options.agent, options.budget, seeding.checked(options.seed), watch, arguments, options.write_adapter
        )
    output.write_files(result, files, options.agent)  # first: the reader of the text may close the pipe, as head does
    if options.json:
        say(json.dumps(result.as_json(), indent=2))
    else:
        output.show(result, sys.stdout)
    if not options.json:
        _say_written(options.write_adapter, list(files.values()))
    if result.exit_status:
        sys.exit(result.exit_status)


def _say_written(adapter: Path | None, files: list[Path]) -> None:
    """Print which files were written."""
    if adapter is not None and adapter.is_file():
        say(f"\nWrote {adapter}. Examine it with: perilune doctor {adapter}:make")
    elif adapter is not None:
        say(f"\nDid not write {adapter}: see the reasons above.")
    if files:
        say("".join(f"\n{path}" for path in files))


def _serve() -> None:
    try:
        from perilune.doctor.mcp_server import serve  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise missing("perilune doctor --mcp needs the MCP SDK", "mcp") from error
    serve()


@contextmanager
def _progress() -> Iterator[Callable[[str], object]]:
    """Yield a function that shows on standard error what is being checked, if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import

    console = Console(file=stderr())
    if not console.is_terminal or console.is_dumb_terminal:
        yield str
        return
    with console.status("Starting") as status:
        yield lambda title: status.update(f"Checking: {title}")
