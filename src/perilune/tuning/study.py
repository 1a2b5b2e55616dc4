"""Run a study: let Optuna choose the settings of trials, and train their seeds in worker processes.

A trial is a directory with one run directory per seed. Everything that a killed process needs to continue is in these
directories and in the storage of the study: a trial that was running is continued under its number, and its seeds
resume from their checkpoints. A lock per trial makes sure that only one process runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from perilune._utils import statistics
from perilune._utils.console import aside
from perilune._utils.text import show_return
from perilune.bench import learning, results
from perilune.bench.learning import Trial
from perilune.bench.pool import Engine, Workers
from perilune.errors import PeriluneError, RunDirectoryError, TrialError
from perilune.runs import files, lock, logs
from perilune.runs.layout import TRIAL
from perilune.training.events import Evaluated
from perilune.tuning import samplers, work
from perilune.tuning.plan import Plan, settings_toml
from perilune.tuning.space import Base, of_parameters
from perilune.tuning.storage import LOCK, locked, open_storage
from perilune.tuning.work import Job
from perilune.viz.terminal import Board, board

FAILURE = "failure.txt"
PLAN = "perilune"  # user attribute of the study that holds its plan
MOST_FAILURES = 3  # failed trials without a completed one, after which the study stops
POLL = 1.0  # seconds between checks on the trials of other processes


@dataclass
class Active:
    """A trial that this process runs.

    Attributes:
        trial: the trial in Optuna.
        lock: the lock on its directory.
        seeds: its seeds, each with settings and run directory.
        reported: steps for which Optuna has a value.
        stage: number of rungs that all seeds have passed.
        scored: the seeds that have reached the next rung, or the end, each with its value.
        running: the seeds that are in training.
    """

    trial: optuna.Trial
    lock: FileLock
    seeds: list[Trial]
    reported: set[int]
    stage: int = 0
    scored: dict[Trial, float] = field(default_factory=dict)
    running: set[Trial] = field(default_factory=set)


class Study:
    """A study in its storage and directory.

    Args:
        plan: what to search for.
        out: directory of the trials.
        storage: file or URL of the storage.

    Raises:
        ConfigError: the study in the storage has another plan.
        RunDirectoryError: the directory cannot be written, or holds trials but no study.
        FileFormatError: the journal is damaged.
    """

    def __init__(self, plan: Plan, out: Path, storage: Path | str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if (out / "config.json").exists():
            raise RunDirectoryError(f"{out} is a run directory. Choose another directory for the search.")
        with files.reported("written", out):
            out.mkdir(parents=True, exist_ok=True)
        self.plan, self.out, self.name = plan, out, out.resolve().name
        self._active: list[Active] = []
        with locked(self.out):
            opened, self._journal = open_storage(storage)
            pruner = samplers.pruner(plan.pruner, plan.base.train.steps)
            if self.name in optuna.get_all_study_names(opened):
                self.optuna = optuna.load_study(study_name=self.name, storage=opened, pruner=pruner)
            else:
                direction: Literal["maximize", "minimize"] = (
                    "maximize" if work.maximizes(plan.objective) else "minimize"
                )
                self.optuna = optuna.create_study(
                    study_name=self.name, storage=opened, pruner=pruner, direction=direction
                )
            self._check_plan(storage)

    def _check_plan(self, storage: Path | str) -> None:
        """Compare the plan with that of the study, or store it in a new study."""
        wanted, found = self.plan.to_json(), self.optuna.user_attrs.get(PLAN)
        if found is not None:
            different = [*results.differences(found, dict.fromkeys(found, results.NOTHING) | wanted)]
            if different:
                listed = ", ".join(f"{name} = {old!r} there, {new!r} requested" for name, old, new in different)
                raise RunDirectoryError(
                    f"the study {self.name} in {storage} searches with other settings: {listed}. "
                    "Choose another directory (--out), or repeat the first command."
                )
            return
        if self.optuna.get_trials(deepcopy=False) or next(self.out.glob("trial-*"), None) is not None:
            raise RunDirectoryError(
                f"{self.out} holds trials of a study that is not in {storage}. Choose another directory (--out), or "
                "restore the storage."
            )
        start = self.plan.space.start(self.plan.base)
        if start is None:
            aside("perilune: the search space excludes the starting point, so no trial has its settings.")
        else:
            self.optuna.enqueue_trial(start)
        self.optuna.set_user_attr(PLAN, wanted)

    # Trials

    def directory(self, number: int) -> Path:
        """Return the directory of a trial."""
        return self.out / f"trial-{number}"

    def seeds(self, settings: Base, directory: Path, seeds: Sequence[int]) -> list[Trial]:
        """Return the seeds to train with the given settings, each with its run directory."""
        return [
            Trial(self.plan.environment, settings.agent, settings.train, seed, directory / f"seed-{seed}")
            for seed in seeds
        ]

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that have begun, by number."""
        return [one for one in self.optuna.get_trials(deepcopy=False) if one.state != TrialState.WAITING]

    def settings(self, trial: FrozenTrial) -> Base:
        """Return the settings of a trial."""
        return of_parameters(self.plan.space, trial.params, self.plan.base)

    def best(self) -> FrozenTrial | None:
        """Return the trial with the best value, or None if no trial is complete."""
        try:
            return self.optuna.best_trial
        except ValueError:
            return None

    def run(self, trials: int, engine: Engine, quiet: bool = False, ended: Callable[[], object] = lambda: None) -> None:
        """Run trials until the study has ``trials`` of them. Several processes may do so at the same time.

        Args:
            trials: number of trials, including those that already exist.
            engine: where worker processes run.
            quiet: do not show progress.
            ended: a function to call whenever trials have ended.

        Raises:
            TrialError: the first trials all failed.
        """
        with board(f"tuning {self.plan.name}", quiet) as screen:
            workers = work.start(engine, screen)
            if before := sum(one.state.is_finished() for one in self.trials()):
                screen.say(
                    f"{before} of {trials} trials have already ended"
                    if before < trials
                    else f"the search already has {before} trials. To run more, set --trials above {before}"
                )
            try:
                while True:
                    while len(workers) < workers.jobs and (job := self._next(trials)) is not None:
                        workers.submit([job])
                    if not len(workers):
                        if not self._others():
                            break
                        time.sleep(POLL)
                    running = len(self._active)
                    for job, reason in workers.wait().items() if len(workers) else ():
                        self._ended(job, reason, workers, screen)
                    if len(self._active) < running:
                        ended()
                    if not quiet:
                        states = [learning.progress(job.seed) for job in workers.running()]
                        screen.show(*self._progress(trials), states)
            finally:
                for active in self._active:
                    active.lock.release()
                self._active.clear()

    def _next(self, trials: int) -> Job | None:
        """Return the next seed to train, or None if other processes run all remaining ones."""
        while True:
            for active in self._active:
                for seed in active.seeds:
                    if seed not in active.scored and seed not in active.running:
                        active.running.add(seed)
                        return self._job(active, seed)
            if (claimed := self._claim(trials)) is None:
                return None
            self._active.append(claimed)
            self._advance(claimed)  # it may already be complete

    def _job(self, active: Active, seed: Trial) -> Job:
        until = self.plan.rungs[active.stage] if active.stage < len(self.plan.rungs) else None
        return Job(seed, self.name, active.trial.number, self.plan.objective, until)

    def _claim(self, trials: int) -> Active | None:
        """Return an interrupted trial or a new one, locked, or None if there is none left."""
        with locked(self.out):
            begun = self.trials()
            for one in begun:
                if one.state == TrialState.RUNNING and (guard := self._lock(one.number)) is not None:
                    return self._activated(optuna.Trial(self.optuna, one._trial_id), guard, one)
            if len(begun) >= trials:
                return None
            trial = self.optuna.ask()
            guard = self._lock(trial.number)
            assert guard is not None
        return self._activated(trial, guard)

    def _lock(self, number: int) -> FileLock | None:
        """Lock a trial, or return None if another process runs it, or if this process does."""
        if any(active.trial.number == number for active in self._active):
            return None
        directory = self.directory(number)
        directory.mkdir(exist_ok=True)
        guard = FileLock(directory / LOCK)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            return None
        # The workers of a killed process end a moment after it.
        if any(lock.owner(path) is not None for path in directory.glob("seed-*")):
            guard.release()
            return None
        return guard

    def _activated(self, trial: optuna.Trial, guard: FileLock, before: FrozenTrial | None = None) -> Active:
        """Choose the settings of a trial, or read them if it was interrupted, and prepare its directory."""
        number, directory = trial.number, self.directory(trial.number)
        try:
            self.optuna.sampler = samplers.sampler(self.plan.sampler, self.plan.seed, number)
            with nullcontext() if self._journal is None else self._journal.together():
                settings = self.plan.space.sample(trial, self.plan.base)
            files.update(directory / "settings.toml", settings_toml(self.plan, settings).encode())
            if not (directory / learning.MARK).exists():
                files.write(directory / learning.MARK)
            seeds = self.seeds(settings, directory, self.plan.seeds)
            reported = set() if before is None else set(before.intermediate_values)
            active = Active(trial, guard, seeds, reported)
            for seed in seeds:
                work.forget_other(seed)
            self._find_scored(active)
        except BaseException:
            guard.release()
            raise
        return active

    def _find_scored(self, active: Active) -> None:
        """Find the seeds that have already reached the next rung, or the end."""
        active.scored = {seed: value for seed in active.seeds if (value := self._value(active, seed)) is not None}

    def _value(self, active: Active, seed: Trial) -> float | None:
        """Return the value of a seed at the next rung, or at the end, or None if it has not got there."""
        final = work.value(seed)
        if active.stage == len(self.plan.rungs):
            return final
        value = work.return_at(seed.directory, self.plan.rungs[active.stage])
        if value is None and final is not None:  # it stopped early
            value = logs.read_log(seed.directory, Evaluated)[-1].mean_return
        return value

    def _ended(self, job: Job, reason: str | None, workers: Workers[Job], screen: Board) -> None:
        """Record that a seed has reached the next rung or the end, or has failed."""
        active = next(one for one in self._active if one.trial.number == job.trial)
        active.running.discard(job.seed)
        value = self._value(active, job.seed) if reason is None else None
        if value is None and reason is None and job.until is not None:
            # The run stopped before this rung, at stop_at_return. Its score follows.
            value = logs.read_log(job.seed.directory, Evaluated)[-1].mean_return
        if value is not None:
            active.scored[job.seed] = value
        else:
            reason = reason or f"{TRIAL} has no value"
            self._fail(active, job, reason, screen)
        self._advance(active, screen)
        if active not in self._active:
            workers.cancel(lambda one: one.trial == active.trial.number)

    def _fail(self, active: Active, job: Job, reason: str, screen: Board) -> None:
        """End a trial whose seed failed. Settings with which training diverges count as the worst ones."""
        number = active.trial.number
        with suppress(PeriluneError):
            files.write(self.directory(number) / FAILURE, f"{job.title}\n{reason}\n".encode())
        diverged = reason.startswith("DivergenceError")
        active.trial.set_user_attr("reason", reason.splitlines()[-1][:500])
        self._finish(active, TrialState.PRUNED if diverged else TrialState.FAIL)
        what = "diverged" if diverged else "failed"
        screen.say(f"{job.title} {what}: {reason.splitlines()[-1]}\n  log: {self.directory(number) / FAILURE}")
        states = [one.state for one in self.trials()]
        if states.count(TrialState.FAIL) >= MOST_FAILURES and TrialState.COMPLETE not in states:
            raise TrialError(
                f"the first {states.count(TrialState.FAIL)} trials failed. The last one: {reason.splitlines()[-1]} "
                f"The log is in {self.directory(number) / FAILURE}."
            )

    def _advance(self, active: Active, screen: Board | None = None) -> None:
        """Report the values of a trial, and end it if it is complete or bad."""
        while active in self._active:
            number = active.trial.number
            if not self.plan.rungs:
                for step, seed in enumerate(active.seeds):
                    if seed in active.scored:
                        self._report(active, active.scored[seed], step)
            if len(active.scored) < len(active.seeds):
                if self.plan.rungs or not active.scored or not active.trial.should_prune():
                    return
                self._pruned(active, screen)
                return
            values = [active.scored[seed] for seed in active.seeds]
            if active.stage < len(self.plan.rungs):
                mean = float(statistics.interquartile_mean(np.array(values)))
                sign = 1 if work.maximizes(self.plan.objective) else -1
                self._report(active, sign * mean, self.plan.rungs[active.stage])
                if active.trial.should_prune():
                    self._pruned(active, screen)
                    return
                active.stage += 1
                self._find_scored(active)
                continue
            value = work.combined(self.plan.objective, values)
            active.trial.set_user_attr("values", values)
            self._finish(active, TrialState.COMPLETE, value)
            if screen is not None:
                screen.say(f"trial {number}: {self.plan.objective} {show_return(value)}")

    def _report(self, active: Active, value: float, step: int) -> None:
        if step not in active.reported:
            active.trial.report(value, step)
            active.reported.add(step)

    def _pruned(self, active: Active, screen: Board | None) -> None:
        active.trial.set_user_attr("reason", f"stopped early by {self.plan.pruner}")
        self._finish(active, TrialState.PRUNED)
        if screen is not None:
            screen.say(f"trial {active.trial.number}: stopped early")

    def _finish(self, active: Active, state: TrialState, value: float | None = None) -> None:
        """End a trial in the storage, and release its lock."""
        self.optuna.tell(active.trial, value, state=state)
        self._active.remove(active)
        active.lock.release()

    def _others(self) -> bool:
        """Return whether other processes run trials."""
        return any(one.state == TrialState.RUNNING for one in self.trials())

    def _progress(self, trials: int) -> tuple[float, str]:
        """Return the share of the trials that is done, and their states as words."""
        states = [one.state for one in self.trials()]
        ended = sum(state.is_finished() for state in states)
        seeds = [seed for active in self._active for seed in active.seeds]
        share = ended + sum(learning.progress(seed).share for seed in seeds) / len(self.plan.seeds)
        words = f"{ended} of {trials} trials"
        for state, what in ((TrialState.PRUNED, "stopped early"), (TrialState.FAIL, "failed")):
            words += f", {states.count(state)} {what}" if state in states else ""
        best = self.best()
        words += "" if best is None or best.value is None else f", best {show_return(best.value)} (trial {best.number})"
        return min(1.0, share / trials), words

    def no_winner(self) -> TrialError:
        """Return the error for a study without a complete trial."""
        return TrialError("no trial is complete, so there is no winner. Run more trials (--trials).")
