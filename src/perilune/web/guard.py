"""Refuse requests that do not come from this server's page, and set security headers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
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
METHODS = ("GET", "HEAD")
OWN_SITES = ("same-origin", "none")  # "none": the user entered the address. Another port is "same-site".


class Guard:
    """Middleware that passes on only GET and HEAD requests with the Host of this server, from its own page.

    Checking Host prevents DNS rebinding, in which a foreign domain name resolves to this machine. Browsers send Origin
    only with some requests: not with those of images, scripts, frames and links. Sec-Fetch-Site describes the sender of
    every request to HTTPS or to this machine, and a page cannot change it (https://www.w3.org/TR/fetch-metadata/).
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app, self._port = app, port
        self._hosts = {"localhost", "127.0.0.1", "[::1]", in_url(host.lower())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        response = self._refusal(scope) or self._app
        await response(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Return the error response if the request is refused, else None."""
        headers = Headers(scope=scope)
        hosts, origins = ([value.lower() for value in headers.getlist(name)] for name in ("host", "origin"))
        # A server that listens on all addresses also accepts the address that the client connected to.
        names = self._hosts | {in_url(str((scope.get("server") or ("localhost",))[0]))}
        allowed = {f"{name}{port}" for name in names for port in ("", f":{self._port}")}
        if len(hosts) != 1 or hosts[0] not in allowed:
            return _refuse(
                403, f"This server accepts only requests to {', '.join(sorted(names))} on port {self._port}."
            )
        is_foreign = any(site not in OWN_SITES for site in headers.getlist("sec-fetch-site"))
        if any(origin != f"http://{hosts[0]}" for origin in origins) or (
            is_foreign and not _opens_page(scope, headers)
        ):
            return _refuse(403, "This server accepts only requests from its own page, not from other sites.")
        if scope["method"] not in METHODS:
            return _refuse(405, "This server is read-only: use GET or HEAD.", {"Allow": ", ".join(METHODS)})
        return None


def _opens_page(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser follows a link to the page, in a tab of its own. Any site may link to the page."""
    sent = [headers.getlist(f"sec-fetch-{name}") for name in ("mode", "dest")]
    return scope["path"] == "/" and sent == [["navigate"], ["document"]]


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)


def in_url(host: str) -> str:
    """Return ``host`` in the form that URLs use, with brackets around an IPv6 address."""
    return f"[{host}]" if ":" in host else host
