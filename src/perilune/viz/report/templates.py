"""Render HTML pages from Jinja2 templates. A page is one file without network requests."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from perilune._utils.extras import missing
from perilune._utils.statistics import Estimate
from perilune._utils.text import duration, number, percent, printable
from perilune.viz.shared import style_sheet

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **context: Any) -> str:
    """Return a page from a template in ``viz/report/templates``.

    Strings are shown as text: markup is escaped, and invisible characters are shown as Python escapes. Pass
    ``markupsafe.Markup`` for HTML from this package.

    Args:
        name: File name of the template, for example "report.html".
        context: Variables of the template.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    return _environment().get_template(name).render(context)


def data_uri(content: bytes, media_type: str) -> str:
    """Return ``content`` as a ``data:`` URI, which embeds it in the page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def digest(script: str) -> str:
    """Return the hash by which a content security policy allows one inline script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def interval(estimate: Estimate, form: Callable[[float], str] = number) -> str:
    """Return an estimate as text, with its interval if it has one."""
    value = form(estimate.value)
    return value if math.isnan(estimate.low) else f"{value} ({form(estimate.low)} to {form(estimate.high)})"


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 -- optional
        from markupsafe import Markup  # noqa: PLC0415
    except ImportError as error:
        raise missing("HTML pages need Jinja2", "view") from error
    environment = Environment(
        loader=PackageLoader("perilune.viz.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.globals["percent"] = percent
    environment.globals["colors"] = lambda: Markup(style_sheet())  # noqa: S704 -- from this package
    filters = (data_uri, digest, duration, interval, number, percent)
    environment.filters |= {one.__name__: one for one in filters}
    return environment
