"""The command that examines anybody's DQN."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import tyro

from perilune._utils.console import say
from perilune.doctor import page, terminal
from perilune.doctor.examination import check_budget, examine
from perilune.doctor.loading import load_factory
from perilune.doctor.scaffold import write_scaffold
from perilune.errors import ConfigError, ExaminationError


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Examine a DQN, whoever wrote it, and say what is wrong with it.

    Exit status 0: no fault; 1: faults; 2: it could not be examined.
    """

    agent: tyro.conf.Positional[str] = ""
    """FILE.py:FACTORY or FILE.ipynb:FACTORY; the factory gives a new agent each time (docs/doctor.md)."""
    new: Path | None = None
    """Write a commented adapter for an agent of your own to this file, and stop."""
    json: bool = False
    """Print one JSON object on standard output."""
    html: Path | None = None
    """Write the report as a page that can be passed on, with pictures."""
    budget: float = 60.0
    """Seconds that the examination may take (> 0)."""
    seed: int = 0
    """Seed that is offered to the factory (>= 0)."""

    def run(self) -> None:
        if self.new is not None:
            write_scaffold(self.new)
            say(f"{self.new} is written: fill it in, then run perilune doctor {self.new}:make")
            return
        if not self.agent:
            raise ExaminationError("which agent? perilune doctor FILE.py:FACTORY, or --new FILE.py for an adapter")
        if self.html is not None and (self.html.is_dir() or not self.html.parent.is_dir()):
            raise ConfigError("html", str(self.html), "a file in a directory that exists")
        check_budget(self.budget)
        with _stdout_apart() as out:
            result = examine(load_factory(self.agent, self.budget), budget=self.budget, seed=self.seed)
            if self.json:
                out.write(json.dumps(result.as_json(), indent=2) + "\n")
            else:
                terminal.show(result, out)
            if self.html is not None:
                page.write(result, self.html, self.agent)
                if not self.json:
                    out.write(f"\n{self.html}\n")
        if result.faults:
            sys.exit(1)
        if not result.complete:
            raise ExaminationError(f"no fault was found, but {self.budget:g} s were not enough to look at everything")


@contextmanager
def _stdout_apart() -> Iterator[IO[str]]:
    """Standard output for us alone: what anybody else writes there meanwhile, in whatever language, is lost."""
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
