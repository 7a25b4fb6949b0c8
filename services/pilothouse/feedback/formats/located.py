"""The bytes of an imported file as located records, so that every complaint can name its place.

What comes in is not trusted: duplicate keys, NaN, numbers beyond 64 bits, bytes that are not UTF-8, nesting
beyond all reason and files that swell when unpacked are refused by name.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn

from pilothouse.errors import InvalidDataError

MAX_UNPACKED_FACTOR = 8
"""A Parquet file may unpack to so many times the largest file."""

_BATCH_ROWS = 64
_BOM = b"\xef\xbb\xbf"
_LARGEST = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an import may have."""

    max_bytes: int = 256 * 2**20
    """Largest file."""
    max_records: int = 1_000_000
    """Most records of a file."""
    max_text_characters: int = 32_768
    """Longest prompt, answer or message."""


@dataclass(frozen=True, slots=True)
class Located:
    """One object of a file and where it stands."""

    place: str
    """For messages, for example ``line 3``."""
    fields: Mapping[str, Any]
    """What is not null."""

    def refuse(self, problem: str) -> NoReturn:
        """Says what is wrong with this record.

        Raises:
            InvalidDataError: Always.
        """
        raise InvalidDataError(f"{self.place}: {problem}")


def read_json_lines(data: bytes, limits: Limits) -> Iterator[Located]:
    """Yields the objects of a file with one on each line. Blank lines are skipped.

    Raises:
        InvalidDataError: The file is too large, or a line is no JSON object.
    """
    _check_size(data, limits)
    lines = BytesIO(data.removeprefix(_BOM))
    count = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        count += 1
        _check_count(count, limits)
        place = f"line {number}"
        try:
            value = _DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            raise _unreadable(place, error, "write one JSON object on each line") from None
        yield _located(place, value)


def read_json_array(data: bytes, limits: Limits) -> Iterator[Located]:
    """Yields the objects of one JSON array; a file with one object a line is taken as well.

    Raises:
        InvalidDataError: The file is too large, or is no array of JSON objects.
    """
    _check_size(data, limits)
    if not data.removeprefix(_BOM).lstrip().startswith(b"["):
        yield from read_json_lines(data, limits)
        return
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise _unreadable("the file", error, "") from None
    yield from _elements(text, limits)


def read_parquet(data: bytes, columns: Sequence[str], limits: Limits) -> Iterator[Located]:
    """Yields the rows of a Parquet file.

    Args:
        data: The file.
        columns: The only columns that are read, where they exist.
        limits: What the file may have.

    Raises:
        InvalidDataError: It is no Parquet file, or is too large, packed or unpacked.
    """
    import pyarrow as arrow
    from pyarrow.parquet import ParquetFile

    _check_size(data, limits)
    number = 0
    try:
        with ParquetFile(arrow.BufferReader(data)) as file:
            _check_unpacked(file.metadata, limits)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise InvalidDataError("two columns have the same name; rename one")
            wanted = [name for name in names if name in columns]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
                for fields in batch.to_pylist():
                    number += 1
                    yield _located(f"row {number}", fields)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(
            f"the file cannot be read as Parquet ({str(error)[:200]}); write it anew, or import JSONL"
        ) from None


def _elements(text: str, limits: Limits) -> Iterator[Located]:
    """Yields the elements of a JSON array one by one: the whole never lies in memory as objects."""
    position, count = _after_space(text, text.index("[") + 1), 0
    if text[position : position + 1] == "]":
        return
    while True:
        count += 1
        _check_count(count, limits)
        place = f"record {count}"
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _unreadable(place, error, "save the export of the tool again") from None
        yield _located(place, value)
        position = _after_space(text, position)
        sign = text[position : position + 1]
        if sign == "]":
            break
        if sign != ",":
            raise InvalidDataError(
                f"behind {place} a comma or the closing bracket is missing; the file is cut off"
            )
        position = _after_space(text, position + 1)
    if _after_space(text, position + 1) != len(text):
        raise InvalidDataError("there is something behind the closing bracket; give one JSON array")


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def _located(place: str, value: object) -> Located:
    if not isinstance(value, dict):
        raise InvalidDataError(f"{place}: expected a JSON object, got {type(value).__name__}; write {{...}}")
    return Located(place, {key: item for key, item in value.items() if item is not None})


def _unreadable(place: str, error: Exception, mend: str) -> InvalidDataError:
    if isinstance(error, UnicodeDecodeError):
        return InvalidDataError(f"{place}: the bytes are not UTF-8; save the file as UTF-8")
    if isinstance(error, RecursionError):
        return InvalidDataError(f"{place}: the values are nested too deeply; flatten them")
    if isinstance(error, json.JSONDecodeError):
        return InvalidDataError(f"{place}: not valid JSON ({error.msg} at column {error.colno}); {mend}")
    return InvalidDataError(f"{place}: {error}")


def _check_size(data: bytes, limits: Limits) -> None:
    if len(data) > limits.max_bytes:
        raise InvalidDataError(
            f"the file has {len(data)} bytes, the limit is {limits.max_bytes}; import it in parts"
        )


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_records:
        raise InvalidDataError(f"the file has more than {limits.max_records} records; import it in parts")


def _check_unpacked(metadata: Any, limits: Limits) -> None:
    _check_count(metadata.num_rows, limits)
    unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if unpacked > MAX_UNPACKED_FACTOR * limits.max_bytes:
        raise InvalidDataError(
            f"the file unpacks to {unpacked} bytes, the limit is {MAX_UNPACKED_FACTOR * limits.max_bytes}; "
            "import it in parts"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} comes twice in one object; keep one")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write a number or null")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST <= (number := int(digits)) < _LARGEST:
        raise ValueError(f"the number {digits[:24]}... does not fit 64 bits; write it as a text")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:24]} is too large; write a finite one")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_number
)
