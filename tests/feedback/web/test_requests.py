"""Requests that no page of ours makes, and faults of our own."""

import json
import secrets

import pytest
from prometheus_client import REGISTRY

from pilothouse.feedback.web.guard import HEADERS

from .examples import tasks
from .running import Client, Running


@pytest.fixture
def rater(site: Running) -> str:
    site.fill(tasks(4))
    return site.add_person("Ada")


def ranking(client: Client) -> dict[str, object]:
    assignment = client.call("/api/next", name="quality").json()["task"]["assignment"]
    return {"id": secrets.token_hex(16), "assignment": assignment, "ranks": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranks": [1, 2, 3]},
        {"ranks": [0, 1, 2, 3]},
        {"ranks": [1, 2, 3, 2**70]},
        {"text": "both"},
        {"ranks": None},
        {"unsafe": [9]},
        {"comment": "\0"},
        {"comment": "\ud800"},
        {"comment": "x" * 40_000},
        {"corrections": [{"place": 0, "text": " "}]},
        {"seconds": -1},
        {"id": "short"},
        {"id": "../../../etc/passwd"},
        {"ranks": None, "reason": "bored"},
        {"ranks": None, "text": "no ranking"},
    ],
)
def test_a_wrong_submission_is_refused_and_can_be_mended(
    site: Running, rater: str, wrong: dict[str, object]
) -> None:
    client = site.client(rater)
    good = ranking(client)
    answer = client.post(
        "/api/submit",
        content=json.dumps({**good, **wrong}).encode("ascii"),
        headers={"content-type": "application/json", "x-form-token": client.token()},
    )
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert client.call("/api/submit", **good).status_code == 200
    assert len(site.stored(rater)) == 1


def test_work_on_the_page_is_counted_for_operators_once(site: Running, rater: str) -> None:
    def counted() -> list[float]:
        totals = (
            REGISTRY.get_sample_value("pilothouse_labels_total", {"kind": "ranking"}),
            REGISTRY.get_sample_value("pilothouse_feedback_claims_total"),
            REGISTRY.get_sample_value("pilothouse_feedback_undone_total"),
        )
        return [total or 0.0 for total in totals]

    before, client = counted(), site.client(rater)
    mine = ranking(client)
    for _ in range(2):
        assert client.call("/api/submit", **mine).status_code == 200
    assert client.call("/api/undo", name=mine["id"]).status_code == 200
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1]


def test_a_submission_id_of_another_rater_tells_and_changes_nothing(site: Running, rater: str) -> None:
    ada = site.client(rater)
    mine = ranking(ada)
    assert ada.call("/api/submit", **mine).status_code == 200
    other = site.add_person("Eve")
    eve = site.client(other)
    assert eve.call("/api/submit", **{**ranking(eve), "id": mine["id"]}).status_code == 409
    assert site.stored(other) == []
    assert len(site.stored(rater)) == 1


def test_forms_that_are_none_are_refused(site: Running, rater: str) -> None:
    client = site.client(rater)
    headers = {"content-type": "application/x-www-form-urlencoded", "x-form-token": client.token()}
    many = "&".join(f"a{number}=1" for number in range(1000))
    for body in (many, "%ff=%ff", "é".encode(), "no pairs"):
        assert client.post("/rank/quality", content=body, headers=headers).status_code == 400


def test_a_body_that_does_not_say_how_large_it_is_is_bounded_too(site: Running, rater: str) -> None:
    client = site.client(rater)
    headers = {"content-type": "application/json", "x-form-token": client.token()}
    pieces = (b" " * 100_000 for _ in range(100))
    assert client.post("/api/next", content=pieces, headers=headers).status_code == 413


def test_a_fault_of_ours_is_a_page_too(site: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.app.state.site.passwords, "matches", None)
    answer = site.client().submit("/login", name="a", password="b")
    assert answer.status_code == 500
    assert "Something broke" in answer.text
    assert answer.headers.items() >= HEADERS.items()


def test_scripts_and_styles_are_cached_for_good_under_their_own_version(site: Running) -> None:
    address = site.app.state.site.templates.globals["static"]("rank.js")
    client = site.client()
    assert client.get(address).headers["cache-control"].endswith("immutable")
    assert client.get("/static/another/rank.js").headers["cache-control"] == "no-store"
    assert client.get("/static/another/rank.txt").status_code == 404
