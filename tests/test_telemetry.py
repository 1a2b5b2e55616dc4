"""Telemetry of videos: one line for each frame, with observation, Q-values and action."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fixtures_runs import TinyRun, decode
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import telemetry
from perilune.runs.telemetry import TelemetryWriter
from perilune.training.events import Timestep


def test_telemetry_has_one_timestep_per_frame(tiny_run: TinyRun) -> None:
    run = tiny_run.history.run
    assert len(tiny_run.history.videos) == 3
    for video in tiny_run.history.videos:
        timesteps = telemetry.read(telemetry.path_of(video))
        (episode,) = [one for one in run.episodes if video.stem == f"episode-{one.episode:05d}"]
        assert len(timesteps) == len(decode(video).frames) == episode.length + 1
        assert [timestep.action is None for timestep in timesteps] == [False] * episode.length + [True]
        assert timesteps[0].reward == 0.0
        assert timesteps[-1].reward == episode.reward
        assert [timestep.outcome for timestep in timesteps] == [None] * episode.length + [episode.outcome]
        assert episode.outcome is not None
        assert {timestep.episode for timestep in timesteps} == {episode.episode}
        assert {(np.shape(timestep.q_values), timestep.obs.shape) for timestep in timesteps} == {((2,), (4,))}
        assert [timestep.step for timestep in timesteps] == [*range(episode.length + 1)]


def test_recorded_q_values_match_the_agent(tiny_run: TinyRun, tmp_path: Path) -> None:
    shown = tiny_run.dqn.record_video(tmp_path / "video.mp4", episodes=2)
    timesteps = telemetry.read(tmp_path / "video.jsonl")
    assert len(timesteps) == sum(shown.lengths) + 2
    assert [timestep.reward for timestep in timesteps if timestep.action is None] == list(shown.returns)
    for timestep in timesteps:
        expected = tiny_run.dqn.q_values(np.array([timestep.obs], np.float32))[0]
        assert timestep.q_values is not None
        assert timestep.q_values.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
        if timestep.action is not None:
            assert timestep.q_values[timestep.action] == timestep.q_values.max()


def test_telemetry_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    writer = TelemetryWriter(tmp_path / "video.jsonl")
    writer.add(Timestep(3, 7, np.array([0.1, 2.0]), 1, -0.5, q_values=np.array([1.5, math.inf])))
    assert not (tmp_path / "video.jsonl").exists()
    writer.close()
    (found,) = telemetry.read(tmp_path / "video.jsonl")
    assert found[:2] + found[3:6] == (3, 7, 1, -0.5, None)
    assert found.obs.tolist() == [0.1, 2.0]
    assert found.q_values is not None
    assert found.q_values.tolist() == pytest.approx([1.5, math.nan], nan_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["video.jsonl"]


LINE = {"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [], "obs": []}
INVALID = {"q_values": 3, "action": "<script>", "reward": None, "more": 1, "outcome": 3}


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", "[" * 100_000, *(json.dumps(LINE | {name: value}) for name, value in INVALID.items())]
)
def test_error_names_the_damaged_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "video.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{line}\n")
    with pytest.raises(FileFormatError, match=r"video\.jsonl, line 2, is damaged"):
        telemetry.read(path)


def test_error_names_the_missing_or_unwritable_file(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        telemetry.read(tmp_path / "none.jsonl")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        TelemetryWriter(tmp_path / "none" / "video.jsonl").close()
