"""What may come in: no other site's requests, no other name, nothing too large; nothing of the disk goes out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import pytest
from starlette.testclient import TestClient

from portrayal.studio.guard import MAX_BODY, MAX_UPLOAD, Guard
from portrayal.studio.login import COOKIE, SESSION_SECONDS, TRIES, Door
from portrayal.studio.opening import prepare_folder
from portrayal.studio.projects import Project, Projects
from portrayal.studio.server import make_app
from tests.studio.conftest import Clock, loops_of_gradio

HOME = "http://127.0.0.1:7860"


def page() -> gr.Blocks:
    """A page with something to call."""
    with gr.Blocks() as blocks:
        text = gr.Textbox()
        text.submit(lambda value: value, text, text, api_name="echo")
    return blocks


@pytest.fixture(scope="module")
def made_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of this module: making a page takes a second."""
    return tmp_path_factory.mktemp("guarded") / "studio"


@pytest.fixture(scope="module")
def app(made_in: Path) -> Guard:
    prepare_folder(made_in)
    with loops_of_gradio():
        return make_app(made_in, page())


@pytest.fixture
def client(app: Guard) -> TestClient:
    return TestClient(app, base_url=HOME, raise_server_exceptions=False)


@pytest.fixture
def projects(made_in: Path) -> Iterator[Projects]:
    """The folder's projects; gone when the test ends."""
    found = Projects(made_in)
    yield found
    for project in found.all():
        found.delete(project.name)
    for path in made_in.glob("*"):
        if path.is_symlink():
            path.unlink()


# Whose request it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.1.7", "", "a b"]
)
def test_another_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    """A site whose name suddenly leads to 127.0.0.1 would otherwise be read as one's own page."""
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"])
def test_this_machine_s_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/component_server", "/"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:7860"])
def test_another_site_cannot_post(client: TestClient, path: str, origin: str) -> None:
    refused = client.post(path, json={}, headers={"origin": origin})
    assert refused.status_code == 403
    assert "other sites" in refused.text


def test_another_site_cannot_take_pictures_and_may_link_here(client: TestClient) -> None:
    taken = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=taken).status_code == 403
    assert client.get("/", headers=framed).status_code == 403
    assert client.get("/", headers=linked).status_code == 200
    assert client.post("/", headers=linked).status_code == 403


def test_its_own_page_may_call(client: TestClient) -> None:
    own = {"origin": HOME, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    called = client.post("/gradio_api/run/echo", json={"data": ["seen"]}, headers=own)
    assert called.status_code == 200
    assert called.json()["data"] == ["seen"]


def test_every_answer_says_what_may_be_loaded(client: TestClient) -> None:
    for path in ("/", "/files/nobody/x.png", "/theme.css"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "http" not in client.get("/").headers["content-security-policy"]


# How much --------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_by_its_header_and_by_its_bytes(client: TestClient) -> None:
    assert (
        client.post("/gradio_api/run/echo", content=b"x", headers={"content-length": str(MAX_BODY + 1)}).status_code
        == 413
    )
    assert (
        client.post("/gradio_api/upload", content=b"x", headers={"content-length": str(MAX_UPLOAD + 1)}).status_code
        == 413
    )
    assert client.post("/gradio_api/run/echo", content=b"x", headers={"content-length": "many"}).status_code == 413
    part = b"x" * 65536

    def without_end() -> object:
        yield from (part for _ in range(MAX_BODY // len(part) + 2))

    assert client.post("/gradio_api/run/echo", content=without_end()).status_code == 413


# What goes out ---------------------------------------------------------------------------------------------------

OUTSIDE = [
    "../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%5c..%5cetc%5cpasswd",
    "....//....//etc/passwd",
    "%2fetc%2fpasswd",
    "images/%2e%2e/%2e%2e/other/photos/secret.png",
    "images/base/street/0.png%00.txt",
    ".hidden.png",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_a_project(client: TestClient, finished: Project, projects: Projects, path: str) -> None:
    other = projects.create("other")
    other.photos_folder.mkdir()
    (other.photos_folder / "secret.png").write_bytes(b"secret")
    answer = client.get(f"/files/{finished.name}/{path}")
    assert answer.status_code in (400, 403, 404)
    assert b"secret" not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "path",
    [
        "run.json",
        "config.toml",
        "models/unet/method.json",
        "events.jsonl",
        "scores.json",
        "encoded",
        "images",
        "votes.json",
    ],
)
def test_what_is_no_picture_stays(client: TestClient, finished: Project, path: str) -> None:
    assert client.get(f"/files/{finished.name}/{path}").status_code == 404


@pytest.mark.parametrize("name", ["..", ".", ".studio", "%2e%2e", "made/..", "nobody", "", "a" * 300, "\u202emade"])
def test_no_name_leads_to_another_folder(client: TestClient, finished: Project, name: str) -> None:
    assert client.get(f"/files/{name}/images/base/street/0.png").status_code in (404, 421)


def test_links_out_of_a_project_are_not_followed(client: TestClient, finished: Project, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((finished.run_folder / "images" / "base" / "street" / "0.png").read_bytes())
    (finished.folder / "images" / "link.png").symlink_to(secret)
    (finished.folder / "images" / "folder").symlink_to(tmp_path)
    assert client.get(f"/files/{finished.name}/images/link.png").status_code == 404
    assert client.get(f"/files/{finished.name}/images/folder/secret.png").status_code == 404
    (finished.root / "linked").symlink_to(tmp_path)
    assert client.get("/files/linked/secret.png").status_code == 404


def test_pictures_reports_and_exports_are_served(client: TestClient, finished: Project) -> None:
    (finished.folder / "exports").mkdir()
    (finished.folder / "exports" / "a.safetensors").write_bytes(b"weights")
    whole = client.get("/files/made/images/base/street/0.png")
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["cache-control"] == "private, no-cache"
    assert client.get("/files/made/images/base/street/0.png?v=1").headers["cache-control"].endswith("immutable")
    again = client.get("/files/made/images/base/street/0.png", headers={"if-none-match": whole.headers["etag"]})
    assert again.status_code == 304
    small = client.get("/files/made/images/base/street/0.png?w=64")
    assert small.headers["content-type"] == "image/webp"
    assert len(small.content) < len(whole.content)
    report = client.get("/files/made/report.html?download")
    assert report.headers["content-disposition"].startswith("attachment")
    assert "default-src 'none'" in report.headers["content-security-policy"]
    exported = client.get("/files/made/exports/a.safetensors")
    assert exported.content == b"weights"
    assert exported.headers["content-disposition"].startswith("attachment")
    drawing = client.get("/files/made/report/chart-identity.svg")
    assert "sandbox" in drawing.headers["content-security-policy"]
    for width in ("-1", "1e9", "x", "9" * 400):
        assert client.get(f"/files/made/images/base/street/0.png?w={quote(width)}").status_code == 404


def test_gradio_s_own_door_opens_to_nothing_else(client: TestClient, finished: Project, tmp_path: Path) -> None:
    """Its file route, its proxy, and its upload with a name that leads elsewhere."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    picture = finished.run_folder / "images" / "base" / "street" / "0.png"
    here = Path(__file__)
    for path in (
        secret,
        picture,
        here,
        Path("/etc/passwd"),
        finished.run_folder / "run.json",
        "http://example.com/x.png",
    ):
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/"):
            answer = client.get(f"{route}{path}", follow_redirects=False)
            assert answer.status_code in (403, 404), (route, path, answer.status_code)
    assert client.get("/gradio_api/proxy=https://evil.hf.space/x").status_code == 404
    named = ("../../../../planted.txt", b"planted", "text/plain")
    answer = client.post("/gradio_api/upload", files={"files": named})
    assert answer.status_code == 200
    (path,) = answer.json()
    assert Path(path).resolve().is_relative_to(finished.root / ".studio" / "gradio")
    assert not list(tmp_path.glob("planted.txt"))


def test_uploads_and_logs_are_nobody_else_s(app: Guard, projects: Projects) -> None:
    assert (projects.root / ".studio").stat().st_mode & 0o077 == 0
    assert os.environ["GRADIO_TEMP_DIR"].startswith(str(projects.root))


# The password ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(app: Guard, clock: Clock) -> TestClient:
    """The studio as other machines see it."""
    lan = Guard(Door(app.app, "correct horse", clock), lan=True)
    return TestClient(lan, base_url="http://192.168.1.7:7860", follow_redirects=False)


def enter(client: TestClient, password: str) -> int:
    return client.post("/login", data={"password": password}).status_code


def test_nobody_comes_in_without_the_password(shared: TestClient, finished: Project) -> None:
    asked = shared.get("/", headers={"accept": "text/html"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/login")
    for path in ("/", "/config", "/gradio_api/info", "/files/made/images/base/street/0.png", "/theme.css", "/login/x"):
        assert shared.get(path).status_code == 401
    assert shared.post("/gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401
    with pytest.raises(Exception), shared.websocket_connect("/gradio_api/queue/join"):  # noqa: B017,PT011
        pass
    form = shared.get("/login", headers={"accept-language": "ru-RU,ru"})
    assert 'lang="ru"' in form.text
    assert "password" in form.text


def test_the_right_password_begins_a_session(shared: TestClient, clock: Clock) -> None:
    assert enter(shared, "wrong horse") == 403
    entered = shared.post("/login", data={"password": "correct horse"})
    assert entered.status_code == 303
    cookie = SimpleCookie(entered.headers["set-cookie"])[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert len(cookie.value) > 30
    assert shared.get("/").status_code == 200
    shared.cookies.set(COOKIE, "x" * 43, domain="192.168.1.7")
    shared.cookies.clear()
    assert shared.get("/", headers={"cookie": f"{COOKIE}=guessed"}).status_code == 401
    assert shared.get("/", headers={"cookie": f"{COOKIE}={cookie.value}"}).status_code == 200
    clock.now += SESSION_SECONDS + 1
    assert shared.get("/", headers={"cookie": f"{COOKIE}={cookie.value}"}).status_code == 401


def test_guessing_is_slow(shared: TestClient, clock: Clock) -> None:
    assert [enter(shared, f"guess {number}") for number in range(TRIES)] == [403] * TRIES
    assert enter(shared, "correct horse") == 429
    clock.now += 61
    assert enter(shared, "correct horse") == 303


def test_a_password_is_compared_whole(shared: TestClient) -> None:
    for almost in ("", "correct hors", "correct horse ", "Correct horse", "correct horse" + "x" * 5000):
        assert enter(shared, almost) == 403


def test_another_site_s_form_cannot_log_in(shared: TestClient) -> None:
    posted = shared.post("/login", data={"password": "correct horse"}, headers={"origin": "https://evil.example"})
    assert posted.status_code == 403
    assert "set-cookie" not in posted.headers


def test_the_network_reaches_it_by_address_and_not_by_a_stranger_s_name(shared: TestClient) -> None:
    assert shared.get("/login", headers={"host": "evil.example"}).status_code == 421
    assert shared.get("/login", headers={"host": "10.0.0.3:7860"}).status_code == 200
