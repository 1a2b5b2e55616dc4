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
    new, html = options.new, options.html
    if new is not None:
        write_adapter(new)
        say(f"Wrote {new}. Fill it in, then run: perilune doctor {new}:make")
        return
    if options.explain is not None:
        output.explain(options.explain, sys.stdout)
        return
    if not options.agent:
        raise ExaminationError("no agent given: pass FILE.py:FACTORY, or --new FILE.py to write an adapter")
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise ConfigError("html", str(html), "a file in an existing directory")
    require_budget(options.budget)
    with _private_stdout() as out:
        factory = load_factory(options.agent, options.budget)
        result = check_agent(factory, budget=options.budget, seed=options.seed)
        if options.json:
            out.write(json.dumps(result.as_json(), indent=2) + "\n")
        else:
            output.show(result, out)
        if html is not None:
            output.write_page(result, html, options.agent)
            if not options.json:
                out.write(f"\n{html}\n")
    if not result.healthy:
        sys.exit(1 if result.faults else 2)


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
