"""Step environments in worker processes, here or on a Ray cluster, with bit-for-bit identical results."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Protocol

import gymnasium as gym

from perilune._utils.cluster import connect
from perilune._utils.processes import check_program, interrupts_blocked
from perilune.envs.adapter import close, description, from_recipe, recipe
from perilune.envs.faults import Env, name
from perilune.errors import ConfigError, EnvironmentFaultError

Request = tuple[int, str, Any]  # index of a copy, "reset" or "step", and its argument
Answer = tuple[Any, Exception | None]
DEATHS = 3  # of a worker in the same time step, after which it is not started again


def check_workers(env: Env, workers: int) -> None:
    """Check that worker processes can make copies of an environment.

    Args:
        env: the environment.
        workers: number of processes, > 1.

    Raises:
        ConfigError: the environment cannot be made in another process.
        UsageError: the program lacks the line ``if __name__ == "__main__":``.
    """
    if _link.get() is Local:
        if multiprocessing.current_process().daemon:
            raise ConfigError("workers", workers, "1 in a daemon process, which cannot start other processes")
        check_program()
    given = recipe(env)
    try:
        made = None if given is env else from_recipe(given)
        same = made is not None and description(made) == description(env)
        multiprocessing.reduction.ForkingPickler.dumps(given)
    except Exception as error:  # an environment may raise anything
        raise _cannot_be_made(env, workers, f"{type(error).__name__}: {error}") from error
    if not same:
        raise _cannot_be_made(env, workers, "it is not registered, or a wrapper does not record its arguments")
    assert made is not None
    close(made)


def _cannot_be_made(env: Env, workers: int, why: str) -> ConfigError:
    return ConfigError("workers", workers, f"1, because {name(env)} cannot be created in another process ({why})")


def members(env: Env, count: int, workers: int) -> list[RemoteEnv]:
    """Return copies of an environment that step in worker processes.

    Args:
        env: the environment, which ``check_workers`` accepts.
        count: number of copies.
        workers: number of processes, at most ``count``. They share the copies evenly.
    """
    started = [Worker(env) for _ in range(workers)]
    return [RemoteEnv(started[index % workers], env) for index in range(count)]


class RemoteEnv(gym.Env[Any, Any]):
    """A copy of an environment in a worker process.

    To let several copies step at the same time, call ``send`` of each before ``step``. The info of the environment is
    not returned.
    """

    def __init__(self, worker: Worker, env: Env) -> None:
        self.worker, self.index, self.spec = worker, len(worker.members), env.spec
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.began: tuple[int | None, dict[str, Any] | None] | None = None  # seed and options of the last reset
        self.actions: list[Any] = []  # of the current episode, without those that are not answered
        worker.members.append(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.began, self.actions = None, []
        self.worker.post(self.index, "reset", (seed, options))
        obs = self.worker.receive(self.index)
        self.began = (seed, options)
        return obs, {}

    def send(self, action: Any) -> None:
        """Begin a time step."""
        self.worker.post(self.index, "step", action)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Return the result of the time step that ``send`` has begun, or of a new one."""
        if not self.worker.owes(self.index):
            self.send(action)
        obs, reward, terminated, truncated = self.worker.receive(self.index)
        self.actions.append(action)
        return obs, reward, terminated, truncated, {}

    def close(self) -> None:
        """Stop the worker process when its last environment is closed."""
        self.worker.leave(self.index)


class Worker:
    """A process that steps some copies of an environment.

    If the process dies, a new one plays the episodes again, from their seeds and actions, up to the current time step.

    Args:
        env: the environment.

    Attributes:
        members: the copies, by index.
    """

    def __init__(self, env: Env) -> None:
        self._recipe, self._name = recipe(env), name(env)
        self.members: list[RemoteEnv] = []
        self._open: set[int] = set()
        self._owed: deque[Request] = deque()  # requests without an answer so far
        self._deaths = 0  # since the last answer
        self._connect = _link.get()
        self._link = self._connect(self._recipe)

    def owes(self, index: int) -> bool:
        """Return whether a member waits for an answer."""
        return any(owed[0] == index for owed in self._owed)

    def post(self, index: int, what: str, argument: Any) -> None:
        """Send a request to a member."""
        self._open.add(index)
        self._owed.append((index, what, argument))
        with suppress(OSError):  # if the process has died, ``receive`` starts another one
            self._link.send((index, what, argument))

    def receive(self, index: int) -> Any:
        """Return the answer to the oldest request, which must be to this member.

        Raises:
            EnvironmentFaultError: the process died ``DEATHS`` times at the same time step.
            Exception: the environment raised it.
        """
        assert self._owed[0][0] == index
        while True:
            try:
                answer = self._link.recv()
            except (EOFError, OSError):
                self._again()
            else:
                break
        self._owed.popleft()
        self._deaths = 0
        return _opened(answer)

    def _again(self) -> None:
        """Start another process, let it play all episodes up to the current time step, and send the requests again."""
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise EnvironmentFaultError(
                f"the worker process of {self._name} died {DEATHS} times at the same time step. The environment may "
                "have crashed, or the machine may have too little memory. To see its error, train with workers=1"
            )
        self._link.close()
        self._link = self._connect(self._recipe)
        with suppress(EOFError, OSError):  # it died again, as the next ``receive`` notices
            for member in self.members:
                if member.began is None:
                    continue
                for request in (("reset", member.began), *(("step", action) for action in member.actions)):
                    self._link.send((member.index, *request))
                    _opened(self._link.recv())
            for owed in self._owed:
                self._link.send(owed)

    def leave(self, index: int) -> None:
        """Stop the process when its last member leaves."""
        self._open.discard(index)
        if not self._open:
            self._link.close()


def _opened(answer: Answer) -> Any:
    result, error = answer
    if error is not None:
        raise error
    return result


class Server:
    """The copies of an environment in a worker process.

    Args:
        given: the recipe of the environment.
    """

    def __init__(self, given: Any) -> None:
        self._recipe = given
        self._envs: dict[int, Env] = {}

    def answer(self, index: int, what: str, argument: Any) -> Answer:
        """Answer a request to a copy. Return the result, or the error that the environment raised."""
        try:
            if index not in self._envs:
                self._envs[index] = from_recipe(self._recipe)
            env = self._envs[index]
            if what == "reset":
                return env.reset(seed=argument[0], options=argument[1])[0], None
            return env.step(argument)[:4], None
        except Exception as error:  # an environment may raise anything
            return None, _portable(error)

    def close(self) -> None:
        """Close all copies."""
        for env in self._envs.values():
            close(env)


class Link(Protocol):
    """A connection to a worker process."""

    def send(self, request: Request) -> None:
        """Send a request. Raise OSError if the process has died."""
        ...

    def recv(self) -> Answer:
        """Return the answer to the oldest request. Raise EOFError or OSError if the process has died."""
        ...

    def close(self) -> None:
        """Stop the process."""
        ...


class Local:
    """A worker process on this machine.

    Args:
        given: the recipe of the environment.
    """

    def __init__(self, given: Any) -> None:
        self._connection, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, given), daemon=True)
        with interrupts_blocked():
            self._process.start()
        theirs.close()
        self.send, self.recv = self._connection.send, self._connection.recv

    def close(self) -> None:
        """Stop the process."""
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, given: Any) -> None:
    """Answer requests until the other side closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C interrupts only the process that learns
    server = Server(given)
    with suppress(EOFError, OSError):
        while True:
            answer = server.answer(*connection.recv())
            try:
                connection.send(answer)
            except (TypeError, AttributeError, ValueError) as error:  # such as an observation that cannot be pickled
                connection.send((None, _portable(error)))
    server.close()


class Remote:
    """A worker process on a Ray cluster: an actor with one CPU.

    Args:
        ray: the module, connected to the cluster.
        given: the recipe of the environment.
    """

    def __init__(self, ray: Any, given: Any) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Server).remote(given)
        self._answers: deque[Any] = deque()

    def send(self, request: Request) -> None:
        """Send a request."""
        self._answers.append(self._actor.answer.remote(*request))

    def recv(self) -> Answer:
        """Return the answer to the oldest request. Raise EOFError if the actor or its machine has died."""
        try:
            answer: Answer = self._ray.get(self._answers.popleft())
        except self._ray.exceptions.RayActorError as error:
            raise EOFError from error
        return answer

    def close(self) -> None:
        """Stop the actor."""
        self._ray.kill(self._actor)


_link: ContextVar[Callable[[Any], Link]] = ContextVar("link", default=Local)


@contextmanager
def on_cluster(address: str) -> Iterator[None]:
    """Run the worker processes of ``train(workers=...)`` on a Ray cluster while this block is active.

    Args:
        address: address of the cluster, or "auto" for the one that runs on this machine.

    Raises:
        ConfigError: there is no such cluster.
        MissingDependencyError: Ray is not installed.
    """
    ray, connected = connect(address)
    token = _link.set(partial(Remote, ray))
    try:
        yield
    finally:
        _link.reset(token)
        if connected:
            ray.shutdown()


def _portable(error: Exception) -> Exception:
    """Return an exception that the other process can read, with the traceback as a note."""
    try:
        multiprocessing.reduction.ForkingPickler.loads(multiprocessing.reduction.ForkingPickler.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note("".join(traceback.format_exception(error)))
    return error


def send(envs: Sequence[Env], actions: Sequence[int]) -> None:
    """Begin a time step in each copy of an environment. Other environments are left alone."""
    for env, action in zip(envs, actions, strict=True):
        if isinstance(env, RemoteEnv):
            env.send(action)
