"""People's judgements as a data set: manifest, data files and card, the same bytes for the same records."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pilothouse.feedback.formats import argilla, card, label_studio
from pilothouse.feedback.formats.columns import Column, columns
from pilothouse.feedback.formats.contents import Contents, count, gather
from pilothouse.feedback.formats.judged import Judged
from pilothouse.feedback.formats.manifest import Agreement, DataFile, describe, manifest
from pilothouse.feedback.formats.options import ExportOptions, FileFormat, Format, Split
from pilothouse.feedback.formats.tables import (
    Row,
    demonstration_rows,
    implicit_rows,
    preference_rows,
    ranking_rows,
    unpaired_rows,
)
from pilothouse.feedback.formats.writing import json_array, json_lines, parquet
from pilothouse.feedback.records import DemonstrationRecord, RankingRecord

_ROWS: dict[Format, Callable[[Iterable[Judged], bool], Iterator[Row]]] = {
    Format.RANKING: ranking_rows,
    Format.PREFERENCE: preference_rows,
    Format.PREFERENCE_IMPLICIT: implicit_rows,
    Format.UNPAIRED: unpaired_rows,
    Format.LABEL_STUDIO: label_studio.tasks,
    Format.ARGILLA: argilla.records,
}
_NAMES = {Split.ALL: "data", Split.TRAIN: Split.TRAIN.value, Split.HELD_OUT: Split.HELD_OUT.value}


@dataclass(frozen=True, slots=True)
class DataSet:
    """An export."""

    manifest: str
    """JSON."""
    files: tuple[DataFile, ...]
    """The data, then the card."""


def export(
    rankings: Iterable[RankingRecord],
    demonstrations: Iterable[DemonstrationRecord],
    options: ExportOptions,
    *,
    agreement: Agreement | None = None,
) -> DataSet:
    """Makes a data set. Rankings of gold tasks are left out, whatever the format.

    Args:
        rankings: In any order, those of vetoed prompts left out.
        demonstrations: In any order, those of vetoed prompts and of gold tasks left out.
        options: Which of them, in which shape.
        agreement: What manifest and card say of the people's agreement, over the part that is asked for.
    """
    contents = gather(rankings, demonstrations, options)
    shape = columns(options.format, conversational=contents.conversational)
    written = _Counter()
    data = [
        DataFile(name, tuple(_bytes(written.count(rows), shape, options)))
        for name, rows in _tables(contents, options)
    ]
    description = describe(contents, count(contents), shape, options, agreement or {})
    names = [file.name for file in data]
    text = card.card(description, contents, shape, options, names, written.rows)
    files = (*data, DataFile(card.NAME, (text.encode(),)))
    return DataSet(manifest({"records": written.rows, **description}, files), files)


class _Counter:
    """Counts rows as they pass."""

    rows = 0

    def count(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            yield row


def _tables(contents: Contents, options: ExportOptions) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yields the name and the rows of every data file."""
    stem, chat = _NAMES[options.split], contents.conversational
    if options.format is Format.DEMONSTRATION:
        yield f"{stem}.{options.file_format}", demonstration_rows(contents.demonstrations, chat)
    elif options.format is Format.ARGILLA:
        for size in sorted({len(item.ranks) for item in contents.rankings}):
            items = [item for item in contents.rankings if len(item.ranks) == size]
            yield f"{stem}-{size}-answers.json", argilla.records(items, chat)
    else:
        ending = "json" if options.format.is_json else options.file_format
        yield f"{stem}.{ending}", _ROWS[options.format](contents.rankings, chat)


def _bytes(rows: Iterator[Row], shape: Sequence[Column], options: ExportOptions) -> Iterator[bytes]:
    if options.format.is_json:
        return json_array(rows)
    return parquet(rows, shape) if options.file_format is FileFormat.PARQUET else json_lines(rows)
