"""The documentation does what it says: its Python runs, its commands and settings exist, its links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from perilune import cli
from perilune.agent.config import DQNConfig, TrainConfig, build

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOK = ROOT / "docs" / "coming_from_a_notebook.md"
NOT_EXECUTED = re.compile(r"<!-- not executed: \S.* -->")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)[^)]*\)|\b(?:src|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its first line's number and its text; ``skipped`` is what it says about itself."""

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
            found.append(Block(language, start, text, NOT_EXECUTED.fullmatch(before) is not None))
            language, before = None, line
    assert language is None, f"{page.name}: the block from line {start} on is not closed"
    return found


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name)
def test_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a reader types it: one block after the other into one session, in an empty directory.
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "__main__"}
    for block in python_blocks(page):
        if not block.skipped:
            padding = "\n" * (block.line - 1)  # so that a traceback names the line of the page
            exec(compile(padding + block.text, str(page), "exec"), session)  # noqa: S102


def test_most_python_blocks_are_executed() -> None:
    every = [block for page in PAGES for block in python_blocks(page)]
    skipped = [block for block in every if block.skipped]
    assert len(every) - len(skipped) >= 3
    assert len(skipped) <= 2  # whoever adds one changes this number on purpose


def test_python_blocks_that_are_not_executed_are_python_all_the_same() -> None:
    for page in PAGES:
        for block in python_blocks(page):
            ast.parse(block.text, filename=f"{name(page)}, line {block.line}")


def test_relative_links_point_to_files() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in LINK.finditer(text):
            target = (match[1] or match[2]).partition("#")[0]
            if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{name(page)} -> {target}")
    assert broken == []


def commands(page: Path) -> list[list[str]]:
    """The arguments of every ``perilune`` command in the page's shell blocks."""
    found = []
    for block in blocks(page):
        if block.language in ("sh", "bash", "shell", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == ["perilune"]:
                    found.append(words[1:])
    return found


COMMANDS = [(page, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("command", [command for _, command in COMMANDS], ids=shlex.join)
def test_command_of_a_shell_block_is_understood(command: list[str]) -> None:
    assert cli.parse(command) is not None  # else the parser exits, and says on standard error why


def test_shell_blocks_show_commands() -> None:
    assert NOTEBOOK in [page for page, _ in COMMANDS]
    assert ROOT / "README.md" in [page for page, _ in COMMANDS]


def rows() -> list[tuple[list[str], list[str]]]:
    """The code spans of the notebook page's table of words, row by row: those of Python and of the command line."""
    lines = [line for line in NOTEBOOK.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    code = re.compile(r"`([^`]+)`")
    return [(code.findall(python), code.findall(shell)) for _, _, python, shell, _ in (x.split("|") for x in lines)]


def keywords(call: str) -> dict[str, object]:
    """The keyword arguments in ``f(..., a=1)``, which has no others."""
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}


def test_settings_in_the_table_of_words_exist_and_are_allowed() -> None:
    spans = [span for python, _ in rows() for span in python]
    agents = [keywords(f"f({span})") for span in spans if re.fullmatch(r"\w+=.+", span)]
    trainings = [keywords(span) for span in spans if span.startswith("agent.train(")]
    assert len(agents) >= 25
    assert len(trainings) >= 3
    for settings in agents:
        build(DQNConfig, settings)
    for settings in trainings:
        for name in ("frames", "resume"):  # of the method, not of the settings
            settings.pop(name, None)
        build(TrainConfig, settings, TrainConfig(steps=10_000))


def test_options_in_the_table_of_words_are_the_settings_beside_them() -> None:
    for python, shell in rows():
        options = {option.replace("-", "_") for span in shell for option in re.findall(r"--([\w-]+)", span)}
        settings = {word for span in python for word in re.findall(r"\b\w+\b", span)}
        assert options - settings <= {"steps"}  # which undoes a preset's


def test_notebook_page_names_every_setting_that_a_notebook_has() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    every = {field.name for cls in (DQNConfig, TrainConfig) for field in fields(cls)}
    unnamed = {setting for setting in every if setting not in text}
    assert unnamed <= {
        "initializer",
        "eval_every",
        "eval_episodes",
        "stop_at_return",
        "metrics_every",
        "keep_checkpoints",
    }
