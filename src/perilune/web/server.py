"""The web server: what it answers, and to whom."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import mimetypes
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from perilune.errors import ConfigError, FileFormatError, PortError, RunDirectoryError
from perilune.training.events import Evaluated
from perilune.web import videos
from perilune.web.guard import Guard
from perilune.web.logs import number
from perilune.web.questions import Bad, Question, asked, only
from perilune.web.run import Run, best, one_a_seed
from perilune.web.series import NAMES, Curve, band, curve, thin
from perilune.web.videos import Film
from perilune.web.watcher import Watched

STATIC = Path(__file__).parent / "static"
MOST_IDS = 500  # runs in one question
MOST_EVALUATIONS = 500
LONGEST_REQUEST = 2**18  # bytes; one that names many runs is long
LOOK_EVERY = 1.0  # seconds
HEARTBEAT = 10.0  # seconds
CACHED = 2**24  # bytes of answers that are kept
FAULTS = {errno.EADDRINUSE: "is in use", errno.EACCES: "is not allowed"}  # of a port


class Answers:
    """Answers that were given, by what they were answers to; the ones not asked for longest are dropped."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._bytes = 0

    def of(self, key: object, make: Callable[[], bytes]) -> msgspec.Raw:
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = make()
            self._bytes += len(self._kept[key])
            while self._bytes > CACHED and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return msgspec.Raw(self._kept[key])


class Pages:
    """What there is to ask for. ``stopping`` says whether the server is about to end."""

    def __init__(self, root: Path, stopping: Callable[[], bool]) -> None:
        self.watched = Watched(root)
        self._stopping = stopping
        self._answers = Answers()
        self._one_at_a_time = Lock()  # a million rows take room while they are averaged
        self._static = StaticFiles(directory=STATIC)

    def routes(self) -> list[Route | Mount]:
        answers = {
            "runs": self.runs, "run": self.run, "names": self.names, "series": self.series, "videos": self.videos,
            "telemetry": self.telemetry,
        }  # fmt: skip
        return [
            Route("/", self.page),
            *(Route(f"/api/{name}", answer) for name, answer in answers.items()),
            Route("/api/events", self.events),
            Route("/video", self.video),
            Mount("/static", self._static),
        ]

    async def page(self, request: Request) -> Response:
        return await self._static.get_response("index.html", request.scope)

    def runs(self, request: Request) -> Response:
        told = self.watched.told()
        return _json({"root": videos.text(str(self.watched.root)), "words": self.watched.words, "runs": told})

    def run(self, request: Request) -> Response:
        run = self._run(request)
        evaluations = run.read("evaluations")
        columns = [evaluations.columns[name][-MOST_EVALUATIONS:] for name in Evaluated._fields]
        objects = [dict(zip(Evaluated._fields, map(number, row), strict=True)) for row in zip(*columns, strict=True)]
        try:
            config = run.config()
        except (FileFormatError, RunDirectoryError):
            config = None
        return _json(
            {
                "id": run.id,
                "config": config,
                "host": run.host(),
                "evaluations": [one | {"best": bool(one["best"])} for one in objects],
            }
        )

    def names(self, request: Request) -> Response:
        return _json(NAMES)

    def series(self, request: Request) -> Response:
        question = asked(request)
        ids = request.query_params.getlist("id")
        if len(ids) > MOST_IDS:
            raise Bad(f"id: at most {MOST_IDS} runs are answered for at once")
        runs = [self._run_of(name) for name in dict.fromkeys(ids)]
        with self._one_at_a_time:
            answer = msgspec.json.encode(
                {
                    "name": f"{question.log}.{question.column}",
                    "x": question.x,
                    "series": [self._answers.of(*self._one(run, question)) for run in runs],
                    "bands": [self._answers.of(*one) for one in self._bands(runs, question)] if question.band else [],
                }
            )
        return Response(answer, media_type="application/json")

    def _one(self, run: Run, question: Question) -> tuple[object, Callable[[], bytes]]:
        """What the series of a run is an answer to, and how it is made."""
        table, group = run.read(question.log), run.about().group

        def make() -> bytes:
            whole = _curve(run, question)
            drawn = whole.at(thin(whole.x, whole.y, question.points))
            return msgspec.json.encode(
                {
                    "id": run.id,
                    "group": group,
                    "count": len(whole.x),
                    "x": drawn.x.tolist(),
                    "raw": drawn.y.tolist(),
                    "mean": drawn.mean.tolist(),
                }
            )

        return (table.version, run.id, group, question), make

    def _bands(self, runs: Sequence[Run], question: Question) -> list[tuple[object, Callable[[], bytes]]]:
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(run.about().group, []).append(run)
        found = {group: one_a_seed(members) for group, members in groups.items()}
        return [self._band(group, *one, question) for group, one in found.items() if len(one[0]) > 1]

    def _band(
        self, group: str, seeds: list[Run], left_out: dict[str, str], question: Question
    ) -> tuple[object, Callable[[], bytes]]:
        def make() -> bytes:
            found = band([_curve(run, question) for run in seeds])
            values = {name: values.tolist() for name, values in found._asdict().items()}
            ids = [run.id for run in seeds]
            return msgspec.json.encode({"group": group, "ids": ids, "left_out": left_out, **values})

        versions = tuple((run.id, run.read(question.log).version) for run in seeds)
        return ("band", group, versions, tuple(left_out.items()), question), make

    def videos(self, request: Request) -> Response:
        run = self._run(request)
        found = videos.films(run.directory)
        return _json(videos.listed(found, run.read("episodes"), best(run.read("evaluations"))))

    async def video(self, request: Request) -> Response:
        film = await run_sync(partial(self._film, request))
        try:
            return self._static.file_response(film.path, film.path.lstat(), request.scope)
        except OSError as error:  # it was removed just now
            raise Bad("the run has no video of that name", 404) from error

    def telemetry(self, request: Request) -> Response:
        film = self._film(request)
        environment = self._run(request).about().environment or ""
        try:
            return Response(msgspec.json.encode(videos.moments(film, environment)), media_type="application/json")
        except (FileFormatError, RunDirectoryError) as error:
            raise Bad(videos.text(str(error)), 404) from error

    async def events(self, request: Request) -> Response:
        if request.method == "HEAD":  # which would never come to an end
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        """The versions of all runs, now and whenever they change."""
        loop = asyncio.get_running_loop()
        known: dict[str, int] | None = None
        spoke = looked = -math.inf
        behind = False
        while not self._stopping():
            if behind or loop.time() - looked >= LOOK_EVERY:
                runs = await run_sync(self.watched.catch_up)
                looked = loop.time()
                behind = any(run.behind for run in runs.values())
                versions = {name: run.version for name, run in runs.items()}
                if versions != known:
                    before, known, spoke = known or {}, versions, looked
                    changed = [name for name in versions | before if versions.get(name) != before.get(name)]
                    yield f"event: runs\ndata: {json.dumps({'versions': versions, 'changed': changed})}\n\n"
                elif looked - spoke >= HEARTBEAT:
                    spoke = looked
                    yield "event: beat\ndata:\n\n"
            await asyncio.sleep(0.1)

    def _run(self, request: Request) -> Run:
        return self._run_of(only(request, "id"))

    def _run_of(self, name: str) -> Run:
        found = self.watched.look().get(name)
        if found is None:
            raise Bad(f"there is no run {videos.text(name[:200])}", 404)
        return found

    def _film(self, request: Request) -> Film:
        run, name = self._run(request), only(request, "name")
        for film in videos.films(run.directory):
            if videos.text(film.path.name) == name:
                return film
        raise Bad("the run has no video of that name", 404)


def _curve(run: Run, question: Question) -> Curve:
    table = run.read(question.log)
    whole = curve(table, question.log, question.column, question.x, question.smooth)
    return whole.between(question.low, question.high)


def _json(value: object, status: int = 200) -> Response:
    """What comes from strangers' JSON may hold halves of characters, which only escapes can say."""
    try:
        return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")
    except RecursionError as error:
        raise Bad("what is there is nested too deeply to be shown", 404) from error


async def _refused(request: Request, error: Exception) -> Response:
    """The answer to what cannot be answered."""
    if isinstance(error, Bad):
        return _json({"error": error.detail}, error.status_code)
    return _json({"error": "there is nothing of that name"}, 404)  # no route, and no file


async def _failed(request: Request, error: Exception) -> Response:
    """The answer where the fault is this server's; uvicorn prints what it was."""
    return _json({"error": f"the server failed: {type(error).__name__}"}, 500)


def application(pages: Pages, host: str, port: int) -> Guard:
    """All of the server, which listens at ``host`` and ``port``."""
    mimetypes.add_type("text/javascript", ".js")  # which some systems call something else
    handlers: dict[Any, Any] = {HTTPException: _refused, Exception: _failed}
    return Guard(Starlette(routes=pages.routes(), exception_handlers=handlers), host, port)


def listen(host: str, port: int) -> socket.socket:
    """A socket at ``host`` and ``port``; 0 is any that is free.

    Raises:
        ConfigError: there is no such port or address.
        PortError: the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ConfigError("port", port, "a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        if code in FAULTS:
            remedy = "give another with --port, or --port 0 for any that is free"
            raise PortError(f"port {port} {FAULTS[code]} at {host}: {remedy}") from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigError("host", host, f"an address of this machine ({reason})") from error


def serve(root: Path, host: str, port: int, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Serve the runs below ``root`` until somebody presses Ctrl-C. It may still be missing where its parent is there.

    Args:
        say: told where the page is, once it is there.
        warn: told that there is no ``root`` yet.

    Raises:
        RunDirectoryError: there is no such directory, nor its parent.
        ConfigError: there is no such address.
        PortError: the port is taken.
    """
    waits = not root.exists() and root.parent.is_dir()
    if not root.is_dir() and not waits:
        found = "is no directory" if root.exists() else f"is not there, and neither is {root.parent}"
        raise RunDirectoryError(f"{root} {found}. Give a run directory, or one with runs in it.")
    with listen(host, port) as taken:
        port = taken.getsockname()[1]
        server: uvicorn.Server
        app = application(Pages(root, lambda: server.should_exit), host, port)
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", interface="asgi3", log_level="error", access_log=False,
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=1, limit_concurrency=200,
            h11_max_incomplete_event_size=LONGEST_REQUEST,
        )  # fmt: skip
        server = uvicorn.Server(config)
        # A film that is being fetched when the server ends is broken off; that is no error.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        if waits:
            warn(f"there is no directory {root} yet; the page waits for it")
        say(f"Watching {root}: http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[taken])
