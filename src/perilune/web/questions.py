"""What is asked for, in an address; every part of it is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from perilune.web.series import NAMES

MOST_POINTS = 4_000
MOST_SMOOTH = 1_000_000


@dataclass(frozen=True)
class Question:
    """Which series are asked for."""

    log: str
    column: str
    x: str
    smooth: int
    low: float
    high: float
    points: int
    band: bool


class Bad(HTTPException):
    """A question that cannot be answered."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(status, words)


def asked(request: Request) -> Question:
    """The series that are asked for.

    Raises:
        Bad: there are none such.
    """
    log, _, column = only(request, "name").partition(".")
    if column not in NAMES.get(log, ()):
        raise Bad("name: there is no such series; /api/names has them", 404)
    x = request.query_params.get("x", "env_steps")
    if x not in {"env_steps", "episode"}:
        raise Bad("x is env_steps or episode")
    return Question(
        log,
        column,
        x,
        int(_number(request, "smooth", 1, 1, MOST_SMOOTH)),
        _number(request, "from", -math.inf, -math.inf, math.inf),
        _number(request, "to", math.inf, -math.inf, math.inf),
        int(_number(request, "points", 600, 8, MOST_POINTS)),
        request.query_params.get("band", "0") == "1",
    )


def only(request: Request, name: str) -> str:
    """The one value of a parameter.

    Raises:
        Bad: there is none, or more than one.
    """
    values = request.query_params.getlist(name)
    if len(values) != 1:
        raise Bad(f"{name} has to be given, once")
    return values[0]


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    given = request.query_params.get(name, "")
    try:
        value = float(given) if given else default
    except ValueError:
        raise Bad(f"{name} is a number") from None
    if not least <= value <= most:
        raise Bad(f"{name} is from {least:,} to {most:,}")
    return value
