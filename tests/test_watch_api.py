"""The JSON that ``perilune watch`` serves about finished, unfinished, damaged and malicious runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from fixtures_runs import TinyRun, episode
from perilune.envs.known import presets
from perilune.runs import failure, layout, lock, search, telemetry
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics
from perilune.viz.shared import window
from perilune.web import videos, watcher
from perilune.web.app import create_app
from perilune.web.watcher import MAX_WARNINGS

SCRIPT = "<script>alert(1)</script>"
REWARD = {"id": "group/one", "name": "episodes.reward"}
CONFIG = {"format": 1, "environment": "X", "reward_threshold": None, "seed": 1, "agent": {}, "train": {}}


@dataclass
class Client:
    """Send requests to an application without a socket."""

    root: Path

    def __post_init__(self) -> None:
        self.app = create_app(self.root, "127.0.0.1", 80, lambda: False)

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **query: Any) -> Any:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                encoded = urlencode(query, doseq=True, errors="surrogatepass")
                return await client.request(method, f"{path}?{encoded}", headers=headers)

        return asyncio.run(send())

    def json(self, path: str, **query: Any) -> Any:
        response = self.get(path, **query)
        assert response.status_code == 200, response.text
        return json.loads(response.content, parse_constant=pytest.fail)

    def error(self, path: str, status: int, **query: Any) -> str:
        response = self.get(path, **query)
        assert response.status_code == status, response.text
        (message,) = response.json().values()
        assert isinstance(message, str)
        return message

    def runs(self) -> dict[str, Any]:
        return {run["id"]: run for run in self.json("/api/runs")["runs"]}

    def run(self) -> Any:
        (found,) = self.runs().values()
        return found


@pytest.fixture
def root(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A directory with one run, group/one, which tests may change."""
    root = tmp_path / "runs"
    shutil.copytree(tiny_run.history.directory, root / "group" / "one")
    return root


@pytest.fixture
def client(root: Path) -> Client:
    return Client(root)


@pytest.fixture(autouse=True)
def _always_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(watcher, "MAX_LOAD", 1e9)


def copy_with(root: Path, name: str, **config: Any) -> Path:
    """Copy group/one and change its config.json."""
    shutil.copytree(root / "group/one", root / name)
    path = root / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return path


def test_served_summary_and_settings_match_the_run(client: Client, root: Path, tiny_run: TinyRun) -> None:
    run, summary = tiny_run.history.run, client.run()
    best = [evaluation for evaluation in run.evaluations if evaluation.best][-1]
    assert summary["id"] == "group/one"
    assert (summary["environment"], summary["seed"], summary["reward_threshold"]) == ("CartPole-v1", 2, 475.0)
    assert (summary["state"], summary["message"], summary["progress"]) == ("finished", None, 1.0)
    assert summary["episodes"] == len(run.episodes) == 4
    assert summary["window"] == window(4)
    assert summary["env_steps"] == max(run.episodes[-1].env_steps, run.evaluations[-1].env_steps)
    assert summary["best"] == {
        name: getattr(best, name) for name in ("env_steps", "episodes", "seconds", "mean_return")
    }
    assert [label for label, _ in summary["outcomes"]] == ["balanced", "fell", "left the track"]
    assert sum(count for _, count in summary["outcomes"]) == summary["videos"] == 4
    host = json.loads((root / "group/one/host.json").read_text())
    found = client.json("/api/run", id="group/one")
    recommended, derived = found.pop("recommended"), found.pop("derived")
    assert found == {"id": "group/one", "config": run.config, "host": host}
    budget = {name: run.config["train"][name] for name in ("steps", "episodes")}
    expected, training = presets.resolve("CartPole-v1", "recommended", {}, budget)
    assert recommended["agent"]["learning_rate_decay_steps"] == expected.learning_rate_decay_steps
    assert recommended["train"]["eval_every"] == training.eval_every
    assert derived == []  # the budget of the run is in episodes


def test_served_series_match_the_logs(client: Client, tiny_run: TinyRun) -> None:
    run = tiny_run.history.run
    columns = client.json("/api/columns")
    assert set(columns) == {"episodes", "metrics", "evaluations"}
    for log, records in (("episodes", run.episodes), ("metrics", run.metrics), ("evaluations", run.evaluations)):
        for column in set(columns[log]) - {"outcome"}:
            (series,) = client.json("/api/series", id="group/one", name=f"{log}.{column}")["series"]
            assert series["x"] == [record.env_steps for record in records]
            assert series["y"] == series["mean"] == [getattr(record, column) for record in records]
            assert series["count"] == len(records)
    part = client.json("/api/series", **REWARD, x="episode", smooth=2, to=3, **{"from": 2})["series"][0]
    rewards = [one.reward for one in run.episodes]
    assert (part["count"], part["x"], part["y"]) == (2, [1, 2, 3, 4], rewards)  # the neighbors are included
    assert part["mean"] == [rewards[0], *((one + another) / 2 for one, another in pairwise(rewards))]


def test_outcomes_and_training_time_are_served(client: Client, root: Path) -> None:
    """Each outcome is a series, and evaluations give the time of every row."""
    run = copy_with(root, "moon", seed=3, environment="LunarLander-v3").parent
    labels = ["landed", "crashed", "landed", "exploded"]
    episodes = [episode(number, outcome=label) for number, label in enumerate(labels, 1)]
    (run / "episodes.jsonl").write_text("".join(json.dumps(one._asdict()) + "\n" for one in episodes))
    (run / "metrics.jsonl").unlink()
    times = [Evaluated(20, 2, 0.0, 0.0, 0.0, True, 4.0), Evaluated(30, 3, 0.0, 0.0, 0.0, False, 5.0)]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(one._asdict()) + "\n" for one in times))
    query = {"id": "moon", "name": "episodes.outcome", "x": "seconds", "smooth": 2}
    series = client.json("/api/series", **query)["series"]
    assert {one["outcome"]: one["mean"] for one in series} == {
        "landed": [1, 0.5, 0.5, 0.5], "crashed": [0, 0.5, 0.5, 0], "flew off": [0] * 4, "hovered": [0] * 4,
        "exploded": [0, 0, 0, 0.5],
    }  # fmt: skip
    assert {tuple(one["x"]) for one in series} == {(2, 4, 5, 6)}  # the steps 10, 20, 30 and 40
    assert client.runs()["moon"]["seconds"] == 6
    again = copy_with(root, "again", seed=4, environment="LunarLander-v3").parent
    shutil.copy(run / "episodes.jsonl", again)
    (again / "evaluations.jsonl").write_text("")
    assert client.runs()["again"]["seconds"] is None
    (one, *_) = client.json("/api/series", **query | {"id": "again"})["series"]
    assert (one["count"], one["x"]) == (0, [])
    bands = client.json("/api/series", **query | {"id": ["moon", "again"], "x": "env_steps"}, band="1")["bands"]
    assert {band["outcome"]: band["mean"] for band in bands} == {one["outcome"]: one["mean"] for one in series}
    with (again / "evaluations.jsonl").open("w") as log:  # new evaluations change the times of known episodes
        log.write(json.dumps(times[0]._asdict()) + "\n")
    (one, *_) = client.json("/api/series", **query | {"id": "again"})["series"]
    assert one["x"] == [2, 4, 6, 8]


def test_summary_has_scores_speed_estimate_and_settings_that_differ(client: Client, root: Path) -> None:
    agent = json.loads((root / "group/one/config.json").read_text())["agent"]
    copy_with(root, "two", seed=5, agent=agent | {"gamma": 0.5})
    copy_with(root, "other", environment="Acrobot-v1", agent=agent | {"gamma": 0.6, "n_step": 9}, seed=2)
    evaluations = [
        Evaluated(step, 1, mean, 0.0, 0.0, False, step / 50) for step, mean in ((50, 400), (100, 480), (150, 9))
    ]
    lines = "".join(json.dumps(one._asdict()) + "\n" for one in evaluations)
    one = root / "group/one"
    (one / "evaluations.jsonl").write_text(lines)
    (one / "episodes.jsonl").write_text("")
    shutil.rmtree(one / "checkpoints")
    config = json.loads((one / "config.json").read_text())
    (one / "config.json").write_text(json.dumps(config | {"train": config["train"] | {"steps": 600, "episodes": None}}))
    for age, name in enumerate(("settings.toml", "config.json")):
        os.utime(one / name, (1e9 + age, 1e9 + age))
    with lock.acquire(one):
        run = client.runs()["group/one"]
    assert (run["latest"], run["solved"], run["best"]) == (9.0, 100.0, None)
    assert (run["seconds"], run["speed"], run["progress"], run["eta"]) == (3.0, 50.0, 0.25, 9.0)
    assert (run["created"], run["started"], run["error"]) == (1e9, 1e9 + 1, None)
    runs = client.runs()
    assert runs["group/one"]["eta"] is None
    assert {name: value for name, value in runs["two"]["settings"].items() if name in ("seed", "agent.gamma")} == {
        "seed": 5, "agent.gamma": 0.5,
    }  # fmt: skip
    assert "agent.n_step" not in runs["two"]["settings"]  # differs only from a run of another environment


def test_settings_that_follow_from_the_budget_do_not_differ(client: Client, root: Path) -> None:
    config = json.loads((root / "group/one/config.json").read_text())

    def trained(name: str, steps: int, **agent: Any) -> None:
        found, train = presets.resolve("CartPole-v1", "recommended", agent, {"steps": steps})
        budget = {"steps": train.steps, "episodes": None}
        copy_with(root, name, environment="CartPole-v1", agent=asdict(found), train=config["train"] | budget)

    (root / "group/one/config.json").write_text(json.dumps(config | {"environment": "Acrobot-v1"}))
    trained("whole", 40_000)
    trained("half", 20_000)
    runs = client.runs()
    assert runs["half"]["settings"] == {"train.steps": 20_000}
    trained("own", 20_000, epsilon_decay_steps=77)
    runs = client.runs()
    assert runs["own"]["settings"] == {"agent.epsilon_decay_steps": 77, "train.steps": 20_000}
    assert (runs["half"]["derived"], runs["own"]["derived"]) == (["agent.epsilon_decay_steps"], [])
    names = ["agent.epsilon_decay_steps", "agent.learning_rate_decay_steps", "agent.priority_beta_steps"]
    assert client.json("/api/run", id="half")["derived"] == names


def test_runs_that_differ_only_in_the_seed_form_a_band(client: Client, root: Path) -> None:
    copy_with(root, "two", seed=5)
    copy_with(root, "other", reward_threshold=1.0)
    groups = {name: run["group"] for name, run in client.runs().items()}
    assert list(groups) == ["group/one", "other", "two"]
    assert groups["group/one"] == groups["two"] != groups["other"]
    query = {"id": list(groups), "name": "episodes.reward"}
    answer = client.json("/api/series", **query, band="1")
    assert [series["id"] for series in answer["series"]] == list(groups)
    (band,) = answer["bands"]
    assert band["ids"] == ["group/one", "two"]
    assert band["low"] == band["mean"] == band["high"]  # the runs are copies of each other
    assert client.json("/api/series", **query)["bands"] == []


def test_band_uses_the_newest_run_of_each_seed(client: Client, root: Path) -> None:
    seeds = {"z-first": 2, "again": 2, "two": 5}
    for age, (name, seed) in enumerate(seeds.items()):
        os.utime(copy_with(root, name, seed=seed), (1e9 + age, 1e9 + age))

    def bands(*ids: str) -> list[tuple[list[str], dict[str, str]]]:
        answer = client.json("/api/series", id=ids, name="episodes.reward", band="1")
        assert [series["id"] for series in answer["series"]] == list(ids)
        return [(band["ids"], band["replaced"]) for band in answer["bands"]]

    assert bands(*seeds) == [(["again", "two"], {"z-first": "again"})]
    assert bands("z-first", "again") == []  # a single seed
    assert bands("z-first", "two") == [(["z-first", "two"], {})]
    os.utime(root / "z-first/config.json", (2e9, 2e9))
    assert bands(*seeds) == [(["z-first", "two"], {"again": "z-first"})]


def test_growing_log_changes_summary_and_series(client: Client, root: Path) -> None:
    before = client.run()
    assert client.run() == before
    assert client.json("/api/series", **REWARD)["series"][0]["count"] == 4
    log = root / "group/one/episodes.jsonl"
    with log.open("ab") as file:
        file.write(json.dumps(episode(5, 7.0, env_steps=10_000)._asdict()).encode())
    assert client.run()["episodes"] == 4  # the line is not complete
    with log.open("ab") as file:
        file.write(b"\n")
    after = client.run()
    assert (after["episodes"], after["env_steps"]) == (5, 10_000)
    assert client.json("/api/series", **REWARD)["series"][0]["y"][-1] == 7.0


def test_state_is_training_while_a_process_holds_the_lock(client: Client, root: Path) -> None:
    run = root / "group/one"
    with lock.acquire(run):
        assert client.run()["state"] == "running"
    assert client.run()["state"] == "finished"
    (run / layout.OWNER).write_text('{"host": "x", "pid": 1}')  # no process holds the lock
    assert client.run()["state"] == "finished"
    shutil.rmtree(run / "checkpoints")
    stopped = client.run()
    assert stopped["state"] == "interrupted"
    assert stopped["message"] == "Training stopped early. The run has no readable checkpoint to resume from."
    failure.write(run, ValueError("no\nreward"), 5)
    failed = client.run()
    assert failed["state"] == "failed"
    assert failed["message"].startswith("Training failed: ValueError: no reward (after 5 environment steps).")
    assert failed["error"] == "ValueError: no reward (after 5 environment steps)"
    (run / failure.FILE).write_text('{"error": 1')
    assert client.run()["message"].startswith("Training failed: the error cannot be read")


def test_reading_the_lock_owner_does_not_block_the_lock(tmp_path: Path) -> None:
    with lock.acquire(tmp_path):
        pass
    script = "import sys; from pathlib import Path; from perilune.runs import lock\nprint(flush=True)\n"
    script += "while True: lock.owner(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as polling:  # noqa: S603
        assert polling.stdout is not None
        polling.stdout.readline()
        try:
            for _ in range(50):
                with lock.acquire(tmp_path):
                    pass
        finally:
            polling.kill()


def test_videos_are_listed_with_title_and_result(client: Client, root: Path, tiny_run: TinyRun) -> None:
    directory = root / "group/one/videos"
    for name in ("mine", "stages", "best-overlay", "stages-overlay"):
        shutil.copy(directory / "episode-00001.mp4", directory / f"{name}.mp4")
    lines = (directory / "best.jsonl").read_text().splitlines()
    several = [json.dumps(json.loads(line) | {"episode": number}) for number in (1, 2) for line in lines]
    (directory / "best-overlay.jsonl").write_text("\n".join(several) + "\n")
    found = {video["name"]: video for video in client.json("/api/videos", id="group/one")}
    assert {name: video["title"] for name, video in found.items()} == {
        "best.mp4": "Best weights", "best-overlay.mp4": "Best weights, overlay",
        "stages.mp4": "Stages of training", "stages-overlay.mp4": "Stages of training, overlay",
        "episode-00004.mp4": "Episode 4", "episode-00002.mp4": "Episode 2", "episode-00001.mp4": "Episode 1",
        "mine.mp4": "mine",
    }  # fmt: skip
    assert list(found)[4:] == ["episode-00004.mp4", "episode-00002.mp4", "episode-00001.mp4", "mine.mp4"]
    best = max(evaluation.env_steps for evaluation in tiny_run.history.run.evaluations if evaluation.best)
    assert found["best.mp4"]["env_steps"] == best
    assert found["best.mp4"]["reward"] == json.loads(lines[-1])["reward"] > 0
    for name in ("best-overlay.mp4", "stages.mp4", "stages-overlay.mp4", "mine.mp4"):
        assert found[name]["reward"] is None  # several episodes, or no telemetry
        assert found[name]["env_steps"] is None  # may show earlier weights
    record = tiny_run.history.run.episodes[0]
    assert found["episode-00001.mp4"] == {
        "name": "episode-00001.mp4", "title": "Episode 1", "episode": 1, "env_steps": record.env_steps,
        "reward": record.reward, "outcome": record.outcome, "telemetry": True,
        "bytes": (directory / "episode-00001.mp4").stat().st_size,
    }  # fmt: skip


def test_telemetry_response_has_a_column_per_field_and_entry_names(client: Client, root: Path) -> None:
    path = root / "group/one/videos/episode-00001.mp4"
    timesteps = telemetry.read(telemetry.path_of(path))
    columns = client.json("/api/telemetry", id="group/one", name=path.name)
    assert columns["obs_names"] == ["position", "velocity", "angle", "angular velocity"]
    assert columns["action_names"] == ["push left", "push right"]
    for name in ("episode", "step", "action", "reward"):
        assert columns[name] == [getattr(timestep, name) for timestep in timesteps]
    assert columns["obs"] == [timestep.obs.tolist() for timestep in timesteps]
    assert columns["q_values"] == [
        timestep.q_values.tolist() for timestep in timesteps if timestep.q_values is not None
    ]


def test_damaged_telemetry_gives_an_error(client: Client, root: Path) -> None:
    path = root / "group/one/videos/episode-00001.jsonl"
    line = {"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [1, 2], "obs": [1]}
    for content, message in {
        b"[]\n": "line 1, is damaged",
        b"": "damaged: expected one or more lines",
        (json.dumps(line) + "\n" + json.dumps(line | {"obs": [1, 2]})).encode(): "same number of values",
        b'{"episode": 1, "action": 0, "reward": NaN}': "line 1, is damaged",
        b" " * (videos.MAX_TELEMETRY + 1): "at most",
    }.items():
        path.write_bytes(content)
        assert message in client.error("/api/telemetry", 404, id="group/one", name="episode-00001.mp4")
    path.unlink()
    assert "cannot be read" in client.error("/api/telemetry", 404, id="group/one", name="episode-00001.mp4")


def test_video_supports_ranges_etags_and_head(client: Client, root: Path) -> None:
    content = (root / "group/one/videos/episode-00001.mp4").read_bytes()
    query = {"id": "group/one", "name": "episode-00001.mp4"}
    whole = client.get("/video", **query)
    assert (whole.status_code, whole.content) == (200, content)
    assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("video/mp4", "bytes")
    for range_, part in {"bytes=0-9": content[:10], "bytes=10-": content[10:], "bytes=-7": content[-7:]}.items():
        answer = client.get("/video", **query, headers={"Range": range_})
        assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {len(content) - 7}-{len(content) - 1}/{len(content)}"
    assert client.get("/video", **query, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert client.get("/video", **query, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = client.get("/video", "HEAD", **query)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))


def test_invalid_queries_get_an_error_message(client: Client) -> None:
    for path, query, status, message in (
        ("/api/run", {}, 400, "missing required field `id`"),
        ("/api/run", {"id": ["group/one", "group/one"]}, 400, "Expected `str`, got `array` - at `$.id`"),
        ("/api/run", {"id": "nobody"}, 404, "There is no run 'nobody'"),
        ("/api/series", {"id": "group/one"}, 400, "missing required field `name`"),
        ("/api/series", REWARD | {"name": "episodes.ended"}, 404, "no series 'episodes.ended'"),
        ("/api/series", REWARD | {"name": "__class__"}, 404, "no series"),
        ("/api/series", REWARD | {"x": "time"}, 400, "at `$.x`"),
        ("/api/series", REWARD | {"smooth": "0"}, 400, "Expected `int` >= 1 - at `$.smooth`"),
        ("/api/series", REWARD | {"smooth": "many"}, 400, "Expected `int`, got `str` - at `$.smooth`"),
        ("/api/series", REWARD | {"smooth": "nan"}, 400, "at `$.smooth`"),
        ("/api/series", REWARD | {"points": "1e9"}, 400, "at `$.points`"),
        ("/api/series", REWARD | {"from": "nan"}, 400, "Expected `from` <= `to`"),
        ("/api/series", REWARD | {"id": "nobody"}, 404, "no run"),
        ("/api/series", REWARD | {"id": ["x"] * 501}, 400, "length <= 500"),
        ("/api/nothing", {}, 404, "Not Found"),
        ("/static/nothing.js", {}, 404, "Not Found"),
        ("/static/", {}, 404, "Not Found"),
    ):
        assert message in client.error(path, status, **query), (path, query)


OUTSIDE = [
    *("..", "../secret", "../secret/inside.mp4", "/etc/passwd", "videos/../../secret/inside.mp4"),
    *("./episode-00001.mp4", "..%2fsecret", "%2e%2e/secret", "..\\secret", "episode-00001.mp4\0", "\0", "", "."),
    *("link.mp4", "pipe.mp4", "directory.mp4", "episode-00001.jsonl", "\u2025/secret", "\uff0e\uff0e/secret"),
    *("\udcff", "file:///etc/passwd", "EPISODE-00001.MP4", "episode-00001.mp4/", "a" * 50_000),
]


def test_report_of_a_search_is_served_without_scripts(client: Client, root: Path, tmp_path: Path) -> None:
    study = root / "cart"
    shutil.copytree(root / "group" / "one", study / "trial-0" / "seed-1")
    assert client.json("/api/runs")["searches"] == []
    (study / "space.toml").write_text("")
    (study / "report.html").write_text(f"<!doctype html>the report{SCRIPT}")
    client = Client(root)
    assert client.json("/api/runs")["searches"] == ["cart"]
    response = client.get("/search", id="cart")
    assert response.text.startswith("<!doctype html>the report")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "script" not in response.headers["content-security-policy"]
    assert "There is no search" in client.error("/search", 404, id="group")
    assert Client(study).json("/api/runs")["searches"] == ["."]
    assert Client(study / "trial-0").json("/api/runs")["searches"] == []

    (study / "report.html").rename(tmp_path / "elsewhere.html")  # a link is not followed
    (study / "report.html").symlink_to(tmp_path / "elsewhere.html")
    client.error("/search", 404, id="cart")
    assert Client(root).json("/api/runs")["searches"] == []


def test_only_listed_runs_and_videos_are_served(client: Client, root: Path) -> None:
    secret, directory = root.parent / "secret", root / "group/one/videos"
    secret.mkdir()
    (secret / "inside.mp4").write_text("secret")
    (directory / "link.mp4").symlink_to(secret / "inside.mp4")
    (directory / "directory.mp4").mkdir()
    os.mkfifo(directory / "pipe.mp4")
    (root / "group/two").symlink_to(root / "group/one")
    for name in OUTSIDE:
        for path, query in (
            ("/video", {"id": "group/one", "name": name}),
            ("/api/telemetry", {"id": "group/one", "name": name}),
            ("/api/videos", {"id": name}),
            ("/api/run", {"id": name}),
            ("/video", {"id": name, "name": "inside.mp4"}),
        ):
            client.error(path, 404, **query)
    client.error("/api/run", 404, id="group/two")


def test_links_are_not_followed(client: Client, root: Path, tmp_path: Path) -> None:
    run, target = root / "group/one", tmp_path / "target"
    for name in ("videos", "episodes.jsonl", "checkpoints"):
        (run / name).rename(target.with_name(name))
        (run / name).symlink_to(target.with_name(name))
    (root / "linked").symlink_to(tmp_path)
    summary = client.run()
    assert (summary["videos"], summary["episodes"], summary["state"]) == (0, 0, "interrupted")
    assert "episodes.jsonl is a link" in summary["message"]
    assert client.json("/api/videos", id="group/one") == []
    (run / "config.json").rename(tmp_path / "config.json")
    (run / "config.json").symlink_to(tmp_path / "config.json")
    assert client.runs() == {}


def test_malicious_directory_is_served_as_plain_text(tmp_path: Path) -> None:
    root = tmp_path / SCRIPT.replace("/", "")
    run = root / "<img src=x onerror=alert(1)>" / "a\nb\t'\"&\x7f \u202e"
    (run / "videos").mkdir(parents=True)
    config = {
        "format": 1, "environment": SCRIPT + "\0", "reward_threshold": 1.7e308, "seed": -(2**62),
        "agent": {SCRIPT: [[[SCRIPT]]], "nested": json.loads("[" * 300 + "]" * 300)},
        "train": {"steps": "many", "episodes": 10**300},
    }  # fmt: skip
    (run / "config.json").write_text(json.dumps(config))
    (run / "host.json").write_text("[1, 2")

    def write(kind: Any, records: list[Any]) -> None:
        (run / layout.FILES[kind]).write_text("".join(json.dumps(record) + "\n" for record in records))

    large = 1.7e308
    strange = {"loss": 5e-324, "outcome": SCRIPT}
    huge = [episode(number, large * (-1) ** number, env_steps=10**14 * number, **strange) for number in range(1, 30)]
    write(Episode, [one._asdict() for one in huge])
    write(Metrics, [dict.fromkeys(Metrics._fields, value) for value in (large, -large, 0, 1e300, -1) * 9])
    write(Evaluated, [dict.fromkeys(Evaluated._fields, large) | {"best": True}] * 3)
    write(HealthWarning, [{"env_steps": 1, "what": SCRIPT, "words": SCRIPT + "\0"}] * 1_000)
    line = {"episode": 10**200, "action": None, "reward": 1, "q_values": [None], "obs": [10**400]}
    for name in ("<b>.mp4", "episode-99999.mp4", "episode-٣٣٣٣٣.mp4", "\x01.mp4"):
        (run / "videos" / name).write_bytes(b"\0\0\0\0moov\0")
        (run / "videos" / name).with_suffix(".jsonl").write_text(json.dumps(line) + "\n")
    (run / "videos" / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"")
    (root / os.fsdecode(b"\xff")).mkdir()
    (root / os.fsdecode(b"\xff") / "config.json").write_text("{" * 100_000)
    (root / "damaged" / "checkpoints").mkdir(parents=True)
    (root / "damaged" / "checkpoints" / "000000000001.safetensors").write_bytes(b"[" * 1_000_000)
    (root / "damaged" / "config.json").write_text(json.dumps(config))
    (root / "damaged" / "episodes.jsonl").write_bytes(os.urandom(300_000))
    (root / "damaged" / "metrics.jsonl").mkdir()
    (root / "damaged" / "videos").touch()

    client = Client(root)
    for name in client.runs():
        client.json("/api/run", id=name)
        for log, columns in client.json("/api/columns").items():
            for x in ("env_steps", "episode"):
                query = {"id": [name, name], "name": f"{log}.{columns[0]}", "smooth": 3, "points": 8, "band": 1}
                client.json("/api/series", **query, x=x)
        for video in client.json("/api/videos", id=name):
            assert client.get("/video", id=name, name=video["name"]).status_code == 200
            client.get("/api/telemetry", id=name, name=video["name"])
    found = client.runs()
    assert found["\\udcff"]["state"] == "unreadable"
    assert "checkpoint cannot be read" in found["damaged"]["message"]
    assert "damaged lines were skipped" in found["damaged"]["message"]
    (hostile,) = (run for run in found.values() if run["videos"])
    assert hostile["outcomes"] == [[SCRIPT, 29]]
    assert hostile["warnings"] == [SCRIPT + "\0"] * MAX_WARNINGS
    assert hostile["videos"] == 5
    assert client.json("/api/run", id=hostile["id"])["config"] == config
    client.error("/api/telemetry", 404, id=hostile["id"], name="<b>.mp4")
    assert client.get("/api/runs").headers["content-type"] == "application/json"


def test_damaged_line_in_a_plotted_log_is_reported(client: Client, root: Path) -> None:
    with (root / "group/one/metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    assert client.run()["message"] is None
    assert client.json("/api/series", id="group/one", name="metrics.mean_q")["series"]
    assert "metrics.jsonl: damaged line" in client.run()["message"]


def test_created_and_removed_runs_are_noticed(client: Client, root: Path) -> None:
    single = Client(root / "group/one")
    assert single.run()["id"] == "."
    assert single.json("/api/videos", id=".")
    assert list(client.runs()) == ["group/one"]
    shutil.copytree(root / "group/one", root / "deep" / "er" / "two")
    assert list(client.runs()) == ["deep/er/two", "group/one"]
    shutil.rmtree(root / "group")
    assert list(client.runs()) == ["deep/er/two"]
    client.error("/api/run", 404, id="group/one")
    shutil.rmtree(root)
    assert client.runs() == {}


def test_run_replaced_by_another_is_read_again(client: Client, root: Path) -> None:
    run = root / "group/one"
    for reward in (1.0, 2.0, 3.0):  # the number of rows does not change
        (run / "episodes.jsonl").write_text(json.dumps(episode(1, reward)._asdict()) + "\n")
        assert client.json("/api/series", **REWARD)["series"][0]["y"] == [reward]
        run.rename(root.parent / "away")
        assert client.runs() == {}
        (root.parent / "away").rename(run)


def test_internal_error_is_answered_with_security_headers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: watcher.Watcher) -> None:
        raise KeyError(SCRIPT)

    monkeypatch.setattr(watcher.Watcher, "poll", broken)
    answer = client.get("/api/runs")
    message = "The server failed with KeyError. See its terminal for the cause."
    assert (answer.status_code, answer.json()) == (500, {"error": message})
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_search_for_runs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_deep = tmp_path.joinpath(*map(str, range(search.MAX_DEPTH + 1)))
    for run in (too_deep, too_deep.parents[1] / "deep"):
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps(CONFIG))
    found = Client(tmp_path).json("/api/runs")
    assert [Path(run["id"]).name for run in found["runs"]] == ["deep"]
    assert found["message"] == "Directories more than 8 levels deep are not searched."
    monkeypatch.setattr(search, "MAX_DIRECTORIES", 3)
    found = Client(tmp_path).json("/api/runs")
    assert found["runs"] == []
    assert found["message"] == "The search stopped after 3 directories or 1,000 runs."
