"""A simulated rater who uses the real page, in a real headless Chromium, by the keyboard."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilothouse.client import FeedbackClient
from pilothouse.errors import ConfigError
from pilothouse.trainer.demo.loop.crowd import Member

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""Browsers that are looked for."""

_PASSWORD = "a simulated person has no secrets"
_WAIT_MILLISECONDS = 30_000
_IDLE_MILLISECONDS = 300
_MOVED_ON = """before => document.querySelector('input[name=assignment]')?.value !== before
  || document.querySelector('#done')?.checkVisibility()"""


def find_browser() -> Path:
    """Returns the browser's program.

    Raises:
        ConfigError: There is none, or playwright is not installed.
    """
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("the page is driven with playwright; pip install 'pilothouse[demo]'") from None
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            "the page is driven in Chromium, and there is none; `make system-deps` installs it, or rank "
            "through the API only with --no-browser"
        )
    return Path(found)


def browser_worker(
    member: Member, queue: str, target: str, most: int, ended: Callable[[], threading.Event], count: list[int]
) -> Callable[[], None]:
    """Returns the work of a rater on the page.

    Args:
        member: Who ranks.
        queue: Where from.
        target: The feedback service.
        most: Tasks to rank; then it goes home.
        ended: Returns what says that the crowd is to end.
        count: Gets a number for every saved ranking.
    """

    def work() -> None:
        from playwright.sync_api import sync_playwright

        with FeedbackClient(target) as feedback:
            invite = feedback.invite()
            page_address = feedback.page_address()
        judge = member.judge()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(_WAIT_MILLISECONDS)
            _register(page, invite.url, member.new_name())
            while not ended().is_set() and len(count) < most:
                page.goto(f"{page_address}/rank/{queue}")
                while len(count) < most and page.locator("#answers .answer").count():
                    answers = page.locator("#answers .answer .text").all_text_contents()
                    before = page.locator("input[name=assignment]").input_value()
                    ranks = judge.ranks(answers)
                    for place in sorted(range(len(ranks)), key=ranks.__getitem__):
                        page.keyboard.press(str(place + 1))
                    page.keyboard.press("Enter")
                    page.wait_for_function(_MOVED_ON, arg=before)
                    count.append(1)
                page.wait_for_timeout(_IDLE_MILLISECONDS)
            browser.close()

    return work


def _register(page: Any, url: str, name: str) -> None:
    page.goto(url)
    page.fill("input[name=name]", name)
    for field in page.locator("input[type=password]").all():
        field.fill(_PASSWORD)
    page.click("button[type=submit], main button")
    page.wait_for_url("**/")
