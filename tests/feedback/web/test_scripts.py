"""Markup and scripts in everything that people and models write: shown as text, never run."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pilothouse.feedback.records import AnswerRecord, PromptRecord, Source
from pilothouse.feedback.store.tasks import TaskRecord

from .running import Running

RUN = "window.__xss=1"
"""What each payload tries to do."""

_TAGS = (
    "<script>{run}</script>",
    "<ScRiPt>{run}</sCrIpT>",
    "<script src=data:text/javascript,{run}></script>",
    "<script type=module>{run}</script>",
    "</textarea><script>{run}</script>",
    "</title><script>{run}</script>",
    "</p></li></ol></form><script>{run}</script>",
    "<!--><script>{run}</script>-->",
    "<svg><script>{run}</script></svg>",
    "<svg><script href=data:,{run} /></svg>",
    "<math><mtext><script>{run}</script></mtext></math>",
    "<iframe srcdoc='<script>parent.{run}</script>'></iframe>",
    "<iframe src=javascript:parent.{run}></iframe>",
    "<object data=javascript:{run}></object>",
    "<embed src=javascript:{run}>",
    "<a href=javascript:{run} autofocus onfocus={run}>x</a>",
    "<form action=javascript:{run}><button autofocus onfocus={run}>x</button></form>",
    "<meta http-equiv=refresh content='0;url=javascript:{run}'>",
    "<base href=javascript:{run}//>",
    "<link rel=stylesheet href=javascript:{run}>",
    "<style>@import 'javascript:{run}';</style>",
    "<template><script>{run}</script></template>",
    "<noscript><p title='</noscript><img src=x onerror={run}>'></noscript>",
    "{{{{ {run} }}}}",
    "{{% print({run}) %}}",
    "${{{run}}}",
    "`${{{run}}}`",
    "javascript:{run}",
    "data:text/html,<script>{run}</script>",
    '"><script>{run}</script>',
    "'><script>{run}</script>",
    "' autofocus onfocus={run} x='",
    '" autofocus onfocus={run} x="',
    "';{run};//",
    '";{run};//',
    "\\u003cscript\\u003e{run}\\u003c/script\\u003e",
    "&lt;script&gt;{run}&lt;/script&gt;",
    "&#60;script&#62;{run}&#60;/script&#62;",
    "%3Cscript%3E{run}%3C/script%3E",
    "\x3cscript\x3e{run}\x3c/script\x3e\u2028{run}\u2029",
    "]]><script>{run}</script>",
    "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>{run}</x:script>",
    "<isindex action=javascript:{run} type=image>",
    "<input type=image src=x onerror={run}>",
)
_ELEMENTS = (
    "img src=x",
    "svg",
    "body",
    "details open",
    "video src=x",
    "audio src=x",
    "input autofocus",
    "marquee",
    "select autofocus",
    "textarea autofocus",
    "div style=animation-name:x",
    "object data=x",
)
_HANDLERS = ("onerror", "onload", "onfocus", "ontoggle", "onanimationstart", "onpointerenter")
PAYLOADS = [form.format(run=RUN) for form in _TAGS] + [
    f"<{element} {handler}={RUN}>" for element in _ELEMENTS for handler in _HANDLERS
]


@pytest.fixture
def watched(enter: Callable[..., Page]) -> Callable[..., tuple[Page, list[str]]]:
    """Opens a page and notes whatever runs or is stopped from running."""

    def opened(rater: str) -> tuple[Page, list[str]]:
        page, seen = enter(rater), []
        page.on("dialog", lambda dialog: (seen.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: seen.append(f"error {error}"))
        page.on("console", lambda told: seen.append(told.text) if told.type == "error" else None)
        page.on("framenavigated", lambda frame: seen.append("frame") if frame.parent_frame else None)
        return page, seen

    return opened


def task(number: int) -> TaskRecord:
    """Returns a task that consists of payloads."""
    texts = [f"{PAYLOADS[(number * 4 + place) % len(PAYLOADS)]} {number} {place}" for place in range(4)]
    return TaskRecord(
        id=f"task-{number:04}",
        prompt=PromptRecord(text=f"{PAYLOADS[number % len(PAYLOADS)]} {number}", source=PAYLOADS[number]),
        answers=tuple(AnswerRecord(text=text, source=Source(model=PAYLOADS[number])) for text in texts),
    )


def unharmed(page: Page, seen: list[str]) -> None:
    assert page.evaluate("window.__xss") is None
    assert seen == []


def test_there_are_at_least_a_hundred_payloads() -> None:
    assert len(set(PAYLOADS)) >= 100


def test_nothing_runs_in_prompts_answers_and_instructions(
    site: Running, watched: Callable[..., tuple[Page, list[str]]]
) -> None:
    """All payloads pass through the page of the rater, by its script and as a fresh page."""
    count = (len(PAYLOADS) + 3) // 4
    site.fill([task(number) for number in range(count)], instructions=" ".join(PAYLOADS))
    page, seen = watched(site.add_person("Ada"))
    page.goto("/rank/quality")
    shown: list[str] = []
    for number in range(count):
        if number % 5 == 0:
            page.reload()
        shown += page.locator("#answers .answer .text").all_text_contents()
        before = page.locator("input[name=assignment]").input_value()
        unharmed(page, seen)
        for key in "1234":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        if number < count - 1:
            expect(page.locator("input[name=assignment]")).not_to_have_value(before)
    expect(page.locator("#done")).to_be_visible()
    unharmed(page, seen)
    wanted = {re.sub(r"\s+", " ", payload).strip() for payload in PAYLOADS}
    got = {re.sub(r"\s+", " ", text).rsplit(" ", 2)[0].strip() for text in shown}
    assert wanted <= got


def test_nothing_runs_in_names_comments_and_corrections_on_the_admin_pages(
    site: Running, watched: Callable[..., tuple[Page, list[str]]]
) -> None:
    site.fill([task(number) for number in range(3)], overlap=9)
    names = [payload for payload in PAYLOADS if payload.isprintable() and len(payload) <= 64][1:10]
    for name in names:
        client = site.client(site.add_person(name))
        for _ in range(3):
            assignment = client.call("/api/next", name="quality").json()["task"]["assignment"]
            body = {
                "id": assignment,
                "assignment": assignment,
                "ranks": [1, 2, 3, 4],
                "comment": " ".join(PAYLOADS)[:20_000],
                "corrections": [{"place": 0, "text": PAYLOADS[len(name) % len(PAYLOADS)]}],
            }
            assert client.call("/api/submit", **body).status_code == 200
    page, seen = watched(site.add_person("<script>window.__xss=1</script>", admin=True))
    for path in (
        "",
        "/queue/quality",
        "/task/task-0001",
        "/raters",
        "/agreement",
        "/bias",
        "/events",
        "/invites",
    ):
        page.goto(f"/admin{path}")
        unharmed(page, seen)
    page.goto("/")
    expect(page.locator("h1")).to_contain_text("<script>window.__xss=1</script>")
    unharmed(page, seen)
