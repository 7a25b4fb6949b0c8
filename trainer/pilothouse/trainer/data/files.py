"""JSONL and Parquet files as located records, so that every complaint can name its file and line."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pilothouse.errors import InvalidDataError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz")
"""Names of files with one JSON object per line."""
PARQUET_SUFFIXES = (".parquet",)
"""Names of Parquet files."""


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a data file and where it stands."""

    file: Path
    """The file."""
    number: int
    """Line of a JSONL file or row of a Parquet file, counted from 1."""
    fields: Mapping[str, Any]
    """The columns that are not null."""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.file}, {'row' if self.file.suffix == '.parquet' else 'line'} {self.number}"

    @property
    def id(self) -> str:
        """The record's own id, or one made of its file and line."""
        own = self.fields.get("id")
        return str(own) if isinstance(own, str | int) and str(own) else f"{self.file.name}:{self.number}"

    def refuse(self, problem: str) -> NoReturn:
        """Says what is wrong with this record.

        Raises:
            InvalidDataError: Always.
        """
        raise InvalidDataError(f"{self.place}: {problem}")


def read_records(files: Path | str | Sequence[Path | str]) -> Iterator[Record]:
    """Yields the records of one file, or of several in turn. Blank lines of JSONL are skipped.

    Args:
        files: ``.jsonl``, ``.ndjson``, ``.jsonl.gz`` or ``.parquet`` files.

    Raises:
        InvalidDataError: A file is missing, of another kind, or cannot be parsed.
    """
    for name in [files] if isinstance(files, Path | str) else files:
        file = Path(name)
        if not file.is_file():
            raise InvalidDataError(f"there is no data file {file}; give the path of a JSONL or Parquet file")
        if file.name.endswith(JSON_SUFFIXES):
            yield from _json_lines(file)
        elif file.name.endswith(PARQUET_SUFFIXES):
            yield from _parquet_rows(file)
        else:
            kinds = ", ".join(JSON_SUFFIXES + PARQUET_SUFFIXES)
            raise InvalidDataError(f"{file} is none of {kinds}; convert it to one of these")


def _json_lines(file: Path) -> Iterator[Record]:
    with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = Record(file, number, {})
            try:
                fields = json.loads(line)
            except UnicodeDecodeError:
                record.refuse("the bytes are not UTF-8; save the file as UTF-8")
            except json.JSONDecodeError as error:
                record.refuse(
                    f"not valid JSON ({error.msg} at column {error.colno}); write one object per line"
                )
            if not isinstance(fields, dict):
                record.refuse(
                    f"expected a JSON object, got {type(fields).__name__}; write {{...}} on each line"
                )
            yield Record(file, number, {key: value for key, value in fields.items() if value is not None})


def _parquet_rows(file: Path) -> Iterator[Record]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(file)
    except (arrow.ArrowInvalid, OSError) as error:
        raise InvalidDataError(f"{file} is not a Parquet file ({error}); write it anew") from None
    number = 0
    with table:
        for batch in table.iter_batches(batch_size=1024):
            for fields in batch.to_pylist():
                number += 1
                yield Record(file, number, {key: value for key, value in fields.items() if value is not None})
