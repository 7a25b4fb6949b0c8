"""Nothing that a rater did is lost: not by a reload, a crash, a dead server or a lost reply."""

import pytest
from playwright.sync_api import Page, Route, expect

from pilothouse.feedback.tables import Kind

from .examples import tasks, writing_tasks
from .running import Running
from .test_ranking import press, saved, shown


@pytest.fixture
def rater(site: Running) -> str:
    site.fill(tasks(6))
    return site.add_person("Ada")


def test_a_draft_survives_a_reload(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "3 = 1 f 2 c")
    page.keyboard.type("half a thought")
    page.reload()
    expect(page.locator("#order .chip")).to_have_text(["3", "1"])
    expect(page.locator("#comment-text")).to_have_value("half a thought")
    expect(page.locator("[name=unsafe-1]")).to_be_checked()
    press(page, "2 Enter")
    saved(page)
    (submission,) = site.stored(rater)
    assert shown(submission) == [1, 2, 1, 3]
    assert submission.comment == "half a thought"
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:')).length") <= 1


def test_a_draft_survives_a_closed_tab(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "2 1")
    page.close()
    again = page.context.new_page()
    again.goto("/rank/quality")
    expect(again.locator("#order .chip")).to_have_text(["2", "1"])


def test_a_ranking_is_saved_once_the_dead_server_is_back(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    site.stop()
    press(page, "2 4 1 Enter")
    expect(page.locator("#toast")).to_contain_text("trying again")
    site.start(site.port)
    saved(page)
    assert [shown(submission) for submission in site.stored(rater)] == [[3, 1, 4, 2]]


def test_a_ranking_is_saved_although_the_tab_was_closed_while_the_server_was_dead(
    site: Running, enter, rater: str
) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    site.stop()
    press(page, "2 4 1 Enter")
    expect(page.locator("#toast")).to_contain_text("trying again")
    page.close()
    site.start(site.port)
    again = page.context.new_page()
    again.goto("/rank/quality")
    saved(again)
    assert [shown(submission) for submission in site.stored(rater)] == [[3, 1, 4, 2]]


def test_a_lost_reply_does_not_double_a_ranking(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    lost: list[int] = []

    def lose_the_first_reply(route: Route) -> None:
        if not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/api/submit", lose_the_first_reply)
    page.goto("/rank/quality")
    press(page, "2 4 1 Enter")
    saved(page)
    assert lost == [200]
    assert [shown(submission) for submission in site.stored(rater)] == [[3, 1, 4, 2]]


def test_a_lease_that_went_to_somebody_else_ends_with_the_next_task(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    lost = page.locator("#question").inner_text()
    site.later_seconds += 10_000
    other = enter(site.add_person())
    site.later_seconds -= 3_000  # not so late that the session is over
    other.goto("/rank/quality")
    assert other.locator("#question").inner_text() == lost
    press(page, "1 2 3 Enter")
    expect(page.locator("#toast")).to_contain_text("somebody else")
    expect(page.locator("#question")).not_to_have_text(lost)
    assert site.stored(rater) == []


def test_a_logged_out_rater_logs_in_again_and_nothing_is_lost(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    page.context.clear_cookies()
    press(page, "2 4 1 Enter")
    page.get_by_role("link", name="Log in").click()
    log_in(page, "Ada")
    expect(page).to_have_url(f"{site.url}/rank/quality")
    saved(page)
    assert [shown(submission) for submission in site.stored(rater)] == [[3, 1, 4, 2]]


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Log in").click()


def test_the_lease_is_renewed_while_the_page_is_in_use(site: Running, enter) -> None:
    site.fill(tasks(1), queue="brief", lease_seconds=5)
    page = enter(site.add_person())
    page.goto("/rank/brief")
    with page.expect_response("**/api/renew") as renewed:
        press(page, "1")
    assert renewed.value.json()["lease_seconds"] == pytest.approx(5, abs=0.5)


def test_a_written_answer_is_kept_saved_and_taken_back(site: Running, enter) -> None:
    site.fill(writing_tasks(), queue="haiku", kind=Kind.DEMONSTRATION)
    rater = site.add_person()
    page = enter(rater)
    page.goto("/write/haiku")
    page.get_by_label("Write the best answer").fill("Fog on the harbour")
    page.reload()
    expect(page.locator("#text")).to_have_value("Fog on the harbour")
    press(page, "Control+Enter")
    saved(page)
    expect(page.locator("#text")).to_have_value("")
    assert [submission.kind for submission in site.stored(rater)] == ["demonstration"]
    press(page, "Control+z")
    expect(page.locator("#text")).to_have_value("Fog on the harbour")
    assert site.stored(rater) == []


def test_letters_go_into_the_text_as_soon_as_there_is_one_to_write(site: Running, enter) -> None:
    site.fill(writing_tasks(), queue="haiku", kind=Kind.DEMONSTRATION)
    rater = site.add_person()
    page = enter(rater)
    page.goto("/write/haiku")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("An unlit buoy")
    press(page, "Control+Enter")
    saved(page)
    expect(page.locator("#text")).to_have_value("")
    page.keyboard.type("gulls")
    expect(page.locator("#text")).to_have_value("gulls")
    assert len(site.stored(rater)) == 1
