"""Measure how many trials per second simulated workers can record in one journal of `perilune tune`.

    python -m benchmarks.journal --workers 2 4 8 16 32 64 --trials 512

Each worker is a process that asks for trials, samples 20 settings at random, reports two values and ends the trial. It
trains nothing, so the result is the limit that the journal itself sets.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

from perilune.tuning.storage import open_storage

SETTINGS = 20  # in the default search space


def work(path: Path, trials: int, ready: Any, used: Any) -> None:
    """Record trials in a journal, and report the CPU time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, journal = open_storage(path)
    assert journal is not None
    study = optuna.load_study(study_name="speed", storage=storage, sampler=optuna.samplers.RandomSampler())
    ready.wait()
    before = time.process_time()
    for _ in range(trials):
        trial = study.ask()
        with journal.together():
            value = sum(trial.suggest_float(f"setting_{number}", 0, 1) for number in range(SETTINGS))
        for step in (25_000, 50_000):
            trial.report(value, step)
        study.tell(trial, value)
    used.put(time.process_time() - before)


def measure(workers: int, trials: int, directory: Path) -> tuple[float, float, int, float]:
    """Measure a journal.

    Returns:
        Trials per second of all workers together, milliseconds of CPU time per trial, bytes of the journal per trial,
        and seconds of CPU time that a new process needs to read the journal.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = directory / f"journal-{workers}.log"
    optuna.create_study(study_name="speed", storage=open_storage(path)[0])
    context = multiprocessing.get_context("spawn")
    ready, used = context.Barrier(workers + 1), context.Queue()
    processes = [context.Process(target=work, args=(path, trials // workers, ready, used)) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    start = time.perf_counter()
    cpu = sum(used.get() for _ in processes)
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    start = time.process_time()
    recorded = optuna.load_study(study_name="speed", storage=open_storage(path)[0]).get_trials(deepcopy=False)
    reading = time.process_time() - start
    assert len(recorded) == trials // workers * workers
    assert all(trial.state.is_finished() for trial in recorded)
    return len(recorded) / seconds, 1_000 * cpu / len(recorded), path.stat().st_size // len(recorded), reading


def main() -> None:
    """Print the results as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--trials", type=int, default=512)
    options = parser.parse_args()
    print("| workers | trials per second | CPU ms per trial | bytes per trial | CPU s to read the journal |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=".") as directory:
        for workers in options.workers:
            rate, cpu, size, reading = measure(workers, options.trials, Path(directory))
            print(f"| {workers} | {rate:.1f} | {cpu:.0f} | {size:,} | {reading:.2f} |", flush=True)


if __name__ == "__main__":
    main()
