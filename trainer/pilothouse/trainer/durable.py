"""Files that survive a crash: whole or not at all, and lines that are appended once."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
"""One JSON object of a JSONL file."""


class Disk:
    """The few operations that durability is made of, in one place so that tests can crash between any two."""

    def write(self, file: Path, data: bytes) -> None:
        """Writes and syncs a file."""
        with file.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def append(self, file: Path, data: bytes) -> None:
        """Appends to a file and syncs it."""
        with file.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def sync(self, path: Path) -> None:
        """Makes a file's bytes, or a folder's entries, durable."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Renames within one folder and makes the new name durable."""
        source.replace(target)
        self.sync(target.parent)

    def remove(self, folder: Path) -> None:
        """Removes a folder and everything in it."""
        shutil.rmtree(folder)


def write_atomic(file: Path, data: bytes, disk: Disk | None = None) -> None:
    """Replaces a file's content: a reader, or a crash, finds the old bytes or the new, never a mixture."""
    disk = disk or Disk()
    staged = file.with_name(f".{file.name}.tmp")
    disk.write(staged, data)
    disk.rename(staged, file)


def to_json(value: object) -> bytes:
    """Returns readable JSON that equals itself for equal values; NaN and infinity are refused."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def append_rows(file: Path, rows: Iterable[Row], disk: Disk | None = None) -> None:
    """Appends JSON objects, one per line, and makes them durable."""
    lines = [json.dumps(row, allow_nan=False, separators=(",", ":")) for row in rows]
    (disk or Disk()).append(file, "".join(f"{line}\n" for line in lines).encode())


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a file; nothing for a missing one. A torn last line is not a row.

    Raises:
        ValueError: A line other than the last is not JSON.
    """
    if not file.exists():
        return
    with file.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)


def cut_torn_line(file: Path) -> None:
    """Drops what a crash left of a line that was being appended, so that the next one starts clean."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = end
        while start > 0:
            start = max(0, start - 65536)
            stream.seek(start)
            block = stream.read(end - start)
            if b"\n" in block:
                stream.truncate(start + block.rindex(b"\n") + 1)
                return
        stream.truncate(0)


def keep_rows_until(file: Path, step: int) -> int:
    """Drops the rows whose ``step`` is above ``step`` and returns how many there were."""
    rows = list(read_rows(file))
    kept = [row for row in rows if row["step"] <= step]
    if file.exists():
        lines = (json.dumps(row, allow_nan=False, separators=(",", ":")) for row in kept)
        write_atomic(file, "".join(f"{line}\n" for line in lines).encode())
    return len(rows) - len(kept)
