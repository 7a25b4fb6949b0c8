"""What is exported and imported again says the same."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.feedback.formats.samples import asked, rankings, said

from pilothouse.feedback.formats.argilla import user_id
from pilothouse.feedback.formats.exporting import export
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.formats.importing import read
from pilothouse.feedback.formats.judged import judge, pairs
from pilothouse.feedback.formats.options import ExportOptions, FileFormat, Format
from pilothouse.feedback.records import RankingRecord

FILES = [FileFormat.JSONL, FileFormat.PARQUET]
EXAMPLES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def again(
    records: list[RankingRecord], format: Format, file_format: FileFormat, conversational: bool
) -> list[ImportedRanking]:
    options = ExportOptions(format=format, file_format=file_format, conversational=conversational)
    files = export(records, [], options).files[:-1]
    return [ranking for file in files for ranking in read(b"".join(file.chunks), format, options.file_format)]


def heard(found: Iterable[ImportedRanking]) -> set[Any]:
    """What imported rankings say, as `said`."""
    return {
        (
            item.rater,
            item.submitted_at,
            item.prompt,
            frozenset((answer.text, rank) for answer, rank in zip(item.answers, item.ranks, strict=True)),
        )
        for item in found
    }


def expected(records: list[RankingRecord], conversational: bool) -> list[RankingRecord]:
    """The records as an export says them; it must say something."""
    kept = [record for record in records if judge(record)]
    assume(kept)
    chat = conversational or any(record.prompt.messages for record in records)
    return [asked(record, conversational=chat) for record in kept]


@pytest.mark.parametrize("file_format", FILES)
@EXAMPLES
@given(records=rankings(), conversational=st.booleans())
def test_rankings_come_back_whole(
    records: list[RankingRecord], conversational: bool, file_format: FileFormat
) -> None:
    wanted = expected(records, conversational)
    found = again(records, Format.RANKING, file_format, conversational)
    assert heard(found) == said(wanted)
    sources = {(answer.text, answer.source) for record in wanted for answer in record.answers}
    assert {(answer.text, answer.source) for item in found for answer in item.answers} == sources


@EXAMPLES
@given(records=rankings(), conversational=st.booleans())
def test_label_studio_gives_rankings_back_whole(records: list[RankingRecord], conversational: bool) -> None:
    wanted = expected(records, conversational)
    found = again(records, Format.LABEL_STUDIO, FileFormat.JSONL, conversational)
    assert heard(found) == said(wanted)


@EXAMPLES
@given(records=rankings(), conversational=st.booleans())
def test_argilla_gives_rankings_back_without_times(
    records: list[RankingRecord], conversational: bool
) -> None:
    wanted = {(user_id(rater), 0.0, *rest) for rater, _, *rest in said(expected(records, conversational))}
    assert heard(again(records, Format.ARGILLA, FileFormat.JSONL, conversational)) == wanted


def ordered(records: list[RankingRecord]) -> list[Any]:
    """(prompt, chosen, rejected) of all pairs."""
    items = [item for record in records if (item := judge(record))]
    return sorted(
        (repr(item.record.prompt), better, worse) for item in items for better, worse in pairs(item)
    )


def chosen(found: Iterable[ImportedRanking]) -> list[Any]:
    """The same, of imported rankings."""
    pairs = []
    for item in found:
        better, worse = sorted(zip(item.ranks, [answer.text for answer in item.answers], strict=True))
        assert (better[0], worse[0]) == (1, 2)
        pairs.append((repr(item.prompt), better[1], worse[1]))
    return sorted(pairs)


@pytest.mark.parametrize("file_format", FILES)
@EXAMPLES
@given(records=rankings(), conversational=st.booleans())
def test_preferences_give_every_pair_back(
    records: list[RankingRecord], conversational: bool, file_format: FileFormat
) -> None:
    wanted = ordered(expected(records, conversational))
    assume(wanted)
    assert chosen(again(records, Format.PREFERENCE, file_format, conversational)) == wanted


@pytest.mark.parametrize("file_format", FILES)
@EXAMPLES
@given(records=rankings())
def test_conversational_preferences_with_implicit_prompt_give_every_pair_back(
    records: list[RankingRecord], file_format: FileFormat
) -> None:
    wanted = ordered(expected(records, True))
    assume(wanted)
    assert chosen(again(records, Format.PREFERENCE_IMPLICIT, file_format, True)) == wanted


@EXAMPLES
@given(records=rankings())
def test_reading_twice_gives_the_same_rankings(records: list[RankingRecord]) -> None:
    expected(records, False)
    for format in (Format.RANKING, Format.LABEL_STUDIO, Format.ARGILLA):
        once, twice = (again(records, format, FileFormat.JSONL, False) for _ in range(2))
        assert [(item.content, item.record) for item in once] == [
            (item.content, item.record) for item in twice
        ]
