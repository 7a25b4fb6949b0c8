"""What raters read where something is not there, and what stays on the page then."""

import pytest
from playwright.sync_api import expect

from pilothouse.errors import NotFoundError
from pilothouse.feedback.store import queues
from pilothouse.feedback.tables import Kind

from .examples import tasks
from .running import Client, Running


@pytest.mark.parametrize("folder", ["rank", "write"])
def test_a_queue_that_does_not_exist_names_no_other(site: Running, folder: str) -> None:
    site.fill(tasks(1), queue="secret", paused=True)
    client = site.client(site.add_person())
    page = client.get(f"/{folder}/nope")
    assert page.status_code == 404
    assert "There is no queue of this name." in page.text
    assert 'href="/"' in page.text
    asked = client.call("/api/next", name="nope")
    sent = client.submit(f"/{folder}/nope", of="/help", id="0" * 8, assignment="x", text="y")
    for answer in (page, asked, sent):
        assert answer.status_code == 404
        assert "secret" not in answer.text
        assert "PutQueue" not in answer.text
    with pytest.raises(NotFoundError, match=r"queues: secret; .* PutQueue makes one"):
        site.database.read_now(queues.get_queue, "nope")


def test_what_is_not_the_raters_is_said_without_ids(site: Running) -> None:
    client = site.client(site.add_person())
    for path in ("renew", "submit"):
        body = {"id": "0" * 8, "assignment": "a1b2", "text": "y"} if path == "submit" else {"name": "a1b2"}
        answer = client.call(f"/api/{path}", **body)
        assert (answer.status_code, answer.json()["message"]) == (404, "This task is not yours any more.")
    assert client.call("/api/undo", name="a1b2").json()["message"] == "There is nothing to take back."


def titles(site: Running, client: Client, queue: str) -> set[str]:
    """Returns what the page and its script call the lack of a task."""
    told = client.call("/api/next", name=queue).json()["nothing"]
    page = client.get(f"/rank/{queue}").text
    assert told["text"] in page
    assert told["done"] == ('class="done all"' in page)
    return {told["title"], page.split('<h1 tabindex="-1">')[1].split("</h1>")[0]}


def test_the_lack_of_a_task_has_its_true_name(site: Running) -> None:
    client, other = site.client(site.add_person()), site.client(site.add_person())
    site.fill(tasks(1, prefix="paused"), queue="paused", paused=True)
    assert titles(site, client, "paused") == {"Paused"}
    site.fill([], queue="empty")
    assert titles(site, client, "empty") == {"No tasks yet"}
    site.fill(tasks(1), queue="quality")
    held = other.call("/api/next", name="quality").json()["task"]["assignment"]
    assert titles(site, client, "quality") == {"Nothing free right now"}
    assert other.call("/api/submit", id=held, assignment=held, ranks=[1, 2, 3, 4]).status_code == 200
    assert titles(site, client, "quality") == {"All done"}
    assert titles(site, other, "quality") == {"All done"}


def test_pages_of_errors_keep_the_navigation_of_whoever_is_known(site: Running) -> None:
    client = site.client(site.add_person("Ada"))
    for path, status in (("/admin", 403), ("/nowhere", 404), ("/rank/nope", 404), ("/static/1/nope.js", 404)):
        page = client.get(path)
        assert page.status_code == status
        assert 'aria-label="Main"' in page.text, path
        assert "Logged in as Ada" in page.text, path
    assert 'aria-label="Main"' not in site.client().get("/nowhere").text


def test_open_queues_stand_before_those_without_a_task(site: Running, enter) -> None:
    site.fill([], queue="a-empty")
    site.fill(tasks(1), queue="open")
    page = enter(site.add_person())
    page.goto("/")
    expect(page.locator("#open h3")).to_have_text(["open"])
    expect(page.locator("#finished li")).to_contain_text(["a-empty"])


def test_texts_from_right_to_left_begin_at_the_right_edge(site: Running, enter) -> None:
    site.fill([], queue="rtl", kind=Kind.RANKING)
    site.fill(tasks(1), queue="quality")
    page = enter(site.add_person(), viewport={"width": 1280, "height": 800})
    page.goto("/rank/quality")
    page.locator(".answer .text").first.evaluate("text => text.textContent = '\u05e9\u05dc\u05d5\u05dd'")
    gap = page.locator(".answer").first.evaluate(
        """card => card.getBoundingClientRect().right
          - card.querySelector('.text').getBoundingClientRect().right"""
    )
    assert gap == pytest.approx(21.5, abs=1)  # the card's padding and border
