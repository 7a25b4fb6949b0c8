"""Records of Argilla 2 with a ranking question.

A record has the fields ``prompt``, ``answer-1``, ``answer-2``, ... and the question ``ranking``, whose
options are the names of the answers' fields. All records of a data set of Argilla have the same options, so
that tasks with different numbers of answers are files of their own.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from blake3 import blake3

from pilothouse.feedback.formats.fields import answer_of, name_of, prompt_of, ranks_of, time_of
from pilothouse.feedback.formats.imported import ImportedRanking, imported
from pilothouse.feedback.formats.judged import Judged, by_task
from pilothouse.feedback.formats.located import Limits, Located
from pilothouse.feedback.formats.tables import Row, asked
from pilothouse.feedback.records import MAX_ANSWERS

QUESTION = "ranking"
MAX_RESPONSES = 1000
"""Most responses of an imported record."""

_SUBMITTED = ("submitted", None)
"""Where there is no status, as in older files, a response is a submitted one."""


def settings(answers: int, *, conversational: bool) -> str:
    """Returns the Python that makes Argilla's settings for tasks with so many answers."""
    names = [f"answer-{number}" for number in range(1, answers + 1)]
    prompt = "rg.ChatField" if conversational else "rg.TextField"
    fields = "".join(f'        rg.TextField(name="{name}"),\n' for name in names)
    return (
        f'rg.Settings(\n    fields=[\n        {prompt}(name="prompt"),\n{fields}    ],\n'
        f'    questions=[rg.RankingQuestion(name="{QUESTION}", values={names})],\n)\n'.replace("'", '"')
    )


def records(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one record for each set of answers; a correction is a record of its own.

    Args:
        items: In any order; all with the same number of answers.
        conversational: Whether the prompt is written as messages.
    """
    for rankings in by_task(items):
        record, kind = rankings[0].record, rankings[0].kind
        names = [f"answer-{number}" for number in range(1, len(record.answers) + 1)]
        texts = [answer.text for answer in record.answers]
        yield {
            "id": record.id if kind == "correction" else record.task,
            "fields": {
                "prompt": asked(record.prompt, conversational),
                **dict(zip(names, texts, strict=True)),
            },
            "metadata": {"task": record.task, "queue": record.queue, "kind": kind},
            "suggestions": {},
            "responses": {QUESTION: [_response(item, names) for item in rankings]},
            "vectors": {},
        }


def user_id(rater: str) -> str:
    """Returns the UUID that stands for a pseudonym: Argilla knows people by such."""
    return str(UUID(bytes=blake3(rater.encode()).digest(length=16), version=4))


def _response(item: Judged, names: list[str]) -> Row:
    return {
        "value": [{"value": name, "rank": rank} for name, rank in zip(names, item.ranks, strict=True)],
        "user_id": user_id(item.record.rater),
        "status": "submitted",
    }


def read_record(record: Located, limits: Limits) -> Iterator[ImportedRanking]:
    """Yields the rankings of a record; the task alone where nobody ranked it.

    Takes records as `records` writes them, and as Argilla's HTTP API and Argilla 1 give them, with one entry
    of ``responses`` for each person. The options of the question must be names of fields; the prompt is the
    field ``prompt``, or the only other one. Drafts, discarded responses and suggestions are left out.

    Raises:
        InvalidDataError: The record is not as described above; or its rankings are without ranks, as the
            Python client returns them: their order is that of the options, whatever people said.
    """
    fields = record.fields.get("fields")
    fields = {name: field for name, field in fields.items() if field} if isinstance(fields, dict) else {}
    if not 3 <= len(fields) <= 4 * MAX_ANSWERS:
        record.refuse("a record has 'fields' with the prompt and the answers; import a list of such records")
    responses = [response for response in _responses(record) if response.get("status") in _SUBMITTED]
    ranked = [_ranked(record, response["value"]) for response in responses]
    options = [name for name in fields if (name in ranked[0] if ranked else name != "prompt")]
    for ranks in ranked:
        if ranks.keys() != set(options):
            record.refuse("the options of the ranking are no fields of the record; name them like the fields")
    others = [name for name in fields if name not in options]
    if len(others) != 1 and "prompt" not in others:
        record.refuse(f"nothing tells the prompt among {', '.join(others)[:200]}; name its field 'prompt'")
    name = "prompt" if "prompt" in others else others[0]
    prompt = prompt_of(record, name, fields[name], limits)
    texts = [answer_of(record, option, fields[option], limits) for option in options]
    for response, ranks in zip(responses, ranked, strict=True):
        yield imported(
            record,
            prompt=prompt,
            texts=texts,
            ranks=ranks_of(record, "rank", [ranks[option] for option in options], len(options)),
            rater=name_of(record, "user_id", response.get("user_id")),
            submitted_at=time_of(record, "inserted_at", response.get("inserted_at")),
            id=record.fields.get("id"),
        )
    if not responses:
        yield imported(record, prompt=prompt, texts=texts)


def _responses(record: Located) -> Iterator[Mapping[str, Any]]:
    """Yields what was said to the one question, with ``value``, ``user_id``, ``status``, ``inserted_at``."""
    said = record.fields.get("responses", {})
    if not isinstance(said, dict | list) or len(said) > MAX_RESPONSES:
        record.refuse(f"'responses' must be a list of at most {MAX_RESPONSES}, or one for each question")
    if isinstance(said, dict):
        entries = _ranking(record, said) if said else []
        if not isinstance(entries, list) or len(entries) > MAX_RESPONSES:
            record.refuse(f"the responses of a question must be a list of at most {MAX_RESPONSES}")
    else:
        entries = [
            entry | value
            for entry in said
            if isinstance(entry, dict) and isinstance(entry.get("values"), dict) and entry["values"]
            if isinstance(value := _ranking(record, entry["values"]), dict)
        ]
    for entry in entries:
        if not isinstance(entry, dict) or "value" not in entry:
            record.refuse("every response must have a 'value'")
        yield entry


def _ranking(record: Located, questions: Mapping[str, Any]) -> Any:
    if len(questions) > 1 and QUESTION not in questions:
        names = ", ".join(questions)[:200]
        record.refuse(f"there are several questions: {names}; name the ranking '{QUESTION}'")
    return questions[QUESTION] if QUESTION in questions else next(iter(questions.values()))


def _ranked(record: Located, value: Any) -> dict[str, Any]:
    """Returns rank by option."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        record.refuse(
            "the ranking is without ranks: Argilla's Python client drops them; take the records from its "
            "HTTP API, where a response has {'value', 'rank'} for every option"
        )
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("value"), str) for item in value
    ):
        record.refuse("the value of a response must be a list of {'value', 'rank'}: the question a ranking")
    ranks = {item["value"]: item.get("rank") for item in value}
    if len(ranks) < len(value):
        record.refuse("a response ranks an option twice; rank each once")
    return ranks
