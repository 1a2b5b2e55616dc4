"""What goes with a film: a line for every frame, which says what the agent saw, thought and did."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fixtures_runs import TinyRun, decode
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import telemetry
from perilune.runs.telemetry import TelemetryWriter
from perilune.training.events import Timestep


def test_every_film_of_a_training_has_a_moment_for_each_frame(tiny_run: TinyRun) -> None:
    run = tiny_run.history.run
    assert len(tiny_run.history.videos) == 3
    for video in tiny_run.history.videos:
        moments = telemetry.read(telemetry.path_of(video))
        (episode,) = [one for one in run.episodes if video.stem == f"episode-{one.episode:05d}"]
        assert len(moments) == len(decode(video).frames) == episode.length + 1
        assert [moment.action is None for moment in moments] == [False] * episode.length + [True]
        assert moments[0].reward == 0.0
        assert moments[-1].reward == episode.reward
        assert [moment.outcome for moment in moments] == [None] * episode.length + [episode.outcome]
        assert episode.outcome is not None
        assert {moment.episode for moment in moments} == {episode.episode}
        assert {(np.shape(moment.q_values), moment.obs.shape) for moment in moments} == {((2,), (4,))}
        assert [moment.step for moment in moments] == [*range(episode.length + 1)]


def test_a_film_of_the_trained_agent_tells_its_own_values_and_greedy_actions(tiny_run: TinyRun, tmp_path: Path) -> None:
    shown = tiny_run.dqn.record_video(tmp_path / "film.mp4", episodes=2)
    moments = telemetry.read(tmp_path / "film.jsonl")
    assert len(moments) == sum(shown.lengths) + 2
    assert [moment.reward for moment in moments if moment.action is None] == list(shown.returns)
    for moment in moments:
        expected = tiny_run.dqn.q_values(np.array([moment.obs], np.float32))[0]
        assert moment.q_values is not None
        assert moment.q_values.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
        if moment.action is not None:
            assert moment.q_values[moment.action] == moment.q_values.max()


def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    writer = TelemetryWriter(tmp_path / "film.jsonl")
    writer.add(Timestep(3, 7, np.array([0.1, 2.0]), 1, -0.5, q_values=np.array([1.5, math.inf])))
    assert not (tmp_path / "film.jsonl").exists()
    writer.close()
    (found,) = telemetry.read(tmp_path / "film.jsonl")
    assert found[:2] + found[3:6] == (3, 7, 1, -0.5, None)
    assert found.obs.tolist() == [0.1, 2.0]
    assert found.q_values is not None
    assert found.q_values.tolist() == pytest.approx([1.5, math.nan], nan_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["film.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": 3, "obs": []}',
        b'{"episode": 1, "step": 0, "action": "<script>", "reward": 0, "q_values": [], "obs": []}',
        b'{"episode": 1, "step": 0, "action": 0, "reward": null, "q_values": [], "obs": []}',
        b'{"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": ["1"], "obs": []}',
        b'{"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [], "obs": [], "more": 1}',
        b'{"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [], "obs": [], "outcome": 3}',
        b"[" * 100_000,
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "film.jsonl"
    path.write_bytes(b'{"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [], "obs": []}\n' + line + b"\n")
    with pytest.raises(FileFormatError, match=r"film\.jsonl, line 2, is damaged"):
        telemetry.read(path)


def test_missing_or_unwritable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        telemetry.read(tmp_path / "none.jsonl")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        TelemetryWriter(tmp_path / "none" / "film.jsonl").close()
