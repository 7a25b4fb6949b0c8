import json
from typing import Any

import pytest
from tests.feedback.formats.samples import ranking, written

from pilothouse.errors import InvalidDataError
from pilothouse.feedback.formats.argilla import settings, user_id
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.formats.importing import read
from pilothouse.feedback.formats.options import ExportOptions, Format

FIELDS = {"instruction": "What became of the library?", "reply-1": "War.", "reply-2": "Fire."}
RANKED = [{"value": "reply-1", "rank": 2}, {"value": "reply-2", "rank": 1}]
ANN = "2f1c9a5e-0000-4000-8000-000000000001"


def record(responses: object, **fields: Any) -> dict[str, Any]:
    return {"id": "x", "fields": FIELDS, "metadata": {}, "responses": responses, "vectors": {}} | fields


def imported(*records: object) -> list[ImportedRanking]:
    return list(read(json.dumps(records).encode(), Format.ARGILLA))


def ranks(item: ImportedRanking) -> dict[str, int]:
    return {answer.text: rank for answer, rank in zip(item.answers, item.ranks, strict=True)}


def test_the_clients_records_are_understood() -> None:
    (item,) = imported(record({"order": [{"value": RANKED, "user_id": ANN}]}))
    assert ranks(item) == {"Fire.": 1, "War.": 2}
    assert (item.prompt.text, item.rater) == ("What became of the library?", ANN)


def test_the_servers_records_are_understood_with_their_times() -> None:
    response = {
        "values": {"order": {"value": RANKED}},
        "status": "submitted",
        "user_id": ANN,
        "inserted_at": "2024-05-01T12:00:00",
    }
    (item,) = imported(record([response, response | {"status": "draft"}]))
    assert ranks(item) == {"Fire.": 1, "War.": 2}
    assert item.submitted_at == 1714564800.0


def test_a_record_that_nobody_ranked_is_a_task() -> None:
    fields = {"prompt": "p", "a": "one", "b": "two", "note": None}
    discarded = {"ranking": [{"value": [], "user_id": ANN, "status": "discarded"}]}
    for responses in ({}, [], discarded):
        (item,) = imported(record(responses, fields=fields))
        assert item.ranks == ()
        assert [answer.text for answer in item.answers] == ["one", "two"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (["reply-2", "reply-1"], "Python client drops them; take the records from its HTTP API"),
        ([{"value": "reply-1"}, {"value": "reply-2"}], "must be a list of whole numbers"),
        ([{"value": "a", "rank": 1}, {"value": "b", "rank": 2}], "no fields of the record"),
        ([RANKED[0], RANKED[0]], "ranks an option twice"),
        ([{"value": ["reply-1"], "rank": 1}], "the question a ranking"),
        ("reply-1", "the question a ranking"),
        ([], "nothing tells the prompt|no fields|answers"),
    ],
)
def test_a_ranking_that_cannot_be_understood_is_refused_with_the_mend(value: object, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=f"record 1: .*({complaint})"):
        imported(record({"ranking": [{"value": value, "user_id": ANN}]}))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"fields": "x"}, "a record has 'fields'"),
        ({"fields": FIELDS | {"context": "old"}}, "nothing tells the prompt among instruction, context"),
        ({"responses": "x"}, "'responses' must be a list"),
        ({"responses": {"a": [], "b": []}}, "there are several questions: a, b; name the ranking"),
        ({"responses": {"a": "x"}}, "must be a list of at most"),
        ({"responses": {"a": [1]}}, "every response must have a 'value'"),
    ],
)
def test_a_bad_record_is_refused_with_the_mend(fields: dict[str, Any], complaint: str) -> None:
    good: dict[str, Any] = {"ranking": [{"value": RANKED, "user_id": ANN}]}
    with pytest.raises(InvalidDataError, match=complaint):
        imported(record(good) | fields)


def test_an_export_has_one_record_with_a_response_for_each_person() -> None:
    records = [ranking("b", (1, 1, 2), task="t", rater="bob"), ranking("a", (3, 2, 1), task="t", rater="ann")]
    (made,) = json.loads(written(records, ExportOptions(format=Format.ARGILLA)))
    assert made["id"] == "t"
    assert list(made["fields"]) == ["prompt", "answer-1", "answer-2", "answer-3"]
    ann, bob = made["responses"]["ranking"]
    assert ann == {
        "value": [
            {"value": "answer-1", "rank": 3},
            {"value": "answer-2", "rank": 2},
            {"value": "answer-3", "rank": 1},
        ],
        "user_id": user_id("ann"),
        "status": "submitted",
    }
    assert [item["rank"] for item in bob["value"]] == [1, 1, 2]


def test_the_settings_are_python_that_names_what_the_records_have() -> None:
    text = settings(2, conversational=True)
    compile(text, "settings", "eval")
    assert 'rg.ChatField(name="prompt")' in text
    assert 'values=["answer-1", "answer-2"]' in text
