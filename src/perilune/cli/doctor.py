"""The command that examines a DQN program."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from perilune._utils.console import say
from perilune.doctor import output
from perilune.doctor.examination import check_agent, require_budget
from perilune.doctor.loading import load_factory, write_adapter
from perilune.errors import ConfigError, ExaminationError


def run_doctor(options: Namespace) -> None:
    """Examine a DQN program and report its faults. Exit with status 1 if there are any, and 2 without a verdict."""
    if options.new is not None:
        write_adapter(options.new)
        say(f"Wrote {options.new}. Fill it in, then run: perilune doctor {options.new}:make")
        return
    if options.explain is not None:
        output.explain(options.explain, sys.stdout)
        return
    if not options.agent:
        raise ExaminationError("no agent given: pass FILE.py:FACTORY, or --new FILE.py to write an adapter")
    files = {kind: path for kind in ("html", "sarif") if (path := getattr(options, kind)) is not None}
    for kind, path in files.items():
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(kind, str(path), "a file in an existing directory")
    require_budget(options.budget)
    with _private_stdout() as out:
        factory = load_factory(options.agent, options.budget)
        result = check_agent(factory, budget=options.budget, seed=options.seed)
        if options.json:
            out.write(json.dumps(result.as_json(), indent=2) + "\n")
        else:
            output.show(result, out)
        output.write_files(result, files, options.agent)
        if files and not options.json:
            out.write("\n" + "".join(f"{path}\n" for path in files.values()))
    if result.exit_status:
        sys.exit(result.exit_status)


@contextmanager
def _private_stdout() -> Iterator[IO[str]]:
    """Yield standard output for the report, and discard what the examined program prints."""
    sys.stdout.flush()
    ours = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        with os.fdopen(os.dup(ours), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)
        os.close(nowhere)
