"""Label Studio's ``Ranker``: tasks with one annotation for each ranking, as its importer takes them.

A task's ``data`` has ``prompt`` and ``items``, as in Label Studio's template for ranking. Each rank is a
bucket ``rank-1``, ``rank-2``, ...: a plain list could not say that two answers are equal. `config` is the
labelling interface that shows them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pilothouse.feedback.formats.fields import name_of, prompt_of, text_of, time_of
from pilothouse.feedback.formats.imported import ImportedRanking, imported
from pilothouse.feedback.formats.judged import Judged, by_task
from pilothouse.feedback.formats.located import Limits, Located
from pilothouse.feedback.formats.tables import Row, asked, source
from pilothouse.feedback.records import MAX_ANSWERS

MAX_ANNOTATIONS = 1000
"""Most annotations of an imported task."""

_LIST_KEY = "_"
"""Where Label Studio keeps what is in no bucket."""


def config(answers: int, *, conversational: bool) -> str:
    """Returns the labelling interface for tasks with at most so many answers."""
    prompt = (
        '<Paragraphs name="prompt" value="$prompt" layout="dialogue" nameKey="role" textKey="content"/>'
        if conversational
        else '<Text name="prompt" value="$prompt"/>'
    )
    buckets = "\n".join(
        f'    <Bucket name="rank-{rank}" title="Rank {rank}"/>' for rank in range(1, answers + 1)
    )
    return (
        f'<View>\n  {prompt}\n  <List name="answers" value="$items" title="Answers"/>\n'
        f'  <Ranker name="ranking" toName="answers">\n{buckets}\n  </Ranker>\n</View>\n'
    )


def tasks(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one task for each set of answers; a correction is a task of its own.

    Args:
        items: In any order.
        conversational: Whether the prompt is written as messages.
    """
    for rankings in by_task(items):
        record = rankings[0].record
        yield {
            "data": {
                "prompt": asked(record.prompt, conversational),
                "items": [
                    {"id": f"answer-{number}", "title": f"Answer {number}", "body": answer.text}
                    for number, answer in enumerate(record.answers, start=1)
                ],
            },
            "meta": {
                "task": record.task,
                "queue": record.queue,
                "kind": rankings[0].kind,
                "prompt_source": record.prompt.source,
                "sources": [source(answer) for answer in record.answers],
            },
            "annotations": [_annotation(item) for item in rankings],
        }


def _annotation(item: Judged) -> Row:
    """Says who ranked in the result: Label Studio refuses annotations of people that it does not know."""
    record = item.record
    buckets: dict[str, list[str]] = {f"rank-{rank}": [] for rank in range(1, max(item.ranks) + 1)}
    for number, rank in enumerate(item.ranks, start=1):
        buckets[f"rank-{rank}"].append(f"answer-{number}")
    return {
        "result": [
            {
                "id": record.id,
                "from_name": "ranking",
                "to_name": "answers",
                "type": "ranker",
                "value": {"ranker": buckets},
                "meta": {"rater": record.rater, "submitted_at": record.submitted_at},
            }
        ],
        "lead_time": record.seconds,
        "was_cancelled": False,
        "ground_truth": False,
    }


def read_task(record: Located, limits: Limits) -> Iterator[ImportedRanking]:
    """Yields the rankings of a task of a JSON export; the task alone where nobody ranked it.

    Cancelled annotations are skips and are left out, and so are predictions.

    Raises:
        InvalidDataError: The task is not as described above.
    """
    data = record.fields.get("data")
    if not isinstance(data, dict) or not {"prompt", "items"} <= data.keys():
        known = ", ".join(data if isinstance(data, dict) else record.fields) or "none"
        record.refuse(
            f"a task has 'data' with 'prompt' and 'items'; found: {known[:200]}. Export as JSON (not "
            "JSON-MIN) and name the fields like this"
        )
    prompt = prompt_of(record, "data.prompt", data["prompt"], limits)
    answers = _items(record, data["items"], limits)
    found = 0
    for annotation in _annotations(record):
        result = _result(record, annotation)
        if result is None:
            continue
        found += 1
        ranks = _ranks(record, result, list(answers))
        meta = result.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        who = meta.get("rater", annotation.get("completed_by"))
        who = who.get("email", who.get("id")) if isinstance(who, dict) else who
        yield imported(
            record,
            prompt=prompt,
            texts=list(answers.values()),
            ranks=ranks,
            rater=name_of(record, "completed_by", who),
            submitted_at=time_of(
                record, "created_at", meta.get("submitted_at", annotation.get("created_at"))
            ),
            id=result.get("id"),
        )
    if not found:
        yield imported(record, prompt=prompt, texts=list(answers.values()))


def _items(record: Located, items: Any, limits: Limits) -> dict[str, str]:
    """Returns text by id."""
    if not isinstance(items, list) or len(items) > MAX_ANSWERS:
        record.refuse(f"'data.items' must be a list of at most {MAX_ANSWERS} answers")
    answers: dict[str, str] = {}
    for item in items:
        name = item.get("id") if isinstance(item, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or str(name) in answers:
            record.refuse("every entry of 'data.items' must have an 'id' of its own and the answer in 'body'")
        answers[str(name)] = text_of(record, "data.items.body", item.get("body"), limits)
    return answers


def _annotations(record: Located) -> Iterator[Mapping[str, Any]]:
    annotations = record.fields.get("annotations", record.fields.get("completions", []))
    if not isinstance(annotations, list) or len(annotations) > MAX_ANNOTATIONS:
        record.refuse(f"'annotations' must be a list of at most {MAX_ANNOTATIONS} annotations")
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            record.refuse("every annotation must have a list 'result'")
        if not annotation.get("was_cancelled"):
            yield annotation


def _result(record: Located, annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns what the Ranker says; None where the annotation has only other tags."""
    found = [
        result
        for result in annotation["result"]
        if isinstance(result, dict) and result.get("type") == "ranker"
    ]
    if len(found) > 1:
        record.refuse("an annotation has two results of a Ranker; use one Ranker in the labelling interface")
    return found[0] if found else None


def _ranks(record: Located, result: Mapping[str, Any], names: list[str]) -> list[int]:
    value = result.get("value")
    ranker = value.get("ranker") if isinstance(value, dict) else None
    if isinstance(ranker, list):  # how older versions write a Ranker without buckets
        ranker = {str(result.get("from_name", _LIST_KEY)): ranker}
    if not isinstance(ranker, dict) or not all(isinstance(part, list) for part in ranker.values()):
        record.refuse("'value.ranker' must give lists of ids by bucket, or one list of ids")
    filled = {name: [str(item) for item in part] for name, part in ranker.items() if part}
    placed = [item for part in filled.values() for item in part]
    if sorted(placed) != sorted(names):
        record.refuse(
            f"the Ranker placed {len(placed)} of {len(names)} answers, and each must be placed once; rank all"
        )
    if len(ranker) == 1 and not _rank_of(next(iter(ranker))):
        return [placed.index(name) + 1 for name in names]
    by_name = {item: _rank_of(bucket) for bucket, part in filled.items() for item in part}
    if not all(by_name.values()):
        unknown = ", ".join(bucket for bucket in filled if not _rank_of(bucket))
        record.refuse(
            f"nothing tells the order of the buckets {unknown[:200]}; name them rank-1, rank-2, ..."
        )
    return [by_name[name] for name in names]


def _rank_of(bucket: str) -> int:
    """Returns the number of a bucket named ``rank-2``, ``rank_2`` or ``2``; 0 for another."""
    digits = bucket.removeprefix("rank").lstrip("-_")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 3 else 0
