"""Another site in the same browser, and names and addresses that are not ours."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from pilothouse.feedback.config import PageConfig
from pilothouse.feedback.web.guard import known_host

from .examples import tasks
from .running import PASSWORD, Running


@pytest.fixture
def evil_site(site: Running) -> Iterator[str]:
    """Another site, whose page posts to ours by script and by form, and shows ours in a frame."""
    page = f"""<!doctype html>
    <form method=post action="{site.url}/logout"><input name=token value=x></form>
    <iframe src="{site.url}/help"></iframe>
    <script>
    fetch("{site.url}/api/next", {{method: "POST", credentials: "include", mode: "no-cors",
      headers: {{"content-type": "text/plain"}}, body: '{{"name": "quality"}}'}});
    </script>"""

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Evil)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_site_in_the_same_browser_changes_nothing_and_shows_nothing(
    site: Running, enter: Callable[..., Page], evil_site: str
) -> None:
    site.fill(tasks(2))
    rater = site.add_person("Ada")
    page = enter()
    page.goto("/login")
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1")).to_have_text("Hello, Ada")
    attack = page.context.new_page()
    answers: list[int] = []
    attack.on("response", lambda each: answers.append(each.status) if "/api/" in each.url else None)
    attack.goto(evil_site)
    assert "Ranking" not in "".join(frame.content() for frame in attack.frames[1:])
    attack.evaluate("document.forms[0].submit()")
    expect(attack.locator("h1")).to_have_text("You are logged out")  # our cookie did not go with it
    assert set(answers) <= {401}
    page.reload()
    expect(page.locator("h1")).to_have_text("Hello, Ada")
    assert site.stored(rater) == []


@pytest.mark.parametrize(
    ("host", "address", "known"),
    [
        ("localhost:8000", "", True),
        ("127.0.0.1", "", True),
        ("[::1]:80", "", True),
        ("192.0.2.7:8000", "", True),
        ("192.0.2.7:8000", "https://rank.example.org", False),
        ("rank.example.org", "https://rank.example.org", True),
        ("RANK.example.org", "https://rank.example.org/", True),
        ("rank.example.org:444", "https://rank.example.org", False),
        ("rank.example.org", "", False),
        ("evil.example", "https://rank.example.org", False),
        ("", "", False),
        ("[", "", False),
    ],
)
def test_a_host_is_known_by_the_configured_address_or_as_loopback(
    host: str, address: str, known: bool
) -> None:
    assert known_host(host, PageConfig(address=address)) is known
