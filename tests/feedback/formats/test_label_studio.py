import json
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.feedback.formats.samples import CHAT, demonstration, ranking, written

from pilothouse.errors import InvalidDataError
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.formats.importing import read
from pilothouse.feedback.formats.label_studio import config
from pilothouse.feedback.formats.options import ExportOptions, Format
from pilothouse.feedback.records import AnswerRecord

ITEMS = [
    {"id": "llm_1", "title": "LLM 1", "body": "War."},
    {"id": "llm_2", "title": "LLM 2", "body": "Fire."},
    {"id": "llm_3", "title": "LLM 3", "body": "Rain."},
]


def task(*rankers: object, **fields: Any) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    results = [
        {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": ranker}}
        for ranker in rankers
    ]
    return {
        "id": 7,
        "data": {"prompt": "What became of the library?", "items": ITEMS},
        "annotations": [
            {
                "id": 1001,
                "completed_by": {"id": 10, "email": "ann@example.org"},
                "result": [{"type": "choices", "value": {"choices": ["ok"]}}, result],
                "was_cancelled": False,
                "created_at": "2021-03-09T22:16:08.728353Z",
                "lead_time": 4.288,
            }
            for result in results
        ],
        "predictions": [{"result": [{"type": "ranker", "value": {"ranker": []}}]}],
        **fields,
    }


def imported(*tasks: object) -> list[ImportedRanking]:
    return list(read(json.dumps(tasks, indent=1).encode(), Format.LABEL_STUDIO))


def ranks(item: ImportedRanking) -> dict[str, int]:
    return {answer.text: rank for answer, rank in zip(item.answers, item.ranks, strict=True)}


@pytest.mark.parametrize(
    "ranker",
    [
        ["llm_2", "llm_3", "llm_1"],
        {"rank": ["llm_2", "llm_3", "llm_1"]},
        {"_": ["llm_2", "llm_3", "llm_1"]},
        {"rank-1": ["llm_2"], "rank-2": ["llm_3"], "rank-3": ["llm_1"], "_": []},
        {"3": ["llm_1"], "1": ["llm_2"], "2": ["llm_3"]},
    ],
)
def test_every_form_of_a_ranker_is_understood(ranker: object) -> None:
    (item,) = imported(task(ranker))
    assert ranks(item) == {"Fire.": 1, "Rain.": 2, "War.": 3}
    assert item.rater == "ann@example.org"
    assert item.submitted_at == pytest.approx(1615328168.728353)


def test_answers_in_one_bucket_are_tied() -> None:
    (item,) = imported(task({"rank-1": ["llm_2", "llm_1"], "rank-2": ["llm_3"]}))
    assert ranks(item) == {"Fire.": 1, "War.": 1, "Rain.": 2}


def test_skips_say_nothing_and_a_task_that_nobody_ranked_is_a_task() -> None:
    skipped = task(["llm_1", "llm_2", "llm_3"])
    skipped["annotations"][0]["was_cancelled"] = True
    (item,) = imported(skipped)
    assert (item.ranks, item.rater) == ((), "")
    assert len(item.answers) == 3


@pytest.mark.parametrize(
    ("ranker", "complaint"),
    [
        ({"relevant": ["llm_1", "llm_2"], "biased": ["llm_3"]}, "order of the buckets relevant, biased"),
        ({"rank-1": ["llm_1"], "_": ["llm_2", "llm_3"]}, "order of the buckets _"),
        ({"rank-1": ["llm_1"]}, "placed 1 of 3 answers"),
        (["llm_1", "llm_1", "llm_2"], "each must be placed once"),
        (["llm_1", "llm_2", "llm_4"], "each must be placed once"),
        ({"rank-1": "llm_1"}, "must give lists of ids by bucket"),
        (7, "must give lists of ids by bucket"),
    ],
)
def test_a_ranking_that_cannot_be_understood_is_refused_with_the_mend(ranker: object, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=f"record 2: .*{complaint}"):
        imported(task(["llm_1", "llm_2", "llm_3"]), task(ranker))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"data": {"text": "x"}}, "'prompt' and 'items'; found: text. Export as JSON"),
        ({"data": None}, "found: id, annotations"),
        ({"data": {"prompt": "p", "items": [ITEMS[0], ITEMS[0]]}}, "an 'id' of its own"),
        ({"data": {"prompt": "p", "items": [{"id": "a"}]}}, "'data.items.body' must be a text"),
        ({"annotations": {}}, "'annotations' must be a list"),
        ({"annotations": [{}]}, "every annotation must have a list 'result'"),
    ],
)
def test_a_bad_task_is_refused_with_the_mend(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=complaint):
        imported(task(["llm_1", "llm_2", "llm_3"], **fields))


def test_an_export_has_one_task_with_an_annotation_for_each_person() -> None:
    records = [
        ranking("b", (1, 1, 2), task="t", rater="bob", seconds=4.5),
        ranking("a", (1, 2, 3), task="t", rater="ann"),
    ]
    mended = demonstration("d", corrects=AnswerRecord(text="Blu."), task="t")
    options = ExportOptions(format=Format.LABEL_STUDIO)
    both, correction = json.loads(written(records, options, demonstrations=[mended]))
    assert both["data"]["items"][1] == {"id": "answer-2", "title": "Answer 2", "body": "It is blue."}
    first, second = (annotation["result"][0] for annotation in both["annotations"])
    assert first["value"] == {
        "ranker": {"rank-1": ["answer-1"], "rank-2": ["answer-2"], "rank-3": ["answer-3"]}
    }
    assert second["value"] == {"ranker": {"rank-1": ["answer-1", "answer-2"], "rank-2": ["answer-3"]}}
    assert second["meta"]["rater"] == "bob"
    assert both["annotations"][1]["lead_time"] == 4.5
    assert correction["meta"]["kind"] == "correction"
    assert [item["body"] for item in correction["data"]["items"]] == ["Blue, mostly.", "Blu."]


def test_the_export_does_not_show_raters_who_wrote_an_answer() -> None:
    (made,) = json.loads(written([ranking()], ExportOptions(format=Format.LABEL_STUDIO)))
    assert "policy" not in json.dumps(made["data"])
    assert made["meta"]["sources"][0]["model"] == "policy"


@pytest.mark.parametrize("conversational", [False, True])
def test_the_labelling_interface_is_xml_that_names_what_the_tasks_have(conversational: bool) -> None:
    root = ElementTree.fromstring(config(4, conversational=conversational))
    assert {element.get("value") for element in root} == {"$prompt", "$items", None}
    names = [bucket.get("name") for bucket in root.iter("Bucket")]
    assert names == ["rank-1", "rank-2", "rank-3", "rank-4"]


def test_conversations_are_exported_as_messages() -> None:
    (made,) = json.loads(written([ranking(prompt=CHAT)], ExportOptions(format=Format.LABEL_STUDIO)))
    assert made["data"]["prompt"][0] == {"role": "system", "content": "Be brief."}
