"""Reports: their content, their layout, and their safety with untrusted runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from fixtures_runs import TinyRun, episode, evaluated, made_up_run
from html_reader import Html
from perilune import DQN, cli
from perilune._utils import statistics
from perilune._utils.statistics import Estimate
from perilune.envs.known import presets
from perilune.errors import DivergenceError, MissingDependencyError
from perilune.runs import failure, logs
from perilune.runs.scores import score as bench_score
from perilune.runs.scores import write_score
from perilune.runs.weights import load_weights, save_weights
from perilune.viz import maps, plots
from perilune.viz.report import recordings, scoring, templates
from perilune.viz.report.content import write_report

EPISODES = 12


def written(runs: list[Path], out: Path, episodes: int = 0) -> Html:
    write_report([logs.read_run(run) for run in runs], out, episodes, lambda words: None)
    return Html(out.read_text(encoding="utf-8"))


def rewrite_config(run: Path, **values: Any) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))


@pytest.fixture(scope="module")
def whole(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, with its initial weights also as its final weights. Tests must not change it."""
    directory = Path(shutil.copytree(tiny_run.history.directory, tmp_path_factory.mktemp("whole") / "run"))
    shutil.copy(directory / "snapshots" / "00000.safetensors", directory / "final.safetensors")
    return directory


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of ``whole`` that tests may change, without checkpoints and snapshots, because drawing maps is slow."""
    return Path(shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "snapshots")))


@pytest.fixture(scope="module")
def page_path(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ``whole``. Tests must not change it."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    cli.main(["report", str(whole), "--episodes", str(EPISODES), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def tags(page_path: Path) -> Html:
    return Html(page_path.read_text(encoding="utf-8"))


def test_scores_equal_evaluations_on_the_fixed_start_states(whole: Path, tags: Html) -> None:
    for name in ("best", "final"):
        dqn = DQN.load(whole / f"{name}.safetensors")
        returns = np.array(dqn.evaluate(EPISODES).returns)
        episodes, mean, lowest, share, outcomes = tags.row(name)
        assert episodes == str(EPISODES)
        number, low, high = map(float, re.findall(r"-?[\d.]+", mean))
        assert number == pytest.approx(returns.mean(), abs=0.051)
        assert low < number < high
        # The bootstrap interval is about as wide as the normal one.
        assert high - low == pytest.approx(2 * 1.96 * returns.std() / np.sqrt(EPISODES), rel=0.25)
        assert float(lowest) == returns.min()
        assert share.startswith("0%")
        assert outcomes.startswith("fell")


def test_report_has_all_sections(tags: Html) -> None:
    for heading in ("What to try next", "Videos", "Curves", "Scores", "What the agent learned", "Settings", "Machine"):
        assert heading in tags.words
    sources = [image["src"] for image in tags.named("img")]
    assert sum(source.startswith("data:image/svg+xml") for source in sources) == 2  # curves and outcomes
    assert [tags.words.count(meaning) for meaning in maps.MEANINGS.values()] == [1] * len(maps.MEANINGS)
    assert len(tags.named("video")) == 4  # three episodes and the best weights
    assert tags.row("hidden") == ["[8]", "[128, 128]"]
    assert tags.row("numpy") == [np.__version__]


def test_report_is_one_file_with_one_script_that_its_policy_allows(page_path: Path, tags: Html) -> None:
    assert not tags.named("link") + tags.named("iframe")
    assert tags.named("script") == [{}]
    assert [link["href"] for link in tags.named("a")] == [f"#{part['id']}" for part in tags.named("section")]
    for _, attributes in tags.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "poster"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    (policy,) = [meta["content"] for meta in tags.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    script = page_path.read_text(encoding="utf-8").partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert page_path.stat().st_size < 4_000_000


def test_best_video_comes_first(whole: Path, tags: Html) -> None:
    labels = [video["aria-label"] for video in tags.named("video")]
    assert labels[0].startswith("best weights, greedy: return ")
    assert labels[1].startswith("training, episode 1, after ")
    content = base64.b64decode(tags.named("video")[0]["src"].partition(",")[2])
    assert content == (whole / "videos" / "best.mp4").read_bytes()


def test_commands_of_the_advice_can_be_parsed(page_path: Path) -> None:
    commands = re.findall(r"<pre><code>(.*?)</code>", page_path.read_text(encoding="utf-8"))
    assert commands
    for command in commands:
        assert cli.parse(shlex.split(command)[1:]) is not None


def test_two_reports_of_one_run_are_identical(run: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        written([run], tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_several_seeds_are_summarized_with_their_differences(run: Path, tmp_path: Path) -> None:
    train = json.loads((run / "config.json").read_text())["train"]
    rewrite_config(run, train=train | {"episodes": 600})
    runs = [run]
    for seed in (11, 12):
        other = Path(shutil.copytree(run, tmp_path / f"seed{seed}"))
        rewrite_config(other, seed=seed)
        runs.append(other)
    found = written(runs, tmp_path / "report.html", 2)
    assert found.row("seed") == ["2", "11", "12"]
    assert [part["id"] for part in found.named("section")][:2] == ["scores", "what-to-try-next"]
    headings = (tmp_path / "report.html").read_text(encoding="utf-8").split("<h3>")[1:]
    assert [heading.partition("</h3>")[0] for heading in headings] == [one.name for one in runs]
    commands = [re.findall(r"<code>(perilune .*?)</code></pre>", heading) for heading in headings]
    assert commands == [[f"perilune resume {one}"] for one in runs]  # advice on each run
    (mean,) = {found.row(f"{one.name}, best")[1] for one in runs}  # of the same weights
    assert f"best weights of 3 seeds: interquartile mean return {mean} ({mean} to {mean})" in found.words
    assert not [row for row in found.rows if row and row[0] == "hidden"]  # equal in all runs, and so not in the table


def test_benchmark_score_is_used_unless_the_run_was_resumed(run: Path, tmp_path: Path) -> None:
    read = logs.read_run(run)
    write_score(bench_score(read, final=123.25, best=321.5), run)
    found = written([run], tmp_path / "report.html", 2)
    assert found.row("best")[:2] == ["100", "321.5"]
    assert found.row("final")[:2] == ["100", "123.2"]
    # A resumed run has other step counts than its stored score.
    write_score(replace(bench_score(read, final=123.25, best=321.5), env_steps=1), run)
    assert written([run], tmp_path / "report.html", 2).row("best")[0] == "2"


def test_identical_weights_are_scored_once(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "best.safetensors", run / "final.safetensors")
    found = written([run], tmp_path / "report.html", 2)
    assert found.row("best and final")[0] == "2"


def test_report_names_the_missing_environment_instead_of_scores(run: Path, tmp_path: Path) -> None:
    for name in ("best", "final"):
        agent, _ = load_weights(run / f"{name}.safetensors")
        save_weights(run / f"{name}.safetensors", agent, "Nowhere-v0")
    rewrite_config(run, environment="Nowhere-v0")
    found = written([run], tmp_path / "report.html", 2)
    scores = found.words.split("Scores")[2]  # after the entry of the list of contents and the heading
    assert scores.strip().startswith("run cannot be scored here")
    assert "'Nowhere-v0' cannot be made" in scores
    assert found.words.count("cannot be scored here") == 1
    assert not found.named("pre")  # no commands, because the environment cannot be made
    assert "Some advice has no command" in found.words


def test_report_names_missing_files_and_shows_the_rest(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "videos")
    for name in ("host.json", "best.safetensors", "final.safetensors"):
        (run / name).unlink()
    found = written([run], tmp_path / "report.html", 2)
    assert "need snapshots" in found.words
    assert "has no checkpoint" in found.words
    assert not found.named("video")
    assert "Curves" in found.words


def test_run_without_evaluations_has_a_report(tmp_path: Path) -> None:
    config = json.dumps(made_up_run([]).config | {"agent": {}, "train": {"steps": 5}})
    (tmp_path / "config.json").write_text(config)
    failure.write(tmp_path, DivergenceError("step 7: the loss is nan"), 1_234)
    found = written([tmp_path], tmp_path / "report.html", 2)
    assert "The run has no evaluation yet." in found.words
    assert "DivergenceError: step 7: the loss is nan (after 1,234 environment steps)" in found.words


def test_share_has_a_wilson_interval() -> None:
    # (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4 n^2)) / (1 + z^2 / n) with z = 1.959964, p = 8 / 10 and n = 10.
    found = statistics.share(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.490163, 0.943318), abs=1e-6)


def test_winner_has_the_highest_mean_of_its_best_weights() -> None:
    def scored(mean: float, environment: str = "Taxi-v3") -> scoring.RunScores:
        config = {"environment": environment}
        found = [scoring.WeightsScore("best", Estimate(mean, np.nan, np.nan), 100)]
        return scoring.RunScores(replace(made_up_run([episode(1)]), config=config), found)

    low, high = scored(-5.0), scored(-1.0)
    assert scoring.winner([low, high]) is high
    assert scoring.winner([high]) is None
    assert scoring.winner([low, scored(9.0, "CartPole-v1")]) is None


def test_score_of_few_episodes_has_no_interval() -> None:
    few = scoring.interval(np.mean, [1.0, 2.0, 3.0], scoring.MIN_EPISODES)
    assert few.value == 2
    assert np.isnan(few.low)
    assert scoring.interval(np.mean, [500.0] * 10, scoring.MIN_EPISODES) == Estimate(500.0, 500.0, 500.0)


def test_score_over_two_seeds_has_no_interval() -> None:
    runs = [
        scoring.RunScores(
            made_up_run([], seed=seed), [scoring.WeightsScore("best", Estimate(10.0 * seed, np.nan, np.nan), 100)]
        )
        for seed in (1, 2, 3)
    ]
    (two,), (three,) = scoring.over_seeds(runs[:2]), scoring.over_seeds(runs)
    assert (two.returns, two.are_few, three.are_few) == ([10.0, 20.0], True, False)


def test_without_scipy_means_have_no_intervals(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    found = written([run], tmp_path / "report.html", EPISODES)
    assert re.fullmatch(r"\d+\.\d", found.row("best")[1])


def test_runs_that_differ_only_in_the_seed_form_a_family() -> None:
    a, b, c = (scoring.RunScores(made_up_run([], seed=seed), []) for seed in (1, 2, 2))
    other = scoring.RunScores(made_up_run([], seed=1, environment="CartPole-v1"), [])
    assert scoring.families([a, other, b, c]) == [[a, b, c], [other]]
    assert scoring.seeds([a, b, c]) == 2


def test_videos_beyond_the_size_limit_are_omitted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {path.stem: path.stat().st_size for path in (run / "videos").glob("*.mp4")}
    monkeypatch.setattr(recordings, "MAX_BYTES", sizes["best"] + sizes["episode-00001"])
    choice = recordings.select([logs.read_run(run)])
    assert [video.path.stem for video in choice.videos] == ["best", "episode-00001"]
    assert choice.omitted == len(sizes) - 2


def test_links_and_invalid_videos_are_not_embedded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    best = run / "videos" / "best.mp4"
    best.unlink()
    best.symlink_to(tmp_path / "secret")
    (run / "videos" / "episode-00001.mp4").write_bytes(b"no video at all")
    content = (run / "videos" / "episode-00002.mp4").read_bytes()
    (run / "videos" / "episode-00002.mp4").write_bytes(content[: len(content) // 2])
    choice = recordings.select([logs.read_run(run)])
    assert [video.path.stem for video in choice.videos] == ["episode-00004"]
    assert all(video.still for video in choice.videos)
    assert choice.omitted == 0
    assert [sentence.partition("videos/")[2] for sentence in choice.invalid] == [
        "best.mp4 is a link. Replace it with its target: files of a run must not be links.",
        "episode-00001.mp4 cannot be decoded",
        "episode-00002.mp4 cannot be decoded",
    ]
    found = written([run], tmp_path / "report.html")
    assert all(sentence in found.words.partition("Skipped")[2] for sentence in choice.invalid)
    assert len(found.named("video")) == 1


VIDEOS = ("best", "best-overlay", "stages", "stages-overlay", *(f"episode-{number:05d}" for number in range(1, 8)))


def with_videos(tmp_path: Path, whole: Path, **names: tuple[str, ...]) -> list[logs.Run]:
    """Return a run for each keyword, with videos of these names."""
    for run, stems in names.items():
        (tmp_path / run / "videos").mkdir(parents=True)
        for stem in stems:
            shutil.copy(whole / "videos" / "best.mp4", tmp_path / run / "videos" / f"{stem}.mp4")
    return [made_up_run([], directory=str(tmp_path / run)) for run in names]


def shown(choice: recordings.Selection) -> list[str]:
    return [f"{video.path.parts[-3]} {video.path.stem.replace('episode-0000', '')}" for video in choice.videos]


def test_stages_video_comes_first_and_omitted_videos_are_counted(tmp_path: Path, whole: Path) -> None:
    choice = recordings.select(with_videos(tmp_path, whole, a=VIDEOS))
    assert shown(choice) == ["a stages-overlay", "a best", "a 1", "a 3", "a 5", "a 7"]
    assert choice.omitted == len(VIDEOS) - 6 == 5
    assert choice.videos[0].caption.startswith("learning progress")
    other = recordings.select(with_videos(tmp_path, whole, b=("stages", "best-overlay")))
    assert shown(other) == ["b stages", "b best-overlay"]


def test_limit_on_videos_is_shared_by_all_runs(tmp_path: Path, whole: Path) -> None:
    two = with_videos(tmp_path, whole, a=VIDEOS[:4], b=VIDEOS)
    assert shown(recordings.select(two)) == ["a stages-overlay", "b stages-overlay", "a best", "b best", "b 1", "b 7"]
    four = with_videos(tmp_path, whole, c=VIDEOS[:1], d=VIDEOS[4:], e=VIDEOS[4:5], f=VIDEOS[5:])
    assert shown(recordings.select(four)) == ["c best", "d 1", "d 7", "e 1", "f 2", "f 7"]
    assert recordings.select(four).omitted == 1 + 7 + 1 + 6 - 6


def test_outcomes_are_shares_of_episodes_with_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = ["crashed"] * 30 + ["landed"] * 10
    run = made_up_run([episode(n, outcome=label) for n, label in enumerate([*outcomes, None], 1)])
    labels, places = plots.episode_outcomes(run)
    assert [labels[place] for place in places] == outcomes
    drawn = plots.outcomes([run])
    assert drawn is not None
    tops = [patch.get_data().values for patch in drawn.figure.axes[0].patches]
    np.testing.assert_allclose(tops[-1], 1)
    np.testing.assert_array_equal(tops[0], [0.0] * 30 + [1.0] * 10)  # landed is the first label
    assert plots.outcomes([made_up_run([episode(1)], environment="Taxi-v4")]) is None
    monkeypatch.setattr(plots, "MAX_PANELS", 1)
    drawn = plots.outcomes([run, run])
    assert drawn is not None
    assert len(drawn.figure.axes) == 1
    assert "The figure shows the first 1 of 2 runs." in drawn.figure.get_supxlabel()


SCRIPT = "<script>alert(1)</script>"


def test_text_of_an_untrusted_run_is_escaped(tmp_path: Path) -> None:
    directory = tmp_path / "<img src=x onerror=alert(1)>$\\frac$'\""
    (directory / "videos").mkdir(parents=True)
    run = made_up_run([episode(1, outcome=SCRIPT)], [evaluated(10, 1.0)], environment=f"{SCRIPT}$\\x$")
    agent = {"hidden": SCRIPT, SCRIPT: {"</style>": SCRIPT}}
    (directory / "config.json").write_text(json.dumps(run.config | {"agent": agent, "train": {"'>": SCRIPT}}))
    (directory / "host.json").write_text(json.dumps({SCRIPT: SCRIPT, "blas": {SCRIPT: [SCRIPT]}}))
    for name, record in (
        ("episodes", run.episodes[0]._asdict()),
        ("evaluations", run.evaluations[0]._asdict()),
        ("notices", {"env_steps": 1, "what": SCRIPT, "words": SCRIPT}),
    ):
        (directory / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    (directory / "failure.json").write_text(json.dumps({"error": SCRIPT, "env_steps": 1}))
    (directory / "videos" / "best.mp4").write_bytes(SCRIPT.encode())
    (directory / "videos" / "best.jsonl").write_text(SCRIPT)
    found = written([directory, directory], tmp_path / "report.html", 2)
    assert {tag for tag, _ in found.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "section", "figure"),
        *("div", "img", "video", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "code", "dl", "dt", "dd"),
        *("ul", "li", "b", "nav", "a", "script", "h3", "ol", "pre", "button"),
    }
    assert found.named("script") == [{}]  # the script of the page
    assert all(link["href"].startswith("#") for link in found.named("a"))
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert SCRIPT in found.words


NASTY = "red\x1b[31m\nnext--><b>\udcff\u202e$\\x$"
SHOWN = "red\\x1b[31m\\nnext--><b>\\udcff\\u202e$\\x$"


def test_invisible_characters_are_shown_as_escapes(run: Path, tmp_path: Path, capsys: Any) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for name, damaged in ((NASTY, False), ("other", False), (f"{NASTY} damaged", True)):
        shutil.copytree(run, runs / name)
        if damaged:
            (runs / name / "config.json").write_text("{")
    cli.main(["report", str(runs), "--episodes", "1", "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not {character for character in page if not character.isprintable()} - {"\n"}
    found = Html(page)
    assert "is the best run" in found.words or f"Runs: other, {SHOWN}." in found.words
    assert SHOWN in found.words
    assert f"{SHOWN} damaged cannot be read" in found.words
    assert found.row(f"{SHOWN}, best")[0] == "1"
    drawn = [image["src"] for image in found.named("img") if image["src"].startswith("data:image/svg+xml")]
    assert len(drawn) == 2
    for source in drawn:
        svg = base64.b64decode(source.partition(",")[2])
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 -- drawn here
        assert b"red\\x1b[31m\\nnext" in svg
    output = capsys.readouterr().err
    assert f"skipped: {SHOWN} damaged cannot be read" in output
    assert not {character for character in output if not character.isprintable()} - {"\n"}


def refused(*arguments: object, capsys: Any) -> str:
    """Return the error of a command that fails."""
    with pytest.raises(SystemExit):
        cli.main([*map(str, arguments)])
    return str(capsys.readouterr().err)


def test_report_is_written_to_the_given_path(run: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "taken.html").mkdir()
    error = refused("report", run, "--out", tmp_path / "taken.html", capsys=capsys)
    assert "expected a file, not a directory" in error
    cli.main(["report", str(run), "--episodes", "0"])
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "Not scored, because --episodes is 0" in (run / "report.html").read_text()
    cli.main(["report", str(run), "--episodes", "0", "--out", str(tmp_path / "some" / "where" / "it.htm")])
    assert (tmp_path / "some" / "where" / "it.htm").read_bytes() == (run / "report.html").read_bytes()
    assert "episodes" in refused("report", run, "--episodes", -1, capsys=capsys)


@pytest.mark.parametrize("name", ["best.safetensors", "report", "report.html.mp4", ".html", "report.HTML"])
def test_only_html_files_are_overwritten(run: Path, capsys: Any, name: str) -> None:
    before = (run / "best.safetensors").read_bytes()
    for runs, out in (([run, run / "none"], run / "new" / name), ([run], run / "best.safetensors")):
        error = refused("report", *runs, "--out", out, capsys=capsys)
        assert "a file whose name ends in .html or .htm" in error
    assert (run / "best.safetensors").read_bytes() == before
    assert not (run / "new").exists()


def test_damaged_run_among_many_is_reported(run: Path, tmp_path: Path, capsys: Any) -> None:
    runs, out = tmp_path / "runs", tmp_path / "report.html"
    for name in ("a", "b", "c", "d"):
        shutil.copytree(run, runs / name)
    (runs / "b" / "config.json").write_bytes((run / "config.json").read_bytes()[:100])
    (runs / "c" / "episodes.jsonl").write_bytes(b'{"episode": 1,\n')
    cli.main(["report", str(runs), "--episodes", "0", "--out", str(out)])
    reported = capsys.readouterr().err.splitlines()
    found = Html(out.read_text(encoding="utf-8"))
    assert "Runs: a, d." in found.words
    for name, what in (("b", f"{runs}/b/config.json is not JSON"), ("c", f"{runs}/c/episodes.jsonl, line 1,")):
        assert f"{name} cannot be read: {what}" in found.words.partition("Skipped")[2]
    cli.main(["plot", str(runs), "--out", str(tmp_path / "plots")])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"{tmp_path}/plots/curves.{form}" for form in ("png", "svg")]
    for lines in (printed.err.splitlines(), [line for line in reported if "cannot be read" in line]):
        starts = [line.partition(" cannot be read")[0] for line in lines]
        assert starts == ["perilune: skipped: b", "perilune: skipped: c"]
    # A run given as an argument must be readable. Of the runs in a directory, at least one must be.
    for given in ([runs / "a", runs / "b"], [runs, runs / "b"]):
        assert f"perilune verify {runs}/b" in refused("plot", *given, "--out", tmp_path / "none", capsys=capsys)
    for name in ("a", "d"):
        (runs / name / "config.json").write_bytes(b"")
    assert "none of the runs can be read" in refused("plot", runs, "--out", tmp_path / "none", capsys=capsys)
    assert not (tmp_path / "none").exists()


def test_report_of_five_runs_has_four_maps_and_no_settings_that_follow_from_the_budget(
    run: Path, tmp_path: Path
) -> None:
    runs = [run, *(Path(shutil.copytree(run, tmp_path / name)) for name in "bcde")]
    train = json.loads((run / "config.json").read_text())["train"]
    for number, one in enumerate(runs, 1):
        agent, _ = presets.resolve("CartPole-v1", "recommended", {}, {"steps": 1_000 * number})
        rewrite_config(one, agent=asdict(agent), train=train | {"steps": 1_000 * number, "episodes": None})
    found = written(runs, tmp_path / "report.html")
    assert "This report has maps of the first 4 runs only, not of e." in found.words
    assert found.row("steps") == ["1000", "2000", "3000", "4000", "5000"]
    assert not [row for row in found.rows if row and row[0] == "learning_rate_decay_steps"]
    assert "learning_rate_decay_stepsscaled to the budget" in found.words


@pytest.fixture
def page(browser: Browser, page_path: Path) -> Iterator[Page]:
    """The report at the width of a phone. Requests and console messages fail the test."""
    opened = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="light")
    seen: list[str] = []
    opened.on("console", lambda message: seen.append(message.text))
    opened.on("pageerror", lambda error: seen.append(str(error)))
    opened.on("request", lambda asked: seen.append(asked.url) if not asked.url.startswith("data:") else None)
    opened.goto(page_path.as_uri())
    opened.wait_for_load_state("load")
    yield opened
    opened.close()
    assert seen == [page_path.as_uri()]


def test_videos_play_and_images_load(page: Page) -> None:
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState >= 1)")
    widths = page.evaluate("[...document.querySelectorAll('img:not(.paper)')].map(image => image.naturalWidth)")
    assert widths
    assert min(widths) > 300
    box = page.locator(".chart .wide").first
    room = "box => [box.clientWidth, box.scrollWidth]"
    width, shown = box.evaluate(room)
    assert shown == width  # nothing is cut off
    box.click()
    width, shown = box.evaluate(room)
    assert shown > 2 * width
    played = page.evaluate(
        """async () => { const video = document.querySelector('video'); await video.play();
        await new Promise(done => video.addEventListener('timeupdate', () => video.currentTime > 0 && done()));
        return [video.currentTime, video.videoWidth, video.duration]; }"""
    )
    assert played[0] > 0
    assert played[1] == 600
    assert 0.1 < played[2] < 20


@pytest.fixture(scope="module")
def long_named(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs with long names without spaces. Tests must not change it."""
    directory = tmp_path_factory.mktemp("long")
    for letter in "ab":
        shutil.copytree(whole, directory / f"{letter * 200}")
    agent = json.loads((directory / ("b" * 200) / "config.json").read_text())["agent"]
    # The settings differ, so the header lists the runs by name.
    rewrite_config(directory / ("b" * 200), agent=agent | {"gamma": 0.5})
    cli.main(["report", str(directory), "--episodes", str(EPISODES), "--out", str(directory / "report.html")])
    return directory / "report.html"


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1200])
def test_long_run_names_do_not_widen_the_page(browser: Browser, long_named: Path, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 -- half a megabyte of script

    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(long_named.as_uri())
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    means = page.locator(".scores td:nth-of-type(2)")
    assert means.count() == 4
    assert max(mean.evaluate("mean => mean.getBoundingClientRect().right") for mean in means.all()) <= width
    pictures = page.locator(".wide > img").all()
    assert all(one.evaluate("image => image.parentElement.clientWidth >= image.clientWidth") for one in pictures)
    assert Axe().run(page).violations_count == 0
    page.close()


def test_copy_buttons_copy_and_announce_the_command(page: Page) -> None:
    first = page.locator(".command").first
    command, button = first.locator("code").inner_text(), first.get_by_role("button")
    assert button.get_attribute("aria-label") == f"Copy {command}"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button.focus()
    page.keyboard.press("Enter")
    status = page.get_by_role("status")
    expect(status).to_have_text("Copied")
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == command
    expect(button).to_have_text("Copy")
    # Without access to the clipboard, the command of older browsers copies the selection.
    page.evaluate(
        """() => { window.tried = [];
        Object.defineProperty(navigator, "clipboard", {value: undefined, configurable: true});
        document.execCommand = name => { window.tried.push([name, String(getSelection())]); return window.works; }; }"""
    )
    for works, words in ((True, "Copied"), (False, "Press Ctrl+C or Cmd+C to copy the selected command")):
        page.evaluate("works => { window.works = works; }", works)
        button.click()
        expect(status).to_have_text(words)
    assert page.evaluate("window.tried") == [["copy", command]] * 2


def test_page_is_accessible_and_charts_are_dark_in_dark_mode(page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 -- half a megabyte of script

    filtered = "getComputedStyle(document.querySelector('figure:not(.video)')).filter"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for scheme, expected in (("light", "none"), ("dark", "invert(0.91) hue-rotate(180deg)")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(filtered) == expected
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()


def test_print_replaces_videos_with_stills_and_keeps_scores_together(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.querySelector('figure:not(.video)')).filter") == "none"
    section = "getComputedStyle(document.querySelector('.scores').closest('section')).breakInside"
    assert page.evaluate(section) == "avoid"
    assert page.evaluate("getComputedStyle(document.querySelector('video')).display") == "none"
    stills = page.locator("img.paper")
    assert stills.count() == page.locator("video").count()
    assert all(still.bounding_box() for still in stills.all())
    assert page.evaluate("[...document.querySelectorAll('img.paper')].every(image => image.naturalWidth == 600)")


def test_missing_jinja2_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    templates._environment.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[view\]"):
        templates.render("report.html")
