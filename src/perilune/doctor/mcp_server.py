"""Serve the doctor to coding assistants through the Model Context Protocol (MCP). Requires the extra ``mcp``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from anyio import from_thread, to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from perilune.doctor import catalogue
from perilune.doctor.checks import CHECKS
from perilune.doctor.isolation import examine_file
from perilune.errors import ConfigError

INSTRUCTIONS = """Find faults in deep Q-learning programs by measurement. Write an adapter for the agent (`perilune \
doctor --new FILE.py` writes a commented template), call `examine`, fix the first finding, and examine again until \
`outcome` is "healthy". A report with the outcome "inconclusive" does not show that the agent is correct."""
READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def serve() -> None:
    """Serve the tools over standard input and output until the client closes them."""
    server = MCPServer("perilune-doctor", version=version("perilune"), instructions=INSTRUCTIONS)
    server.tool()(examine)
    server.tool(annotations=READ_ONLY)(explain)
    server.tool("list", annotations=READ_ONLY)(list_findings)
    server.run("stdio")


async def examine(
    context: Context,
    file: Annotated[str, Field(description="Python file or notebook, as an absolute path.")],
    factory: Annotated[str, Field(description="Function in the file that returns an adapter with an agent.")] = "make",
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Time limit in CPU seconds.")] = 60.0,
    seed: Annotated[int, Field(ge=0, description="Seed for the factory.")] = 0,
) -> dict[str, Any]:
    """Examine a DQN program and return its faults, with evidence, line and fix. Runs the code of the file."""
    begun = 0

    def show(title: str) -> None:
        nonlocal begun
        from_thread.run(context.report_progress, begun, len(CHECKS) + 1, f"Checking: {title}")
        begun += 1

    report = await to_thread.run_sync(examine_file, f"{file}:{factory}", budget, seed, show)
    return report.as_json()


def explain(
    finding: Annotated[str, Field(description='ID of a finding, such as "td_target.no_mask", or a component.')],
) -> str:
    """Return the page about a finding: why it matters, how it is measured, and how to fix and check it."""
    try:
        return catalogue.explanation(finding)
    except ConfigError as error:
        raise ToolError(str(error)) from error  # the client does not see the message of another exception


def list_findings() -> list[dict[str, str]]:
    """List every finding that the doctor can report."""
    return [
        {"id": entry.id, "severity": entry.severity, "title": entry.title} for entry in catalogue.entries().values()
    ]
