"""Video files: format, content, memory, and behavior after errors."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures_runs import cartpole, decode, episode
from perilune._utils.arrays import Array
from perilune.envs.rendering import frame
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError
from perilune.runs import telemetry
from perilune.training.evaluation import SCORE_SEEDS, evaluate
from perilune.training.events import Started, Timestep
from perilune.viz import video
from perilune.viz.encoding import FORMATS, VideoWriter, frame_skip
from perilune.viz.overlay import NO_SCALE, Panel, Scale, add_panel, advantages, widen
from perilune.viz.video import (
    TrainingRecorder,
    check_available,
    episode_videos,
    frames_per_second,
    record_episodes,
)
from worlds import Numbered


def picture(height: int = 48, width: int = 64, gray: int = 128) -> Array:
    return np.full((height, width, 3), gray, np.uint8)


def frame_of(episode: int, action: int | None = 1, reward: float = 0.0) -> Timestep:
    return Timestep(episode, 0, np.array([0.5, -1.25], np.float32), action, reward, image=picture())


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_mp4_is_h264_with_the_given_size_speed_and_length(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "new" / "video.mp4", 25) as video:
        for gray in range(0, 250, 10):
            video.add(picture(gray=gray))
    decoded = decode(tmp_path / "new" / "video.mp4")
    assert (decoded.codec, decoded.pixel_format) == ("h264", "yuv420p")
    assert (decoded.width, decoded.height, decoded.fps) == (64, 48, 25)
    assert len(decoded.frames) == 25
    assert files_in(tmp_path) == ["new/video.mp4"]


def test_frames_keep_their_order_and_colors(tmp_path: Path) -> None:
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 20), (0, 0, 0), (255, 255, 255)]
    with VideoWriter(tmp_path / "video.mp4", 30) as video:
        for color in colors:
            video.add(np.broadcast_to(np.array(color, np.uint8), (32, 32, 3)))
    for picture, color in zip(decode(tmp_path / "video.mp4").frames, colors, strict=True):
        assert np.abs(picture.mean((0, 1)) - color).max() < 12


@pytest.mark.parametrize(("height", "width"), [(51, 37), (50, 37), (51, 36), (3, 3)])
def test_odd_last_row_or_column_is_cut(tmp_path: Path, height: int, width: int) -> None:
    image = picture(height, width, 200)
    image[height - height % 2 :], image[:, width - width % 2 :] = 0, 0  # the last row and column are black
    with VideoWriter(tmp_path / "video.mp4", 30) as video:
        video.add(image)
    decoded = decode(tmp_path / "video.mp4")
    assert (decoded.width, decoded.height) == (width // 2 * 2, height // 2 * 2)
    assert decoded.frames[0].min() > 180


@pytest.mark.parametrize(("frames", "failure"), [(0, ValueError), (1, KeyboardInterrupt), (60, ValueError)])
@pytest.mark.parametrize("ending", FORMATS)
def test_failed_recording_leaves_no_file(
    tmp_path: Path, frames: int, failure: type[BaseException], ending: str
) -> None:
    def play() -> None:
        with VideoWriter(tmp_path / f"video{ending}", 30) as video:
            for _ in range(frames):
                video.add(picture())
            raise failure

    with pytest.raises(failure):
        play()
    assert files_in(tmp_path) == []


def test_error_names_the_unwritable_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "video.mp4"
    with pytest.raises(RunDirectoryError, match=f"the video {path} cannot be written"):
        VideoWriter(path, 30)


WRITING = """
import os, sys
from pathlib import Path
import numpy as np
from perilune.viz.encoding import VideoWriter

with VideoWriter(Path(sys.argv[1]), 50) as video:
    for number in range(1_200):
        video.add(np.full((240, 320, 3), number % 256, np.uint8))
        if number in (199, 1_199):
            print(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
@pytest.mark.parametrize("ending", FORMATS)
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path, ending: str) -> None:
    command = [sys.executable, "-c", WRITING, str(tmp_path / f"video{ending}")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    # The first 200 frames fill the queues of the encoder. Keeping the other 1,000 would take 230 MB.
    before, after = map(float, ended.stdout.split())
    assert after - before < 10


def animated(path: Path) -> tuple[list[Array], list[float], int]:
    """Return the images of a GIF, their durations in milliseconds, and the number of repetitions (0: infinite)."""
    shown, durations = [], []
    with Image.open(path) as animation:
        for number in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(number)
            animation.load()
            shown.append(np.asarray(animation.convert("RGB")))
            durations.append(animation.info["duration"])
        return shown, durations, animation.info["loop"]


def test_gif_keeps_colors_and_speed_and_repeats(tmp_path: Path) -> None:
    colors = [(0, 0, 0), (250, 10, 10), (129, 102, 230), (10, 250, 10), (255, 255, 255), (255, 176, 0)]
    with VideoWriter(tmp_path / "video.gif", Fraction(50, 3)) as video:
        for color in colors:
            video.add(np.broadcast_to(np.array(color, np.uint8), (33, 47, 3)))
    shown, durations, loop = animated(tmp_path / "video.gif")
    assert loop == 0
    assert durations == [60] * 6
    assert shown[0].shape == (32, 46, 3)
    for picture, color in zip(shown, colors, strict=True):
        assert np.abs(picture.astype(int) - color).max() <= 32


@pytest.mark.parametrize(("fps", "every"), [(50, 3), (60, 4), (30, 2), (25, 2), (17, 1), (15, 1), (4, 1)])
def test_gif_has_at_most_seventeen_frames_per_second(fps: int, every: int) -> None:
    assert frame_skip(Path("a.gif"), fps) == every
    assert frame_skip(Path("a.mp4"), fps) == 1


@pytest.mark.parametrize("declared", [None, 0, -5, float("nan"), float("inf"), 1e300, "fast"])
def test_invalid_frame_rate_of_an_environment_becomes_thirty(declared: Any) -> None:
    env = Numbered(draws=True)
    env.metadata = {"render_fps": declared}
    assert frames_per_second(env) == 30
    env.metadata = {"render_fps": 50.0}
    assert frames_per_second(env) == 50


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    for name in ("video.avi", "video", "video.MP4"):
        with pytest.raises(ConfigError, match=r"name ends in \.mp4 or \.gif"):
            record_episodes(lambda obs: 0, cartpole(), tmp_path / name, q_values=q_of)
    assert files_in(tmp_path) == []


def test_missing_codec_error_names_the_codec_and_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".mp4", FORMATS[".mp4"]._replace(codec="libnowhere"))
    for ask in (
        check_available,
        lambda: record_episodes(lambda obs: 0, cartpole(), tmp_path / "video.mp4", q_values=q_of),
    ):
        with pytest.raises(MissingDependencyError, match=r"without the encoder libnowhere.* --force-reinstall"):
            ask()
    assert files_in(tmp_path) == []


PANEL = Panel("", ("push left", "push right"), 50)


def q_of(obs: Array) -> Array:
    """Return Q-values that are higher for the side to which the pole falls."""
    return np.stack([50 - 9 * obs[:, 2], 50 + 9 * obs[:, 2]], axis=1)


def test_overlay_labels_the_end_and_telemetry_covers_every_frame(tmp_path: Path) -> None:
    env, path = cartpole(), tmp_path / "video.mp4"
    shown = record_episodes(
        lambda obs: int(obs[2] > 0), env, path, episodes=2, max_episode_steps=8, q_values=q_of, panel=PANEL
    )
    frames, steps = decode(path).frames, telemetry.read(telemetry.path_of(path))
    assert len(frames) == len(steps) == sum(length + 1 + 50 for length in shown.lengths)
    assert [step.action is None for step in steps] == ([False] * 8 + [True] * 51) * 2
    # The dark label is in the lower part of CartPole's white image.
    labeled = [image[330:390, 200:400].min() < 100 for image in frames]
    assert labeled == [step.action is None for step in steps]
    # A bright triangle is beside the chosen action.
    for image, step in zip(frames, steps, strict=True):
        bright = [int(np.abs(image[y, 13:16].astype(int) - (255, 176, 0)).max() < 80) for y in (447, 474)]
        assert bright == [int(step.action == action) for action in (0, 1)]


def test_bars_use_one_scale_for_the_whole_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[Scale] = []

    def noted(now: Timestep, panel: Panel, scale: Scale, recent: tuple[int, ...]) -> Array:
        scales.append(scale)
        return add_panel(now, panel, scale, recent)

    def growing(obs: Array) -> Array:
        """Return negative Q-values that fall as the cart moves left, and exceed 50 at the end only."""
        fallen = np.abs(obs[:, 2]) > 0.2095
        return np.stack([-1 + 40 * np.minimum(obs[:, 0], 0), np.where(fallen, 55.0, 3.0)], axis=1)

    monkeypatch.setattr(video.drawing, "add_panel", noted)
    shown = record_episodes(
        lambda obs: 0, cartpole(), tmp_path / "video.mp4", episodes=2, q_values=growing, panel=PANEL
    )
    assert len(scales) == sum(length + 1 for length in shown.lengths)
    assert len(set(scales)) == 1
    steps = telemetry.read(tmp_path / "video.jsonl")
    values = [value for step in steps for value in advantages(np.array(step.q_values))]
    assert scales[0] == widen(NO_SCALE, (min(values), max(values)))
    assert scales[0] == (-40, 40)


def test_gif_is_half_as_wide_and_writes_no_telemetry(tmp_path: Path) -> None:
    (tmp_path / "video.jsonl").write_text("of video.mp4")
    record_episodes(lambda obs: 0, cartpole(), tmp_path / "video.gif", max_episode_steps=7, q_values=q_of)
    shown, durations, _ = animated(tmp_path / "video.gif")
    assert shown[0].shape == (200, 300, 3)
    # Every third frame, the first one for another second, and the last one for two more.
    assert len(shown) == len([0, 3, 6, 7]) + 16 + 32
    for start, stop in ((0, 17), (-33, None)):
        assert all((image == shown[start]).all() for image in shown[start:stop])
    differ = [(one != shown[17])[:40, :80].any() for one in (shown[0], shown[-1])]
    assert differ == [True, False]  # the corner of the first frame has a label
    assert sum(durations) == 60 * len(shown)
    assert (tmp_path / "video.jsonl").read_text() == "of video.mp4"
    assert files_in(tmp_path) == ["video.gif", "video.jsonl"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from perilune.viz.encoding import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
frames = np.random.default_rng(1).integers(0, 256, (int(sys.argv[2]), 64, 64, 3)).astype(np.uint8)
with VideoWriter(Path(sys.argv[1]), 50) as writer:
    for frame in frames:
        writer.add(frame)
"""


def test_recorder_saves_initial_state_and_complete_episodes(tmp_path: Path) -> None:
    recorder = TrainingRecorder(tmp_path, 50, lambda obs: obs)
    start = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    recorder.read(Started(start))
    for number, frames in ((1, 5), (3, 8)):
        for _ in range(frames):
            recorder.read(frame_of(number))
        recorder.read(episode(number))
        recorder.read(episode(number + 1))  # has no video
    recorder.discard()
    videos = [tmp_path / "videos" / "episode-00001.mp4", tmp_path / "videos" / "episode-00003.mp4"]
    assert episode_videos(tmp_path) == videos
    assert [len(decode(path).frames) for path in videos] == [5, 8]
    assert files_in(tmp_path) == [
        "initial_state.png",
        *(f"videos/episode-{name}" for name in ("00001.jsonl", "00001.mp4", "00003.jsonl", "00003.mp4")),
    ]


@pytest.mark.parametrize(("name", "frames"), [("video.mp4", 1), ("video.mp4", 200), ("video.gif", 5)])
def test_full_disk_leaves_no_partial_video(tmp_path: Path, name: str, frames: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(FULL)
    command = [sys.executable, str(script), str(tmp_path / "videos" / name), str(frames)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.stderr.endswith(f"{name} cannot be written: File too large\n")
    assert files_in(tmp_path) == ["script.py"]


def test_video_shows_every_step_of_the_scored_episodes(tmp_path: Path) -> None:
    def policy(obs: Array) -> int:
        return int(obs[2] > 0)  # toward the falling pole

    env = cartpole()
    shown = record_episodes(policy, env, tmp_path / "video.mp4", episodes=2, max_episode_steps=12, q_values=q_of)
    assert shown == evaluate(policy, env, 2, first_seed=SCORE_SEEDS, max_episode_steps=12)
    decoded = decode(tmp_path / "video.mp4")
    # An episode has one more state than steps.
    assert len(decoded.frames) == sum(length + 1 for length in shown.lengths)
    assert (decoded.width, decoded.height, decoded.fps) == (600, 400, 50)
    env.reset(seed=SCORE_SEEDS)
    assert np.abs(decoded.frames[0].astype(int) - frame(env)).mean() < 3


def test_environment_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rgb_array") as caught:
        record_episodes(lambda obs: 0, Numbered(), tmp_path / "video.mp4", q_values=q_of)
    assert caught.value.name == "render_mode"
    assert files_in(tmp_path) == []
