"""The door for other machines of the network: a password, a session, and few tries.

The password is never kept, only its hash by scrypt with a salt of this start. A session is a random number in a cookie
that no script can read and no other site can send; all sessions end with the server.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "portrayal_session"
PATH = "/login"
TRIES, SECONDS = 5, 60.0
"""So many wrong passwords in so many seconds, from all machines together; then nobody is asked for a while."""

SESSION_SECONDS = 12 * 3600
MAX_FORM = 4096

PAGE = """<!doctype html><html lang="{language}"><meta charset="utf-8"><title>Portrayal</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body{{font:1rem/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:1rem}}
form{{display:grid;gap:.75rem;width:min(22rem,100%)}}input,button{{font:inherit;padding:.6rem .8rem;border-radius:.5rem;
border:1px solid #888}}button{{background:#1f5fbf;color:#fff;border:0;cursor:pointer}}p{{color:#b3261e;margin:0}}
@media(prefers-color-scheme:dark){{p{{color:#ff8a80}}}}</style>
<main><form method="post" action="{path}"><h1>Portrayal</h1><label for="password">{ask}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>{wrong}
<button>{enter}</button></form></main></html>"""
WORDS = {
    "en": ("Password of this studio", "Enter", "That is not the password.", "Too many tries. Wait a minute."),
    "ru": ("Пароль этой студии", "Войти", "Пароль неверен.", "Слишком много попыток. Подождите минуту."),
}


@dataclass
class Door:
    """An ASGI application around another that asks for a password first.

    Attributes:
        app: What is behind it.
        password: The password; forgotten at once.
        clock: Seconds.
    """

    app: ASGIApp
    password: str
    clock: Callable[[], float] = time.monotonic
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    sessions: dict[str, float] = field(default_factory=dict)
    failed: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.hash, self.password = self.hashed(self.password), ""

    def hashed(self, password: str) -> bytes:
        """A password as it is compared."""
        return hashlib.scrypt(password.encode(), salt=self.salt, n=2**14, r=8, p=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in who has a session; ask everyone else."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if self.known(scope):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        answer = await self.enter(request) if request.url.path == PATH else self.ask(request)
        await answer(scope, receive, send)

    def known(self, scope: Scope) -> bool:
        """Whether a request has a session that has not ended."""
        name = hashlib.sha256(Request({**scope, "type": "http"}).cookies.get(COOKIE, "").encode()).hexdigest()
        return self.sessions.get(name, 0.0) > self.clock()

    def ask(self, request: Request) -> Response:
        """Send a reader to the page that asks, and refuse everything else."""
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
        return PlainTextResponse("Log in first.", HTTPStatus.UNAUTHORIZED)

    async def enter(self, request: Request) -> Response:
        """Show the form, or look at what was typed."""
        if request.method != "POST":
            return self.page(request)
        now = self.clock()
        while self.failed and self.failed[0] < now - SECONDS:
            self.failed.popleft()
        if len(self.failed) >= TRIES:
            return self.page(request, 3, HTTPStatus.TOO_MANY_REQUESTS)
        self.failed.append(now)  # before it is looked at: many at once are many tries
        typed = parse_qs((await limited_body(request)).decode(errors="replace")).get("password", [""])[0]
        if not hmac.compare_digest(await run_in_threadpool(self.hashed, typed), self.hash):
            return self.page(request, 2, HTTPStatus.FORBIDDEN)
        self.failed.remove(now)
        return self.welcome(request)

    def welcome(self, request: Request) -> Response:
        """Begin a session."""
        name, now = secrets.token_urlsafe(32), self.clock()
        self.sessions = {key: end for key, end in self.sessions.items() if end > now}
        self.sessions[hashlib.sha256(name.encode()).hexdigest()] = now + SESSION_SECONDS
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, name, SESSION_SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    def page(self, request: Request, wrong: int = 0, status: int = HTTPStatus.OK) -> Response:
        """The form, in the reader's language."""
        language = "ru" if request.headers.get("accept-language", "").lower().startswith("ru") else "en"
        words = WORDS[language]
        said = f'<p role="alert">{escape(words[wrong])}</p>' if wrong else ""
        html = PAGE.format(language=language, path=PATH, ask=escape(words[0]), enter=escape(words[1]), wrong=said)
        return HTMLResponse(html, status, {"cache-control": "no-store"})


async def limited_body(request: Request) -> bytes:
    """The first bytes of a form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return b""
    return body
