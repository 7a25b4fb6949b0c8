"""A running page, and a real Chromium to look at it with."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from .running import Running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Running]:
    """The page over an empty database."""
    running = Running(tmp_path)
    yield running
    running.close()


@pytest.fixture(
    scope="module"
)  # playwright's event loop runs as long as it lives, and would meet others' tests
def browser(require: Callable[[object, str], None]) -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    require(program, "Chromium; `make system-deps` installs it")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def enter(site: Running, browser: Browser) -> Iterator[Callable[..., Page]]:
    """``enter(rater, **context)``: a page in a browser of its own, logged in as a rater if one is named."""
    contexts: list[BrowserContext] = []

    def opened(rater: str | None = None, **options: object) -> Page:
        context = browser.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        if rater:
            secret = site.open_session(rater)
            context.add_cookies([{"name": "session", "value": secret, "url": site.url, "httpOnly": True}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        return page

    yield opened
    for context in contexts:
        context.close()
