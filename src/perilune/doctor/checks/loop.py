"""Check the training loop on an environment with numbered states."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.checks.acting import UNLIKELY, available, redraws_noise, unlikely
from perilune.doctor.checks.epsilon import Epsilon, check_schedule, find_epsilon, recorded, untraced
from perilune.doctor.checks.replay import SAMPLES, Samples, as_samples, check_samples, draw, joined
from perilune.doctor.locate import raised_at
from perilune.doctor.numbered_env import Decoder, NumberedEnv, codes, declared_space
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, KeptGenerators, Session, as_array
from perilune.doctor.supervise import Interrupted

RUN_STEPS = 1_000  # length of the training run
LONG_RUN_STEPS = 12_000  # length of a second one, if the network was not updated in the first
LONG_RUN_SECONDS = 10.0  # CPU time that the second one may take
NEVER_STEPS = 120_000  # time steps without an update that are a fault; programs for Atari wait for 50,000 to 80,000
SYNC_UPDATES = 2_000  # updates in a run of LONG_RUN_STEPS without a sync that are a fault
RUN_SHARE = 0.5  # of the budget that one of these runs may take
EVERY = 10  # time steps between two looks at the Q-values
OVERRUN = 4  # some loops run a number of episodes instead; this many times as many time steps are enough
RARE_UPDATES = 0.05  # updates per time step; fewer are reported
LEAST_EPSILON = 0.05  # smallest constant epsilon that counts as exploration
BATCHES = 600  # batches that are kept
ONE_SIDED = 3.0  # how much more often errors at one end are sampled than those at the other
FEWEST = 50  # transitions with an error at each end


class _Enough(Interrupted):
    """Ends a loop that takes more time steps than needed."""


class Act(NamedTuple):
    """A call that chose an action for state ``asked`` (1,), while the environment was in state ``current``."""

    asked: Array
    current: int


class Watch:
    """A training run, with the agent's Q-values before each time step and the loop's calls of the adapter.

    Attributes:
        online: Q of the online network before each step, always in the same states (T, 8, A).
        target: The same of the target network.
        greedy: The greedy actions at each step: in the current state, and in the first state of the episode (T, 2).
        available: Whether q_values leaves each action unmasked in any state (A,).
        acts: Calls of ``act``.
        epsilons: Values of epsilon in the functions that choose actions.
        batches: Batches that the loop passed to ``train_batch``, the newest ones.
        trained: Number of calls of ``train_batch``.
    """

    def __init__(self, session: Session, agent: AgentCopy) -> None:
        self.session, self.agent = session, agent
        self.env = NumberedEnv(session.observation_size, session.actions, self._before_step, declared_space(agent))
        self.online: list[Array] = []
        self.target: list[Array] = []
        self.greedy: list[Array] = []
        self.available = np.zeros(session.actions, bool)
        self.acts: list[Act] = []
        self.epsilons: list[Epsilon] = []
        self.batches: deque[Samples] = deque(maxlen=BATCHES)
        self.trained = 0
        self._limit = 0
        self._states = session.observations(8)
        self._first = np.zeros(session.observation_size, np.float32)
        self._generators = KeptGenerators()
        self._decoder = Decoder()
        self._own = False  # whether the doctor itself calls the agent
        self._failure: AgentFailed | None = None

    def run(self, steps: int) -> None:
        """Run the loop. Raise AgentFailed if it fails, and CannotTell if it takes no time step."""
        places = find_epsilon(self.session.new_copy())
        self._limit = len(self.env.steps) + OVERRUN * steps
        with contextlib.suppress(_Enough), self._intercepted(), recorded(places, self._choose):
            self.agent.call("run", self.env, steps)
        self._decoder.finish()
        if self._failure is not None:
            raise self._failure
        if not self.env.steps:
            raise CannotTell(f"run(env, {steps}) took no time step")

    @property
    def updates(self) -> Array:
        """Indices of the time steps before which Q had changed."""
        return np.flatnonzero(np.diff(self.online, axis=0).any(axis=(1, 2))) + 1

    def first_of(self, numbers: Array) -> Array:
        """Return the first state of the episode of each state (N,)."""
        first = np.array(sorted(self.env.first))
        return first[np.searchsorted(first, numbers, side="right") - 1]

    def _before_step(self, obs: Array) -> None:
        if len(self.env.steps) >= self._limit:
            raise _Enough
        if self._failure is None:
            self._first = obs if self.env.number in self.env.first else self._first
            self._own = True
            try:
                with self._generators.step(), untraced():
                    self.online.append(self.agent.q(self._states))
                    if self.agent.has("target_q_values"):
                        self.target.append(self.agent.target_q(self._states))
                    q = self.agent.q(np.stack([obs, self._first]))
                self.greedy.append(q.argmax(axis=1))
                self.available |= available(q)[0]
            except AgentFailed as failure:  # the user's loop must not fail
                self._failure = failure
            self._own = False

    @contextlib.contextmanager
    def _intercepted(self) -> Iterator[None]:
        """Record the loop's calls of act and train_batch, as far as it calls those of the adapter."""
        adapter, records = self.agent.agent, {"act": self._act, "train_batch": self._train}
        own = dict(getattr(adapter, "__dict__", {}))
        for name, record in records.items():
            if self.agent.has(name):
                with contextlib.suppress(AttributeError, TypeError):  # not every object accepts attributes
                    setattr(adapter, name, self._recorded(getattr(adapter, name), record))
        try:
            yield
        finally:
            for name in records:
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(adapter, name, own[name]) if name in own else delattr(adapter, name)

    def _recorded(self, method: Callable[..., Any], record: Callable[..., None]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            if not self._own:  # the doctor's own calls
                # Arguments of another kind raise these exceptions.
                with contextlib.suppress(TypeError, ValueError, RuntimeError, IndexError), untraced():
                    record(*args, **keywords)
            return method(*args, **keywords)

        return call

    def _act(self, obs: Any, epsilon: Any = None) -> None:
        asked = self._decoder(as_array(obs).reshape(1, self.session.observation_size))
        self.acts.append(Act(asked, self.env.number))

    def _choose(self, epsilon: float) -> None:
        self.epsilons.append(Epsilon(len(self.env.steps), self.env.number, epsilon))

    def _train(self, *batch: Any) -> None:
        self.trained += 1
        self.batches.append(as_samples(batch, self.session.observation_size, self.trained, self._decoder))


def check_loop(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Run the training loop and check resets, updates, syncs, exploration and the stored transitions."""
    began, watch = time.process_time(), Watch(session, agent)
    try:
        watch.run(RUN_STEPS)
        spent = time.process_time() - began
        if not len(watch.updates) and spent * LONG_RUN_STEPS < LONG_RUN_SECONDS * len(watch.env.steps):
            watch = Watch(session, session.new_copy())
            watch.run(LONG_RUN_STEPS)
    except AgentFailed as failure:
        if not (invalid := list(_invalid_actions(watch))):
            invalid = [_old_interface(failure, watch.env)]
        yield from invalid
        return
    env, steps = watch.env, len(watch.env.steps)
    if env.late:
        yield finding("environment.no_reset", late=env.late, steps=steps)
        return
    if invalid := list(_invalid_actions(watch)):
        yield from invalid
        return
    seconds = (time.process_time() - began) / steps
    yield from _updates(watch, seconds)
    yield from _syncs(watch, seconds)
    yield from _states(watch)
    yield from _exploration(watch)
    yield from check_schedule(session, watch.epsilons, env)
    yield from _transitions(watch)
    if not len(watch.updates) and not {"hyperparameters.warm_up", "loop.never_learns"} & set(session.found):
        raise CannotTell(f"in {steps} time steps, the loop never updated the network. Shorten its warm-up in run()")


def _invalid_actions(watch: Watch) -> Iterator[Finding]:
    """Check that the environment has the actions that the loop takes."""
    for step in watch.env.steps:
        if not 0 <= step.action < watch.session.actions:
            yield finding("exploration.out_of_range", action=step.action, last=watch.session.actions - 1)
            return


def _old_interface(failure: AgentFailed, env: NumberedEnv) -> Finding:
    """Return a finding if the loop expects the results of the old reset() and step(). Otherwise raise ``failure``."""
    error, text = failure.error, str(failure.error)
    removed = isinstance(error, AttributeError) and error.name == "seed"
    unpacking = isinstance(error, ValueError) and "unpack" in text
    if removed or unpacking or (("tuple" in text or "inhomogen" in text) and not isinstance(error, IndexError)):
        return finding("environment.old_interface", error=failure).at(raised_at(error))
    if isinstance(error, AttributeError) and error.obj is env:
        raise CannotTell(f"the loop reads env.{error.name}, which the doctor's environment does not have")
    if not env.steps and "space" in text and isinstance(error, ValueError | AssertionError):
        raise CannotTell(f"the loop rejects the spaces of the doctor's environment: {text}")
    raise failure


def _updates(watch: Watch, seconds: float) -> Iterator[Finding]:
    """Check how often the loop updates the network. A time step takes ``seconds``."""
    steps, updates = watch.env.steps, watch.updates
    if not len(updates):
        yield _no_updates(watch, seconds)
        return
    span = len(steps) - updates[0]
    rate = max(len(updates), watch.trained) * watch.session.calls_per_update / span
    only_at_ends = len(updates) >= 5 and all(steps[index].before in watch.env.first for index in updates)
    if span >= 200 and (rate < RARE_UPDATES or (only_at_ends and watch.trained < 0.5 * span)):
        when = ", all of them between two episodes" if only_at_ends else ""
        yield finding("loop.few_updates", updates=len(updates), steps=span, rate=1000 * len(updates) / span, when=when)


def _no_updates(watch: Watch, seconds: float) -> Finding:
    """Return why the loop does not update the network, after a run that is longer than any usual warm-up if needed."""
    session, agent, env = watch.session, watch.agent, watch.env
    never = False
    if not _evicted(agent, env) and seconds * NEVER_STEPS < RUN_SHARE * session.budget and not session.noise:
        changed, agent, env = _run_until_change(session, "q_values", NEVER_STEPS)
        if changed:
            return finding("loop.no_updates", steps=len(watch.env.steps))
        never = True
    steps = len(env.steps)
    if evicted := _evicted(agent, env):
        return finding("hyperparameters.warm_up", steps=steps, evicted=evicted, left=steps - evicted)
    return finding("loop.never_learns" if never else "loop.no_updates", steps=steps)


def _syncs(watch: Watch, seconds: float) -> Iterator[Finding]:
    """Check that the loop syncs the target network, which may be long after its first update.

    A time step takes ``seconds``.
    """
    steps, updates, session = len(watch.env.steps), len(watch.updates), watch.session
    if not updates or not watch.target or np.diff(watch.target, axis=0).any():
        return
    if updates * LONG_RUN_STEPS < SYNC_UPDATES * steps or seconds * LONG_RUN_STEPS > RUN_SHARE * session.budget:
        yield finding("target_network.not_synced_yet", steps=steps, updates=updates)
    elif not _run_until_change(session, "target_q_values", LONG_RUN_STEPS)[0]:
        yield finding("target_network.sync_not_reached", steps=LONG_RUN_STEPS, first=steps, updates=updates)


def _run_until_change(session: Session, method: str, steps: int) -> tuple[bool, AgentCopy, NumberedEnv]:
    """Run the loop for ``steps`` time steps, or until the Q-values of ``method`` change.

    Return whether they changed or the loop ended early, the agent, and the environment.
    """
    agent, states = session.new_copy(), session.observations(8)
    before = agent.q(states, method)

    def changed() -> bool:
        return bool((agent.q(states, method) != before).any())

    def look(_: Array) -> None:
        if len(env.steps) >= steps or (len(env.steps) % EVERY == 0 and changed()):
            raise _Enough

    env = NumberedEnv(session.observation_size, session.actions, look, declared_space(agent))
    with contextlib.suppress(_Enough, AgentFailed):  # the loop may raise another exception when it is stopped
        agent.call("run", env, steps)
    return changed() or len(env.steps) < steps, agent, env


def _evicted(agent: AgentCopy, env: NumberedEnv) -> int:
    """Return how many of the first transitions the replay buffer no longer has, or 0 if less than a tenth of all."""
    if not agent.has("sample") or agent.session.replay_faulty:
        return 0
    samples = draw(agent, SAMPLES)
    oldest = int(np.searchsorted([step.before for step in env.steps], samples.before.min()))
    return oldest if samples.before.min() >= 0 and oldest > len(env.steps) // 10 else 0


def _states(watch: Watch) -> Iterator[Finding | str]:
    """Check that the loop chooses actions for the current state."""
    acts = np.array([(int(act.asked[0]), act.current) for act in watch.acts])
    acts = acts[(acts >= 0).all(axis=1)] if len(acts) else acts
    acts = acts[~np.isin(acts[:, 1], list(watch.env.first))] if len(acts) else acts
    if len(acts) >= 50:
        asked, current = acts.T
        wrong = asked != current
        if wrong.mean() > 0.5:
            stuck = (asked == watch.first_of(current))[wrong].mean()
            details = f"{wrong.mean():.0%} of {len(acts)} actions were chosen for a state other than the current one"
            if stuck > 0.8:
                details += f", {stuck:.0%} of them for the first state of the episode"
                yield finding("loop.state_not_advanced", details=details)
            else:
                details += f". Example: for state {asked[wrong][0]} in state {current[wrong][0]}"
                yield finding("loop.acts_on_other_state", details=details)
        return
    # Which of the two greedy actions does the loop take where they differ? Some agents repeat each action a few times.
    steps = watch.env.steps
    now, first = np.array(watch.greedy).T
    before, actions = np.array([(step.before, step.action) for step in steps]).T
    rows = (now != first) & (before - watch.first_of(before) >= 5) & (np.arange(len(steps)) > len(steps) / 2)
    count, as_first, as_now = rows.sum(), (actions == first)[rows].sum(), (actions == now)[rows].sum()
    if count and as_first > 0.85 * count and unlikely(as_first, count, 0.5, above=True):
        details = (
            f"In {as_first} of {count} time steps, the action is the greedy one for the first state of the episode "
        )
        yield finding("loop.state_not_advanced", details=details + "and not for the current state")
    elif (
        not watch.agent.has("sample") and not watch.batches and not unlikely(as_now, as_first + as_now, 0.5, above=True)
    ):
        yield "the states of the loop: run() does not call act() of the adapter, and the actions do not reveal them"


def _exploration(watch: Watch) -> Iterator[Finding | str]:
    """Check that the share of greedy actions rises, and does not start at 1."""
    session, steps = watch.session, watch.env.steps
    quarter = len(steps) // 4
    if session.actions == 1 or quarter < 75:
        return
    actions = np.array([step.action for step in steps])
    greedy = actions == np.array(watch.greedy)[:, 0]
    counts = np.bincount(actions, minlength=session.actions)
    never = watch.available & (counts == 0)
    if session.actions > 2 and never.any() and (1 - 1 / (session.actions - 1)) ** (~greedy).sum() < UNLIKELY:
        listing = ", ".join(map(str, counts))
        yield finding("exploration.action_never_tried", count=len(steps), counts=listing, origin="of the training loop")
    shares = {"steps": len(steps), "first": greedy[:quarter].mean(), "last": greedy[-quarter:].mean()}
    chance = 1 / session.actions
    noisy = bool(session.not_regression)  # then the agent's greedy actions may differ from those of its q_values
    if shares["last"] < chance + 0.15 and shares["first"] < chance + 0.25 and not noisy:
        yield finding("exploration.stuck", **shares)
    elif _at_most(int((~greedy).sum()), len(steps), LEAST_EPSILON * (1 - chance)) < UNLIKELY:
        if redraws_noise(session, session.new_copy()):
            yield "exploration during training: the noise of the network may replace random actions"
        else:
            yield finding("exploration.never_explores", **shares)


def _at_most(count: int, total: int, share: float) -> float:
    """Return the probability of at most ``count`` events in ``total`` trials with the probability ``share`` each."""
    if count >= share * total:
        return 1.0
    k = np.arange(count + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((total - k[:-1]) / (k[:-1] + 1)))])
    return float(np.exp(ways + k * np.log(share) + (total - k) * np.log(1 - share)).sum())


def _transitions(watch: Watch) -> Iterator[Finding | str]:
    """Check the transitions in the replay buffer and in the batches that the loop trains on."""
    session, faulty = watch.session, False
    if watch.agent.has("sample") and not session.replay_faulty:
        samples = draw(watch.agent, SAMPLES)
        for one in check_samples(session, samples, watch.env, in_loop=True):
            faulty |= one.severity != "note"
            yield one
        if not faulty:
            yield from _priorities(watch, samples)
    if watch.batches and not faulty and not session.replay_faulty:
        yield from check_samples(session, joined(watch.batches), watch.env, in_loop=True)
    elif not watch.batches and not watch.agent.has("sample"):
        yield "transitions: the adapter has no sample(), and run() does not call train_batch() of the adapter"


def _priorities(watch: Watch, samples: Samples) -> Iterator[Finding]:
    """Check that the lowest and the highest TD errors are sampled about equally often, if they are equally large."""
    session, agent = watch.session, watch.agent
    if session.noise or not len(watch.updates) or np.median((samples.after - samples.before)[samples.after >= 0]) != 1:
        return  # rewards may be n-step returns
    steps = [step for step in watch.env.steps if step.before >= samples.before.min()]
    numbers = np.array([(step.before, step.after) for step in steps]).T
    before, after = (codes(states, session.observation_size).astype(np.float32) for states in numbers)
    next_q = agent.target_q(after) if agent.has("target_q_values") else agent.q(after)
    running = np.array([not step.terminated for step in steps])
    targets = np.array([step.reward for step in steps]) + session.discount * running * next_q.max(axis=1)
    errors = targets - agent.q(before)[np.arange(len(steps)), [step.action for step in steps]]
    drawn = np.bincount(samples.before, minlength=numbers.max() + 1)[numbers[0]]
    ends = errors <= np.quantile(errors, 0.25), errors >= np.quantile(errors, 0.75)
    means, times = (np.array([values[end].mean() for end in ends]) for values in (errors, drawn))
    less = int(times.argmin())
    equal = abs(means[less]) > 0.7 * abs(means[1 - less])
    if len(steps) >= 4 * FEWEST and times.max() > ONE_SIDED * times.min() and equal:
        yield finding("replay.one_sided_priorities", means=means, times=times)
