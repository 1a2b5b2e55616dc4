"""Handle the requests that the page of ``perilune watch`` sends."""

from __future__ import annotations

import asyncio
import math
import mimetypes
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from anyio.to_thread import run_sync
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from perilune._utils.text import printable
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files
from perilune.runs.search import SEARCH_REPORT
from perilune.runs.tables import Table
from perilune.viz.shared import Band, band, style_sheet
from perilune.web.guard import HEADERS, Guard
from perilune.web.series import COLUMNS, Curve, curve, spaced, thin
from perilune.web.videos import Video, find_videos, telemetry_columns, video_info
from perilune.web.watcher import WatchedRun, Watcher, differences, newest_per_seed

STATIC = Path(__file__).parent / "static"
MAX_RUNS = 500  # in a query
MAX_OUTCOMES = 6  # of a run; the page has as many colors
MAX_REPORT = 2**26  # bytes
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0


class RunQuery(msgspec.Struct):
    """Select a run and, for some requests, one of its videos."""

    id: str
    name: str = ""


class SeriesQuery(msgspec.Struct, frozen=True):
    """Select the rows of a column (LOG.COLUMN) of some runs with ``low`` <= x <= ``high``, and their smoothing."""

    name: str
    id: str | Annotated[tuple[str, ...], Meta(max_length=MAX_RUNS)] = ()
    x: Literal["env_steps", "episode", "seconds"] = "env_steps"
    smooth: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    low: float = msgspec.field(default=-math.inf, name="from")
    high: float = msgspec.field(default=math.inf, name="to")
    points: Annotated[int, Meta(ge=8, le=1_000)] = 600
    band: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError("Expected `from` <= `to`")


Query = TypeVar("Query", bound=msgspec.Struct)


def parse(request: Request, query: type[Query]) -> Query:
    """Convert the query parameters of a request to the type ``query``. Ignore unknown parameters."""
    given = {name: request.query_params.getlist(name) for name in request.query_params}
    single = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
    return msgspec.convert(single, query, strict=False)


class JsonResponse(Response):
    """A JSON response. Numbers that are not finite become null."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode ``content``."""
        return msgspec.json.encode(content)


def _tables(run: WatchedRun, query: SeriesQuery) -> dict[str, Table]:
    logs = {query.name.partition(".")[0]} | ({"evaluations"} if query.x == "seconds" else set())
    return {log: run.read(log) for log in logs}


def _version(run: WatchedRun, query: SeriesQuery) -> object:
    """Return a value that changes whenever the rows of the curves change."""
    return tuple(table.version for table in _tables(run, query).values())


def _whole_curve(run: WatchedRun, query: SeriesQuery, outcome: str) -> tuple[int, Curve]:
    """Return the number of rows in the range of the query, and these rows with their neighbors."""
    log, _, column = query.name.partition(".")
    whole = curve(_tables(run, query), log, column, query.x, query.smooth, outcome)
    return whole.between(query.low, query.high)


# The next two functions are cached. Their argument ``version`` changes whenever the logs change.
@lru_cache(maxsize=512)
def _thinned(run: WatchedRun, query: SeriesQuery, outcome: str, version: object) -> tuple[int, Curve]:
    """Return the number of rows in the range of the query, and the rows to draw."""
    count, whole = _whole_curve(run, query, outcome)
    # all outcomes keep the same rows, because the page stacks them
    rows = spaced(len(whole.x), query.points) if outcome else thin(whole.x, whole.y, query.points)
    return count, whole.at(rows)


@lru_cache(maxsize=64)
def _band(runs: tuple[WatchedRun, ...], query: SeriesQuery, outcome: str, version: object) -> Band:
    curves = [_whole_curve(run, query, outcome)[1] for run in runs]
    return band([(one.x, one.mean) for one in curves])


def _lists(arrays: Curve | Band) -> dict[str, list[float]]:
    return {name: array.tolist() for name, array in arrays._asdict().items()}


class Api:
    """Handle all requests. ``is_stopping`` returns whether the server is shutting down."""

    def __init__(self, watcher: Watcher, is_stopping: Callable[[], bool]) -> None:
        self._watcher = watcher
        self._is_stopping = is_stopping
        self._lock = Lock()  # one series query at a time, because averaging a million rows needs much memory
        self._static = StaticFiles(directory=STATIC)
        answers = (self.runs, self.run, self.columns, self.series, self.videos, self.telemetry, self.events)
        self.routes = [
            *(Route(f"/api/{answer.__name__}", answer) for answer in answers),
            Route("/", self.page),
            Route("/colors.css", self.colors),
            Route("/video", self.video),
            Route("/search", self.search),
            Mount("/static", self._static),
        ]

    async def page(self, request: Request) -> Response:
        """Return the page."""
        return await self._static.get_response("index.html", request.scope)

    def colors(self, request: Request) -> Response:
        """Return the colors and dashes of runs, which figures share."""
        return Response(style_sheet(), media_type="text/css")

    def runs(self, request: Request) -> Response:
        """Return a summary of every run."""
        found = self._watcher.poll().values()
        settings = differences(found)
        runs = [
            run.summary() | {"settings": settings[run.id], "derived": sorted(run.derived & settings[run.id].keys())}
            for run in found
        ]
        return JsonResponse(
            {
                "root": printable(str(self._watcher.root)),
                "message": self._watcher.message,
                "runs": runs,
                "searches": sorted(self._watcher.searches),
            }
        )

    def run(self, request: Request) -> Response:
        """Return config.json, host.json and the recommended settings of a run."""
        return JsonResponse(self._run(parse(request, RunQuery).id).files())

    def columns(self, request: Request) -> Response:
        """Return the columns of each log that the page can plot."""
        return JsonResponse(COLUMNS)

    def series(self, request: Request) -> Response:
        """Return a column of one or several runs and, on request, bands over runs that differ only in the seed.

        The column "outcome" gives a series for each outcome, which is its share of the episodes.
        """
        query = parse(request, SeriesQuery)
        query, names = msgspec.structs.replace(query, id=()), query.id
        log, _, column = query.name.partition(".")
        if column not in COLUMNS.get(log, ()):
            raise HTTPException(404, f"There is no series {query.name[:200]!r}. /api/columns lists all series.")
        runs = [self._run(name) for name in dict.fromkeys([names] if isinstance(names, str) else names)]
        series, bands = [], []
        with self._lock:
            for run in runs:
                for outcome in run.outcomes()[:MAX_OUTCOMES] if column == "outcome" else [""]:
                    count, drawn = _thinned(run, query, outcome, _version(run, query))
                    series.append({"id": run.id, "outcome": outcome, "count": count, **_lists(drawn)})
            for seeds, replaced in newest_per_seed(runs) if query.band else []:
                labels = dict.fromkeys(label for run in seeds for label in run.outcomes()[:MAX_OUTCOMES])
                for outcome in labels if column == "outcome" else [""]:
                    values = _band(seeds, query, outcome, tuple(_version(run, query) for run in seeds))
                    about = {"group": seeds[0].group, "ids": [run.id for run in seeds], "replaced": replaced}
                    bands.append(about | {"outcome": outcome, **_lists(values)})
        return JsonResponse({"name": query.name, "x": query.x, "series": series, "bands": bands})

    def videos(self, request: Request) -> Response:
        """Return a description of each video of a run."""
        run = self._run(parse(request, RunQuery).id)
        episodes, evaluations = run.read("episodes"), run.read("evaluations")
        return JsonResponse([video_info(video, episodes, evaluations) for video in find_videos(run.directory)])

    async def video(self, request: Request) -> Response:
        """Return a video file or the requested range of it."""
        _, video = await run_sync(self._video, request)
        try:
            return self._static.file_response(video.path, video.path.lstat(), request.scope)
        except OSError as error:  # the file was just removed
            raise HTTPException(404, "The run has no video of that name.") from error

    def search(self, request: Request) -> Response:
        """Return the report of a search for settings, a page without scripts that loads nothing."""
        name = parse(request, RunQuery).id
        self._watcher.poll()
        directory = self._watcher.searches.get(name)
        if directory is None:
            raise HTTPException(404, f"There is no search {name[:200]!r}.")
        content = files.read(directory / SEARCH_REPORT, MAX_REPORT)
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    def telemetry(self, request: Request) -> Response:
        """Return the time steps in a video, one for each frame."""
        run, video = self._video(request)
        return JsonResponse(telemetry_columns(video, run.config.get("environment", "")))

    async def events(self, request: Request) -> Response:
        """Stream the ids of changed runs as server-sent events."""
        if request.method == "HEAD":  # the body would never end
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[bytes]:
        """Yield an event at the start, after each change, and as a heartbeat if nothing changes."""
        now = asyncio.get_running_loop().time
        known: dict[str, int] = {}
        sent = -math.inf
        while not self._is_stopping():
            runs = await run_sync(self._watcher.poll)
            versions = {name: run.version for name, run in runs.items()}
            if versions != known or now() - sent >= HEARTBEAT_SECONDS:
                changed = [name for name in versions | known if versions.get(name) != known.get(name)]
                known, sent = versions, now()
                yield b"event: runs\ndata: " + msgspec.json.encode({"versions": versions, "changed": changed}) + b"\n\n"
            await asyncio.sleep(POLL_SECONDS)

    def _run(self, name: str) -> WatchedRun:
        run = self._watcher.poll().get(name)
        if run is None:
            raise HTTPException(404, f"There is no run {name[:200]!r}.")
        return run

    def _video(self, request: Request) -> tuple[WatchedRun, Video]:
        query = parse(request, RunQuery)
        run = self._run(query.id)
        for video in find_videos(run.directory):
            if video.name == query.name:
                return run, video
        raise HTTPException(404, "The run has no video of that name.")


async def _error(request: Request, error: Exception) -> Response:
    """Return the response to a request that failed."""
    match error:
        case HTTPException():
            status, message = error.status_code, error.detail
        case msgspec.ValidationError():
            status, message = 400, f"Invalid query: {error}."
        case FileFormatError() | RunDirectoryError():
            status, message = 404, printable(str(error))
        case _:  # the terminal shows the traceback
            status, message = 500, f"The server failed with {type(error).__name__}. See its terminal for the cause."
    return JsonResponse({"error": message}, status, HEADERS)  # an internal error bypasses the guard


def create_app(root: Path, host: str, port: int, is_stopping: Callable[[], bool]) -> Starlette:
    """Return the application that serves the runs below ``root`` at ``host`` and ``port``."""
    mimetypes.add_type("text/javascript", ".js")  # some systems register another type
    handled = (HTTPException, msgspec.ValidationError, FileFormatError, RunDirectoryError, Exception)
    handlers: dict[Any, Any] = dict.fromkeys(handled, _error)
    guard = Middleware(Guard, host=host, port=port)
    return Starlette(routes=Api(Watcher(root), is_stopping).routes, middleware=[guard], exception_handlers=handlers)
