"""Who is answered: only pages of this server's own, and whoever asks to read."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
READING = ("GET", "HEAD")


class Guard:
    """Stands before an application. What asks by another name than ours, or for another site, is refused.

    A site whose name somebody points at this machine (DNS rebinding) is told apart by that name, in Host.

    Args:
        app: what is guarded.
        host: the address that is listened to.
        port: and its port.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app, self._port = app, port
        self._names = {"localhost", "127.0.0.1", "[::1]", _bracketed(host.lower())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, send_guarded)
            return
        status, words = refused
        headers = {"Allow": ", ".join(READING)} if status == 405 else {}
        await JSONResponse({"error": words}, status, headers)(scope, receive, send_guarded)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words where it is not to be answered."""
        hosts, origins = ([value.decode("latin-1").lower() for name, value in scope["headers"] if name == wanted]
                          for wanted in (b"host", b"origin"))  # fmt: skip
        # What listens to every address is known by the one that was called.
        names = self._names | {_bracketed(str((scope.get("server") or ("localhost",))[0]))}
        known = {f"{name}{port}" for name in names for port in ("", f":{self._port}")}
        if len(hosts) != 1 or hosts[0] not in known:
            return 403, f"this server answers to {', '.join(sorted(names))} at port {self._port}, and to no other name"
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return 403, "this server answers its own pages only, not those of other sites"
        if scope["method"] not in READING:
            return 405, "this server can only be read from"
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
