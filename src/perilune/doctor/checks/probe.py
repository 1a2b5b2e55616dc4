"""Let the agent learn tiny problems whose values are known, with its own updates.

The checks of the target, the loss and the gradients measure single updates, which not every sound agent allows. But
every sound agent can learn the values of these problems, so they show what works for any kind of update.

A wrong value is a finding only if the values stopped changing, the agent learns the correct values from rewards alone,
and an outdated target network does not explain the error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune.doctor import catalogue
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.checks.quantiles import check_quantiles
from perilune.doctor.learner import ALIKE, CLOSE, MAX_UPDATES, STATES, WRONG, Learned, Learner, Problem
from perilune.doctor.report import Finding, Passed
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.supervise import MORE
from perilune.doctor.weights import differ

TITLE = "probe problems"
TIMES = 12  # updates allowed for a problem, relative to those for a constant
AMPLIFIED = 1.5  # a larger value of a reward of 1 may be the sum of discounted rewards
LARGE = 3  # rewards, and sizes of observations relative to those of the other problems
BLIND = 0.999  # overlap of observations or actions whose differences an agent cannot learn
LOWERED = "lowers the values of all but the best action, as in Munchausen DQN and conservative Q-learning"

# Components whose findings explain that a problem is not learned.
EXPLAINING = ("numerics", "forward", "backward", "optimizer", "loss", "td_target", "target_network", "hyperparameters")


def check_probe_problems(session: Session, agent: AgentCopy) -> Iterator[Finding | Passed | str]:
    """Let the agent learn constants, values by observation and action, ends, and delayed rewards."""
    if session.running_next is not None:
        raise CannotTell("the added transitions, which are not terminated, have other targets after a sync")
    if session.not_regression:
        yield from _mass(session, agent)
    learner = Learner(session)
    if not session.found:
        yield from check_quantiles(learner)
    *problems, everything = _problems(learner)
    at_once, negative = learner.learn(everything), _constant(learner, -1)
    if (at_once.passed or at_once.only_best_right) and learner.learn(negative).passed:
        yield from (Passed(TITLE, f"learns {one.what}") for one in (negative, *problems))
        if not at_once.passed:
            yield Passed(TITLE, LOWERED)
        yield from _larger(learner, at_once.updates)
        return
    if faults := [one for one in _explaining(session) if catalogue.entries()[one].severity != "note"]:
        # No result of a simpler problem would be a finding, and agents with faults need the most updates.
        raise CannotTell(f"the finding {faults[0]} may explain why the agent does not learn problems with known values")
    if _without_bias(agent):
        raise CannotTell("the network has no biases, so it cannot represent the correct values")
    yield from _constants(learner)
    reasons = []
    for problem in _problems(learner)[:-1]:
        result = _judge(learner, learner.learn(problem))
        if isinstance(result, Finding) and session.unexplained:
            raise CannotTell("the target is not a known one, so other values may be correct")
        yield result
        if isinstance(result, Finding):  # the other problems would show its consequences
            return
        if isinstance(result, str):
            reasons.append(problem.what)
    if reasons:
        raise CannotTell(f"the check could not show that the agent learns {', '.join(reasons)}")
    yield from _larger(learner, learner.pace)


def _larger(learner: Learner, pace: int) -> Iterator[Finding | Passed]:
    """Let the agent learn larger rewards, and from larger observations. Agents may limit both on purpose."""
    learner.pace, learner.block, learner.updates = pace, max(5, pace // 4), TIMES * pace
    reward = _constant(learner, LARGE)
    learned = learner.learn(reward)
    if learned.passed:
        yield Passed(TITLE, f"learns {reward.what}")
    elif learned.stopped and learned.wrong.all() and not learner.session.unexplained:
        yield finding("td_target.values_limited", reward=LARGE, right=LARGE * learner.size, learned=learned.last)
    by_state = _problems(learner)[0]
    obs, next_obs = LARGE * by_state.batch.obs, LARGE * by_state.batch.next_obs
    if learner.learn(by_state._replace(batch=by_state.batch._replace(obs=obs, next_obs=next_obs))).passed:
        yield Passed(TITLE, f"learns {by_state.what}, also if observations are {LARGE} times as large")


def _mass(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that targets on an atom of a distribution have an effect, as targets beside it have."""
    batch = session.transitions(max(16, session.min_batch))
    for reward in (0.0, 1.0, -1.0, 10.0, -10.0):  # usual atoms
        near = 0.9987 * reward or 0.0137
        on_atom, beside = (
            np.abs(agent.effect(batch._replace(reward=np.full_like(batch.reward, one)))).max() for one in (reward, near)
        )
        if on_atom < 1e-6 * beside:
            yield finding("td_target.mass_lost", reward=reward, effect=on_atom, near=near, beside=beside)
            return


def _without_bias(agent: AgentCopy) -> bool:
    """Return whether an update changes Q(2 obs, a) by twice as much as Q(obs, a)."""
    session = agent.session
    obs, size = session.observations(16), max(16, session.min_batch)
    trained = agent.trained(session.transitions(size)._replace(reward=np.ones(size, np.float32)))
    return not differ(2 * (trained.q(obs) - agent.q(obs)), trained.q(2 * obs) - agent.q(2 * obs))


def _constant(learner: Learner, reward: int) -> Problem:
    return learner.problem(
        "td_target.probe_constant",
        f"the value of a constant reward of {reward}",
        f"All transitions are terminated, with a reward of {reward}",
        np.full((STATES, 1), reward),
    )


def _all_ended(learner: Learner) -> Problem:
    """Return a problem in which a terminated transition that bootstraps gets the value of another state."""
    problem = learner.problem(
        "td_target.probe_mask",
        "that terminated transitions do not bootstrap",
        "All transitions are terminated, and next_obs is always state 1. The reward is 0 in state 0 and 1 in state 1",
        [[0], [1]],
    )
    state_1 = problem.batch.obs[[-1]].repeat(len(problem.right), axis=0)
    return problem._replace(batch=problem.batch._replace(next_obs=state_1))


def _constants(learner: Learner) -> Iterator[Finding | Passed | str]:
    """Train one agent on rewards of 1, 0 and -1 in turn, and set the pace of the other problems."""
    learner.updates = MAX_UPDATES
    session, agent = learner.session, learner.session.new_copy()
    lowest = float(agent.q(learner.obs).min())
    paces = []
    for reward in (1, 0, -1):
        learned = learner.learn(_constant(learner, reward), agent)
        mean = float(learned.last.mean())
        agreed = not learned.passed and learned.stopped and np.ptp(learned.last) < CLOSE
        if reward == 1 and agreed and mean > WRONG:
            learner.size = mean  # sound agents may scale rewards
        elif reward == -1 and agreed and min(mean, lowest) > -CLOSE and session.not_regression:
            yield f"a reward of -1 is learned as {mean:.2g}, as by an agent whose distribution does not reach below 0"
            continue
        else:
            result = _judge(learner, learned)
            if not isinstance(result, str):
                yield result
            if not isinstance(result, Passed):
                raise CannotTell(result if isinstance(result, str) else "the agent does not learn a constant value")
        paces.append(learned.updates)
    if learner.size > AMPLIFIED and isinstance(ends := _judge(learner, learner.learn(_all_ended(learner))), Finding):
        yield ends
        raise CannotTell("terminated transitions bootstrap, so the values of the other problems are unknown")
    if learner.size != 1:
        yield f"a reward of 1 is learned as {learner.size:.3g}, so other values are expected to be of this size"
    learner.pace = max(paces)
    learner.block, learner.updates = max(5, learner.pace // 4), TIMES * learner.pace


def _problems(learner: Learner) -> list[Problem]:
    """Return the problems. The last one contains all others."""
    gamma, actions = learner.session.discount, np.arange(learner.session.actions)
    zero, one, even, first = 0 * actions, 0 * actions + 1, actions % 2 == 0, actions == 0
    end = -1
    return [
        learner.problem(
            "forward.probe_observation",
            "values that depend on the observation",
            "All transitions are terminated, with a reward of 1 in state 0 and a reward of 0 in state 1",
            [one, zero],
        ),
        learner.problem(
            "loss.probe_action",
            "values that depend on the action",
            "All transitions are terminated, with a reward of 1 for actions 0, 2, ... and a reward of 0 for the others",
            [even],
        ),
        learner.problem(
            "forward.probe_both",
            "values that depend on observation and action",
            "All transitions are terminated. In state 0, the reward is 1 for actions 0, 2, ... and 0 for the others. "
            "In state 1, the rewards are swapped",
            [even, ~even],
        ),
        learner.problem(
            "td_target.probe_ends",
            "that terminated transitions do not bootstrap",
            "In state 0, transitions are terminated with a reward of 0. State 1 leads to state 2 with a reward of 0. "
            "In state 2, transitions are terminated with a reward of 1",
            [zero, gamma * one, one],
            [zero, zero, one],
            [end, 2, end],
        ),
        learner.problem(
            "td_target.probe_discount",
            "the discounted value of a reward after one step, and after two",
            "State 0 leads to state 1, and state 1 to state 2, with rewards of 0. In state 2, transitions are "
            "terminated with a reward of 1",
            [gamma**2 * one, gamma * one, one],
            [zero, zero, one],
            [1, 2, end],
        ),
        learner.problem(
            "td_target.probe_best",
            "the value of the best next action",
            "State 0 leads to state 1 with a reward of 0. In state 1, transitions are terminated, with a reward of 1 "
            "for action 0 and a reward of 0 for the other actions",
            [gamma * one, first],
            [zero, first],
            [1, end],
        ),
        learner.problem(
            "",
            "all of this",
            "",
            [zero, gamma * one, first, gamma**2 * one],
            [zero, zero, first, zero],
            [end, 2, end, 1],
        ),
    ]


def _judge(learner: Learner, learned: Learned) -> Finding | Passed | str:
    """Return what a problem shows: it is learned, it is decisively not learned, or why it shows neither."""
    problem = learned.problem
    if learned.passed:
        return Passed(TITLE, f"learns {problem.what}")
    if learned.only_best_right:
        return Passed(TITLE, f"learns {problem.what}, but {LOWERED}")
    doubt = next(_doubts(learner, learned), None)
    if doubt:
        last, right = listed(learned.last), listed(problem.right)
        return f"{doubt}. {problem.what}: after {learned.updates} updates, Q is {last} instead of {right}"
    return finding(
        _name(learner, learned),
        story=problem.story,
        right=problem.right,
        learned=learned.last,
        updates=learned.updates,
        pace=learner.pace,
    )


def _name(learner: Learner, learned: Learned) -> str:
    """Return the finding that fits the wrong values best."""
    name, ended = learned.problem.name, learned.problem.batch.terminated
    if name == "forward.probe_observation" and learner.alike < ALIKE:  # the network can tell them apart
        return "loss.probe_rows"
    if name == "td_target.probe_ends" and not learned.wrong[ended].any() and learned.last[~ended].min() > WRONG:
        return "td_target.probe_discount"
    return name


def _explaining(session: Session) -> list[str]:
    """Return the findings that may explain why a problem is not learned."""
    return [one for one in session.found if one.split(".")[0] in EXPLAINING]


def _doubts(learner: Learner, learned: Learned) -> Iterator[str]:
    """Yield reasons why wrong values may not be a separate fault."""
    session, problem = learner.session, learned.problem
    if explaining := _explaining(session):
        raise CannotTell(f"the finding {explaining[0]} may explain why the agent does not learn {problem.what}")
    if learner.late:
        raise CannotTell(f"the agent is too slow for these problems. {MORE}")
    if not learned.stopped:
        yield "the agent learns too slowly for this check"
    if not learned.wrong.any():
        yield "the agent is not precise enough for this check"
    if problem.name == "td_target.probe_constant" and np.ptp(learned.last) > WRONG:
        yield "the values of a constant reward differ between states and actions, as those of a regularized target"
    overlap = {"forward.probe_observation": learner.alike, "loss.probe_action": learner.alike_actions}
    if ALIKE < overlap.get(problem.name, 0.0) < BLIND:
        yield "the agent learns differences too slowly for this check"
    multiple = float(learned.last @ problem.right / (problem.right @ problem.right + 1e-12))
    alike = np.abs(learned.last - multiple * problem.right).max() < CLOSE
    if multiple > 0 and alike and problem.name != "td_target.probe_constant":
        yield "the values are a multiple of the correct ones, as with rewards that are divided by their spread"
    running = ~problem.batch.terminated
    if not running.any():
        return
    if session.min_batch > 1:
        yield "the agent may use batch normalization, so that other transitions change the target"
    if not learner.learn(problem.from_rewards).passed:
        yield "the agent does not learn these values from rewards alone either"
    if not learned.synced and (running & learned.may_be_outdated(session.discount))[learned.wrong].all():
        raise CannotTell(
            f"the target network did not follow the online network within {learned.updates} updates. Add sync_target() "
            "and target_q_values() to the adapter, or sync more often"
        )
