"""Which findings merely follow from others: a fault at the root explains what it makes go wrong elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from perilune.doctor.report import Finding

# cause: what it brings about, by patterns; earlier causes go before later ones.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "numerics.not_finite": ("hyperparameters.*",),
    "forward.changes_input": ("replay.changes_observations", "environment.observations_changed", "replay.mismatched"),
    "forward.remembers": (
        "forward.batch_differs", "td_target.*", "target_network.*", "loss.*", "backward.*", "exploration.not_greedy",
    ),
    "forward.all_equal": ("forward.one_sign", "forward.narrow", "backward.*", "hyperparameters.*", "exploration.*"),
    "forward.one_sign": ("forward.narrow", "forward.spread", "hyperparameters.*"),
    "forward.spread": ("hyperparameters.*",),
    "forward.output_activation": ("hyperparameters.*", "exploration.stuck"),
    "backward.sign": ("hyperparameters.*", "optimizer.*"),
    "loss.no_update": ("hyperparameters.*", "backward.*", "optimizer.*", "td_target.*", "target_network.*"),
    "loss.clipped_away": ("loss.derivative", "hyperparameters.*", "td_target.no_reward"),
    "loss.others_to_zero": ("td_target.*", "loss.derivative", "hyperparameters.*", "target_network.none"),
    "loss.wrong_action": ("backward.sign", "hyperparameters.*"),
    "loss.all_actions": ("hyperparameters.*",),
    "loss.broadcast": ("td_target.batch_axis",),
    "optimizer.*": ("hyperparameters.*",),
    "td_target.no_mask": ("hyperparameters.*", "loop.termination_lost"),
    "td_target.mask_inverted": ("hyperparameters.*", "loop.termination_lost", "environment.truncation_as_end"),
    "td_target.gradient_flows": ("target_network.none",),
    "td_target.same_state": ("td_target.no_bootstrap",),
    "target_network.shared": (
        "target_network.none", "target_network.every_update", "target_network.not_synced_yet",
        "target_network.tau_reversed",
    ),
    "target_network.every_update": ("target_network.none", "target_network.not_synced_yet"),
    "target_network.never_synced": ("target_network.not_synced_yet",),
    "exploration.argmin": ("exploration.not_greedy", "exploration.stuck"),
    "exploration.inverted": ("exploration.stuck", "exploration.never_explores", "exploration.not_greedy"),
    "exploration.never_random": ("exploration.never_explores",),
    "exploration.not_greedy": ("exploration.stuck",),
    "environment.reset_as_next": ("replay.mismatched", "replay.terminal_lost"),
    "environment.buffer_reused": ("replay.*",),
    "environment.observations_changed": ("exploration.stuck",),
    "forward.batch_differs": ("td_target.*", "exploration.not_greedy"),
    "exploration.out_of_range": ("loop.raises",),
    "loop.state_not_advanced": ("replay.*",),
    # The loop calls all the others.
    "*.raises": ("loop.raises",),
    "*.hangs": ("loop.hangs",),
}  # fmt: skip

GRAVE = ("error", "warning", "note")


def sorted_out(findings: Sequence[Finding]) -> list[Finding]:
    """Each finding once, what follows from another marked with its id, roots first and graver ones before others."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.id, finding)
    marked = [replace(finding, caused_by=_cause(finding, first)) for finding in first.values()]
    return sorted(marked, key=lambda finding: (finding.caused_by is not None, GRAVE.index(finding.severity)))


def _cause(finding: Finding, all_found: dict[str, Finding]) -> str | None:
    for pattern, effects in FOLLOWS.items():
        if any(fnmatchcase(finding.id, effect) for effect in effects):
            for other in all_found:
                if other != finding.id and fnmatchcase(other, pattern):
                    return other
    return None
