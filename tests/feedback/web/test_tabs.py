"""Several tabs, and the same tab after a reload."""

import pytest
from playwright.sync_api import Page, expect

from pilothouse.feedback.tables import Kind

from .examples import tasks, writing_tasks
from .running import Running
from .test_ranking import press, saved, shown


@pytest.fixture
def rater(site: Running) -> str:
    site.fill(tasks(6))
    return site.add_person("Ada")


def tabs(page: Page, path: str = "/rank/quality") -> tuple[Page, Page]:
    """Opens a page in two tabs."""
    page.goto(path)
    other = page.context.new_page()
    other.goto(path)
    return page, other


def test_a_tab_that_changed_nothing_leaves_the_other_ones_draft_alone(enter, rater: str) -> None:
    first, second = tabs(enter(rater))
    press(first, "3 = 1 c")
    first.keyboard.type("half a thought")
    first.goto("/help")
    second.goto("/help")
    first.goto("/rank/quality")
    expect(first.locator("#order .chip")).to_have_text(["3", "1"])
    expect(first.locator("#comment-text")).to_have_value("half a thought")


def test_tabs_follow_each_others_drafts(enter, rater: str) -> None:
    first, second = tabs(enter(rater))
    press(first, "3 1 e 2")
    first.keyboard.type("Better: ")
    expect(second.locator("#order .chip")).to_have_text(["3", "1"])
    expect(second.locator("[name=correction-1]")).to_have_value(
        first.locator("[name=correction-1]").input_value()
    )
    press(second, "4")
    expect(first.locator("#order .chip")).to_have_text(["3", "1", "4"])


def test_what_was_answered_in_another_tab_is_said_plainly_and_counted(
    site: Running, enter, rater: str
) -> None:
    first, second = tabs(enter(rater))
    question = second.locator("#question").inner_text()
    press(first, "1 2 3 Enter")
    saved(first)
    expect(second.locator("#order .chip")).to_have_text(["1", "2", "3"])
    press(second, "Enter")
    expect(second.locator("#toast")).to_have_text(
        "You have already answered or skipped this one, in another tab."
    )
    expect(second.locator("#question")).not_to_have_text(question)
    expect(second.locator("#today")).to_have_text("1")
    assert len(site.stored(rater)) == 1


def test_backspace_takes_back_the_last_rank_after_a_reload_and_after_an_undo(enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "3 1 2 Enter")
    saved(page)
    expect(page.locator("#order .chip")).to_have_count(0)
    press(page, "u")
    expect(page.locator("#order .chip")).to_have_text(["3", "1", "2"])
    expect(page.locator("#task")).to_have_attribute("aria-busy", "false")
    press(page, "Backspace")
    expect(page.locator("#order .chip")).to_have_text(["3", "1"])
    page.reload()
    press(page, "Backspace Control+z")
    expect(page.locator("#order .chip")).to_have_count(0)


def test_what_was_saved_is_taken_back_after_a_reload(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "3 = 1 2 Enter")
    saved(page)
    page.reload()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#order .chip")).to_have_text(["3", "1", "2"])
    assert site.stored(rater) == []
    press(page, "Enter")
    saved(page)
    assert shown(site.stored(rater)[0]) == [1, 2, 1, 3]


@pytest.mark.parametrize(("kind", "folder"), [(Kind.RANKING, "rank"), (Kind.DEMONSTRATION, "write")])
def test_the_last_task_of_a_queue_is_taken_back_after_a_reload(
    site: Running, enter, kind: Kind, folder: str
) -> None:
    site.fill(tasks(1) if kind is Kind.RANKING else writing_tasks(1), queue="short", kind=kind)
    rater = site.add_person()
    page = enter(rater)
    page.goto(f"/{folder}/short")
    if kind is Kind.RANKING:
        press(page, "4 1 2 Enter")
    else:
        page.keyboard.type("A lighthouse")
        press(page, "Control+Enter")
    expect(page.locator("#done h1")).to_have_text("All done")
    page.reload()
    expect(page.locator("#task")).to_be_hidden()
    press(page, "u")
    expect(page.locator("#task")).to_be_visible()
    if kind is Kind.RANKING:
        expect(page.locator("#order .chip")).to_have_text(["4", "1", "2"])
        expect(page.locator("#question .text")).to_contain_text("sourdough")
    else:
        expect(page.locator("#text")).to_have_value("A lighthouse")
    assert site.stored(rater) == []


def test_u_says_so_where_there_is_nothing_to_take_back_or_no_more_time(
    site: Running, enter, rater: str
) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "u")
    expect(page.locator("#toast")).to_have_text("There is nothing to take back.")
    press(page, "1 2 3 Enter")
    saved(page)
    site.later_seconds += site.config.undo_seconds + 1
    press(page, "u")
    expect(page.locator("#toast")).to_have_text("It is too late to take this back.")
    assert len(site.stored(rater)) == 1
