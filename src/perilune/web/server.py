"""Run the web server of ``perilune watch``."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from perilune.errors import ConfigError, PortError, RunDirectoryError
from perilune.web.app import create_app
from perilune.web.guard import in_url

MAX_REQUEST = 2**18  # bytes of the request line and headers; one request may name many runs
MAX_REQUESTS = 200  # at a time
REQUEST_SECONDS = 30.0  # in which a client must send a request
PORT_ERRORS = {errno.EADDRINUSE: "is in use", errno.EACCES: "requires more privileges"}


class Connection(H11Protocol):
    """A connection that closes if the client does not send a complete request in time. uvicorn has no such limit.

    When there are too many connections, the one that has waited longest for a request closes, so that incomplete
    requests do not block other clients.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        waiting = {
            other: other._timer.when() for other in self.connections if isinstance(other, Connection) and other._timer
        }
        if len(self.connections) >= MAX_REQUESTS and waiting:
            min(waiting, key=waiting.__getitem__)._close()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Handle a request, or wait for the rest of an incomplete one."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        self._stop()

    def _wait(self) -> None:
        """Start the timer, which more data does not restart. Stop it while a request is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._stop()
        self.connections.discard(self)
        self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``. Port 0 selects a free port."""
    if not 0 <= port <= 65535:
        raise ConfigError("port", port, "a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        if (code := getattr(error, "errno", None)) in PORT_ERRORS:
            raise PortError(
                f"port {port} {PORT_ERRORS[code]} on {host}. Choose another port with --port, or pass --port 0 to use "
                "any free port."
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigError("host", host, f"an address of this machine ({reason})") from error


def serve(root: Path, host: str, port: int, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Serve the runs below ``root`` until Ctrl-C. ``root`` need not exist yet if its parent directory exists.

    Pass the address of the page to ``say`` when the server is ready, and a warning to ``warn`` if ``root`` does not
    exist.
    """
    is_missing = not root.exists()
    if not (root.parent if is_missing else root).is_dir():
        reason = "does not exist" if is_missing else "is not a directory"
        raise RunDirectoryError(f"{root} {reason}. Pass a run directory or a directory that contains runs.")
    with listen(host, port) as listener:
        port = listener.getsockname()[1]
        server: uvicorn.Server
        app = create_app(root, host, port, lambda: server.should_exit)
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", interface="asgi3", log_level="error", access_log=False,
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=1, limit_concurrency=MAX_REQUESTS,
            h11_max_incomplete_event_size=MAX_REQUEST,
        )  # fmt: skip
        server = uvicorn.Server(config)
        # Do not log an error for a download that Ctrl-C interrupts.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        if is_missing:
            warn(f"{root} does not exist yet. The page will show its runs once training creates the directory.")
        say(f"Watching {root}: http://{in_url(host)}:{port} (press Ctrl-C to stop)")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
