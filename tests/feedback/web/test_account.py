import re

import httpx
import pytest
from playwright.sync_api import expect

from pilothouse.feedback.invitations import invite_url

from .examples import tasks
from .running import PASSWORD, Client, Running


def log_in(client: Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.submit("/login", name=name, password=password)


def test_a_right_password_opens_a_session_of_its_own(site: Running) -> None:
    site.add_person("Ada")
    client = site.client()
    answer = log_in(client, "Ada")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Hello, Ada" in client.get("/").text
    cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie


def test_behind_tls_cookies_are_secure_and_bound_to_the_host(tmp_path) -> None:
    site = Running(tmp_path, page={"address": "https://rank.example.org"})
    try:
        site.add_person("Ada")
        headers = {"host": "rank.example.org", "origin": "https://rank.example.org"}
        page = httpx.get(f"{site.url}/login", headers=headers)
        visit = re.search(r"__Host-visit=([^;]+); .*Secure", page.headers["set-cookie"])
        token = re.search(r'name="token" value="([0-9a-f]+)"', page.text)
        assert visit
        assert token
        answer = httpx.post(
            f"{site.url}/login",
            data={"token": token[1], "name": "Ada", "password": PASSWORD},
            headers={**headers, "cookie": f"__Host-visit={visit[1]}"},
        )
        assert answer.status_code == 303
        assert re.search(r"__Host-session=\S+; .*Secure", answer.headers["set-cookie"])
    finally:
        site.close()


@pytest.mark.parametrize(
    ("name", "password"), [("Ada", "wrong password"), ("nobody", PASSWORD), ("", ""), ("\0", "\0")]
)
def test_a_wrong_name_and_a_wrong_password_look_the_same(site: Running, name: str, password: str) -> None:
    site.add_person("Ada")
    answer = log_in(site.client(), name, password)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "session=" not in answer.headers.get("set-cookie", "")


def test_an_unknown_name_is_checked_against_a_password_too(site: Running, monkeypatch) -> None:
    checked: list[str] = []
    passwords = site.app.state.site.passwords
    verify = passwords._verify
    monkeypatch.setattr(passwords, "_verify", lambda *given: checked.append(given[1]) or verify(*given))
    log_in(site.client(), "nobody")
    assert len(checked) == 1
    assert checked[0].startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_too_many_tries_are_refused_for_a_minute_by_name_and_by_address(site: Running) -> None:
    site.add_person("Ada")
    client = site.client()
    for _ in range(site.config.page.login_attempts_per_minute):
        assert log_in(client, "Ada", "wrong").status_code == 401
    refused = log_in(client, "Ada")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    assert log_in(client, "somebody else").status_code == 429
    site.later_seconds += 61
    assert log_in(client, "Ada").status_code == 303


def test_people_who_log_in_rightly_are_not_counted(site: Running) -> None:
    site.add_person("Ada")
    for _ in range(2 * site.config.page.login_attempts_per_minute):
        assert log_in(site.client(), "Ada").status_code == 303


def test_a_session_ends_by_logging_out_by_idleness_and_by_age(site: Running) -> None:
    rater = site.add_person("Ada")
    client = site.client(rater)
    secret = client.cookies["session"]
    assert client.submit("/logout", of="/help").status_code == 303
    assert site.client(session=secret).get("/").headers["location"] == "/login"

    idle = site.client(rater)
    site.later_seconds += 60 * site.config.page.idle_minutes + 40
    assert idle.get("/").status_code == 303

    busy = site.client(rater)
    began = site.now()
    while site.now() - began < 3600 * site.config.page.session_hours:
        assert busy.get("/").status_code == 200
        site.later_seconds += 50 * site.config.page.idle_minutes
    assert busy.get("/").status_code == 303


def test_every_login_is_a_new_session(site: Running) -> None:
    site.add_person("Ada")
    first, second = site.client(), site.client()
    log_in(first, "Ada")
    log_in(second, "Ada")
    assert first.cookies["session"] != second.cookies["session"]
    assert first.token() != second.token()


def test_an_invitation_registers_one_person(site: Running, enter) -> None:
    site.fill(tasks(1))
    code = site.invite()
    page = enter()
    page.goto(invite_url(site.url, code))
    expect(page.get_by_label("Invitation code")).to_be_hidden()
    assert page.url == f"{site.url}/invite"
    page.get_by_label("Name").fill("Grace <b>Hopper</b>")
    page.get_by_label("Password").fill("a ship in port is safe")
    page.get_by_role("button", name="Join").click()
    expect(page.locator("h1")).to_have_text("Hello, Grace <b>Hopper</b>")

    again = site.client().submit("/invite", code=code, name="Eve", password="a ship in port is safe")
    assert again.status_code == 404
    assert "was used or has run out" in again.text


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"password": "too short"}, "at least 10"),
        ({"name": " "}, "1 to 64 visible characters"),
        ({"name": "a\u202eb"}, "1 to 64 visible characters"),
        ({"name": "x" * 65}, "1 to 64 visible characters"),
        ({"name": "Ada"}, "is taken"),
        ({"name": "\uff21da"}, "is taken"),  # a wide A looks like the other
        ({"code": "made up"}, "does not exist"),
    ],
)
def test_a_bad_registration_says_what_is_wrong_and_uses_nothing_up(
    site: Running, fields: dict[str, str], complaint: str
) -> None:
    site.add_person("Ada")
    good = {"code": site.invite(), "name": "Grace", "password": "a ship in port is safe"}
    answer = site.client().submit("/invite", **{**good, **fields})
    assert answer.status_code in (400, 404)
    assert complaint in answer.text
    assert site.client().submit("/invite", **good).status_code == 303


def test_an_invitation_of_an_admin_makes_an_admin(site: Running) -> None:
    client = site.client()
    client.submit("/invite", code=site.invite(admin=True), name="Grace", password="a ship in port is safe")
    assert client.get("/admin").status_code == 200


def test_tries_with_made_up_invitations_are_limited(site: Running) -> None:
    client = site.client()
    answers = [
        client.submit("/invite", code="guess", name="Eve", password="long enough by far").status_code
        for _ in range(site.config.page.login_attempts_per_minute + 1)
    ]
    assert answers[-2:] == [404, 429]


def test_a_pages_token_survives_a_restart_of_the_server(site: Running) -> None:
    client = site.client(site.add_person("Ada"))
    before = client.token()
    site.stop()
    site.start(site.port)
    assert client.token() == before
