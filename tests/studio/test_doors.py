"""The studio's server as the network meets it: how much it reads, who comes in, what a cookie is good for."""

from __future__ import annotations

import asyncio
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from portrayal.studio import guard, login
from portrayal.studio.guard import MAX_BODY, MAX_UPLOAD, Guard, limit_of
from portrayal.studio.login import COOKIE, SECONDS, TRIES, Door
from tests.studio.conftest import Clock

PASSWORD = "correct horse"  # nobody's


async def whole(request: Request) -> Response:
    """Reads all that a request brings."""
    return PlainTextResponse(str(len(await request.body())))


async def stubborn(request: Request) -> Response:
    """Takes no refusal: asks for more whatever it is told."""
    received = 0
    for _ in range(10_000):
        with suppress(guard.TooLargeError):
            received += len((await request.receive()).get("body", b""))
    return PlainTextResponse(str(received))


async def careless(request: Request) -> Response:
    """Answers without reading."""
    return PlainTextResponse("seen")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A real server: what it does with bytes nobody reads is its own affair."""
    inner = Starlette(
        routes=[Route(f"/{one.__name__}", one, methods=["GET", "POST"]) for one in (whole, stubborn, careless)]
    )
    door = Door(inner, PASSWORD)

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await (door if scope["path"] == "/login" else inner)(scope, receive, send)

    taken = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Guard(either), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    yield int(taken.getsockname()[1])
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def sent(port: int, path: str, headers: dict[str, str], most: int) -> tuple[bytes, int]:
    """What a request without an end is answered, and how many bytes of it were taken."""
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", *(f"{key}: {text}" for key, text in headers.items())]
    part = b"x" * (1 << 16)
    chunk = b"10000\r\n" + part + b"\r\n" if "transfer-encoding" in headers else part
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        taken = 0
        try:
            while taken < most:
                client.sendall(chunk)
                taken += len(part)
        except OSError:
            pass
        try:
            answer = client.recv(1 << 12)
        except ConnectionError:
            answer = b""  # it was cut off before what was said could be read
        return answer, taken


BRINGING = [{"transfer-encoding": "chunked"}, {"content-length": "99999999999"}]


@pytest.mark.parametrize("bringing", BRINGING, ids=["chunked", "declared"])
@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/whole", {}, 413),
        ("/stubborn", {}, 413),
        ("/login", {}, 403),
        ("/nowhere", {}, 404),
        ("/whole", {"origin": "https://evil.example"}, 403),
        ("/whole/../x", {}, 404),
    ],
)
def test_a_request_without_an_end_is_cut_off(
    port: int, path: str, more: dict[str, str], status: int, bringing: dict[str, str]
) -> None:
    """Whatever it was answered: read through, it would keep the server busy for as long as somebody likes."""
    most = 16 * MAX_BODY
    answer, taken = sent(port, path, bringing | more, most)
    assert taken < most
    if answer:
        said = answer.split(b" ")[1]
        assert said in (str(status).encode(), b"413")
        assert b"connection: close" in answer.lower()


def test_requests_that_end_leave_the_connection_open(port: int) -> None:
    """A page asks many things one after another."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        for body in (b"", b"abc", b"x" * MAX_BODY):
            head = f"POST /whole HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            answer = b""
            while not answer.endswith(str(len(body)).encode()):
                answer += client.recv(1 << 12)
            assert b"200 OK" in answer
            assert b"connection: close" not in answer.lower()


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/gradio_api/upload", MAX_UPLOAD),
        ("/gradio_api/upload/", MAX_UPLOAD),
        ("/gradio_api/run/echo", MAX_BODY),
        ("/gradio_api/queue/join", MAX_BODY),
        ("/gradio_api/uploads", MAX_BODY),
        ("/gradio_api/upload/../run/x", MAX_BODY),
        ("/login", MAX_BODY),
        ("/", MAX_BODY),
    ],
)
def test_only_an_upload_may_be_large(path: str, limit: int) -> None:
    assert limit_of(path) == limit
    assert (MAX_BODY, MAX_UPLOAD) == (4 << 20, 544 << 20)


def test_nothing_is_asked_of_a_request_that_has_brought_too_much() -> None:
    asked: list[int] = []

    async def receive() -> dict[str, Any]:
        asked.append(1)
        return {"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}

    async def reads_on(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(50):
            try:
                await receive()
            except guard.TooLargeError:
                continue

    async def send(message: Any) -> None:
        told.append(message)

    told: list[dict[str, Any]] = []
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"transfer-encoding", b"chunked")]}
    with closing(asyncio.new_event_loop()) as loop:  # not asyncio.run, which forgets the loop that Gradio left open
        loop.run_until_complete(guard.Turn(scope, receive, send, 4 << 20).take(reads_on))
    assert len(asked) == 5
    assert told[0]["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert (b"connection", b"close") in told[0]["headers"]


# The password ----------------------------------------------------------------------------------------------------


@pytest.fixture
def door(clock: Clock) -> Door:
    inner = Starlette(routes=[Route("/", careless)])
    return Door(inner, PASSWORD, clock)


def client_of(door: Door, address: str = "http://192.168.1.7:7860") -> TestClient:
    return TestClient(Guard(door, lan=True, names=frozenset()), base_url=address, follow_redirects=False)


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_a_cookie_is_the_server_s_alone_and_stays_on_its_channel(door: Door, scheme: str, secure: bool) -> None:
    entered = client_of(door, f"{scheme}://192.168.1.7:7860").post("/login", data={"password": PASSWORD})
    (cookie,) = SimpleCookie(entered.headers["set-cookie"]).values()
    assert cookie.key == COOKIE
    assert (bool(cookie["httponly"]), bool(cookie["secure"])) == (True, secure)
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("strict", "/", "")
    assert int(cookie["max-age"]) == login.SESSION_SECONDS == 12 * 3600


def test_neither_password_nor_session_lies_in_memory_as_it_is(door: Door) -> None:
    entered = client_of(door).post("/login", data={"password": PASSWORD})
    cookie = SimpleCookie(entered.headers["set-cookie"])[COOKIE].value
    assert PASSWORD not in repr(vars(door))
    assert cookie not in repr(vars(door))
    assert Door(door.app, PASSWORD).hash != door.hash  # salted


def test_passwords_are_compared_in_the_same_time_whatever_they_are(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library's own comparison, of hashes: nothing is learned from how soon it answers."""
    compared: list[bool] = []
    whole_comparison = hmac.compare_digest

    def seen(one: bytes, other: bytes) -> bool:
        compared.append(len(one) == len(other) == 64)
        return whole_comparison(one, other)

    monkeypatch.setattr(login.hmac, "compare_digest", seen)
    client = client_of(door)
    codes = [client.post("/login", data={"password": typed}).status_code for typed in ("", "correct", PASSWORD)]
    assert codes == [403, 403, 303]
    assert compared == [True] * 3


def test_guesses_made_at_once_are_as_many_as_they_are(door: Door) -> None:
    """Each counts before its password is looked at."""
    started = time.monotonic()
    slow: Callable[[str], bytes] = door.hashed

    def hashed(password: str) -> bytes:
        time.sleep(0.2)
        return slow(password)

    door.hashed = hashed  # type: ignore[method-assign]
    codes: list[int] = []

    def guess(number: int) -> None:
        codes.append(client_of(door).post("/login", data={"password": f"guess {number}"}).status_code)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(TRIES + 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [403] * TRIES + [429] * 3
    assert time.monotonic() - started < SECONDS


def test_who_enters_is_not_counted_among_those_who_guess(door: Door, clock: Clock) -> None:
    for _ in range(TRIES + 1):
        assert client_of(door).post("/login", data={"password": PASSWORD}).status_code == 303
    assert len(door.sessions) == TRIES + 1
    clock.now += login.SESSION_SECONDS + 1
    client_of(door).post("/login", data={"password": PASSWORD})
    assert len(door.sessions) == 1  # those that have ended are forgotten


def test_the_limit_holds_for_the_last_minute_and_no_longer(door: Door, clock: Clock) -> None:
    client = client_of(door)
    for _ in range(TRIES):
        client.post("/login", data={"password": "guess"})
    clock.now += SECONDS - 1
    assert client.post("/login", data={"password": PASSWORD}).status_code == 429
    clock.now += 2
    assert client.post("/login", data={"password": PASSWORD}).status_code == 303
