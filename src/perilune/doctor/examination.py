"""The examination: every check in turn, each watched from outside, and what they found sorted out."""

from __future__ import annotations

import contextlib
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from perilune._utils import seeding
from perilune._utils.blas import one_blas_thread
from perilune.doctor.catalogue import found
from perilune.doctor.causes import sorted_out
from perilune.doctor.checks import (
    acting,
    backward,
    batch,
    initial,
    interface,
    learning,
    loop,
    loss,
    optimizer,
    replay,
    target,
    td,
)
from perilune.doctor.pointing import Line, calls_for, lines_run, raised_at, where
from perilune.doctor.report import Finding, NotRun, Report
from perilune.doctor.supervise import TooLong, supervised
from perilune.doctor.ward import CannotTell, Case, NotFinite, PatientFailed, Ward, undisturbed
from perilune.doctor.worlds import Numbered
from perilune.errors import ConfigError, ExaminationError


class Check(NamedTuple):
    """``title`` is what the report calls it; no single call of the patient may take more than ``call_seconds``."""

    title: str
    find: Callable[[Ward], Iterator[Finding | NotRun]]
    call_seconds: float = 10.0


ADMISSION = Check("interface", interface.admit, call_seconds=30.0)  # in which a factory may import torch
CHECKS = (
    Check("initial weights", initial.check),
    Check("ends of episodes", td.ends),
    Check("gradients", backward.check),
    Check("TD target", td.check),
    Check("target network", target.check),
    Check("batch", batch.check),
    Check("optimiser", optimizer.check),
    Check("loss", loss.check),
    Check("one batch by heart", learning.check),
    Check("actions", acting.check),
    Check("replay", replay.check),
    Check("training loop", loop.check, call_seconds=40.0),
)

# Where a method that raises or hangs belongs.
COMPONENTS = {
    "q_values": "forward",
    "train_batch": "loss",
    "target_q_values": "target_network",
    "sync_target": "target_network",
    "parameters": "backward",
    "target_parameters": "target_network",
    "gradients": "backward",
    "loss": "loss",
    "act": "exploration",
    "remember": "replay",
    "sample": "replay",
    "run": "loop",
}


def examine(make_patient: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Report:
    """Examine an agent and say what is wrong with it.

    Args:
        make_patient: gives a new patient (``perilune.doctor.Patient``) each time; a seed is offered to it as ``seed``,
            if it takes one.
        budget: seconds (> 0); checks that do not fit into it are listed as not run.
        seed: of the agent and of what it is asked (>= 0).

    Raises:
        ConfigError: the budget or the seed is not of these.
        ExaminationError: what was given is no patient, or its q_values cannot be used at all.
    """
    check_budget(budget)
    began = time.monotonic()
    report = Report()
    ward = Ward(make_patient, seeding.checked(seed), np.random.default_rng(seed))
    with _silence(), undisturbed(), one_blas_thread():
        admitted = _make(ADMISSION, ward, report, budget)
        for check in CHECKS:
            if not admitted:
                report.not_run.append(NotRun(check.title, report.not_run[0].why))
            else:
                _make(check, ward, report, budget - (time.monotonic() - began))
        _point(ward, report, budget - (time.monotonic() - began))
    if not admitted and not report.findings:
        raise ExaminationError(f"this agent cannot be examined: {report.not_run[0].why}")
    report.findings = sorted_out(report.findings)
    report.seconds = time.monotonic() - began
    return report


def check_budget(budget: float) -> None:
    """Refuse a ``budget`` that is no number of seconds, with a ConfigError."""
    if not 0 < budget < math.inf:
        raise ConfigError("budget", budget, "a number of seconds > 0")


def _make(check: Check, ward: Ward, report: Report, seconds: float) -> bool:
    """Make one check, whatever the patient does meanwhile; say whether it came to its end."""
    if seconds <= 0.5 or ward.runs_on:
        why = f"{ward.runs_on} still runs, and cannot be stopped" if ward.runs_on else "the time was up"
        report.not_run.append(NotRun(check.title, why))
        report.complete = False
        return False

    def work() -> None:
        for one in check.find(ward):
            if isinstance(one, NotRun):
                report.not_run.append(one)
            else:
                report.findings.append(replace(one, check=check.title))

    def tell(name: str, evidence: str, place: str | None = None) -> None:
        report.findings.append(replace(found(name, f"{evidence} ({check.title})", place), check=check.title))

    try:
        supervised(work, seconds, check.call_seconds, lambda: ward.under_way)
        return True
    except (CannotTell, interface.CannotExamine) as reason:
        report.not_run.append(NotRun(check.title, str(reason)))
    except NotFinite as failure:
        tell("numerics.not_finite", f"{failure.method} gave NaN or infinity")
        report.not_run.append(NotRun(check.title, f"{failure.method} gave NaN or infinity"))
    except PatientFailed as failure:
        if failure.method in COMPONENTS:
            tell(f"{COMPONENTS[failure.method]}.raises", str(failure), raised_at(failure.error))
        report.not_run.append(NotRun(check.title, str(failure)))
    except TooLong as late:
        if late.call in COMPONENTS:
            tell(f"{COMPONENTS[late.call]}.hangs", str(late))
        report.not_run.append(NotRun(check.title, str(late)))
        report.complete = False
        ward.runs_on = (late.call or check.title) if late.runs_on else None
    except Exception as error:  # told, and no reason to lose what other checks find
        report.not_run.append(NotRun(check.title, f"the doctor itself failed: {type(error).__name__}: {error}"))
    ward.under_way = None
    return False


def _point(ward: Ward, report: Report, seconds: float) -> None:
    """Say of each finding where in the owner's files to look, by the lines that run in the calls it is about."""
    lost = [
        finding for finding in report.faults if finding.where is None and not finding.id.endswith((".hangs", ".raises"))
    ]
    calls = [call for finding in lost for call in calls_for(finding.id)]
    run_by: dict[str, list[Line]] = {}

    def work() -> None:
        for call in dict.fromkeys(calls):
            with contextlib.suppress(CannotTell, PatientFailed, NotFinite):  # which were told before
                run_by[call] = lines_run(_once(ward, call))

    if lost and seconds > 1 and ward.actions and not ward.runs_on:
        with contextlib.suppress(TooLong, Exception):  # then some places stay unsaid, and nothing else is lost
            supervised(work, seconds, 10.0, lambda: ward.under_way)
    report.findings = [
        finding if finding.where or finding.severity == "note" else replace(finding, where=where(finding.id, run_by))
        for finding in report.findings
    ]


def _once(ward: Ward, call: str) -> Callable[[], object]:
    """What lets the patient do once what ``call`` names."""
    case = Case(ward, ward.make())
    batch = ward.transitions(max(4, ward.rows), terminated=False)
    world = Numbered(ward.size, ward.actions, lambda obs: None)
    if call == "sample" and case.has("remember"):
        replay.play(case, world, 200)
    once: dict[str, Callable[[], object]] = {
        "make": ward.make,
        "q_values": lambda: case.q(batch.obs),
        "train_batch": lambda: case.train(batch),
        "sync_target": case.sync,
        "act": lambda: [case.call("act", batch.obs[0], epsilon) for epsilon in (0.0, 1.0)],
        "remember": lambda: case.call("remember", batch.obs[0], 0, 0.0, batch.next_obs[0], False, False),
        "sample": lambda: case.call("sample", 32),
        "run": lambda: case.call("run", world, 300),
    }
    return once[call] if call == "make" or case.has(call) else lambda: None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What the patient prints, and what it is warned of, does not mix with the report."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
