"""Checkpoints: all that a training is, on disk, so that it goes on exactly where it was. docs/checkpoints.md.

RUN/checkpoints/000000120000.json      what was saved after 120,000 environment steps, and the names of its objects
RUN/checkpoints/objects/SHA256         an object: arrays, in safetensors, called by the checksum of what is in it

An object never changes, and checkpoints share those that are alike: of a replay only what is new is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors.numpy import save as to_bytes

from perilune._utils.arrays import Arrays
from perilune._utils.validation import Natural, check_fields, from_json
from perilune.agent import state
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.agent.factory import least_weights
from perilune.agent.state import AgentState
from perilune.errors import ConfigError, FileFormatError, PeriluneError, PeriluneWarning, RunDirectoryError, ShapeError
from perilune.replay.buffer import Batch, Replay
from perilune.replay.symmetry import Symmetry
from perilune.runs import files, runlog
from perilune.runs.files import Stored
from perilune.runs.runlog import WEIGHTS, Log, version
from perilune.training.progress import TrainingState

FORMAT = 1
DIRECTORY, OBJECTS = "checkpoints", "objects"
CHUNK = 2**22  # bytes of the replay in an object
LARGEST = 2**26  # bytes of a checkpoint's JSON: an episode under way has three for every action


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is trained: the environment, with what it was made with, the seed and every setting."""

    environment: str
    made: str
    reward_threshold: float | None
    observation_size: Natural
    actions: Natural
    seed: Natural
    symmetry: Symmetry | None
    agent: DQNConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> dict[str, Any]:
        """What config.json says, as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": runlog.FORMAT, **asdict(self)}))
        return plain


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint, as its JSON says it.

    ``arrays`` has the agent's arrays, ``replay`` the transitions in their order in the replay, ``weights`` the best
    weights so far. ``best``: taken right after the best evaluation so far.
    """

    format: Natural
    perilune: str
    setup: Setup
    agent: AgentState
    training: TrainingState
    best: bool
    arrays: Stored
    replay: tuple[Stored, ...]
    weights: Stored | None
    logs: tuple[Log, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def objects(self) -> list[Stored]:
        """All objects that it needs."""
        return [self.arrays, *self.replay, *([] if self.weights is None else [self.weights])]


def path_of(directory: Path, env_steps: int) -> Path:
    """Where the checkpoint of a run after ``env_steps`` is."""
    return directory / DIRECTORY / f"{env_steps:012d}.json"


def paths(directory: Path) -> list[Path]:
    """All checkpoints of a run, oldest first."""
    return sorted(
        path for path in (directory / DIRECTORY).glob("*.json") if re.fullmatch(r"\d{12}", path.stem) and path.is_file()
    )


def object_path(directory: Path, stored: Stored) -> Path:
    return directory / DIRECTORY / OBJECTS / stored.sha256


# Writing


def save(
    directory: Path,
    agent: Agent,
    *,
    setup: Setup,
    training: TrainingState,
    logs: Sequence[Log],
    best: bool,
    previous: Checkpoint | None,
) -> Checkpoint:
    """Write a checkpoint into the run ``directory``, and remove those that are no longer kept.

    All that a checkpoint needs is on disk before it appears under its name: whatever happens meanwhile, the earlier
    ones stay whole.

    Args:
        directory: the run.
        agent: at rest.
        setup, training, logs, best: what ``Checkpoint`` says of them.
        previous: the newest one there, with whose objects it shares what has not changed since.

    Raises:
        RunDirectoryError: it cannot be written, or is larger than what is read.
    """
    objects = directory / DIRECTORY / OBJECTS
    try:
        for made in (objects.parent, objects):  # not the run itself: one that was removed meanwhile stays removed
            made.mkdir(exist_ok=True)
    except OSError as error:
        raise files.cannot("written", objects, error) from error
    weights = directory / WEIGHTS["best"]
    checkpoint = Checkpoint(
        format=FORMAT,
        perilune=version(),
        setup=setup,
        agent=state.values(agent),
        training=training,
        best=best,
        arrays=_store(objects, to_bytes(state.arrays(agent))),
        replay=tuple(_replay(objects, agent, previous)),
        weights=_store(objects, weights.read_bytes()) if weights.exists() else None,
        logs=tuple(logs),
    )
    files.sync_directory(objects)
    path = path_of(directory, agent.env_steps)
    plain = msgspec.to_builtins(checkpoint)
    content = json.dumps({"sha256": _checksum(plain), "checkpoint": plain}, allow_nan=False).encode()
    try:  # or what can be read would make room for what cannot
        files.check_json(content, path, LARGEST)
    except FileFormatError as error:
        raise RunDirectoryError(
            f"no checkpoint can be taken: {error}. In it are the actions of every episode under way, and its last "
            "n_step steps; let there be fewer (max_episode_steps, environments, n_step)."
        ) from error
    files.write(path, content)
    _prune(directory, path, setup.train.keep_checkpoints)
    return checkpoint


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever its spaces and the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _store(objects: Path, content: bytes) -> Stored:
    """Put ``content`` among the objects, if it is not there yet."""
    stored = Stored(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    path = objects / stored.sha256
    if not path.is_file() or path.stat().st_size != stored.size:
        files.write(path, content)
    return stored


def _replay(objects: Path, agent: Agent, previous: Checkpoint | None) -> Iterator[Stored]:
    """The transitions, some megabytes an object: those written since the previous checkpoint anew, else its objects."""
    replay, rows = agent.replay, rows_of(agent.replay)
    known = () if previous is None else previous.replay
    added = 0 if previous is None else previous.agent.added
    for number, start in enumerate(range(0, replay.size, rows)):
        stop = min(start + rows, replay.size)
        if number < len(known) and not _written(start, stop, added, replay):
            yield known[number]
        else:
            yield _store(objects, to_bytes(_arrays(replay.arrays, start, stop)))


def _written(start: int, stop: int, since: int, replay: Replay) -> bool:
    """Whether any slot from ``start`` to before ``stop`` was written when ``since`` or more had been added."""
    written = min(replay.added - since, replay.capacity)
    first = since % replay.capacity  # of the slots written, which go on from there round and round
    return written > 0 and (
        (start - first) % replay.capacity < written or (first - start) % replay.capacity < stop - start
    )


def rows_of(replay: Replay) -> int:
    """Transitions in an object."""
    return max(1, CHUNK // (8 * replay.observation_size + 16))


def _arrays(batch: Batch, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in batch._asdict().items()}


def _prune(directory: Path, newest: Path, most: int) -> None:
    """Remove the checkpoints and objects that are not kept: of those before ``newest``, the latest and the best are.

    One that is later than ``newest`` is of a way that was not gone on: the training was taken up before it.
    """
    there = paths(directory)
    until = there[: there.index(newest) + 1]
    readable = {path: checkpoint for path in until if (checkpoint := _readable(path)) is not None}
    kept = {*until[-most:], *[path for path, checkpoint in readable.items() if checkpoint.best][-1:]}
    needed = {stored.sha256 for path in kept & readable.keys() for stored in readable[path].objects}
    unneeded = [path for path in there if path not in kept]
    unneeded += [path for path in (directory / DIRECTORY / OBJECTS).iterdir() if path.name not in needed]
    for path in unneeded:
        with suppress(OSError):  # it costs room, and no more: the next one tries again
            path.unlink()


def _readable(path: Path) -> Checkpoint | None:
    try:
        return read(path)
    except PeriluneError:
        return None


# Reading


def read(path: Path) -> Checkpoint:
    """What a checkpoint says, without its objects.

    Raises:
        RunDirectoryError: it is not there, or cannot be read.
        FileFormatError: it is damaged, foreign, or of a later version.
    """
    content = files.read_json(path, LARGEST)
    found = content.get("checkpoint")
    if content.keys() != {"sha256", "checkpoint"} or not isinstance(found, dict):
        raise FileFormatError(f"{path} is no checkpoint of Perilune")
    if content["sha256"] != _checksum(found):
        raise FileFormatError(f"{path} is damaged: its checksum is not that of what is in it")
    if found.get("format") != FORMAT:
        raise FileFormatError(f"{path} has format {found.get('format')!r}; this version of Perilune reads {FORMAT}")
    try:
        checkpoint = from_json(json.dumps(found).encode(), Checkpoint)
    except (ConfigError, RecursionError) as error:
        raise FileFormatError(f"{path} says what no checkpoint can say: {error}") from error
    _check_sizes(checkpoint, path)
    if path.name != path_of(path.parents[1], checkpoint.agent.env_steps).name:
        raise FileFormatError(f"{path} is of environment step {checkpoint.agent.env_steps:,}, which its name is not")
    return checkpoint


def _check_sizes(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse settings that ask for more memory than the objects have bytes, before any of it is taken."""
    setup, agent = checkpoint.setup, checkpoint.agent
    weights = least_weights(setup.agent, setup.observation_size, setup.actions)
    held = min(agent.added, setup.agent.buffer_size) * (8 * setup.observation_size + 16)
    replay = sum(stored.size for stored in checkpoint.replay)
    if checkpoint.arrays.size < 8 * weights:  # online and target
        raise FileFormatError(f"{path} has {checkpoint.arrays.size:,} bytes of arrays, too few for {weights:,} weights")
    if replay < held:
        raise FileFormatError(f"{path} has {replay:,} bytes of transitions, but says that they are {held:,}")


def latest(directory: Path) -> Checkpoint:
    """The newest checkpoint of a run that is whole, and can be gone on from. Others are passed over, with a warning.

    Raises:
        RunDirectoryError: there is none, or no run.
        FileFormatError: none of them is whole.
    """
    there = paths(directory)
    for path in reversed(there):
        try:
            checkpoint = read(path)
            restored(directory, checkpoint)
            if checkpoint.weights is not None:
                check_object(directory, checkpoint.weights)
        except (FileFormatError, RunDirectoryError) as error:
            warnings.warn(f"a checkpoint is passed over: {error}", PeriluneWarning, stacklevel=2)
        else:
            return checkpoint
    if there:
        raise FileFormatError(f"{directory} has no checkpoint that is whole; {len(there)} are damaged")
    runlog.read_config(directory)  # which says so where there is no run at all
    raise RunDirectoryError(
        f"{directory} has no checkpoint, so that it cannot be gone on with: there is nothing in "
        f"{directory / DIRECTORY}. Its weights can be evaluated; perilune train begins anew."
    )


def check_object(directory: Path, stored: Stored) -> Arrays:
    """See that an object is what it was, and that its numbers are finite: its arrays.

    Raises:
        RunDirectoryError: it is not there, or cannot be read.
        FileFormatError: it is damaged, or was spoilt before it was written.
    """
    path = object_path(directory, stored)
    found, _ = files.digest(path, stored.size + 1)
    if found != stored:
        raise FileFormatError(f"{path} is damaged: what is in it has another checksum than its name")
    return files.read_arrays(path)[1]


def restored(directory: Path, checkpoint: Checkpoint) -> Agent:
    """The agent of a checkpoint, as it was saved.

    Raises:
        RunDirectoryError, FileFormatError: as from ``restore``.
    """
    setup = checkpoint.setup
    try:
        agent = Agent(setup.observation_size, setup.actions, setup.agent, setup.seed, setup.symmetry)
    except ConfigError as error:
        path = path_of(directory, checkpoint.agent.env_steps)
        raise FileFormatError(f"{path} has settings of which no agent can be made: {error}") from error
    restore(directory, checkpoint, agent)
    return agent


def restore(directory: Path, checkpoint: Checkpoint, agent: Agent) -> None:
    """Put ``agent``, which has the checkpoint's settings, into the state that was saved.

    Raises:
        RunDirectoryError: an object is not there, or cannot be read.
        FileFormatError: an object is damaged, or does not fit the settings. The agent may be half changed then.
    """
    path = path_of(directory, checkpoint.agent.env_steps)
    try:
        state.restore(agent, checkpoint.agent, check_object(directory, checkpoint.arrays))
        _restore_replay(directory, checkpoint, agent.replay, agent.actions)
    except (ConfigError, ShapeError) as error:
        raise FileFormatError(f"{path} does not fit its own settings: {error}") from error


def _restore_replay(directory: Path, checkpoint: Checkpoint, replay: Replay, actions: int) -> None:
    rows = rows_of(replay)
    starts = range(0, replay.size, rows)
    if len(checkpoint.replay) != len(starts):
        raise ConfigError("replay", len(checkpoint.replay), f"{len(starts)} objects")
    for start, stored in zip(starts, checkpoint.replay, strict=True):
        views = _arrays(replay.arrays, start, min(start + rows, replay.size))
        state.fill(views, check_object(directory, stored))
        action, discount = views["action"], views["discount"]
        if action.min() < 0 or action.max() >= actions or discount.min() < 0 or discount.max() > 1:
            raise ConfigError("replay", "a transition", "actions of the environment, and discounts from 0 to 1")


def restore_weights(directory: Path, checkpoint: Checkpoint) -> None:
    """Let the run's best weights be those that they were.

    Raises:
        RunDirectoryError: they cannot be written.
        FileFormatError: they are damaged.
    """
    best = directory / WEIGHTS["best"]
    if checkpoint.weights is None:
        best.unlink(missing_ok=True)
        return
    check_object(directory, checkpoint.weights)
    files.write(best, files.read(object_path(directory, checkpoint.weights), checkpoint.weights.size))
