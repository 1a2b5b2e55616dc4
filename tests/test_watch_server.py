"""The server of ``perilune watch`` as a process: which requests it answers, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

import perilune
from fixtures_runs import TinyRun, episode
from fixtures_watch import served
from perilune import cli
from perilune._utils.extras import install_command
from perilune.errors import ConfigError, PortError, RunDirectoryError
from perilune.web import server as web_server
from perilune.web.app import create_app
from perilune.web.guard import HEADERS
from perilune.web.server import Connection, listen, serve

TIMEOUT = 300  # seconds; exceeded only if the server hangs


class Server(NamedTuple):
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=TIMEOUT)

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[Any]]:
        with httpx.stream("GET", f"http://127.0.0.1:{self.port}/api/events", timeout=TIMEOUT) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            data = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
            yield (json.loads(line) for line in data)

    def send(self, request: str) -> tuple[int, dict[str, str], bytes]:
        """Send exactly these bytes; return status, headers and body of the response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            connection.sendall(request.encode("latin-1"))
            content = b""
            while piece := connection.recv(65536):
                content += piece
        head, _, body = content.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), headers, body


@pytest.fixture(scope="module")
def server(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("watched") / "runs"
    shutil.copytree(tiny_run.history.directory, root / "one")
    (root.parent / "secret.txt").write_text("secret")
    before = [(path, path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))]
    with served(root) as (address, process):
        yield Server(process, int(address.rsplit(":", 1)[1]))
    after = [(path, path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))]
    assert before == after, "the server changed a watched run"


def request(host: str, *headers: str, method: str = "GET", path: str = "/api/runs") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""])


def test_own_host_names_and_origins_are_answered(server: Server) -> None:
    for host in ("127.0.0.1:{}", "localhost:{}", "[::1]:{}", "localhost", "LocalHost:{}"):
        name = host.format(server.port)
        status, headers, body = server.send(request(name))
        assert status == 200
        assert len(json.loads(body)["runs"]) == 1
        assert {key: headers[key.lower()] for key in HEADERS} == HEADERS
        assert "server" not in headers
        assert server.send(request(name, f"Origin: http://{name}"))[0] == 200


def test_other_host_names_are_refused(server: Server) -> None:
    for host in (
        *("evil.example:{}", "127.0.0.1.evil.example:{}", "localhost.:{}", "localhost:1", "localhost:{}:{}", "", " "),
        *("evil.example", "0.0.0.0:{}", "127.1:{}", "2130706433:{}", "user@localhost:{}", "localhost:{}@evil.example"),
        *("localhost:{}, evil.example", "[::ffff:127.0.0.1]:{}", "127.0.0.2:{}", "localhost:0{}", "localhost\t:{}"),
    ):
        status, headers, body = server.send(request(host.replace("{}", str(server.port))))
        assert status in {400, 403}
        assert b"runs" not in body
        if status == 403:
            assert "accepts only requests to 127.0.0.1, [::1], localhost" in json.loads(body)["error"]
            assert headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    local = f"localhost:{server.port}"
    for malformed in (
        "GET /api/runs HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /api/runs HTTP/1.0\r\n\r\n",
        f"GET /api/runs HTTP/1.1\r\nHost: {local}\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        request("evil.example", path=f"http://{local}/api/runs"),
        request("evil.example", f"X-Forwarded-Host: {local}"),
    ):
        status, _, body = server.send(malformed)
        assert status in {400, 403}
        assert b"CartPole" not in body


def test_other_origins_are_refused(server: Server) -> None:
    for origin in (
        *("http://evil.example", "null", "https://localhost:{}", "http://localhost:1", "http://127.0.0.1:{}", ""),
        "file://",
    ):
        header = f"Origin: {origin.format(server.port)}"
        status, _, body = server.send(request(f"localhost:{server.port}", header))
        assert status == 403
        assert "only requests from its own page" in json.loads(body)["error"]


def test_requests_of_other_sites_without_origin_are_refused(server: Server) -> None:
    def status(path: str, *values: str) -> int:
        names = ("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
        headers = [f"{name}: {value}" for name, value in zip(names, values, strict=False)]
        return server.send(request(f"localhost:{server.port}", *headers, path=path))[0]

    paths = ("/", "/api/runs", "/api/events", "/static/page.js", "/video?id=one&name=best.mp4")
    for path, site in itertools.product(
        paths, ("cross-site", "same-site", "", "Cross-Site", "same-origin, cross-site")
    ):
        for mode, dest in (
            ("no-cors", "image"),
            ("navigate", "iframe"),
            ("navigate", "object"),
            ("websocket", "empty"),
        ):
            assert status(path, site, mode, dest) == 403, path
        assert status(path, site) == 403
        assert status(path, site, "navigate", "document") == (200 if path == "/" else 403), path
    for path, site in itertools.product(paths[:2], ("same-origin", "none")):
        assert status(path, site, "navigate", "document") == 200
    twice = ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site")
    assert server.send(request(f"localhost:{server.port}", *twice))[0] == 403


def test_only_get_and_head_are_allowed(server: Server) -> None:
    host = f"localhost:{server.port}"
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"):
        for path in ("/", "/api/runs", "/video?id=one&name=best.mp4", "/nothing"):
            status, headers, _ = server.send(request(host, method=method, path=path))
            assert (status, headers["allow"]) == (405, "GET, HEAD")
    for path in ("/", "/api/runs", "/api/events", "/video?id=one&name=best.mp4", "/nothing"):
        status, _, body = server.send(request(host, method="HEAD", path=path))
        assert (status, body) == (404 if path == "/nothing" else 200, b"")
    assert server.send(request(host, "Connection: Upgrade", "Upgrade: websocket"))[0] == 200  # not a WebSocket


ODD_PATHS = [
    *("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/..\\server.py"),
    *("/static/..%5cserver.py", "/static//etc/passwd", "/static/%2fetc/passwd", "/static/./../server.py"),
    *("//etc/passwd", "/static/%00", "/static/x%00.js", "/static/%ff%fe", "/static/..%c0%af..%c0%afserver.py"),
    *("/../server.py", "/static/%252e%252e/server.py", "/static/vendor/../../server.py", "/one/config.json"),
    *("/static/" + "a/" * 5_000, "/video?id=one&name=..%2f..%2fsecret.txt", "/video?id=one&name=..%c0%afbest.mp4"),
    *("/video?id=one%2fvideos&name=best.mp4", "/api/run?id=../runs/one", "/api/run?id=.%2fone", "/api/run?id=one%00"),
]


def test_paths_cannot_leave_the_served_files(server: Server) -> None:
    for path in ODD_PATHS:
        status, headers, body = server.send(request(f"localhost:{server.port}", path=path))
        assert status in {400, 404}, path
        assert not any(word in body for word in (b"import", b"secret", b"CartPole")), path
        assert headers["x-content-type-options"] == "nosniff"


def test_malformed_and_overlong_requests_are_handled(server: Server) -> None:
    for malformed in ("\0" * 100, "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\0"):
        with contextlib.suppress(IndexError, ConnectionError):  # the server may close the connection
            assert server.send(malformed)[0] in {400, 403}
    with contextlib.suppress(ConnectionError):
        assert server.send(f"GET /{'a' * 200_000} HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] in {400, 404}
    many = "&".join(["id=one"] * 500 + [f"unused={'x' * 100_000}"])
    path = f"/api/series?{many}&name=episodes.reward"
    assert server.send(request(f"localhost:{server.port}", path=path))[0] == 200


def test_half_sent_requests_do_not_block_others(server: Server, torture: bool) -> None:
    unfinished = request("localhost")[:-2] + "X: " + "x" * (250_000 if torture else 0)
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(server.events())
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(250)]
        for connection in sockets:
            connection.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):  # the server has closed it
                connection.sendall(unfinished.encode())
        for _ in range(3):
            assert server.get("/api/runs").status_code == 200
        for connection in sockets[: None if torture else 50]:  # it closes the oldest at once, and the others in time
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""
        next(events)  # the server does not close connections that it uses
        if torture and (status := Path(f"/proc/{server.process.pid}/status")).exists():
            peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) // 1024
            print(f"\n250 half-sent requests of 250 kB: a peak of {peak} MiB")
            assert peak < 400


def test_connection_closes_if_no_complete_request_arrives_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def answer_to(start: str) -> bytes:
        """Send ``start``, and then single characters until the server closes the connection."""
        config, state = uvicorn.Config(answer, ws="none", lifespan="off", log_config=None), ServerState()
        made = await asyncio.get_running_loop().create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*made.sockets[0].getsockname())
        answered = asyncio.create_task(reader.read())
        writer.write(start.encode())
        while not answered.done():
            await asyncio.sleep(0.02)
            writer.write(b"x")
        writer.close()
        made.close()
        return answered.result()

    head = "GET / HTTP/1.1\r\nHost: localhost\r\n"
    with contextlib.suppress(ConnectionError):
        assert asyncio.run(answer_to(f"{head}Content-Length: 100000\r\n\r\n")).startswith(b"HTTP/1.1 200")
    for unfinished in ("", head):
        with contextlib.suppress(ConnectionError):
            assert asyncio.run(answer_to(unfinished)) == b""


def test_page_has_content_type_etag_and_policy(server: Server) -> None:
    page = server.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<html" in page.text
    assert server.get("/", **{"If-None-Match": page.headers["etag"]}).status_code == 304
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert (Path(perilune.__file__).parent / "web" / "static" / "index.html").is_file()


def test_server_accepts_its_addresses_and_no_others(tmp_path: Path) -> None:
    async def status(listening: str, connected: str, name: str) -> int:
        transport = httpx.ASGITransport(create_app(tmp_path, listening, 80, lambda: False))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{connected}") as client:
            return (await client.get("/api/runs", headers={"Host": name})).status_code

    for listening, connected, name, expected in (
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", 200),  # noqa: S104
        ("0.0.0.0", "127.0.0.1", "0.0.0.0", 200),  # noqa: S104
        ("0.0.0.0", "127.0.0.2", "127.0.0.2", 200),  # noqa: S104
        ("0.0.0.0", "127.0.0.1", "127.0.0.2", 403),  # noqa: S104
        ("0.0.0.0", "127.0.0.1", "evil.example", 403),  # noqa: S104
        ("::1", "[::1]", "[::1]", 200),
        ("::1", "[::1]", "localhost:80", 200),
        ("::1", "[::1]", "::1", 403),
    ):
        assert asyncio.run(status(listening, connected, name)) == expected, (listening, connected, name)


def test_server_waits_for_a_missing_directory_and_stops_quietly_on_ctrl_c(tiny_run: TinyRun, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        address, process = stack.enter_context(served(cwd=tmp_path))
        running = Server(process, int(address.rsplit(":", 1)[1]))
        events, stalled = stack.enter_context(running.events()), stack.enter_context(socket.socket())
        output, errors = process.stdout, process.stderr
        assert output is not None
        assert errors is not None
        warning = (
            "perilune: runs does not exist yet. The page will show its runs once training creates the directory.\n"
        )
        assert errors.readline() == warning
        assert running.get("/api/runs").json() == {"root": "runs", "message": None, "runs": [], "searches": []}
        assert next(events) == {"versions": {}, "changed": []}

        def wait_for(*runs: str) -> list[str]:
            """Wait until exactly these runs exist; return the names of the changed ones."""
            while set((event := next(events))["versions"]) != set(runs) or not event["changed"]:
                pass
            return event["changed"]

        one, two = tmp_path / "runs" / "one", tmp_path / "runs" / "two"
        shutil.copytree(tiny_run.history.directory, one)
        (one / "videos" / "large.mp4").touch()
        os.truncate(one / "videos" / "large.mp4", 2**26)
        assert wait_for("one") == ["one"]
        with (one / "episodes.jsonl").open("a") as file:
            file.write(json.dumps(episode(5)._asdict()) + "\n")
        assert wait_for("one") == ["one"]
        shutil.copytree(one, two, ignore=shutil.ignore_patterns("videos"))
        assert "two" in wait_for("one", "two")
        shutil.rmtree(two)
        assert "two" in wait_for("one")

        stalled.connect(("127.0.0.1", running.port))
        stalled.sendall(request("localhost", path="/video?id=one&name=large.mp4").encode())
        assert stalled.recv(12) == b"HTTP/1.1 200"  # the client does not read the rest
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=TIMEOUT) == 0
        assert (output.read(), errors.read()) == ("", "")
        list(events)  # the stream ends


def test_directory_host_and_port_errors_suggest_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no.where does not exist\. Pass a run directory"):
        serve(tmp_path / "no" / "where", "127.0.0.1", 0, print, print)
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=r"file is not a directory\. Pass a run directory"):
        serve(tmp_path / "file", "127.0.0.1", 0, print, print)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"port {port} is in use on 127.0.0.1. Choose another port with --port"):
            serve(tmp_path, "127.0.0.1", port, print, print)
    with pytest.raises(ConfigError, match="from 0 to 65535"):
        listen("127.0.0.1", 65_536)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1.*an address of this machine"):  # reserved for examples
        listen("192.0.2.1", 0)


def test_missing_web_extra_error_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "perilune.web.server", None)  # as if starlette were not installed
    with pytest.raises(SystemExit):
        cli.main(["watch"])
    assert install_command("web") in capsys.readouterr().err
