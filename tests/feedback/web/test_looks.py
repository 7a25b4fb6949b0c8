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
