"""What other sites, other raters and odd clients try."""

import json
import secrets
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
from playwright.sync_api import expect

from pilothouse.feedback.config import PageConfig
from pilothouse.feedback.store import claims
from pilothouse.feedback.store.claims import Held
from pilothouse.feedback.web.guard import HEADERS, known_host

from .examples import tasks
from .running import Running

ADMIN_PAGES = (
    "/admin",
    "/admin/agreement",
    "/admin/bias",
    "/admin/raters",
    "/admin/invites",
    "/admin/events",
    "/admin/queue/quality",
    "/admin/task/task-0",
    "/admin/task?id=task-0",
)
POSTS = (
    "/logout",
    "/api/submit",
    "/api/next",
    "/api/undo",
    "/api/renew",
    "/rank/quality",
    "/admin/queue/quality",
    "/admin/task/task-0",
    "/admin/raters/somebody",
    "/admin/invites",
)


def claim(site: Running, rater: str) -> Held:
    return site.database.write_now(
        claims.claim, queue="quality", rater=rater, lease_seconds=900, now=site.now()
    )


def ranking(held: Held) -> dict[str, object]:
    return {"id": secrets.token_hex(16), "assignment": held.id, "ranks": [1, 2, 3, 4]}


@pytest.fixture
def rater(site: Running) -> str:
    site.fill(tasks(4))
    return site.add_person("Ada")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "forged",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": ""},
    ],
)
def test_no_other_site_can_post_even_with_a_token(
    site: Running, rater: str, path: str, forged: dict[str, str]
) -> None:
    client = site.client(site.add_person("admin", admin=True))
    token = client.token()
    answer = client.post(path, data={"token": token}, headers={"x-form-token": token, **forged})
    assert answer.status_code == 403
    assert client.get("/help").status_code == 200


@pytest.mark.parametrize("path", POSTS)
def test_a_post_without_the_sessions_own_token_is_refused(site: Running, rater: str, path: str) -> None:
    admin = site.add_person("admin", admin=True)
    client = site.client(admin)
    others = site.client(admin).token()  # of the same person, in another browser
    for token in ("", "0" * 64, others, "\u00e9"):
        answer = client.post(path, data={"token": token})
        assert answer.status_code == 403, token
    assert client.post(path, headers={"x-form-token": others}, json={}).status_code == 403
    assert client.get("/help").status_code == 200


@pytest.mark.parametrize("path", ["/login", "/invite"])
def test_nobody_is_logged_in_from_another_site(site: Running, path: str) -> None:
    client = site.client()
    token = client.token(path)
    fields = {"token": token, "name": "Eve", "password": "x"}
    assert client.post(path, data=fields, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post(path, data={**fields, "token": "0" * 64}).status_code == 403
    client.cookies.clear()
    assert client.post(path, data=fields).status_code == 403


@pytest.fixture
def evil_site(site: Running) -> Iterator[str]:
    """Another site, whose pages post to ours by form and by script."""
    page = f"""<!doctype html><form id=f method=post action="{site.url}/logout"><input name=token value=x></form>
    <img src="{site.url}/help"><script>
    fetch("{site.url}/api/next", {{method: "POST", credentials: "include", mode: "no-cors",
      headers: {{"content-type": "text/plain"}}, body: '{{"name": "quality"}}'}});
    setTimeout(() => f.submit(), 300);
    </script>"""

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Evil)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_site_in_the_same_browser_changes_nothing(
    site: Running, enter, rater: str, evil_site: str
) -> None:
    page = enter(rater)
    page.goto("/help")
    attack = page.context.new_page()
    attack.goto(evil_site)
    expect(attack.locator("h1")).to_have_text("You are logged out")  # our cookie did not go with it
    page.reload()
    expect(page.locator("h1")).to_have_text("Help")
    assert site.stored(rater) == []


def test_another_site_cannot_frame_the_page(site: Running, enter, rater: str, evil_site: str) -> None:
    page = enter(rater)
    page.goto(evil_site.replace("localhost", "127.0.0.1"))
    page.goto("about:blank")
    page.set_content(f'<iframe src="{site.url}/help"></iframe>')
    frame = page.frames[-1]
    frame.wait_for_load_state()
    assert "Ranking" not in frame.content()


@pytest.mark.parametrize("path", ADMIN_PAGES)
def test_raters_see_no_admin_page(site: Running, rater: str, path: str) -> None:
    assert site.client(rater).get(path).status_code == 403
    assert site.client().get(path).headers["location"] == "/login"
    assert site.client(site.add_person(admin=True)).get(path, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("path", [path for path in POSTS if path.startswith("/admin")])
def test_raters_do_nothing_that_admins_do(site: Running, rater: str, path: str) -> None:
    client = site.client(rater)
    for fields in ({"act": "veto"}, {"act": "excluded"}, {"act": "erase", "sure": "yes"}, {"paused": "yes"}):
        assert client.send(path, of="/help", **fields).status_code == 403


def test_raters_reach_nothing_of_each_other(site: Running, rater: str) -> None:
    eve = site.client(site.add_person("Eve"))
    held = claim(site, rater)
    assert eve.call("/api/submit", **ranking(held)).status_code == 404
    assert eve.call("/api/renew", name=held.id).status_code == 404
    form = {"id": secrets.token_hex(16), "assignment": held.id} | {f"rank-{place}": "1" for place in range(4)}
    assert eve.send("/rank/quality", of="/help", **form).status_code == 404

    mine = ranking(held)
    assert site.client(rater).call("/api/submit", **mine).status_code == 200
    assert eve.call("/api/undo", name=mine["id"]).status_code == 404
    assert len(site.stored(rater)) == 1


def test_a_submission_id_of_another_rater_tells_and_changes_nothing(site: Running, rater: str) -> None:
    mine = ranking(claim(site, rater))
    site.client(rater).call("/api/submit", **mine)
    eve_id = site.add_person("Eve")
    theirs = {**ranking(claim(site, eve_id)), "id": mine["id"]}
    assert site.client(eve_id).call("/api/submit", **theirs).status_code == 409
    assert site.stored(eve_id) == []
    assert len(site.stored(rater)) == 1


def test_a_rater_who_was_shut_out_is_out_at_once(site: Running, rater: str) -> None:
    client = site.client(rater)
    admin = site.client(site.add_person(admin=True))
    assert client.get("/").status_code == 200
    assert admin.send(f"/admin/raters/{rater}", of="/help", act="disabled").status_code == 303
    assert client.get("/").status_code == 303
    assert client.post("/api/next", json={"name": "quality"}).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"name": 1}',
        b'{"name": "quality", "more": 1}',
        b'{"name": "' + b"x" * 100 + b'"}',
        b"[" * 10_000,
        b"\xff\xfe",
    ],
)
def test_malformed_json_is_refused_with_a_reason(site: Running, rater: str, body: bytes) -> None:
    client = site.client(rater)
    headers = {"content-type": "application/json", "x-form-token": client.token()}
    for path in ("/api/next", "/api/submit", "/api/undo", "/api/renew"):
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranks": [1, 2, 3]},
        {"ranks": [0, 1, 2, 3]},
        {"ranks": [1, 2, 3, 2**70]},
        {"ranks": [1, 2, 3, 4], "text": "both"},
        {"ranks": None},
        {"ranks": [1, 2, 3, 4], "unsafe": [9]},
        {"ranks": [1, 2, 3, 4], "comment": "\0"},
        {"ranks": [1, 2, 3, 4], "comment": "\ud800"},
        {"ranks": [1, 2, 3, 4], "comment": "x" * 40_000},
        {"ranks": [1, 2, 3, 4], "corrections": [{"place": 0, "text": " "}]},
        {"ranks": [1, 2, 3, 4], "seconds": -1},
        {"ranks": [1, 2, 3, 4], "id": "short"},
        {"ranks": [1, 2, 3, 4], "id": "../../../etc/passwd"},
        {"ranks": None, "reason": "bored"},
        {"ranks": None, "text": "no ranking"},
    ],
)
def test_a_submission_that_is_none_is_refused_and_can_be_mended(
    site: Running, rater: str, wrong: dict[str, object]
) -> None:
    client = site.client(rater)
    good = ranking(claim(site, rater))
    answer = client.post(
        "/api/submit",
        content=json.dumps({**good, **wrong}).encode("ascii"),
        headers={"content-type": "application/json", "x-form-token": client.token()},
    )
    assert answer.status_code == 400
    assert client.call("/api/submit", **good).status_code == 200
    assert len(site.stored(rater)) == 1


def test_forms_that_are_none_are_refused(site: Running, rater: str) -> None:
    client = site.client(rater)
    token = client.token()
    form = {"content-type": "application/x-www-form-urlencoded"}
    many = "&".join(f"a{number}=1" for number in range(1000))
    for body in (f"token={token}&{many}", "%ff=%ff", "\u00e9".encode(), "no pairs"):
        answer = client.post("/rank/quality", content=body, headers={**form, "x-form-token": token})
        assert answer.status_code == 400
    upload = client.post("/rank/quality", files={"token": b"x"}, headers={"x-form-token": token})
    assert upload.status_code == 400


def test_large_bodies_are_refused_declared_or_not(site: Running, rater: str) -> None:
    client = site.client(rater)
    headers = {"content-type": "application/json", "x-form-token": client.token()}
    large = b" " * 10_000_000
    assert client.post("/api/next", content=large, headers=headers).status_code == 413
    pieces = (large[:100_000] for _ in range(100))
    assert client.post("/api/next", content=pieces, headers=headers).status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_post_are_taken(site: Running, method: str) -> None:
    assert httpx.request(method, f"{site.url}/login").status_code == 405


def test_only_names_of_this_server_are_answered(site: Running) -> None:
    for host in ("evil.example", f"evil.example:{site.port}", "", "localhost.evil.example", "[::1"):
        with socket.create_connection(("127.0.0.1", site.port)) as raw:
            raw.sendall(f"GET /login HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            assert raw.recv(100).split(b" ")[1] in (b"421", b"400"), host


@pytest.mark.parametrize(
    ("host", "address", "known"),
    [
        ("localhost:8000", "", True),
        ("127.0.0.1", "", True),
        ("[::1]:80", "", True),
        ("192.0.2.7:8000", "", True),
        ("192.0.2.7:8000", "https://rank.example.org", False),
        ("rank.example.org", "https://rank.example.org", True),
        ("RANK.example.org", "https://rank.example.org/", True),
        ("rank.example.org:444", "https://rank.example.org", False),
        ("rank.example.org", "", False),
        ("evil.example", "https://rank.example.org", False),
        ("", "", False),
        ("[", "", False),
    ],
)
def test_a_host_is_known_by_the_configured_address_or_as_loopback(
    host: str, address: str, known: bool
) -> None:
    assert known_host(host, PageConfig(address=address)) is known


def test_every_answer_says_what_browsers_may_do(site: Running, rater: str, monkeypatch) -> None:
    client = site.client(rater)
    for path in ("/login", "/", "/rank/quality", "/nothing", "/admin", "/api/next", "/static/x/no.css"):
        for name, value in HEADERS.items():
            assert client.get(path).headers[name] == value, path
    script = client.get(site.app.state.site.templates.globals["static"]("rank.js"))
    assert script.headers["cache-control"].endswith("immutable")
    assert script.headers["x-content-type-options"] == "nosniff"

    monkeypatch.setattr(site.app.state.site.passwords, "matches", None)  # a fault of ours
    broken = client.send("/login", name="a", password="b")
    assert broken.status_code == 500
    assert "Something broke" in broken.text
    assert broken.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_no_address_leads_out_of_the_site(site: Running, rater: str) -> None:
    client = site.client(rater)
    for path in (
        "/static/x/../../app.py",
        "/static/x/%2e%2e%2fapp.py",
        "//evil.example/",
        "/rank/..%2fadmin",
    ):
        answer = client.get(path)
        assert answer.status_code in (403, 404), path
        assert "location" not in answer.headers
