"""Seeds on a Ray cluster: the same results as on one machine, also if processes, machines or the command die."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import test_workers
from perilune import DQNConfig, TrainConfig, tune
from perilune.bench import learning
from perilune.bench.cluster import Cluster, _work, open_engine
from perilune.bench.learning import Trial, run_trials
from perilune.bench.pool import Workers
from perilune.cli import main
from perilune.envs.workers import on_cluster
from perilune.errors import (
    ConfigError,
    EnvironmentFaultError,
    MissingDependencyError,
    RunDirectoryError,
    RunInUseError,
    UsageError,
)
from perilune.nn.backend import backend
from perilune.runs.files import read_json

pytest.importorskip("ray")

# The greedy episodes stay short, so that scoring is fast.
AGENT = DQNConfig(hidden=(8,), batch_size=16, buffer_size=2_000, learning_starts=100, learning_rate=1e-6)
TRAIN = TrainConfig(steps=1_500, eval_every=100, eval_episodes=1)
SMALL = (
    "--steps 300 --learning-starts 50 --eval-every 100 --eval-episodes 1 --hidden 4 --learning-rate 1e-6 "
    "--learning-rate-end 0 --quiet"
)
MACHINE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a Ray cluster of one machine with two CPUs."""
    from ray.cluster_utils import Cluster as Machines  # noqa: PLC0415 -- slow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # by default, the seeds would yield to everything else here
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of the environments in test_workers
        machines = Machines(initialize_head=True, head_node_args=MACHINE | {"num_cpus": 2})
    yield machines.address
    machines.shutdown()


def trials(out: Path, seeds: int, train: TrainConfig = TRAIN) -> list[Trial]:
    return [Trial("CartPole-v1", AGENT, train, seed, out / f"seed-{seed}") for seed in range(seeds)]


def weights(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("seed-*/final.safetensors")}


def kill_owner(run: Path) -> bool:
    """Kill the process that trains a run, if there is one. Return whether it was killed."""
    with suppress(OSError, ValueError):
        os.kill(json.loads((run / "owner.json").read_text())["pid"], signal.SIGKILL)
        return True
    return False


def test_seeds_whose_processes_are_killed_end_with_the_same_weights(tmp_path: Path, address: str) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    run_trials(trials(alone, 2), quiet=True)
    learning.prepare(trials(together, 2))
    killed: set[Path] = set()
    restarted: list[str] = []
    ended: dict[Trial, str | None] = {}
    with closing(Cluster(address)) as engine:
        assert engine.jobs == 2
        workers = Workers(learning._run, engine, lambda trial, reason: restarted.append(reason))
        workers.submit(trials(together, 2))
        while len(workers):
            ended |= workers.wait()
            killed |= {
                run for run in together.glob("seed-*") if run not in killed and _has_saved(run) and kill_owner(run)
            }
    assert restarted == ["the worker process was killed"] * 2
    assert set(ended.values()) == {None}
    assert weights(alone) == weights(together)


def _has_saved(run: Path) -> bool:
    return any(run.glob("checkpoints/*")) and not (run / "final.safetensors").exists()


def test_search_and_benchmark_accept_a_cluster(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the processes of the cluster have another working directory
    settings: dict[str, Any] = {"steps": 300, "eval_every": 100, "eval_episodes": 1} | vars(AGENT)
    found = [
        tune(
            "CartPole-v1", None, trials=2, seeds_per_trial=1, comparison_seeds=0, out=f"tune-{name}", cluster=cluster,
            search_space={"learning_rate": {"choices": [1e-5, 1e-6]}}, sampler="random", pruner="none", quiet=True,
            **{name: settings[name] for name in settings if name != "learning_rate"},
        )
        for name, cluster in (("alone", None), ("cluster", address))
    ]  # fmt: skip
    assert [trial.values for trial in found[0].trials] == [trial.values for trial in found[1].trials]
    main(["bench", "learning", "CartPole-v1", "--seeds", "1", "--cluster", address, "--out", "bench", *SMALL.split()])
    assert (tmp_path / "bench" / "seed-0" / "score.json").exists()


def test_workers_on_a_cluster_give_the_same_weights_even_if_they_die(tmp_path: Path, address: str) -> None:
    expected = test_workers.trained(test_workers.fragile(""))
    with on_cluster(address):
        dqn = test_workers.trained(test_workers.fragile("dies once", tmp_path), workers=2)
        assert not multiprocessing.active_children()
        with pytest.raises(EnvironmentFaultError, match="died 3 times at the same time step"):
            test_workers.trained(test_workers.fragile("dies"), workers=2)
        with pytest.raises(EnvironmentFaultError, match="ValueError: no such place"):
            test_workers.trained(test_workers.fragile("raises"), workers=2)
    assert test_workers.weights(dqn) == test_workers.weights(expected)
    assert len(list(tmp_path.iterdir())) == 2
    main(
        ["train", "CartPole-v1", "--num-envs", "2", "--workers", "2", "--cluster", address, "--out",
         str(tmp_path / "run"), *SMALL.split()]
    )  # fmt: skip
    assert (tmp_path / "run" / "final.safetensors").exists()


def test_cluster_that_does_not_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cluster='127.0.0.1:1' is invalid: .* none answers .*`ray start --head`"):
        open_engine(None, "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[ray\]"):
        open_engine(None, "auto")


def test_machine_with_other_software_or_without_the_directory_is_an_error(tmp_path: Path) -> None:
    other = f"perilune 0.0.1, numpy {np.__version__}"
    with pytest.raises(UsageError, match=r"but this command uses perilune 0.0.1, numpy .*\. Install the same versions"):
        _work(print, other, backend(), "item")
    (trial,) = trials(tmp_path / "elsewhere", 1)
    with pytest.raises(RunDirectoryError, match=r"elsewhere does not exist on .* all machines share"):
        learning._run(trial)


def test_seed_waits_for_the_lock_of_the_process_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from perilune.bench import cluster  # noqa: PLC0415

    states = iter([RunInUseError("in use"), RunInUseError("in use"), None])

    def work(item: str) -> None:
        if (error := next(states)) is not None:
            raise error

    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    _work(work, cluster._software(), backend(), "item")
    assert next(states, "used up") == "used up"
    monkeypatch.setattr(cluster, "PATIENCE", -1.0)
    states = iter([RunInUseError("in use")])
    with pytest.raises(RunInUseError):
        _work(work, cluster._software(), backend(), "item")


def test_scripts_for_slurm_share_the_work(tmp_path: Path) -> None:
    """Run each script of the guide twice at the same time, as two tasks of an array job."""
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "run-on-a-cluster.md").read_text(encoding="utf-8")
    scripts = re.findall(r"```slurm\n(.*?)```", page, re.DOTALL)
    assert len(scripts) == 2
    for number, script in enumerate(scripts):
        directives = [line for line in script.splitlines()[1:] if line.startswith("#")]
        assert all(line.startswith("#SBATCH --") for line in directives)
        path = tmp_path / f"{number}.sbatch"
        path.write_text(
            script.replace("/shared", str(tmp_path))
            .replace("perilune ", f"{sys.executable} -m perilune ")
            .replace("--trials 200", "--trials 3 --comparison-seeds 1 --seeds-per-trial 1 --pruner none")
            .replace("--quiet", SMALL)
        )
        tasks = []
        for task in range(2):
            given = {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": str(task)}
            environment = os.environ | given | {"PYTHONPATH": os.pathsep.join(sys.path)}
            tasks.append(subprocess.Popen(["bash", path], env=environment, stdout=subprocess.PIPE))  # noqa: S603, S607
        for started in tasks:
            started.communicate()
            assert started.returncode == 0
    assert sorted(path.name for path in (tmp_path / "cartpole").glob("trial-*")) == ["trial-0", "trial-1", "trial-2"]
    assert (tmp_path / "cartpole" / "report.html").exists()
    assert len(list((tmp_path / "seeds").glob("seed-*/score.json"))) == 2


@pytest.mark.long
def test_seeds_survive_machines_and_commands_that_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty seeds on three machines. Twenty times, a machine is killed, and every fourth time the command, too."""
    from ray.cluster_utils import Cluster as Machines  # noqa: PLC0415 -- slow

    alone, together = tmp_path / "alone", tmp_path / "together"
    seeds, train = 20, TrainConfig(steps=30_000, eval_every=1_000, eval_episodes=1)
    options = [
        "--preset",
        "plain",
        "--seeds",
        str(seeds),
        "--steps",
        "30000",
        "--eval-every",
        "1000",
        "--eval-episodes",
        "1",
    ]
    options += ["--hidden", "8", "--learning-rate", "1e-6", "--quiet", "CartPole-v1"]
    main(["bench", "learning", "--out", str(alone), "--jobs", "2", *options])
    monkeypatch.setenv("RAY_worker_niceness", "0")
    machines = Machines(initialize_head=True, head_node_args=MACHINE | {"num_cpus": 0})
    nodes = [machines.add_node(**MACHINE) for _ in range(3)]
    command = [sys.executable, "-m", "perilune", "bench", "learning", "--out", str(together), *options]
    command += ["--cluster", machines.address]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment)  # noqa: S603

    process, generator, kills = started(), np.random.default_rng(0), 0
    while process.poll() is None:
        time.sleep(float(generator.uniform(0, 15)))
        if kills == 20 or not any(map(_has_saved, together.glob("seed-*"))):
            continue
        place = int(generator.integers(3))
        machines.remove_node(nodes[place], allow_graceful=False)
        nodes[place] = machines.add_node(**MACHINE)
        kills += 1
        if kills % 4 == 0:
            process.kill()
            process.wait()
            process = started()
    machines.shutdown()
    assert (process.returncode, kills) == (0, 20)
    assert read_json(alone / "seed-0" / "config.json")["train"]["steps"] == train.steps
    assert len(weights(alone)) == seeds
    assert weights(alone) == weights(together)
