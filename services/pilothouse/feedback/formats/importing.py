"""Files of other tools, or of an export, as rankings."""

from collections.abc import Callable, Iterator

from pilothouse.errors import InvalidDataError, InvalidRequestError
from pilothouse.feedback.formats.argilla import read_record
from pilothouse.feedback.formats.comparisons import (
    PREFERENCE_COLUMNS,
    RANKING_COLUMNS,
    read_implicit,
    read_preference,
    read_ranking,
)
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.formats.label_studio import read_task
from pilothouse.feedback.formats.located import (
    Limits,
    Located,
    read_json_array,
    read_json_lines,
    read_parquet,
)
from pilothouse.feedback.formats.options import FileFormat, Format

_READERS: dict[Format, Callable[[Located, Limits], Iterator[ImportedRanking]]] = {
    Format.RANKING: read_ranking,
    Format.PREFERENCE: read_preference,
    Format.PREFERENCE_IMPLICIT: read_implicit,
    Format.LABEL_STUDIO: read_task,
    Format.ARGILLA: read_record,
}
_COLUMNS = {
    Format.RANKING: RANKING_COLUMNS,
    Format.PREFERENCE: PREFERENCE_COLUMNS,
    Format.PREFERENCE_IMPLICIT: PREFERENCE_COLUMNS,
}


def read(
    data: bytes, format: Format, file_format: FileFormat = FileFormat.JSONL, limits: Limits | None = None
) -> Iterator[ImportedRanking]:
    """Yields the rankings of a file, in its order.

    Args:
        data: The file.
        format: Shape of its records.
        file_format: How it is written. Label Studio's and Argilla's files are JSON, whatever this says.
        limits: What the file may have.

    Raises:
        InvalidRequestError: Files of this format hold no rankings.
        InvalidDataError: The file or one of its records cannot be used; the message names the place and the
            mend.
    """
    reader = _READERS.get(format)
    if reader is None:
        known = ", ".join(_READERS)
        raise InvalidRequestError(f"files of the format {format} hold no rankings; import one of {known}")
    limits = limits or Limits()
    empty = True
    for record in _records(data, format, file_format, limits):
        empty = False
        yield from reader(record, limits)
    if empty:
        raise InvalidDataError("the file holds no records; give one with at least one")


def _records(data: bytes, format: Format, file_format: FileFormat, limits: Limits) -> Iterator[Located]:
    if format.is_json:
        return read_json_array(data, limits)
    if file_format is FileFormat.PARQUET:
        return read_parquet(data, _COLUMNS[format], limits)
    return read_json_lines(data, limits)
