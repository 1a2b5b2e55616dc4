"""The documentation: its Python code runs, its commands and settings exist, and its links lead to files."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from perilune import DQN, cli
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import build

ROOT = Path(__file__).parents[1]
GENERATED = re.compile(
    r"docs/(_build/|_static/demos/|reference/(commands\.md|settings\.md|doctor-report\.md|findings/))"
)
"""Pages that docs/_generate.py writes. Sphinx checks the links to them."""
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if not GENERATED.match(str(page.relative_to(ROOT)))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *WRITTEN]
NOTEBOOK = next(page for page in PAGES if re.search("from.a.notebook", page.name))
NOT_EXECUTED = re.compile(r"<!-- not executed: \S.* -->")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)[^)]*\)|\b(?:src|href)=\"([^\"]+)\"")
SHELLS = ("sh", "bash", "shell", "console")
SMALL = {
    "train": ["--steps", "400", "--learning-starts", "200", "--eval-episodes", "1", "--max-episode-steps", "60"],
    "resume": ["--steps", "100"],
    "evaluate": ["--episodes", "1", "--max-episode-steps", "60"],
    "video": ["--episodes", "1", "--max-episode-steps", "60"],
    "report": ["--episodes", "1"],
    "export": ["--episodes", "1"],
    "doctor": ["--budget", "5"],
    "tune": [
        *("--trials", "1", "--seeds-per-trial", "1", "--jobs", "1", "--comparison-seeds", "0", "--steps", "320"),
        *("--learning-starts", "200", "--eval-every", "80", "--eval-episodes", "1", "--max-episode-steps", "60"),
    ],
    "bench learning": [
        "--seeds",
        "2",
        "--jobs",
        "1",
        "--steps",
        "320",
        "--learning-starts",
        "300",
        "--eval-episodes",
        "1",
    ],
}
"""Options that the tests add to the commands of the pages."""
ONLY_PARSED = {
    "watch": "serves until it is interrupted",
    "play": "needs a screen",
    "bench speed": "takes minutes",
    "bench doctor": "takes hours",
    "benchmarks.md": "the commands of published figures take hours",
    "tuning.md": "the commands of published figures take hours",
}
LONG = ("reports-and-maps.md", "reading-curves.md", "headless-server.md", "examine-your-agent.md", "tune.md")
"""Pages whose commands take more than about 3 CPU-seconds."""
OTHER_PROGRAMS = ("cd", "git", "node", "pip", "source", "uv")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the number of its first line."""

    page: Path
    language: str
    line: int
    text: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    language, start, before = None, 0, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            before = line if language is None else before
        elif language is None:
            language, start = line.removeprefix("```").strip(), number + 1
        else:
            text = "\n".join(lines[start - 1 : number - 1]) + "\n"
            found.append(Block(page, language, start, text, NOT_EXECUTED.fullmatch(before) is not None))
            language, before = None, line
    assert language is None, f"{page.name}: the block from line {start} on is not closed"
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
EXECUTED = sorted({block.page for block in PYTHON if not block.skipped})


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(page: Path) -> None:
    """Execute the blocks of ``page`` in one session, as a reader types them."""
    session: dict[str, object] = {"__name__": "__main__"}
    for block in PYTHON:
        if block.page == page and not block.skipped:
            padding = "\n" * (block.line - 1)  # so that a traceback names the line of the page
            exec(compile(padding + block.text, str(page), "exec"), session)  # noqa: S102


def without_pictures(self: DQN, *args: Any, train: Any = DQN.train, **settings: Any) -> Any:
    return train(self, *args, **settings | {"pictures": False})


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two finished runs that the commands of the pages use."""
    directory = tmp_path_factory.mktemp("docs") / "runs"
    for run, env_id in (("moon", "LunarLander-v3"), ("cartpole", "CartPole-v1")):
        command = ["train", env_id, "--out", str(directory / run), "--quiet"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DQN, "train", without_pictures)
            cli.main([*command, *SMALL["train"]])
    return directory


@pytest.fixture
def _reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.usefixtures("_reader")
@pytest.mark.filterwarnings("ignore:.*Overriding environment")
@pytest.mark.parametrize("page", EXECUTED, ids=name)
def test_python_blocks_of_a_page_run_with_small_budgets(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, evaluate = DQN.train, DQN.evaluate

    def briefly(self: DQN, config: TrainConfig | None = None, **settings: Any) -> Any:
        limits = {"steps": 1_500, "episodes": 3, "eval_episodes": 1, "max_episode_steps": 60}
        if self.config.td_lambda is not None:  # PQN learns from a whole rollout
            limits |= {"steps": self.config.buffer_size, "episodes": 10_000}
        for setting, most in limits.items():
            settings[setting] = min(settings.get(setting) or most, most)
        if config is None and not settings.get("resume"):
            settings["episodes"] = limits["episodes"]
        return train(self, config, **settings | {"pictures": False})

    monkeypatch.setattr(DQN, "train", briefly)
    monkeypatch.setattr(DQN, "evaluate", lambda self, episodes=1, limit=60: evaluate(self, min(episodes, 2), limit))
    run(page)


@pytest.mark.long
@pytest.mark.usefixtures("_reader")
@pytest.mark.filterwarnings("ignore:.*Overriding environment")
@pytest.mark.parametrize("page", EXECUTED, ids=name)
def test_python_blocks_of_a_page_run_unchanged(page: Path) -> None:
    run(page)


def test_python_blocks_are_valid_and_nearly_all_executed() -> None:
    for block in PYTHON:
        ast.parse(block.text, filename=f"{name(block.page)}, line {block.line}")
    skipped = [block for block in PYTHON if block.skipped]
    assert len(PYTHON) - len(skipped) >= 3
    assert len(skipped) <= 16  # change this number if you add one on purpose


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings and labels of ``page``, as Sphinx and code hosts make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()) for title in re.findall(r"^#+ (.+?) *$", text, re.MULTILINE)]
    return {title.replace(" ", "-") for title in titles} | set(re.findall(r"^\((.+)\)=$", text, re.MULTILINE))


def test_relative_links_point_to_files_and_headings() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in LINK.finditer(text):
            target, _, anchor = (match[1] or match[2]).partition("#")
            file = (page.parent / target).resolve() if target else page
            if re.match(r"[a-z]+:", target) or GENERATED.match(file.relative_to(ROOT).as_posix()):
                continue
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{name(page)} -> {match[1] or match[2]}")
    assert broken == []


def commands() -> dict[Path, list[list[str]]]:
    """Return the words of every command in the shell blocks that are executed, by page."""
    found: dict[Path, list[list[str]]] = {}
    for block in BLOCKS:
        if block.language in SHELLS and not block.skipped:
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ ").partition(" | ")[0], comments=True)
                words = [*itertools.dropwhile(re.compile(r"[A-Z_]+=").match, words)]  # without environment variables
                if words:
                    found.setdefault(block.page, []).append(words)
    return found


COMMANDS = commands()
REPEATED = {
    (page, *words)
    for page in COMMANDS
    for words in COMMANDS[page]
    if words[:2] == ["perilune", "doctor"]
    and page != next(first for first in PAGES if words in COMMANDS.get(first, []))
}
"""Examinations that an earlier page has too. They depend on nothing else on the page, so they run once."""


def small(words: list[str]) -> list[str]:
    """Return the arguments of a ``perilune`` command with a small budget. The last of two equal options counts."""
    name = " ".join(words[:2]) if words[0] == "bench" else words[0]
    rollout = ["--buffer-size", "384", "--batch-size", "64"] if "fast" in words else []
    return [*words, *([] if "--help" in words else [*SMALL.get(name, []), *rollout])]


@pytest.mark.usefixtures("_reader")
@pytest.mark.filterwarnings("ignore:.*Overriding environment")
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.long] * (page.name in LONG)) for page in sorted(COMMANDS)], ids=name
)
def test_commands_of_a_page_run_with_small_budgets(page: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(runs, "runs")
    for directory in ("examples", "docs"):
        Path(directory).symlink_to(ROOT / directory)
    for block in PYTHON:
        if block.page == page and (file := re.match(r"# (\w+\.py)\n", block.text)):
            Path(file[1]).write_text(block.text, encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, *words in COMMANDS[page]:
        where = f"{name(page)}: {shlex.join([program, *words])}"
        if program == "make":
            assert words[0] in targets, where
        elif program == "python":
            exists = importlib.util.find_spec(words[1]) if words[0] == "-m" else Path(words[0]).exists()
            assert words[0] == "-c" or exists, where
        elif program != "perilune":
            assert program in OTHER_PROGRAMS, f"{where}: not executed. Say why in a comment, or add the program."
        elif {words[0], " ".join(words[:2]), page.name} & ONLY_PARSED.keys() or (page, program, *words) in REPEATED:
            cli.parse(words)
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", ["perilune", *words])
                if page.name != "README.md":  # most of the time of a small training goes into its pictures
                    patch.setattr(DQN, "train", without_pictures)
                try:
                    cli.main(small(words))
                except SystemExit as ended:
                    found_or_out_of_budget = words[0] == "doctor" and ended.code in (1, 2)
                    assert found_or_out_of_budget, where


def rows() -> list[tuple[list[str], list[str]]]:
    """Return the code spans in the notebook page's table, row by row: those of Python and of the command line."""
    lines = [line for line in NOTEBOOK.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    code = re.compile(r"`([^`]+)`")
    return [(code.findall(python), code.findall(shell)) for _, _, python, shell, _ in (x.split("|") for x in lines)]


def keywords(call: str) -> dict[str, object]:
    """Return the keyword arguments in ``f(..., a=1)``."""
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}


def test_notebook_table_lists_valid_settings_and_matching_options() -> None:
    spans = [span for python, _ in rows() for span in python]
    agents = [keywords(f"f({span})") for span in spans if re.fullmatch(r"\w+=.+", span)]
    trainings = [keywords(span) for span in spans if span.startswith("agent.train(")]
    assert len(agents) >= 25
    assert len(trainings) >= 3
    for settings in agents:
        build(DQNConfig, settings)
    for settings in trainings:
        of_train = {key: value for key, value in settings.items() if key not in ("frames", "resume", "run_dir")}
        build(TrainConfig, of_train, TrainConfig(steps=10_000))
    for python, shell in rows():
        options = {option.replace("-", "_") for span in shell for option in re.findall(r"--([\w-]+)", span)}
        assert options - {word for span in python for word in re.findall(r"\b\w+\b", span)} <= {"steps"}


def test_notebook_page_names_all_settings_except_a_few() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    unnamed = {field.name for cls in (DQNConfig, TrainConfig) for field in fields(cls) if field.name not in text}
    assert unnamed <= {
        *("initializer", "eval_every", "eval_episodes", "stop_at_return", "metrics_every", "keep_checkpoints")
    }


def test_code_locations_in_the_algorithms_table_exist() -> None:
    page = (ROOT / "docs/explanation/algorithms.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:agent|nn|replay)(?:\.\w+){2,})`", page)
    assert len(places) >= 15
    for place in places:
        package, module, *names = place.split(".")
        found: object = importlib.import_module(f"perilune.{package}.{module}")
        for part in names:
            found = getattr(found, part)


def test_tests_named_on_the_security_page_exist() -> None:
    page = (ROOT / "docs/explanation/security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) >= 15
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in source} == set()
