"""Runs whose process is killed, whose disk is full, or whose files are damaged or forged.

These tests are short. ``make torture`` runs long versions and prints the results for docs/reference/checkpoints.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_runs import AGENT, cartpole, resealed
from perilune import DQN
from perilune.agent import state
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import PeriluneError, PeriluneWarning
from perilune.recording import Recorder
from perilune.runs import checkpoint, inspection, logs, manifest, snapshots
from perilune.training.progress import TrainingProgress
from perilune.viz import plots
from perilune.viz.report import content as report
from test_resume import lines, weights

PLAIN = [
    *("train", "CartPole-v1", "--seed", "4", "--steps", "1200", "--eval-every", "500", "--eval-episodes", "1"),
    *("--hidden", "32", "32", "--checkpoint-seconds", "0.05", "--epsilon-decay-steps", "700", "--quiet"),
]
TRAIN = [
    *PLAIN,
    *("--priority-alpha", "0.6", "--n-step", "3", "--learning-rate-schedule", "linear", "--num-envs", "3"),
    *("--learning-rate-decay-steps", "3000", "--learning-rate-end", "1e-5"),
]
LONG = pytest.mark.long


def perilune(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "perilune", *map(str, arguments)]


def finished(command: list[str], status: int = 0) -> str:
    """Run a command, check its exit status and return its standard error."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- trusted arguments
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def begun(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    """Wait until a condition holds while the process runs."""
    deadline = time.monotonic() + 120
    while not until():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def outcome(directory: Path) -> tuple[str, dict[str, list[Any]]]:
    """Return the hash of all weights, and the logs."""
    on_the_way = [path.read_bytes() for path in snapshots.paths(directory)]
    return hashlib.sha256(b"".join([weights(directory), weights(directory, "best"), *on_the_way])).hexdigest(), lines(
        directory
    )


@pytest.fixture(scope="module")
def repeats(torture: bool, request: pytest.FixtureRequest) -> int | None:
    """Return how often to disturb a run: once, or --repeats with --torture. None: the default of each test."""
    return request.config.getoption("--repeats") if torture else 1


# Killed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of ``TRAIN``. Tests must not change it."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    finished(perilune(*TRAIN, "--out", run))
    return run


@pytest.mark.parametrize("train", [pytest.param(PLAIN, id="plain", marks=LONG), pytest.param(TRAIN, id="family")])
def test_killed_and_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path, train: list[str], repeats: int | None
) -> None:
    whole = tmp_path / "whole"
    started = time.perf_counter()
    finished(perilune(*train, "--out", whole))
    seconds = time.perf_counter() - started
    expected = outcome(whole)
    generator = np.random.default_rng()
    kills, at = 0, Counter[str]()
    while kills < (repeats or 100):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        patience = 0.8 * seconds
        while True:
            patience *= 1.05  # so that the run ends even if the machine becomes slower
            resumes = (run / "config.json").exists()
            command = perilune("resume", run, "--quiet") if resumes else perilune(*train, "--out", run)
            process = begun(command)
            try:
                _, printed = process.communicate(timeout=generator.uniform(0.4, patience))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                at[_state_of(run)] += 1
            else:
                assert process.returncode == 0, printed
                break
        assert outcome(run) == expected
        assert all(finding.fault is None for finding in inspection.verify(run))
    print(f"\n{kills} kills, all resumed to the same weights and lines; {dict(at)}")


def _state_of(run: Path) -> str:
    """Return the state in which a process was killed."""
    if not (run / "config.json").exists():
        return "before the run existed"
    return "during a write" if list(run.rglob("*.partial")) else "between writes"


@LONG
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signal_saves_a_checkpoint_and_the_run_resumes_exactly(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    train = [*PLAIN, "--steps", "5000"]  # long enough to be interrupted
    finished(perilune(*train, "--out", tmp_path / "whole"))
    run = tmp_path / "run"
    process = begun(perilune(*train, "--out", run))
    log = run / "episodes.jsonl"
    wait(process, lambda: log.exists() and len(log.read_bytes().splitlines()) > 0)
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == status
    assert "saving a checkpoint at the end of this episode" in printed
    assert "Traceback" not in printed
    there = checkpoint.latest(run)[0]
    assert there.logs[0].size == (run / "episodes.jsonl").stat().st_size  # the log needs no truncation
    assert not there.training.finished
    finished(perilune("resume", run, "--quiet"))
    assert outcome(run) == outcome(tmp_path / "whole")


# Cost


@LONG
@pytest.mark.parametrize(("env", "steps"), [("LunarLander-v3", 60_000), ("CartPole-v1", 60_000)])
def test_saving_takes_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, steps: int, torture: bool
) -> None:
    spent = []
    save = Recorder.save

    def timed(*arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        save(*arguments, **named)
        spent.append(time.perf_counter() - started)

    monkeypatch.setattr(Recorder, "save", timed)
    # The short version saves as often as the limit on the time for saving allows. The long version uses the default.
    settings = {"steps": steps} if torture else {"steps": 15_000, "checkpoint_seconds": 1e-9}
    started = time.perf_counter()
    DQN(env, seed=1).train(**settings, eval_every=5_000, quiet=True, pictures=False, run_dir=tmp_path / "run")
    seconds = time.perf_counter() - started
    print(
        f"\n{env}: {len(spent)} checkpoints, {sum(spent):.3f} s of {seconds:.1f} s, {sum(spent) / seconds:.2%}, "
        f"{1e3 * max(spent):.0f} ms the longest"
    )
    assert len(spent) >= 3
    if torture:
        assert sum(spent) < 0.02 * seconds


def test_large_replay_is_saved_without_a_copy(tmp_path: Path, torture: bool) -> None:
    size, more = 1_000_000 if torture else 100_000, 30_000 if torture else 100
    dqn = DQN("LunarLander-v3", buffer_size=size, learning_starts=1_000, priority_alpha=0.6)
    agent, replay, generator = dqn.agent, dqn.agent.replay, np.random.default_rng(0)
    agent.take_memory()
    for array in replay.arrays:
        if array.dtype == np.float32:
            array[...] = generator.random(array.shape, np.float32)
    replay.added = agent.env_steps = size
    assert agent.priorities is not None
    agent.priorities.tree.set(np.arange(size), np.ones(size))
    setup, transition = dqn._setup(TrainConfig(steps=10**7)), (np.zeros(8, np.float32), 0, 0.0, 0.9, np.zeros(8))

    def save(directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        checkpoint.save(directory, agent, setup=setup, training=TrainingProgress.start(agent), logs=[], best=False)

    seconds = []
    for _ in range(4):
        started = time.process_time()
        save(tmp_path / "run")
        seconds.append(time.process_time() - started)
        for _ in range(more):
            replay.add(*transition)
        agent.env_steps += more
    tracemalloc.start()
    save(tmp_path / "again")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = sum(array.nbytes for array in replay.arrays)
    took = ", ".join(f"{one:.2f}" for one in seconds)
    print(
        f"\na replay of {size:,}, {held / 2**20:.0f} MiB: {took} CPU s, each after {more:,} steps; "
        f"{peak / 2**20:.1f} MiB of memory more at the most"
    )
    if torture:
        assert max(seconds) < 2.0
    assert peak < held / 2


# Memory


@LONG
def test_memory_stays_constant_once_the_replay_buffer_is_full(tmp_path: Path, torture: bool) -> None:
    steps, run = (1_000_000 if torture else 16_000), tmp_path / "run"
    settings = ["--steps", steps, "--buffer-size", steps // 8, "--video-every", 10, "--eval-every", steps // 20]
    process = begun(perilune("train", "CartPole-v1", *settings, "--hidden", 32, 32, "--quiet", "--out", run))
    seen: list[tuple[int, int]] = []  # environment steps, resident bytes
    page = resource.getpagesize()
    while process.poll() is None:
        time.sleep(1.0 if torture else 0.05)
        with suppress(OSError, IndexError, ValueError):
            resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page
            line = (run / "episodes.jsonl").read_bytes()[-4096:].splitlines()[-1]
            seen.append((json.loads(line)["env_steps"], resident))
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    assert len(list((run / "videos").glob("episode-*.mp4"))) > 3
    # Measure from the full replay buffer to the end of the steps; the curves are drawn later. An encoder needs a few
    # megabytes during a video, so compare the minimum and the maximum of both halves.
    full = [(env_steps, resident) for env_steps, resident in seen if 0.2 * steps < env_steps < 0.99 * steps]
    halves = [
        [resident for env_steps, resident in full if (env_steps < 0.6 * steps) == first] for first in (True, False)
    ]
    assert min(map(len, halves)) > 5
    for which in (min, max):
        before, after = map(which, halves)
        print(
            f"\nmemory over {steps:,} steps, {which.__name__}: {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB"
        )
        assert after < 1.05 * before


# Full disk


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from perilune.cli import main
main(sys.argv[2:])
"""


def assert_survived(run: Path, unbroken: Path, process: subprocess.Popen[str], reason: str) -> None:
    """Check a run whose process could not write."""
    _, printed = process.communicate()
    assert "Traceback" not in printed
    if process.returncode == 0:  # the number of checkpoints depends on the clock, so everything may fit
        assert outcome(run) == outcome(unbroken)
        return
    assert "cannot be written" in printed
    assert reason in printed


def assert_resumes(run: Path, unbroken: Path) -> None:
    if (run / "config.json").exists():  # otherwise the run could not start
        assert all(finding.fault is None for finding in inspection.verify(run))
        finished(perilune("resume", run, "--quiet"))
        assert outcome(run) == outcome(unbroken)


def test_file_size_limit_damages_no_saved_file(tmp_path: Path, unbroken: Path, repeats: int | None) -> None:
    # Files grow at different rates, so a different write fails at each limit.
    run = tmp_path / "run"
    largest = max(path.stat().st_size for path in unbroken.rglob("*") if path.is_file())
    moments = repeats or 20
    for moment in range(moments):
        shutil.rmtree(run, ignore_errors=True)
        limit = largest * (moment + 1) // (moments + 1)
        process = begun([sys.executable, "-c", FULL, str(limit), *TRAIN, "--out", str(run)])
        assert_survived(run, unbroken, process, "File too large")
        assert_resumes(run, unbroken)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)  # noqa: S603, S607


@LONG
def test_full_disk_damages_no_saved_file(disk: Path, unbroken: Path, repeats: int | None) -> None:
    run, ballast = disk / "run", disk / "ballast"
    needed = sum(path.stat().st_size for path in unbroken.rglob("*") if path.is_file()) + 2**18
    moments = repeats or 20
    for moment in range(moments):
        shutil.rmtree(run, ignore_errors=True)
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(bytes(max(0, free - needed * (moment + 1) // (moments + 1))))
        assert_survived(run, unbroken, begun(perilune(*TRAIN, "--out", run)), "No space left on device")
        ballast.unlink()
        assert_resumes(run, unbroken)


# Removed permissions


def without_root_override() -> list[str]:
    """Return a command prefix that makes file permissions apply even to root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not apply to root, and setpriv is not installed")
    capabilities = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]


def test_removed_permissions_damage_no_saved_file(tmp_path: Path, unbroken: Path) -> None:
    run = tmp_path / "run"
    process = begun(without_root_override() + perilune(*TRAIN, "--out", run))
    wait(process, (run / "config.json").exists)
    closed = (run, run / "checkpoints")
    for directory in closed:
        directory.chmod(0o500)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cannot be written: Permission denied" in printed
    assert f"perilune resume {run}" in printed
    assert "Traceback" not in printed
    again = begun(without_root_override() + perilune("resume", run, "--quiet"))
    _, printed = again.communicate(timeout=120)
    assert again.returncode == 1
    assert "Permission denied" in printed
    assert "Traceback" not in printed
    for directory in closed:
        directory.chmod(0o700)
    assert all(finding.fault is None for finding in inspection.verify(run))
    finished(perilune("resume", run, "--quiet"))
    assert outcome(run) == outcome(unbroken)


# Damage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two environments and prioritized replay. Tests must not change it."""
    out = tmp_path_factory.mktemp("damaged") / "run"
    dqn = DQN(cartpole(), seed=2, **AGENT | {"priority_alpha": 0.5})
    dqn.train(run_dir=out, steps=300, eval_every=100, eval_episodes=1, num_envs=2, quiet=True, pictures=False)
    return out


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Return ``content`` with random damage."""
    match generator.integers(6):
        case 0:
            return content[: generator.integers(len(content))]
        case 1:
            at = generator.integers(len(content))
            return content[:at] + bytes([content[at] ^ (1 << generator.integers(8))]) + content[at + 1 :]
        case 2:
            at = generator.integers(len(content))
            return content[:at] + generator.bytes(int(generator.integers(1, 40))) + content[at:]
        case 3:
            start = generator.integers(len(content))
            return content[:start] + content[start + generator.integers(1, 100) :]
        case 4:
            return generator.bytes(int(generator.integers(200)))
        case _:
            return _another_number(content, generator)


UNREAD = ("host.json", "settings.toml")  # no result depends on these files
NUMBERS = (
    *(b"1e999", b"1e308", b"99999999999999999999", b"-1", b"null", b"[]", b"9" * 400, b"NaN", b'"x"', b"0"),
    b'"\\ud800"',
)


def _another_number(content: bytes, generator: np.random.Generator) -> bytes:
    """Replace one number by one that is huge, negative, or not a number."""
    digits = [at for at in range(min(len(content), 4000)) if content[at : at + 1].isdigit()]
    if not digits:
        return content + b"0"
    at = digits[generator.integers(len(digits))]
    value = NUMBERS[generator.integers(len(NUMBERS))]
    return content[:at] + value + content[at + 1 :]


def _forged(path: Path, intact: bytes, generator: np.random.Generator) -> bytes:
    """Return a checkpoint with other settings and valid checksums, as an attacker can write it."""
    path.write_bytes(intact)

    def changed(content: Any) -> Any:
        return _another_number(json.dumps(content).encode(), generator).decode()

    resealed(path, changed)
    return path.read_bytes()


def _has_same_content(content: bytes, intact: bytes) -> bool:
    """Return whether two files have the same content in another notation, such as 5E-05 and 5e-05."""
    try:
        return bool(_content_of(content) == _content_of(intact))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _content_of(content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")
    if not 0 < length < len(content):  # not a safetensors file
        return json.loads(content)
    header = json.loads(content[8 : 8 + length])
    return header, content[8 + length :]


def test_damaged_or_forged_file_is_refused_with_an_error(tmp_path: Path, small: Path, torture: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(small, run)
    intact = {path: content for path in run.rglob("*") if path.is_file() and (content := path.read_bytes())}
    honest = sum(map(len, intact.values()))
    # A restored agent must have the state of one of the checkpoints.
    expected = {weights(small, "best"), *(_bytes_of(checkpoint.load(path)[1]) for path in checkpoint.paths(small))}
    generator, paths = np.random.default_rng(None if torture else 1), sorted(intact)
    refused = Counter[str]()
    while (number := refused.total()) < (50_000 if torture else 20):
        path = paths[generator.integers(len(paths))]
        content = damaged(intact[path], generator)
        forged = path.parent.name == checkpoint.DIRECTORY and generator.random() < 0.5
        if forged:
            content = _forged(path, intact[path], generator)
        if content == intact[path] or _has_same_content(content, intact[path]):
            continue
        path.write_bytes(content)
        looked_at = number % (1000 if torture else 20) == 0 or (path.suffix == ".jsonl" and number % 10 == 0)
        how = _opened(run, None if forged else expected, tmp_path if looked_at else None)
        if number % 10 == 0:  # measuring memory takes three times as long
            # Repeat if the peak is too high, because a hash table of the process may have grown at this moment.
            peaks = (_peak(lambda: _opened(run, None)) for _ in range(2))
            assert any(peak < 2 * honest + 2**21 for peak in peaks), path
        if path.name == "config.json" and how == "accepted":  # only a setting with its default value is missing
            assert manifest.read_setup(run) == checkpoint.latest(run)[0].setup
        else:
            assert forged or how != "accepted" or path.suffix in (".png", ".mp4") or path.name in UNREAD, path
        path.write_bytes(intact[path])
        refused[how] += 1
    print(f"\n{refused.total()} damaged files: {dict(refused)}")


def _peak(do: Callable[[], object]) -> int:
    """Return the peak of allocated bytes while ``do`` runs."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _opened(run: Path, expected: Any, shown: Path | None = None) -> str:
    """Open a run in every way. Return how it was refused, or "accepted" if nothing read the damaged part.

    Write curves and report to ``shown``.
    """
    found = "accepted"
    if any(finding.fault for finding in inspection.verify(run)):
        found = "named by verify"
    for look in (inspection.describe, logs.read_run):
        try:
            look(run)
        except PeriluneError as error:
            found = type(error).__name__
    if shown is not None:
        with suppress(PeriluneError), warnings.catch_warnings():
            warnings.simplefilter("ignore", PeriluneWarning)  # about skipped checkpoints
            read = logs.read_run(run)
            inspection.summary(inspection.describe(run), str(run))
            plots.curves([read]).save(shown, "curves")
            report.write_report([read], shown / "report.html", 0, lambda words: None)
    for open_it in (_restored, lambda run: weights(run, "best")):
        try:
            accepted = open_it(run)
            assert expected is None or accepted in expected
        except PeriluneError as error:
            found = type(error).__name__
    return found


def _restored(run: Path) -> bytes:
    """Return the agent of the newest intact checkpoint as bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PeriluneWarning)  # about skipped checkpoints
        return _bytes_of(checkpoint.latest(run)[1])


def _bytes_of(agent: Agent) -> bytes:
    return b"".join(array.tobytes() for array in state.arrays(agent).values())
