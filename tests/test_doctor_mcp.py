"""Test the MCP server of the doctor with the client of the official SDK, over standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from jsonschema import Draft202012Validator

import perilune
from perilune import cli
from perilune._utils.extras import install_command
from perilune.doctor import catalogue
from perilune.doctor.checks import CHECKS

if TYPE_CHECKING:
    from mcp import Client

T = TypeVar("T")
ROOT = Path(perilune.__file__).parents[2]
SCHEMA = json.loads((resources.files("perilune.doctor") / "report.schema.json").read_text(encoding="utf-8"))


def talk(conversation: Callable[[Client], Awaitable[T]], cwd: Path) -> T:
    """Run ``perilune doctor --mcp`` in ``cwd``, and return the result of a conversation with it."""
    from mcp import Client, StdioServerParameters  # noqa: PLC0415 -- heavy, and only one test process needs it

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "perilune", "doctor", "--mcp"],
        env={"PYTHONPATH": str(ROOT / "src")},
        cwd=cwd,
    )

    async def connect() -> T:
        async with Client(server) as client:
            return await conversation(client)

    return asyncio.run(connect())


def test_server_describes_its_tools(tmp_path: Path) -> None:
    async def conversation(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in talk(conversation, tmp_path)}
    assert set(tools) == {"examine", "explain", "list"}
    schema = tools["examine"].input_schema
    assert schema["required"] == ["file"]
    assert {name: one.get("default") for name, one in schema["properties"].items()} == {
        "file": None, "factory": "make", "budget": 60.0, "seed": 0
    }  # fmt: skip
    assert all(one["description"] for tool in tools.values() for one in tool.input_schema["properties"].values())
    # A client may call these without asking the user. `examine` runs code.
    assert [bool(tools[name].annotations) for name in ("examine", "explain", "list")] == [False, True, True]


def test_assistant_examines_an_agent_and_reads_about_its_fault(tmp_path: Path) -> None:
    code = (ROOT / "examples" / "broken" / "functions.py").read_text(encoding="utf-8")
    noise = "import os, sys\nos.write(1, b'NOISE')\nprint('NOISE', flush=True)\n"
    code = code.replace("import numpy", noise + "import numpy", 1)
    assert noise in code
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")

    progress: list[tuple[float, float | None, str | None]] = []

    async def shown(*one: Any) -> None:
        progress.append(one)

    async def conversation(client: Client) -> Any:
        arguments = {"file": str(tmp_path / "mine.py"), "seed": 1, "budget": 600}
        examined = await client.call_tool("examine", arguments, progress_callback=shown)
        first = examined.structured_content["findings"][0]["id"]  # type: ignore[index]
        return examined, await client.call_tool("explain", {"finding": first}), await client.call_tool("list", {})

    examined, explained, listed = talk(conversation, tmp_path)
    assert not examined.is_error
    assert progress[0] == (0, len(CHECKS) + 1, "Checking: interface")
    assert [done for done, *_ in progress] == list(range(len(CHECKS) + 1))
    Draft202012Validator(SCHEMA).validate(examined.structured_content)
    assert json.loads(examined.content[0].text) == examined.structured_content
    found = {one["id"]: one for one in examined.structured_content["findings"]}
    assert {"td_target.no_mask", "td_target.own_action"} <= set(found)
    assert found["td_target.no_mask"]["code"] in code
    assert explained.content[0].text == catalogue.explanation(next(iter(found)))
    assert [one["id"] for one in listed.structured_content["result"]] == list(catalogue.entries())


INVALID = [
    ("examine", {"file": "mine.py", "budget": 0}, "greater than 0"),
    ("examine", {"file": "mine.py", "seed": -1}, "greater than or equal to 0"),
    ("explain", {"finding": "td_targt.mean"}, "Did you mean td_target.mean"),
]


def test_invalid_arguments_are_errors_that_the_assistant_can_read(tmp_path: Path) -> None:
    async def conversation(client: Client) -> Any:
        return [await client.call_tool(tool, arguments) for tool, arguments, _ in INVALID]

    for result, (*_, message) in zip(talk(conversation, tmp_path), INVALID, strict=True):
        assert result.is_error
        assert message in result.content[0].text


def test_agent_that_cannot_be_loaded_is_a_report(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")

    async def conversation(client: Client) -> Any:
        files = ("mine.py", "nowhere.py", "mine.txt")
        return [(await client.call_tool("examine", {"file": file})).structured_content for file in files]

    reports = talk(conversation, tmp_path)
    reasons = ("exit code 3", "'nowhere.py' does not exist", "expected FILE.py:FACTORY")
    for report, reason in zip(reports, reasons, strict=True):
        assert report["outcome"] == "cannot run"
        assert reason in report["verdict"]


def test_missing_sdk_error_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "perilune.doctor.mcp_server", None)  # as if the SDK were not installed
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--mcp"])
    assert install_command("mcp") in capsys.readouterr().err
