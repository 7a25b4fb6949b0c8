"""Coming in: invitations, the page that was asked for, names, and who is in already."""

import pytest
from playwright.sync_api import Page, expect

from pilothouse.feedback.invitations import invite_url
from pilothouse.feedback.web.account import own_path

from .examples import tasks
from .running import PASSWORD, Running
from .test_account import log_in

NEW = "a ship in port is safe"


def join(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(NEW)
    page.get_by_role("button", name="Join").click()


def test_a_wrong_code_can_be_corrected(site: Running, enter) -> None:
    page = enter()
    page.goto(invite_url(site.url, "mistyped"))
    join(page, "Grace")
    code = page.get_by_label("Invitation code")
    expect(page.get_by_role("alert")).to_contain_text("does not exist")
    expect(code).to_be_visible()
    expect(code).to_be_focused()
    code.fill(site.invite())
    join(page, "Grace")
    expect(page.locator("h1")).to_have_text("Hello, Grace")


def test_another_link_pasted_into_the_tab_is_the_one_that_counts(site: Running, enter) -> None:
    page = enter()
    page.goto(invite_url(site.url, "used-up"))
    join(page, "Grace")
    expect(page.get_by_role("alert")).to_be_visible()
    page.goto(invite_url(site.url, site.invite()))
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("Name")).to_be_focused()
    assert page.url == f"{site.url}/invite"
    join(page, "Grace")
    expect(page.locator("h1")).to_have_text("Hello, Grace")


def test_a_whole_link_is_a_code_too(site: Running) -> None:
    link = f" {invite_url(site.url, site.invite())} "
    assert site.client().submit("/invite", code=link, name="Grace", password=NEW).status_code == 303


def test_the_field_to_fill_first_has_the_focus(site: Running, enter) -> None:
    page = enter()
    page.goto("/invite")
    expect(page.get_by_label("Invitation code")).to_be_focused()
    site.add_person("Ada")
    page.get_by_label("Invitation code").fill(site.invite())
    join(page, "Ada")
    expect(page.get_by_role("alert")).to_contain_text("is taken")
    expect(page.get_by_label("Name")).to_be_focused()


def test_the_link_of_an_invitation_is_copied(site: Running, enter) -> None:
    page = enter(site.add_person(admin=True))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/admin/invites")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Invitation link").input_value()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link


def test_logging_in_leads_to_the_page_that_was_asked_for(site: Running, enter) -> None:
    site.fill(tasks(1))
    site.add_person("Ada")
    page = enter()
    page.goto("/rank/quality?from=mail")
    for password in ("wrong, at first", PASSWORD):
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{site.url}/rank/quality?from=mail")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/a\r\nset-cookie: a=b",
        "/" + "a" * 5000,
        "",
    ],
)
def test_logging_in_leads_nowhere_else(site: Running, elsewhere: str) -> None:
    site.add_person("Ada")
    answer = site.client().submit("/login", name="Ada", password=PASSWORD, next=elsewhere)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = site.client().get("/login", params={"next": elsewhere})
    assert 'name="next" value="/"' in page.text


@pytest.mark.parametrize("path", ["/", "/rank/a-b_c.1", "/admin/bias?queue=two%20words", "/admin/task/t:1"])
def test_paths_of_this_site_are_kept(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize("path", ["/login", "/invite"])
def test_the_doors_say_who_is_in_already_and_log_out_from_there(site: Running, enter, path: str) -> None:
    page = enter(site.add_person("Ada <b>L.</b>"))
    page.goto(path)
    expect(page.locator("main")).to_contain_text("You are logged in as Ada <b>L.</b> already")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(path)
    expect(page.locator("main")).not_to_contain_text("already.")
    assert "already:" not in page.content()


def test_capitals_make_no_difference_to_a_login(site: Running) -> None:
    site.add_person("Ada Stra\u00dfe")
    for name in ("ada strasse", "ADA STRASSE", "Ada Stra\u00dfe"):
        assert log_in(site.client(), name).status_code == 303, name


def test_two_who_differ_by_capitals_only_both_log_in(site: Running) -> None:
    site.add_person("Ada")
    site.add_person("ada")
    for name, answer in (("Ada", 303), ("ada", 303), ("ADA", 401)):
        client = site.client()
        assert log_in(client, name).status_code == answer
        if answer == 303:
            assert f"Hello, {name}<" in client.get("/").text


def test_a_name_in_other_capitals_is_taken(site: Running) -> None:
    site.add_person("Ada")
    answer = site.client().submit("/invite", code=site.invite(), name="ADA", password=NEW)
    assert answer.status_code == 400
    assert "is taken" in answer.text


def test_other_capitals_are_no_other_tries(site: Running) -> None:
    client = site.client()
    for number in range(site.config.page.login_attempts_per_minute):
        name = "ada lovelace"[:number].upper() + "ada lovelace"[number:]
        assert log_in(client, name, "wrong").status_code == 401
    assert not site.app.state.site.logins.take("name ada lovelace")
