"""What the page is told of runs, whole, half-written, strange or hostile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from fixtures_runs import TinyRun, episode
from perilune.runs import lock, runlog, telemetry
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics
from perilune.web import server, videos, watcher
from perilune.web.run import MOST_NOTICES

SCRIPT = "<script>alert(1)</script>"


@dataclass
class Client:
    """Asks an application, without a socket between."""

    root: Path

    def __post_init__(self) -> None:
        self.pages = server.Pages(self.root, lambda: False)
        self._application = server.application(self.pages, "127.0.0.1", 80)

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **parameters: Any) -> Any:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._application)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                query = urlencode(parameters, doseq=True, errors="surrogatepass")
                return await client.request(method, f"{path}?{query}", headers=headers)

        return asyncio.run(ask())


def asked(root: Path) -> Client:
    return Client(root)


@pytest.fixture
def copy(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A directory with one run in it, which a test may change."""
    root = tmp_path / "runs"
    shutil.copytree(tiny_run.history.directory, root / "group" / "one")
    return root


@pytest.fixture(autouse=True)
def _always_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "FRESH", 0.0)
    monkeypatch.setattr(watcher, "PATIENCE", 0)
    monkeypatch.setattr(watcher, "AT_ONCE", 60.0)


def get(client: Client, path: str, **parameters: Any) -> Any:
    answer = client.get(path, **parameters)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content, parse_constant=pytest.fail)


def one(client: Client) -> Any:
    (found,) = get(client, "/api/runs")["runs"]
    return found


def refused(client: Client, path: str, status: int, **parameters: Any) -> str:
    answer = client.get(path, **parameters)
    assert answer.status_code == status, answer.text
    (words,) = answer.json().values()
    assert isinstance(words, str)
    return words


def test_a_finished_run_is_told_as_the_library_reads_it(copy: Path, tiny_run: TinyRun) -> None:
    client, run = asked(copy), tiny_run.history.run
    told = one(client)
    evaluations = [evaluation for evaluation in run.evaluations if evaluation.best]
    assert told["id"] == "group/one"
    assert (told["environment"], told["seed"], told["reward_threshold"]) == ("CartPole-v1", 2, 475.0)
    assert (told["state"], told["words"], told["share"]) == ("ended", None, 1.0)
    assert told["budget"] == {"steps": None, "episodes": 4}
    assert told["episodes"] == len(run.episodes) == 4
    assert told["env_steps"] == max(run.episodes[-1].env_steps, run.evaluations[-1].env_steps)
    assert told["recent"] == pytest.approx(sum(one.reward for one in run.episodes) / 4)
    assert told["best"] == {name: getattr(evaluations[-1], name) for name in ("env_steps", "episodes", "mean_return")}
    assert [label for label, _ in told["outcomes"]] == ["balanced", "fell", "left the track"]  # also what never was
    assert sum(many for _, many in told["outcomes"]) == 4
    assert told["videos"] == 4
    assert get(client, "/api/run", id="group/one") == {
        "id": "group/one",
        "config": run.config,
        "host": json.loads((copy / "group/one/host.json").read_text()),
        "evaluations": [evaluation._asdict() for evaluation in run.evaluations],
    }


def test_series_are_the_logs(copy: Path, tiny_run: TinyRun) -> None:
    client, run = asked(copy), tiny_run.history.run
    names = get(client, "/api/names")
    assert set(names) == {"episodes", "metrics", "evaluations"}
    for log, records in (("episodes", run.episodes), ("metrics", run.metrics), ("evaluations", run.evaluations)):
        for column in names[log]:
            (found,) = get(client, "/api/series", id="group/one", name=f"{log}.{column}")["series"]
            assert found["x"] == [record.env_steps for record in records]
            assert found["raw"] == found["mean"] == [getattr(record, column) for record in records]
            assert found["count"] == len(records)
    (part,) = get(client, "/api/series", **{"id": "group/one", "name": "episodes.reward", "x": "episode", "smooth": 2,
                                            "from": 2, "to": 3})["series"]  # fmt: skip
    rewards = [one.reward for one in run.episodes]
    assert (part["x"], part["raw"]) == ([2, 3], rewards[1:3])
    assert part["mean"] == [(rewards[0] + rewards[1]) / 2, (rewards[1] + rewards[2]) / 2]


def test_seeds_of_one_setting_are_a_group_and_have_a_band(copy: Path) -> None:
    for name, changes in {"two": {"seed": 5}, "other": {"reward_threshold": 1.0}}.items():
        shutil.copytree(copy / "group/one", copy / name)
        config = json.loads((copy / name / "config.json").read_text())
        (copy / name / "config.json").write_text(json.dumps(config | changes))
    client = asked(copy)
    told = {run["id"]: run for run in get(client, "/api/runs")["runs"]}
    assert list(told) == ["group/one", "other", "two"]
    assert told["group/one"]["group"] == told["two"]["group"] != told["other"]["group"]
    answer = get(client, "/api/series", id=list(told), name="episodes.reward", band="1")
    assert [series["id"] for series in answer["series"]] == list(told)
    (band,) = answer["bands"]
    assert band["ids"] == ["group/one", "two"]
    assert band["low"] == band["mean"] == band["high"]  # of a run and its copy
    assert get(client, "/api/series", id=list(told), name="episodes.reward")["bands"] == []


def test_a_seed_that_was_trained_twice_is_in_a_band_once(copy: Path) -> None:
    seeds = {"z-first": 2, "again": 2, "two": 5}
    for age, (name, seed) in enumerate(seeds.items()):
        shutil.copytree(copy / "group/one", copy / name)
        path = copy / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": seed}))
        os.utime(path, (1e9 + age, 1e9 + age))
    shutil.rmtree(copy / "group")
    client = asked(copy)
    asked_for = {"name": "episodes.reward", "band": "1"}
    answer = get(client, "/api/series", id=list(seeds), **asked_for)
    (band,) = answer["bands"]
    assert (band["ids"], band["left_out"]) == (["again", "two"], {"z-first": "again"})
    assert [series["id"] for series in answer["series"]] == list(seeds)
    assert get(client, "/api/series", id=["z-first", "again"], **asked_for)["bands"] == []  # one seed is no band
    (band,) = get(client, "/api/series", id=["z-first", "two"], **asked_for)["bands"]  # of those that are asked for
    assert (band["ids"], band["left_out"]) == (["z-first", "two"], {})
    os.utime(copy / "z-first/config.json", (2e9, 2e9))
    (band,) = get(client, "/api/series", id=list(seeds), **asked_for)["bands"]
    assert (band["ids"], band["left_out"]) == (["z-first", "two"], {"again": "z-first"})


def test_a_log_that_grows_is_a_new_version_and_a_new_answer(copy: Path) -> None:
    client = asked(copy)
    before = one(client)
    assert one(client) == before
    asked_for = {"id": "group/one", "name": "episodes.reward"}
    assert get(client, "/api/series", **asked_for)["series"][0]["count"] == 4
    log = copy / "group/one/episodes.jsonl"
    with log.open("ab") as file:
        file.write(json.dumps(episode(5, 7.0, env_steps=10_000)._asdict()).encode())
    assert one(client)["episodes"] == 4  # the line is not finished
    with log.open("ab") as file:
        file.write(b"\n")
    after = one(client)
    assert (after["episodes"], after["env_steps"]) == (5, 10_000)
    assert after["version"] > before["version"]
    assert get(client, "/api/series", **asked_for)["series"][0]["raw"][-1] == 7.0


def test_whose_process_lives_is_training_and_who_was_killed_has_stopped(copy: Path) -> None:
    run, client = copy / "group/one", asked(copy)
    with lock.claimed(run):
        assert one(client)["state"] == "training"
    assert one(client)["state"] == "ended"
    (run / runlog.OWNER).write_text('{"host": "x", "pid": 1}')  # nobody holds the lock
    assert one(client)["state"] == "ended"
    shutil.rmtree(run / "checkpoints")
    told = one(client)
    assert told["state"] == "stopped"
    assert told["words"] == "It stopped before its end; without a checkpoint it cannot be gone on with."


def test_who_is_looked_at_all_the_time_can_be_claimed_all_the_same(tmp_path: Path) -> None:
    with lock.claimed(tmp_path):
        pass
    script = "import sys; from pathlib import Path; from perilune.runs import lock\nprint(flush=True)\n"
    script += "while True: lock.owner(Path(sys.argv[1]))"
    program = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as looking:  # noqa: S603
        assert looking.stdout is not None
        looking.stdout.readline()
        try:
            for _ in range(200):
                with lock.claimed(tmp_path):
                    pass
        finally:
            looking.kill()


def test_videos_and_what_they_show(copy: Path, tiny_run: TinyRun) -> None:
    client, run = asked(copy), tiny_run.history.run
    videos = copy / "group/one/videos"
    for name in ("mine", "stages", "best-overlay", "stages-overlay"):
        shutil.copy(videos / "episode-00001.mp4", videos / f"{name}.mp4")
    played = telemetry.read(videos / "best.jsonl")
    lines = (videos / "best.jsonl").read_text().splitlines(keepends=True)
    (videos / "best-overlay.jsonl").write_text(
        "".join(line.replace('"episode": 1', f'"episode": {episode}') for episode in (1, 2) for line in lines)
    )
    above = get(client, "/api/videos", id="group/one")
    found = [above[0], *above[4:]]
    assert [(video["name"], video["title"]) for video in above[1:4]] == [
        ("best-overlay.mp4", "Best weights, overlay"),
        ("stages.mp4", "Stages of learning"),
        ("stages-overlay.mp4", "Stages of learning, overlay"),
    ]
    assert above[0]["reward"] == played[-1].reward > 0
    assert [video["reward"] for video in above[1:4]] == [None] * 3  # several episodes, and no telemetry
    assert [video["env_steps"] for video in above[1:4]] == [None] * 3  # the best may have been another then
    assert [video["name"] for video in found] == [
        "best.mp4", "episode-00004.mp4", "episode-00002.mp4", "episode-00001.mp4", "mine.mp4",
    ]  # fmt: skip
    first = found[3]
    record = run.episodes[0]
    path = copy / "group/one/videos/episode-00001.mp4"
    assert first == {
        "name": "episode-00001.mp4", "title": "Episode 1", "episode": 1, "env_steps": record.env_steps,
        "reward": record.reward, "outcome": record.outcome, "telemetry": True, "bytes": path.stat().st_size,
    }  # fmt: skip
    assert (found[0]["title"], found[0]["telemetry"]) == ("Best weights", True)
    assert found[0]["env_steps"] == max(evaluation.env_steps for evaluation in run.evaluations if evaluation.best)
    assert (found[4]["title"], found[4]["telemetry"]) == ("mine", False)
    moments = telemetry.read(telemetry.path_of(path))
    told = get(client, "/api/telemetry", id="group/one", name="episode-00001.mp4")
    assert told["readings"] == ["position", "velocity", "angle", "angular velocity"]
    assert told["actions"] == ["push left", "push right"]
    for name in ("episode", "step", "action", "reward", "outcome"):
        assert told[name] == [getattr(moment, name) for moment in moments]
    assert told["obs"] == [moment.obs.tolist() for moment in moments]
    assert "cannot be read" in refused(client, "/api/telemetry", 404, id="group/one", name="mine.mp4")


def test_a_video_comes_in_the_parts_that_are_asked_for(copy: Path) -> None:
    client = asked(copy)
    content = (copy / "group/one/videos/episode-00001.mp4").read_bytes()
    film = {"id": "group/one", "name": "episode-00001.mp4"}
    whole = client.get("/video", **film)
    assert (whole.status_code, whole.content) == (200, content)
    assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("video/mp4", "bytes")
    for range_, part in {"bytes=0-9": content[:10], "bytes=10-": content[10:], "bytes=-7": content[-7:]}.items():
        answer = client.get("/video", **film, headers={"Range": range_})
        assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {len(content) - 7}-{len(content) - 1}/{len(content)}"
    assert client.get("/video", **film, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert client.get("/video", **film, headers={"Range": "lines=1"}).status_code == 400
    assert client.get("/video", **film, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = client.get("/video", "HEAD", **film)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))


@pytest.mark.parametrize(
    ("path", "parameters", "status", "words"),
    [
        ("/api/run", {}, 400, "id has to be given"),
        ("/api/run", {"id": ["group/one", "group/one"]}, 400, "once"),
        ("/api/run", {"id": "nobody"}, 404, "no run"),
        ("/api/series", {"id": "group/one"}, 400, "name has to be given"),
        ("/api/series", {"id": "group/one", "name": "episodes.ended"}, 404, "no such series"),
        ("/api/series", {"id": "group/one", "name": "__class__"}, 404, "no such series"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "x": "time"}, 400, "x is"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "smooth": "0"}, 400, "smooth is from"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "smooth": "many"}, 400, "smooth is a number"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "smooth": "nan"}, 400, "smooth is from"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "points": "1e9"}, 400, "points is from"),
        ("/api/series", {"id": "group/one", "name": "episodes.reward", "from": "nan"}, 400, "from is from"),
        ("/api/series", {"id": "nobody", "name": "episodes.reward"}, 404, "no run"),
        ("/api/series", {"id": ["x"] * 501, "name": "episodes.reward"}, 400, "at most 500"),
        ("/api/nothing", {}, 404, "nothing of that name"),
        ("/static/nothing.js", {}, 404, "nothing of that name"),
        ("/static/", {}, 404, "nothing of that name"),
    ],
)
def test_what_cannot_be_answered_is_said(
    copy: Path, path: str, parameters: dict[str, Any], status: int, words: str
) -> None:
    assert words in refused(asked(copy), path, status, **parameters)


OUTSIDE = [
    *(
        "..",
        "../secret",
        "../secret/inside.mp4",
        "/etc/passwd",
        "videos/../../secret/inside.mp4",
        "./episode-00001.mp4",
    ),
    *("..%2fsecret", "%2e%2e/secret", "..\\secret", "episode-00001.mp4\0", "\0", "", ".", "link.mp4", "pipe.mp4"),
    *("directory.mp4", "episode-00001.jsonl", "\u2025/secret", "\uff0e\uff0e/secret", "\udcff", "file:///etc/passwd"),
    *("EPISODE-00001.MP4", "episode-00001.mp4/", "a" * 50_000),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_the_listings_is_served(copy: Path, name: str) -> None:
    secret = copy.parent / "secret"
    secret.mkdir()
    (secret / "inside.mp4").write_text("secret")
    videos = copy / "group/one/videos"
    (videos / "link.mp4").symlink_to(secret / "inside.mp4")
    (videos / "directory.mp4").mkdir()
    os.mkfifo(videos / "pipe.mp4")
    (copy / "group/two").symlink_to(copy / "group/one")
    client = asked(copy)
    for path, parameters in (
        ("/video", {"id": "group/one", "name": name}),
        ("/api/telemetry", {"id": "group/one", "name": name}),
        ("/api/videos", {"id": name}),
        ("/api/run", {"id": name}),
        ("/video", {"id": name, "name": "inside.mp4"}),
    ):
        assert refused(client, path, 404, **parameters)
    assert refused(client, "/api/run", 404, id="group/two")


def test_links_are_not_followed(copy: Path, tmp_path: Path) -> None:
    run, real = copy / "group/one", tmp_path / "real"
    for name in ("videos", "episodes.jsonl", "checkpoints"):
        (run / name).rename(real.with_name(name))
        (run / name).symlink_to(real.with_name(name))
    (copy / "linked").symlink_to(tmp_path)
    client = asked(copy)
    told = one(client)
    assert (told["videos"], told["episodes"], told["state"]) == (0, 0, "stopped")
    assert "episodes.jsonl is a link" in told["words"]
    assert get(client, "/api/videos", id="group/one") == []
    (run / "config.json").rename(tmp_path / "config.json")
    (run / "config.json").symlink_to(tmp_path / "config.json")
    assert get(client, "/api/runs")["runs"] == []


def everything(client: Client) -> Any:
    """All that the page can ask for, each a valid answer."""
    answers = []
    for run in get(client, "/api/runs")["runs"]:
        name = run["id"]
        answers += [run, get(client, "/api/run", id=name)]
        for log, columns in get(client, "/api/names").items():
            for column in columns:
                for x in ("env_steps", "episode"):
                    answers.append(
                        get(
                            client,
                            "/api/series",
                            id=[name, name],
                            name=f"{log}.{column}",
                            x=x,
                            smooth=3,
                            points=8,
                            band=1,
                        )
                    )
        for video in get(client, "/api/videos", id=name):
            answers.append(video)
            assert client.get("/video", id=name, name=video["name"]).status_code == 200
            client.get("/api/telemetry", id=name, name=video["name"])
    return answers


def write(directory: Path, kind: Any, records: list[Any]) -> None:
    (directory / runlog.FILES[kind]).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_hostile_directory_is_text_and_always_an_answer(tmp_path: Path) -> None:
    root = tmp_path / SCRIPT.replace("/", "")
    run = root / "<img src=x onerror=alert(1)>" / "a\nb\t'\"&\x7f \u202e"
    (run / "videos").mkdir(parents=True)
    config = {
        "format": 1, "environment": SCRIPT + "\ud800\0", "reward_threshold": 1.7e308, "seed": -(2**62),
        "agent": {SCRIPT: [[[SCRIPT]]], "nested": json.loads("[" * 300 + "]" * 300)},
        "train": {"steps": "many", "episodes": 10**300},
    }  # fmt: skip
    (run / "config.json").write_text(json.dumps(config))
    (run / "host.json").write_text("[1, 2")
    large = 1.7e308
    strange = {"loss": 5e-324, "outcome": SCRIPT}
    huge = [episode(number, large * (-1) ** number, env_steps=10**14 * number, **strange) for number in range(1, 30)]
    write(run, Episode, [one._asdict() for one in huge])
    write(run, Metrics, [dict.fromkeys(Metrics._fields, value) for value in (large, -large, 0, 1e300, -1) * 9])
    write(run, Evaluated, [dict.fromkeys(Evaluated._fields, large) | {"best": True}] * 3)
    write(run, HealthWarning, [{"env_steps": 1, "what": SCRIPT, "words": SCRIPT + "\0"}] * 1_000)
    names = ("<b>.mp4", "episode-99999.mp4", "episode-٣٣٣٣٣.mp4", "\x01.mp4")
    for name in names:
        (run / "videos" / name).write_bytes(b"\0\0\0\0moov\0")
        (run / "videos" / name).with_suffix(".jsonl").write_text(
            json.dumps({"episode": 10**200, "action": None, "reward": 1, "q_values": [None], "obs": [10**400]}) + "\n"
        )
    (run / "videos" / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"")
    (root / os.fsdecode(b"\xff")).mkdir()
    (root / os.fsdecode(b"\xff") / "config.json").write_text("{" * 100_000)
    for name in ("checkpoints", "episodes.jsonl", "metrics.jsonl", "host.json", "notices.jsonl"):
        (root / "directories" / name).mkdir(parents=True)
    (root / "directories" / "config.json").write_text(json.dumps(config | {"seed": 10**300}))
    (root / "directories" / "videos").touch()
    (root / "damaged" / "checkpoints").mkdir(parents=True)
    (root / "damaged" / "checkpoints" / "000000000001.json").write_bytes(b"[" * 1_000_000)
    (root / "damaged" / "config.json").write_text(json.dumps(config))
    (root / "damaged" / "episodes.jsonl").write_bytes(os.urandom(3_000_000))
    (root / "large").mkdir()
    (root / "large" / "config.json").write_text(json.dumps(config | {"more": "x" * 2**20}))

    client = asked(root)
    answers = everything(client)
    assert len({run["id"] for run in get(client, "/api/runs")["runs"]}) == 5
    states = {run["id"]: (run["state"], run["words"]) for run in answers if "state" in run}
    assert states["\\udcff"][0] == states["large"][0] == "unreadable"
    assert "at most" in states["large"][1]
    assert states["directories"][0] == "unreadable"
    assert "seed is 1000" in states["directories"][1]
    assert "checkpoint cannot be read" in states["damaged"][1]
    assert "damaged and left out" in states["damaged"][1]
    answer = client.get("/api/runs")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    (hostile,) = (run for run in answer.json()["runs"] if run["videos"])
    assert hostile["outcomes"] == [[SCRIPT, 29]]
    assert hostile["notices"] == [SCRIPT + "\0"] * MOST_NOTICES
    assert hostile["videos"] == 5
    assert "damaged" in refused(client, "/api/telemetry", 404, id=hostile["id"], name="<b>.mp4")


def test_damage_in_a_log_that_only_its_curves_read_is_told_as_well(copy: Path) -> None:
    with (copy / "group/one/metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    client = asked(copy)
    before = one(client)
    assert before["words"] is None
    assert get(client, "/api/series", id="group/one", name="metrics.loss")["series"]
    (run,) = client.pages.watched.catch_up().values()
    assert run.version > before["version"]
    after = one(client)
    assert "metrics.jsonl: 1 line is damaged and left out" in after["words"]
    assert not run.behind


def test_a_directory_without_runs_is_one_without_runs(tmp_path: Path) -> None:
    assert get(asked(tmp_path), "/api/runs") == {"root": str(tmp_path), "words": None, "runs": []}


def test_a_run_itself_can_be_watched(copy: Path) -> None:
    client = asked(copy / "group/one")
    assert one(client)["id"] == "."
    assert get(client, "/api/videos", id=".")


def test_runs_come_and_go(copy: Path) -> None:
    client = asked(copy)
    first = one(client)
    shutil.copytree(copy / "group/one", copy / "deep" / "er" / "two")
    assert [run["id"] for run in get(client, "/api/runs")["runs"]] == ["deep/er/two", "group/one"]
    shutil.rmtree(copy / "group")
    assert one(client)["id"] == "deep/er/two"
    assert "no run" in refused(client, "/api/run", 404, id="group/one")
    shutil.copytree(copy / "deep" / "er" / "two", copy / "group/one")
    shutil.rmtree(copy / "deep")
    assert one(client)["version"] > first["version"]  # another one of that name
    shutil.rmtree(copy)
    assert get(client, "/api/runs")["runs"] == []


def test_a_run_in_anothers_place_is_not_taken_for_it(copy: Path) -> None:
    client, run = asked(copy), copy / "group/one"
    for reward in (1.0, 2.0, 3.0):  # as many rows each time
        write(run, Episode, [episode(1, reward)._asdict()])
        assert get(client, "/api/series", id="group/one", name="episodes.reward")["series"][0]["raw"] == [reward]
        run.rename(copy.parent / "away")
        assert get(client, "/api/runs")["runs"] == []
        (copy.parent / "away").rename(run)


def test_a_fault_of_the_servers_own_is_an_answer_too(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: watcher.Watched) -> None:
        raise KeyError(SCRIPT)

    monkeypatch.setattr(watcher.Watched, "told", broken)
    application = server.application(server.Pages(copy, lambda: False), "127.0.0.1", 80)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/api/runs")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()) == (500, {"error": "the server failed: KeyError"})
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_search_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"format": 1, "environment": "X", "reward_threshold": None, "seed": 1, "agent": {}, "train": {}}
    deep = tmp_path.joinpath(*map(str, range(watcher.DEEPEST + 1)))
    just = deep.parents[1] / "just"  # as deep as is searched
    for run in (deep, just):
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps(config))
    found = get(asked(tmp_path), "/api/runs")
    assert [Path(run["id"]).name for run in found["runs"]] == ["just"]
    assert found["words"] == "What is more than 8 directories deep is not searched."
    monkeypatch.setattr(watcher, "MOST_DIRECTORIES", 3)
    found = get(asked(tmp_path), "/api/runs")
    assert found["runs"] == []
    assert found["words"] == "There is more than is searched: 3 directories, 1,000 runs."


def test_many_long_runs_are_answered_at_once_and_completed_afterwards(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = one(asked(copy))
    monkeypatch.setattr(watcher, "AT_ONCE", -1.0)
    watched = watcher.Watched(copy)
    (outline,) = watched.told()
    unknown = {"env_steps", "episodes", "share", "recent", "best", "outcomes"}
    assert {name for name, value in outline.items() if value is None and whole[name] is not None} == unknown
    assert outline["state"] == "ended"
    monkeypatch.setattr(watcher, "AT_ONCE", 60.0)
    (run,) = watched.catch_up().values()
    assert run.version > outline["version"]
    assert run.is_told
    (told,) = watched.told()
    assert told | {"version": 0} == whole | {"version": 0}


def test_answers_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CACHED", 100)
    answers = server.Answers()
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return b"x" * 40

    for number in (1, 2, 1, 3, 1, 2):
        answers.of(number, lambda number=number: make(number))
    assert made == [1, 2, 3, 2]  # 2 was asked for longest ago when 3 came


def test_unreadable_telemetry_says_so(copy: Path) -> None:
    client, path = asked(copy), copy / "group/one/videos/episode-00001.jsonl"
    moment = {"episode": 1, "step": 0, "action": 0, "reward": 0, "q_values": [1, 2], "obs": [1]}
    for content, words in {
        b"[]\n": "damaged",
        b"": "it has no line",
        (json.dumps(moment) + "\n" + json.dumps(moment | {"obs": [1, 2]})).encode(): "different numbers",
        b'{"episode": 1, "action": 0, "reward": NaN}': "damaged",
        b" " * (videos.LARGEST_TELEMETRY + 1): "at most",
    }.items():
        path.write_bytes(content)
        assert words in refused(client, "/api/telemetry", 404, id="group/one", name="episode-00001.mp4")


def test_a_reward_that_was_not_finite_is_none_beside_its_film(copy: Path) -> None:
    log = copy / "group" / "one" / "episodes.jsonl"
    first, *others = log.read_text().splitlines()
    log.write_text("\n".join([json.dumps(json.loads(first) | {"reward": None}), *others]) + "\n")
    films = {film["episode"]: film["reward"] for film in get(asked(copy), "/api/videos", id="group/one")}
    assert json.loads(first)["episode"] in films
    assert films.pop(json.loads(first)["episode"]) is None
    assert any(films.values())
