"""Records to write and read: some by hand, any by hypothesis."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from pilothouse.feedback.formats.exporting import DataSet, export
from pilothouse.feedback.formats.judged import judge
from pilothouse.feedback.formats.options import ExportOptions
from pilothouse.feedback.records import (
    AnswerRecord,
    DemonstrationRecord,
    PromptRecord,
    RankingRecord,
    Source,
)

SKY = PromptRecord(text="What colour is the sky?", source="list")
CHAT = PromptRecord(messages=(("system", "Be brief."), ("user", "And the grass?")))


def ranking(
    id: str = "r1",
    ranks: tuple[int, ...] = (2, 1, 3),
    *,
    vetoed: tuple[int, ...] = (),
    texts: tuple[str, ...] = ("It is grey.", "It is blue.", "No idea.", "Green."),
    **fields: Any,
) -> RankingRecord:
    answers = tuple(
        AnswerRecord(
            text=text, source=Source(model="policy", version=position + 1), vetoed=position in vetoed
        )
        for position, text in enumerate(texts[: len(ranks)])
    )
    standard: dict[str, Any] = {
        "task": f"task-{id}",
        "queue": "main",
        "prompt": SKY,
        "order": tuple(reversed(range(len(ranks)))),
        "rater": "calm-otter",
        "submitted_at": 1_700_000_000.25,
    }
    return RankingRecord(id=id, answers=answers, ranks=ranks, **standard | fields)


def demonstration(id: str = "d1", text: str = "Blue, mostly.", **fields: Any) -> DemonstrationRecord:
    standard: dict[str, Any] = {
        "task": f"task-{id}",
        "queue": "main",
        "prompt": SKY,
        "corrects": None,
        "rater": "calm-otter",
        "submitted_at": 1_700_000_500.0,
    }
    return DemonstrationRecord(id=id, text=text, **standard | fields)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)
ROLES = st.sampled_from(["system", "user", "assistant"])
PROMPTS = st.one_of(
    st.builds(PromptRecord, text=TEXTS),
    st.builds(PromptRecord, messages=st.lists(st.tuples(ROLES, TEXTS), min_size=1, max_size=3).map(tuple)),
)
SOURCES = st.builds(
    Source,
    model=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
    version=st.integers(0, 2**40),
    temperature=st.floats(0, 2),
    seed=st.integers(-(2**63), 2**63 - 1),
)


@st.composite
def rankings(draw: st.DrawFn) -> list[RankingRecord]:
    """A few tasks, each ranked by one to three people; some answers vetoed, ranks tied at will."""
    found = []
    for task in range(draw(st.integers(1, 4))):
        prompt = draw(PROMPTS)
        texts = draw(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
        vetoes = draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
        answers = tuple(
            AnswerRecord(text=text, source=draw(SOURCES), vetoed=vetoed)
            for text, vetoed in zip(texts, vetoes, strict=True)
        )
        for rater in range(draw(st.integers(1, 3))):
            ranks = draw(st.lists(st.integers(1, len(texts)), min_size=len(texts), max_size=len(texts)))
            found.append(
                RankingRecord(
                    id=f"{task}-{rater}",
                    task=f"task-{task}",
                    queue="main",
                    prompt=prompt,
                    answers=answers,
                    ranks=tuple(ranks),
                    order=tuple(range(len(texts))),
                    rater=f"rater-{rater}",
                    submitted_at=draw(st.floats(0, 2e9)),
                    comment=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
                )
            )
    return found


def data(exported: DataSet) -> bytes:
    """The bytes of the first data file."""
    return b"".join(exported.files[0].chunks)


def written(records: list[RankingRecord], options: ExportOptions, **more: Any) -> bytes:
    """The bytes of the first data file of an export of rankings."""
    return data(export(records, more.pop("demonstrations", []), options, **more))


def said(records: list[RankingRecord]) -> set[Any]:
    """What rankings say, in a form that knows no positions: rater, time, prompt, rank by answer."""
    return {
        (
            item.record.rater,
            item.record.submitted_at,
            item.record.prompt,
            frozenset(
                (answer.text, rank) for answer, rank in zip(item.record.answers, item.ranks, strict=True)
            ),
        )
        for record in records
        if (item := judge(record))
    }


def asked(record: RankingRecord, *, conversational: bool) -> RankingRecord:
    """The record with its prompt as a conversation where the export is one, and without its source."""
    prompt = record.prompt
    if conversational and not prompt.messages:
        return replace(record, prompt=PromptRecord(messages=(("user", prompt.text),)))
    return replace(record, prompt=replace(prompt, source=""))


def realistic(count: int, answers: int = 4) -> list[RankingRecord]:
    """Rankings of texts of 200 to 400 characters."""
    words = [f"word{number}" for number in range(400)]
    source = random.Random(0)

    def text() -> str:
        return " ".join(source.choices(words, k=source.randint(30, 57)))

    return [
        RankingRecord(
            id=f"{number:08d}",
            task=f"task-{number // 3}",
            queue="main",
            prompt=PromptRecord(text=text()),
            answers=tuple(
                AnswerRecord(text=text(), source=Source(model="policy", run="run-7", version=number % 9))
                for _ in range(answers)
            ),
            ranks=tuple(source.sample(range(1, answers + 1), answers)),
            order=tuple(range(answers)),
            rater=f"rater-{number % 40}",
            submitted_at=1.7e9 + number,
            seconds=20.5,
        )
        for number in range(count)
    ]
