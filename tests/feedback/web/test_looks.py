"""Every page: accessible by axe, in light and dark, and without a horizontal scroll on a narrow screen."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from pilothouse.feedback.tables import Kind

from .examples import tasks
from .running import Running

RATER_PAGES = ("/", "/rank/quality", "/write/haiku", "/help", "/nowhere")
ADMIN_PAGES = (
    "/admin",
    "/admin/queue/quality",
    "/admin/task/{task}",
    "/admin/agreement",
    "/admin/bias",
    "/admin/raters",
    "/admin/events",
    "/admin/invites",
)
OPEN_PAGES = ("/login", "/invite")


@pytest.fixture
def admin(site: Running) -> str:
    """An admin, in a site where two people have ranked."""
    site.fill(tasks(6), overlap=3, instructions="Prefer answers that are correct, complete and kind.")
    site.fill(tasks(2, answers=0, prefix="write"), queue="haiku", kind=Kind.DEMONSTRATION)
    for ranks in ([1, 2, 3, 4], [2, 1, 3, 3]):
        client = site.client(site.add_person())
        for _ in range(4):
            assignment = client.call("/api/next", name="quality").json()["task"]["assignment"]
            body = {"id": assignment, "assignment": assignment, "ranks": ranks, "comment": "A remark."}
            assert client.call("/api/submit", **body).status_code == 200
    return site.add_person("Ada", admin=True)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_accessible_and_fits(
    site: Running, enter: Callable[..., Page], admin: str, colours: str, width: int
) -> None:
    look: dict[str, Any] = {"color_scheme": colours, "viewport": {"width": width, "height": 740}}
    inside = [*RATER_PAGES, *(path.format(task=tasks(6)[0].id) for path in ADMIN_PAGES)]
    # axe is put in by the test: the page's own policy would keep it out.
    for visitor, paths in ((admin, inside), (None, OPEN_PAGES)):
        page = enter(visitor, bypass_csp=True, **look)
        for path in paths:
            page.goto(path)
            found = Axe().run(page).response["violations"]
            bad = [
                (each["id"], each["nodes"][0]["html"])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert bad == [], path
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, path


@pytest.mark.parametrize("width", [1280, 360])
def test_every_column_of_a_table_is_within_reach(
    site: Running, enter: Callable[..., Page], admin: str, width: int
) -> None:
    site.add_person("Bartholomew Featherstonehaugh-Cholmondeley-Majoribanks")
    site.add_person("Wolfeschlegelsteinhausenbergerdorff")
    page = enter(admin, viewport={"width": width, "height": 740})
    for path in ADMIN_PAGES:
        page.goto(path.format(task=tasks(6)[0].id))
        hidden = page.evaluate(
            "[...document.querySelectorAll('.table')].map((table) => table.scrollWidth - table.clientWidth)"
        )
        assert all(pixels <= 0 for pixels in hidden), path
    page.goto("/admin/raters")
    for button in page.get_by_role("button", name="Do it to").all():
        box = button.bounding_box()
        assert box
        assert box["x"] + box["width"] <= width


def test_nine_numbers_wrap_in_one_block_and_no_line_begins_with_a_sign(
    site: Running, enter: Callable[..., Page]
) -> None:
    site.fill(tasks(1, answers=9))
    page = enter(site.add_person(), viewport={"width": 360, "height": 740}, has_touch=True)
    page.goto("/rank/quality")
    for key in "9876543":
        page.keyboard.press(key)
    order, rest = page.locator("#order").bounding_box(), page.locator("#rest").bounding_box()
    assert order
    assert rest
    assert (order["x"], order["y"] + order["height"] <= rest["y"]) == (rest["x"], True)
    begins = page.evaluate(
        """() => {
          const parts = [...document.querySelectorAll("#order .chip, #order .tie")];
          const left = document.querySelector("#order").getBoundingClientRect().left;
          const first = parts.filter((part) => part.getBoundingClientRect().left < left + 2);
          return first.map((part) => part.className);
        }"""
    )
    assert len(begins) > 1
    assert "tie" not in begins


def test_dates_of_events_stay_on_one_line(site: Running, enter: Callable[..., Page]) -> None:
    site.invite()
    page = enter(site.add_person(admin=True), viewport={"width": 1280, "height": 740})
    page.goto("/admin/events")
    cell = page.locator("tbody td").first
    cell.evaluate("cell => cell.parentElement.cells[3].textContent = 'long '.repeat(200)")
    lines = """cell => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return range.getClientRects().length;
    }"""
    assert cell.evaluate(lines) == 1


def test_the_bottom_line_names_every_key_of_the_help_page(site: Running, enter: Callable[..., Page]) -> None:
    site.fill(tasks(1))
    page = enter(site.add_person())
    page.goto("/help")
    helped = set(page.locator(".keys-list kbd").all_inner_texts())
    page.goto("/rank/quality")
    named = set(page.locator(".keys kbd").all_inner_texts())
    signs = {"Shift": "\u21e7", "Backspace": "\u232b", "Enter": "\u21b5", "9": "4"}
    assert {signs.get(key, key) for key in helped} <= named
