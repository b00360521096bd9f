"""What stands before every request: whose page it is, how much it may bring, what its answer may load.

A page of another site that a browser has open must not reach this one: not by a form or a script (`Origin`,
`Sec-Fetch-Site`), and not by a name of its own that leads here (`Host`: DNS rebinding). Nothing of the machine's disk
is served but what :mod:`portrayal.studio.serve` allows.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 544 << 20
"""Bytes of a request that brings files: an archive of the largest size, and what the browser puts around it."""

MAX_BODY = 4 << 20
"""Bytes of any other request."""

UPLOADS = "/gradio_api/upload"
CLOSED = ("/gradio_api/proxy=", "/proxy=", "/gradio_api/vibe-", "/gradio_api/dev/", "/gradio_api/run-history")
"""Doors of Gradio's that nothing here needs: they fetch from other hosts, or change code."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from another host. Gradio makes its page by inline scripts and `new Function`."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
}
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class TooLargeError(Exception):
    """A request brings more than it may."""


@dataclass
class Guard:
    """An ASGI application around another.

    Attributes:
        app: What is guarded.
        lan: Whether other machines may come: by an address, or by this machine's name.
        names: Names of this machine, besides.
    """

    app: ASGIApp
    lan: bool = False
    names: frozenset[str] = field(default_factory=lambda: frozenset(machine_names()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self.refusal(scope)
        if refused is not None:
            status, reason = refused
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await PlainTextResponse(reason, status, closing(scope))(scope, receive, with_headers(send))
            return
        await Turn(scope, receive, with_headers(send), limit_of(scope["path"])).take(self.app)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, where a request is to be refused."""
        headers, method = Headers(scope=scope), scope.get("method", "GET")
        host = headers.get("host", "")
        if not self.known(host):
            return HTTPStatus.MISDIRECTED_REQUEST, "This address is not served here."
        origin = headers.get("origin")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc.lower() != host.lower()):
            return HTTPStatus.FORBIDDEN, "Requests from other sites are refused."
        site = headers.get("sec-fetch-site", "same-origin")
        link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        if site not in ("same-origin", "none") and not (link and method in SAFE and scope["type"] == "http"):
            return HTTPStatus.FORBIDDEN, "Requests from other sites are refused."
        path = unquote(scope["path"])
        if any(door in path for door in CLOSED) or "\\" in path or "\0" in path or ".." in path.split("/"):
            return HTTPStatus.NOT_FOUND, "There is nothing here."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit_of(path):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This request is too large."
        return None

    def known(self, host: str) -> bool:
        """Whether a `Host` is this machine: by no name that somebody else could have pointed here."""
        name = urlsplit(f"//{host}").hostname or "" if host.isprintable() else ""
        if name == "localhost" or name in self.names:
            return name == "localhost" or self.lan
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.lan or address.is_loopback


def machine_names() -> Iterable[str]:
    """What this machine is called in its network."""
    name = socket.gethostname().lower()
    return (name, f"{name.split('.')[0]}.local") if name else ()


def limit_of(path: str) -> int:
    """Bytes that a request to a path may bring."""
    return MAX_UPLOAD if path.rstrip("/") == UPLOADS else MAX_BODY


@dataclass
class Turn:
    """One request that may bring so many bytes, whatever its header said.

    Attributes:
        scope: Of ASGI.
        receive: Of ASGI.
        send: Of ASGI.
        limit: Bytes.
        received: Bytes so far.
        ended: Whether all of it has arrived.
        began: Whether an answer has begun.
    """

    scope: Scope
    receive: Receive
    send: Send
    limit: int
    received: int = 0
    ended: bool = False
    began: bool = False

    async def take(self, app: ASGIApp) -> None:
        """Have it answered; if it brings too much, by that alone."""
        with suppress(TooLargeError):
            await app(self.scope, self.counted, self.answered)
        if self.received > self.limit and not self.began:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            answer = PlainTextResponse("This request is too large.", status, closing(self.scope))
            await answer(self.scope, self.receive, self.send)

    async def counted(self) -> Message:
        """The next part of the request; of one that has brought too much, no more is asked for."""
        if self.received > self.limit:
            raise TooLargeError
        message = await self.receive()
        self.received += len(message.get("body", b""))
        self.ended = self.ended or not message.get("more_body", False)
        if self.received > self.limit:
            raise TooLargeError
        return message

    async def answered(self, message: Message) -> None:
        """The next part of the answer; what is said of a torn request is not passed on."""
        if self.received <= self.limit or self.began:
            self.began = self.began or message["type"] != "http.response.debug"
            if message["type"] == "http.response.start" and not self.ended:
                MutableHeaders(scope=message).update(closing(self.scope))
            await self.send(message)


def closing(scope: Scope) -> dict[str, str]:
    """Headers of an answer to a request that may have more to bring: the server would read it all, without an end."""
    headers = Headers(scope=scope)
    brings = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return {"connection": "close"} if brings and scope["type"] == "http" else {}


def with_headers(send: Send) -> Send:
    """Add to every answer what a browser must know; an answer may have a stricter policy of its own."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent
