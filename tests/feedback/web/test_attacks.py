"""Scripted attacks on the page: forged requests, foreign sessions, other people's work."""

import uuid

import httpx
import pytest

from pilothouse.feedback.store import people
from pilothouse.feedback.tables import RaterState

from .examples import tasks
from .running import PASSWORD, Client, Running

SOMEBODY, SOMEBODY_ELSE = "Ada", "Mallory"


@pytest.fixture
def ada(site: Running) -> str:
    site.fill(tasks(6), overlap=2)
    return site.add_person(SOMEBODY)


def held(client: Client) -> str:
    """Claims a task and returns the assignment."""
    answer = client.call("/api/next", name="quality").json()
    found: str = answer["task"]["assignment"]
    return found


def ranking(assignment: str) -> dict[str, object]:
    return {"id": uuid.uuid4().hex, "assignment": assignment, "ranks": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
def test_a_post_from_another_site_changes_nothing(site: Running, ada: str, headers: dict[str, str]) -> None:
    """With a stolen token too: the origin alone decides."""
    client = site.client(ada)
    body, token = ranking(held(client)), client.token()
    answer = client.post("/api/submit", json=body, headers={"x-form-token": token, **headers})
    assert answer.status_code == 403
    form = client.post("/logout", data={"token": token}, headers=headers)
    assert form.status_code == 403
    assert site.stored(ada) == []
    assert client.get("/").status_code == 200


def test_a_post_without_an_origin_or_a_token_changes_nothing(site: Running, ada: str) -> None:
    client = site.client(ada)
    body = ranking(held(client))
    del client.headers["origin"]
    assert client.post("/api/submit", json=body, headers={"x-form-token": client.token()}).status_code == 403
    client.headers["origin"] = site.url
    for token in ("", "0" * 64, site.client(site.add_person(SOMEBODY_ELSE)).token()):
        answer = client.post("/api/submit", json=body, headers={"x-form-token": token})
        assert answer.status_code == 403
    assert client.post("/api/submit", json=body).status_code in (400, 403)
    assert site.stored(ada) == []


def test_a_simple_request_that_needs_no_preflight_is_refused(site: Running, ada: str) -> None:
    """A form of another site can send text/plain that reads like JSON."""
    client = site.client(ada)
    body = str(ranking(held(client))).replace("'", '"')
    for kind in ("text/plain", "multipart/form-data; boundary=x"):
        answer = client.post(
            "/api/submit", content=body, headers={"content-type": kind, "x-form-token": client.token()}
        )
        assert answer.status_code == 400
    assert site.stored(ada) == []


def test_a_session_that_was_planted_before_the_login_is_worthless_after(site: Running) -> None:
    site.add_person(SOMEBODY)
    planted = "planted-by-an-attacker-" + "x" * 20
    victim = site.client(session=planted)
    answer = victim.submit("/login", name=SOMEBODY, password=PASSWORD)
    assert answer.status_code in (302, 303)
    assert victim.cookies.get("session", domain="127.0.0.1") != planted
    attacker = site.client(session=planted)
    assert attacker.get("/").status_code == 303
    assert attacker.get("/").headers["location"] == "/login"


def test_a_session_ends_with_the_logout_the_time_and_the_exclusion(site: Running, ada: str) -> None:
    client = site.client(ada)
    secret = client.cookies["session"]
    assert client.submit("/logout", of="/help").status_code == 303
    assert site.client(session=secret).get("/").status_code == 303
    late = site.client(ada)
    site.later_seconds += site.config.page.idle_minutes * 60 + 1
    assert late.get("/").status_code == 303
    barred = site.client(ada)
    assert barred.get("/").status_code == 200
    site.database.write_now(people.set_state, ada, RaterState.DISABLED, actor="", now=site.now())
    assert barred.get("/").status_code == 303


def test_nobody_answers_renews_or_undoes_for_somebody_else(site: Running, ada: str) -> None:
    client, other = site.client(ada), site.client(site.add_person(SOMEBODY_ELSE))
    assignment = held(client)
    stolen = ranking(assignment)
    assert other.call("/api/submit", **stolen).status_code == 404
    assert other.call("/api/renew", name=assignment).status_code == 404
    assert client.call("/api/submit", **stolen).status_code == 200
    assert other.call("/api/undo", name=str(stolen["id"])).status_code == 404
    assert len(site.stored(ada)) == 1


def test_a_rater_sees_no_admin_page_and_does_nothing_there(site: Running, ada: str) -> None:
    admin = site.client(site.add_person("Root", admin=True))
    client, stranger = site.client(ada), site.client()
    task = tasks(6)[0].id
    pages = ["", "/queue/quality", f"/task/{task}", "/agreement", "/bias", "/raters", "/events", "/invites"]
    for path in (f"/admin{page}" for page in pages):
        assert admin.get(path).status_code == 200, path
        assert client.get(path).status_code == 403, path
        assert stranger.get(path).status_code == 303, path
    token = client.token()
    for path in ("/admin/queue/quality", f"/admin/task/{task}", f"/admin/raters/{ada}", "/admin/invites"):
        assert client.post(path, data={"token": token}).status_code == 403, path
    assert "policy-7b" not in client.get("/rank/quality").text


def test_an_invitation_works_once_and_not_for_ever(site: Running) -> None:
    def register(code: str, name: str) -> httpx.Response:
        client = site.client()
        return client.submit("/invite", code=code, name=name, password="long enough a password")

    code = site.invite()
    assert register(code, "one").status_code == 303
    assert register(code, "two").status_code != 303
    late = site.invite(valid_seconds=60)
    site.later_seconds += 61
    assert register(late, "three").status_code != 303
    assert register("guessed", "four").status_code != 303
    assert register(site.invite(), "one").status_code != 303  # the name is taken
    assert code not in register(site.invite(), "five").headers.get("location", "")


def test_passwords_cannot_be_tried_without_end(site: Running) -> None:
    site.add_person(SOMEBODY)
    client = site.client()
    statuses = [
        client.submit("/login", name=SOMEBODY, password=f"wrong {n}").status_code
        for n in range(site.config.page.login_attempts_per_minute + 3)
    ]
    assert 303 not in statuses
    assert statuses[-1] == 429
    assert client.submit("/login", name=SOMEBODY, password=PASSWORD).status_code == 429
    site.later_seconds += 120
    assert client.submit("/login", name=SOMEBODY, password=PASSWORD).status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example"])
def test_another_sites_name_for_this_machine_is_refused(site: Running, host: str) -> None:
    answer = httpx.get(f"{site.url}/login", headers={"host": host})
    assert answer.status_code in (400, 421)


def test_every_answer_says_what_browsers_may_do(site: Running, ada: str) -> None:
    client = site.client(ada)
    for path in ("/", "/rank/quality", "/login", "/nowhere", "/admin"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    cookies = site.client().get("/login").headers["set-cookie"].lower()
    assert "httponly" in cookies
    assert "samesite=strict" in cookies


def test_too_much_and_nonsense_are_refused_and_the_page_goes_on(site: Running, ada: str) -> None:
    client = site.client(ada)
    token = client.token()
    json_headers = {"x-form-token": token, "content-type": "application/json"}
    for body in (b"", b"[]", b"{", b'{"id": 1}', b"\xff\xfe", b"[" * 5000, b'{"ranks": [NaN]}'):
        assert client.post("/api/submit", content=body, headers=json_headers).status_code == 400
    huge = b"x" * (20 * 2**20)
    assert client.post("/api/submit", content=huge, headers=json_headers).status_code == 413
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        assert client.request(method, "/").status_code == 405
    strange = ["/rank/..%2f..%2fetc", "/static/x/..%2f..%2fapp.py", "/admin/task/%00", "/rank/" + "q" * 5000]
    for path in strange:
        assert client.get(path).status_code in (400, 403, 404, 414)
    assert client.get("/").status_code == 200
