"""Rows as bytes: JSON lines, a JSON array, Parquet. The same rows give the same bytes.

Parquet names the library that wrote it inside the file, so that there the bytes are the same for the same
version of pyarrow.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from pilothouse.feedback.formats.columns import Column
from pilothouse.feedback.formats.tables import Row

CHUNK_BYTES = 1 << 20
"""Most bytes of a chunk: one message of a stream."""
ROW_GROUP_ROWS = 5000
"""Rows of a Parquet row group."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_lines(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yields one JSON object a line, in chunks."""
    return _chunks(_encode(row) + "\n" for row in rows)


def json_array(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yields a JSON array with one object a line, in chunks."""
    return _chunks(_array(rows))


def parquet(rows: Iterable[Row], columns: Sequence[Column]) -> Iterator[bytes]:
    """Yields a Parquet file in chunks; of the rows, one row group is held at a time.

    Args:
        rows: Every one has all the columns.
        columns: Names and kinds, in order.
    """
    import pyarrow as arrow
    from pyarrow.parquet import ParquetWriter

    schema = arrow.schema([arrow.field(column.name, _arrow_type(column), False) for column in columns])
    sink = _Sink()
    rows = iter(rows)
    with ParquetWriter(
        sink, schema, version="2.6", compression="zstd", compression_level=3, store_schema=False
    ) as writer:
        while part := list(islice(rows, ROW_GROUP_ROWS)):
            batch = arrow.RecordBatch.from_pylist(part, schema=schema)
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
            yield from _pieces(sink.take())
    yield from _pieces(sink.take())


class _Sink:
    """A file to write to, whose bytes are taken out as they come."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _array(rows: Iterable[Row]) -> Iterator[str]:
    start = "[\n"
    for row in rows:
        yield start + _encode(row)
        start = ",\n"
    yield "\n]\n" if start == ",\n" else "[]\n"


def _chunks(texts: Iterable[str]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for text in texts:
        data = text.encode()
        parts.append(data)
        size += len(data)
        if size >= CHUNK_BYTES:
            yield from _pieces(b"".join(parts))
            parts.clear()
            size = 0
    yield from _pieces(b"".join(parts))


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _arrow_type(column: Column) -> Any:
    import pyarrow as arrow

    messages = arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())]))
    source = arrow.struct(
        [
            ("model", arrow.string()),
            ("run", arrow.string()),
            ("version", arrow.int64()),
            ("temperature", arrow.float64()),
            ("seed", arrow.int64()),
        ]
    )
    return {
        "text": arrow.string(),
        "number": arrow.float64(),
        "yes or no": arrow.bool_(),
        "texts": arrow.list_(arrow.string()),
        "integers": arrow.list_(arrow.int64()),
        "messages": messages,
        "conversations": arrow.list_(messages),
        "sources": arrow.list_(source),
    }[column.kind]
