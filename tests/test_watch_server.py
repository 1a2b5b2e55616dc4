"""The server as a process: to whom it answers, how it begins and ends, and what it costs."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import perilune
from fixtures_runs import TinyRun, episode
from perilune.errors import ConfigError, RunDirectoryError
from perilune.web.guard import HEADERS
from perilune.web.server import listen, serve


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Served(NamedTuple):
    """A server that runs, and the directory that it watches."""

    process: subprocess.Popen[str]
    port: int
    root: Path

    def status(self, host: str, name: str) -> int:
        """Of an answer to who connects to one address and asks for another."""
        with contextlib.closing(http.client.HTTPConnection(host, self.port, timeout=30)) as connection:
            connection.request("GET", "/api/runs", headers={"Host": f"{name}:{self.port}"})
            return connection.getresponse().status

    def get(self, path: str, **headers: str) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[Any]]:
        """What it tells of by itself."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", "/api/events")
            with connection.getresponse() as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = (line.decode() for line in iter(answer.readline, b""))
                yield (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))

    def raw(self, request: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer to exactly these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request.encode("latin-1"))
            content = b""
            while piece := connection.recv(65536):
                content += piece
        head, _, body = content.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), headers, body


@contextlib.contextmanager
def started(root: Path, host: str = "127.0.0.1") -> Iterator[Served]:
    program = [sys.executable, "-m", "perilune", "watch", str(root), "--port", "0", "--host", host]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        shown = f"[{host}]" if ":" in host else host
        assert said.startswith(f"Watching {root}: http://{shown}:"), said + process.communicate()[1]
        assert said.endswith(" (Ctrl-C ends it)\n")
        yield Served(process, int(said.split(":")[-1].split()[0]), root)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def served(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("watched") / "runs"
    shutil.copytree(tiny_run.history.directory, root / "one")
    (root.parent / "secret.txt").write_text("secret")
    with started(root) as running:
        yield running


def asking(host: str, *headers: str, method: str = "GET", path: str = "/api/runs") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""])


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}", "localhost", "LocalHost:{}"])
def test_it_answers_to_its_own_names(served: Served, host: str) -> None:
    status, headers, body = served.raw(asking(host.format(served.port)))
    assert status == 200
    assert len(json.loads(body)["runs"]) == 1
    for name, value in HEADERS.items():
        assert headers[name.lower()] == value
    assert "server" not in headers
    assert served.raw(asking(host.format(served.port), f"Origin: http://{host.format(served.port)}"))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:{}", "127.0.0.1.evil.example:{}", "localhost.:{}", "localhost:1", "localhost:{}:{}", "", " "),
        *("evil.example", "0.0.0.0:{}", "127.1:{}", "2130706433:{}", "user@localhost:{}", "localhost:{}@evil.example"),
        *("localhost:{}, evil.example", "[::ffff:127.0.0.1]:{}", "127.0.0.2:{}", "localhost:0{}", "localhost\t:{}"),
    ],
)
def test_it_answers_to_no_other_name(served: Served, host: str) -> None:
    status, headers, body = served.raw(asking(host.replace("{}", str(served.port))))
    assert status in {400, 403}
    assert b"runs" not in body
    if status == 403:
        assert "answers to 127.0.0.1, [::1], localhost" in json.loads(body)["error"]
        assert headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_who_listens_to_every_address_answers_to_the_one_that_was_called(tmp_path: Path) -> None:
    with started(tmp_path, "0.0.0.0") as running:  # noqa: S104
        assert running.status("127.0.0.1", "127.0.0.1") == 200
        assert running.status("127.0.0.1", "0.0.0.0") == 200  # noqa: S104
        assert running.status("127.0.0.2", "127.0.0.2") == 200
        assert running.status("127.0.0.1", "127.0.0.2") == 403
        assert running.status("127.0.0.1", "evil.example") == 403


def test_an_address_of_version_six_stands_in_brackets(tmp_path: Path) -> None:
    try:
        listen("::1", 0).close()
    except ConfigError:
        pytest.skip("this machine has no such addresses")
    with started(tmp_path, "::1") as running:
        assert running.status("::1", "[::1]") == 200
        assert running.status("::1", "localhost") == 200
        assert running.status("::1", "::1") == 403


def test_a_request_without_a_name_or_with_two_is_refused(served: Served) -> None:
    local = f"localhost:{served.port}"
    for request in (
        "GET /api/runs HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /api/runs HTTP/1.0\r\n\r\n",
        f"GET /api/runs HTTP/1.1\r\nHost: {local}\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        asking("evil.example", path=f"http://{local}/api/runs"),
        asking("evil.example", f"X-Forwarded-Host: {local}"),
    ):
        status, _, body = served.raw(request)
        assert status in {400, 403}
        assert b"CartPole" not in body


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://localhost:{}", "http://localhost:1", "http://127.0.0.1:{}", "", "file://"],
)
def test_other_sites_are_refused(served: Served, origin: str) -> None:
    host = f"localhost:{served.port}"
    status, _, body = served.raw(asking(host, f"Origin: {origin.format(served.port)}"))
    assert status == 403
    assert "its own pages only" in json.loads(body)["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"])
def test_it_can_only_be_read_from(served: Served, method: str) -> None:
    for path in ("/", "/api/runs", "/video?id=one&name=best.mp4", "/nothing"):
        status, headers, _ = served.raw(asking(f"localhost:{served.port}", method=method, path=path))
        assert status == 405
        assert headers["allow"] == "GET, HEAD"
    status, _, _ = served.raw(asking(f"localhost:{served.port}", "Connection: Upgrade", "Upgrade: websocket"))
    assert status == 200  # an answer, and no socket


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/..\\server.py"),
        *(
            "/static/..%5cserver.py",
            "/static//etc/passwd",
            "/static/%2fetc/passwd",
            "/static/./../server.py",
            "//etc/passwd",
        ),
        *("/static/%00", "/static/x%00.js", "/static/%ff%fe", "/static/..%c0%af..%c0%afserver.py", "/../server.py"),
        *(
            "/static/%252e%252e/server.py",
            "/static/vendor/../../server.py",
            "/one/config.json",
            "/static/" + "a/" * 5_000,
        ),
        *(
            "/video?id=one&name=..%2f..%2fsecret.txt",
            "/video?id=one&name=%2e%2e/config.json",
            "/video?id=..&name=secret.txt",
        ),
        *(
            "/video?id=one%2fvideos&name=best.mp4",
            "/video?id=one&name=best.mp4%00",
            "/video?id=one&name=..%c0%afbest.mp4",
        ),
        *(
            "/api/run?id=../runs/one",
            "/api/run?id=one/",
            "/api/run?id=/one",
            "/api/run?id=.%2fone",
            "/api/run?id=one%00",
        ),
    ],
)
def test_odd_paths_lead_nowhere(served: Served, path: str) -> None:
    status, headers, body = served.raw(asking(f"localhost:{served.port}", path=path))
    assert status in {400, 404}
    assert b"import" not in body
    assert b"secret" not in body
    assert b"CartPole" not in body
    assert headers["x-content-type-options"] == "nosniff"


def test_bytes_that_are_no_request_do_no_harm(served: Served) -> None:
    for nonsense in ("\0" * 100, "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\0"):
        with contextlib.suppress(IndexError, ConnectionError):  # no answer is one too
            assert served.raw(nonsense)[0] in {400, 403}
    with contextlib.suppress(ConnectionError):
        assert served.raw(f"GET /{'a' * 200_000} HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] in {400, 404}
    assert served.get("/api/runs").status == 200


def test_very_many_runs_can_be_asked_for_at_once(served: Served) -> None:
    every = "&".join(["id=one"] * 500 + [f"unused={'x' * 100_000}"])
    assert served.get(f"/api/series?{every}&name=episodes.reward").status == 200


def test_the_page_and_its_files_come_with_their_kind_and_an_etag(served: Served) -> None:
    page = served.get("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"<html" in page.body
    assert served.get("/", **{"If-None-Match": page.headers["etag"]}).status == 304
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")


def test_a_change_is_told_while_it_happens(tiny_run: TinyRun, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(tiny_run.history.directory, one)
    with started(tmp_path) as running, running.events() as told:
        first = next(told)
        assert first["changed"] == list(first["versions"]) == ["one"]
        began = time.monotonic()
        with (one / "episodes.jsonl").open("a") as file:
            file.write(json.dumps(episode(5)._asdict()) + "\n")
        second = next(told)
        assert time.monotonic() - began < 10  # about one second, where the machine is free
        assert second["changed"] == ["one"]
        assert second["versions"]["one"] > first["versions"]["one"]
        shutil.copytree(one, two)
        assert next(told)["changed"] == ["two"]
        shutil.rmtree(two)
        gone = next(told)
        while set(gone["versions"]) != {"one"}:  # half removed, it had changed
            gone = next(told)
        assert gone["changed"] == ["two"]


def test_whoever_asks_for_a_head_gets_no_body(served: Served) -> None:
    for path in ("/", "/api/runs", "/api/events", "/video?id=one&name=best.mp4", "/nothing"):
        status, _, body = served.raw(asking(f"localhost:{served.port}", method="HEAD", path=path))
        assert (status, body) == (404 if path == "/nothing" else 200, b"")


def test_ctrl_c_ends_it_quietly_also_with_somebody_connected(tiny_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.history.directory, tmp_path / "one")
    with (tmp_path / "one" / "videos" / "large.mp4").open("wb") as file:
        file.truncate(2**26)
    stalled = socket.socket()
    with started(tmp_path) as running, running.events() as told, stalled:
        next(told)
        stalled.connect(("127.0.0.1", running.port))
        stalled.sendall(asking("localhost", path="/video?id=one&name=large.mp4").encode())
        assert stalled.recv(12) == b"HTTP/1.1 200"  # and no more is taken of it
        running.process.send_signal(signal.SIGINT)
        output, errors = running.process.communicate(timeout=20)
        assert (running.process.returncode, output, errors) == (0, "", "")
        assert list(told) == []


def test_nothing_in_a_watched_run_is_written(tiny_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.history.directory, tmp_path / "run")

    def looks() -> list[tuple[Path, int, int]]:
        return [(path, path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(tmp_path.rglob("*"))]

    before = looks()
    with started(tmp_path) as running:
        for path in (
            "/",
            "/api/runs",
            "/api/run?id=run",
            "/api/series?id=run&name=episodes.reward",
            "/api/videos?id=run",
        ):
            assert running.get(path).status == 200
        with running.events() as told:
            next(told)
    assert looks() == before


def test_what_cannot_be_served_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no.where is not there, and neither is .*no\. Give a run directory"):
        serve(tmp_path / "no" / "where", "127.0.0.1", 0, print, print)
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=r"file is no directory\. Give a run directory"):
        serve(tmp_path / "file", "127.0.0.1", 0, print, print)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        program = [sys.executable, "-m", "perilune", "watch", str(tmp_path), "--port", str(port)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == (
        f"perilune: port {port} is in use at 127.0.0.1: give another with --port, or --port 0 for any that is free"
    )
    with pytest.raises(ConfigError, match="from 0 to 65535"):
        listen("127.0.0.1", 65_536)
    with pytest.raises(ConfigError, match=r"host='192\.0\.2\.1'"):  # an address that no machine has
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("given", [(), ("elsewhere",)])
def test_it_waits_for_a_directory_that_the_first_training_makes(
    given: tuple[str, ...], tiny_run: TinyRun, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "perilune", "watch", *given, "--port", "0"]
    process = subprocess.Popen(  # noqa: S603
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        (name,) = given or ("runs",)
        assert process.stderr.readline() == f"perilune: there is no directory {name} yet; the page waits for it\n"
        said = process.stdout.readline()
        assert said.startswith(f"Watching {name}: http://127.0.0.1:"), said
        running = Served(process, int(said.split(":")[-1].split()[0]), tmp_path / name)
        assert json.loads(running.get("/api/runs").body) == {"root": name, "words": None, "runs": []}
        with running.events() as told:
            assert next(told)["versions"] == {}
            shutil.copytree(tiny_run.history.directory, tmp_path / name / "one")
            assert set(next(told)["versions"]) == {"one"}
    finally:
        process.kill()
        process.communicate()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    script = "import sys; sys.modules['starlette'] = None; from perilune.cli import main; main(['watch', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["perilune: the page needs a web server: pip install 'perilune[web]'"]


def test_it_starts_in_about_half_a_second(tiny_run: TinyRun) -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        with started(tiny_run.history.directory) as running:
            assert running.get("/").status == 200
            took.append(time.perf_counter() - began)
    assert min(took) < 3  # 0.7 s measured; the machine that tests may be busy


def memory(process: subprocess.Popen[str]) -> float:
    """The most memory that it has had, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up in /proc")
@pytest.mark.parametrize(("runs", "rows"), [(1, 400_000), (50, 4_000)])
def test_many_rows_and_many_runs_are_quick_and_small(tiny_run: TinyRun, tmp_path: Path, runs: int, rows: int) -> None:
    piece = b"".join(
        b'{"env_steps": %d, "updates": %d, "loss": %.12f, "mean_q": 12.345678901, "mean_td_target": 12.5678901, '
        b'"gradient_norm": 1.2345678901, "learning_rate": 0.001, "epsilon": 0.1}\n' % (number, number, number % 977 / 7)
        for number in range(4_000)
    )
    for number in range(runs):
        shutil.copytree(tiny_run.history.directory, tmp_path / str(number))
        (tmp_path / str(number) / "metrics.jsonl").write_bytes(piece * (rows // 4_000))
    every = "&".join(f"id={number}" for number in range(runs))
    with started(tmp_path) as running:
        began = time.perf_counter()
        answer = json.loads(running.get(f"/api/series?{every}&name=metrics.loss&smooth=50&band=1").body)
        first = time.perf_counter() - began
        assert [series["count"] for series in answer["series"]] == [rows] * runs
        assert max(len(series["x"]) for series in answer["series"]) <= 600
        for column in ("mean_q", "mean_td_target", "gradient_norm", "learning_rate", "epsilon"):
            assert running.get(f"/api/series?{every}&name=metrics.{column}&smooth=1000").status == 200
        assert first < 8  # 1 s measured; the machine that tests may be busy
        assert memory(running.process) < 300


def test_the_static_files_are_in_the_package() -> None:
    assert (Path(perilune.__file__).parent / "web" / "static" / "index.html").is_file()
