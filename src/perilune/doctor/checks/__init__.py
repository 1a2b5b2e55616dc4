"""The checks, in the order in which they run. Later checks use the results of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from perilune.doctor.checks.acting import check_actions
from perilune.doctor.checks.batch import check_batch
from perilune.doctor.checks.gradients import check_gradients
from perilune.doctor.checks.hyperparameters import check_hyperparameters
from perilune.doctor.checks.interface import check_interface
from perilune.doctor.checks.loop import check_loop
from perilune.doctor.checks.loss import check_loss
from perilune.doctor.checks.network import check_network
from perilune.doctor.checks.optimizer import check_optimizer
from perilune.doctor.checks.probe import check_probe_problems
from perilune.doctor.checks.replay import check_replay
from perilune.doctor.checks.target_network import check_target_network
from perilune.doctor.checks.td_target import check_ends, check_td_target
from perilune.doctor.report import Finding, Passed
from perilune.doctor.session import AgentCopy, Session


class Check(NamedTuple):
    """One check of the examination."""

    title: str
    run: Callable[[Session, AgentCopy], Iterator[Finding | Passed | str]]  # a str: what was not checked, and why
    needs: tuple[str, ...] = ()  # methods of the adapter
    call_share: float = 0.25  # time limit of one call of the agent, as a share of the budget


# The other checks need the results of the first one.
CHECKS = (
    Check("interface", check_interface, call_share=0.5),  # the factory may import torch
    Check("initial weights", check_network),
    Check("episode ends", check_ends),
    Check("gradients", check_gradients),
    Check("TD target", check_td_target),
    Check("target network", check_target_network),
    Check("batch", check_batch),
    Check("optimizer", check_optimizer),
    Check("loss", check_loss),
    Check("hyperparameters", check_hyperparameters),
    Check("probe problems", check_probe_problems),
    Check("actions", check_actions, ("act",)),
    Check("replay", check_replay, ("remember", "sample")),
    Check("training loop", check_loop, ("run",), call_share=0.75),
)
