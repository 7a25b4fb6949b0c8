"""What an export says of itself, as JSON. The same records give the same text."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3

from pilothouse.feedback.formats.columns import Column
from pilothouse.feedback.formats.contents import Contents, Counts
from pilothouse.feedback.formats.options import ExportOptions
from pilothouse.feedback.quality.intervals import Estimate

SCHEMA_VERSION = 1
"""Counts up when a reader of manifests must change."""


Agreement = Mapping[str, Estimate]
"""Measures of agreement by name, for example ``alpha``."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of an export."""

    name: str
    chunks: tuple[bytes, ...]
    """At most one MiB each."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return sum(map(len, self.chunks))

    @property
    def digest(self) -> str:
        """BLAKE3 of its bytes, hexadecimal."""
        digest = blake3()
        for chunk in self.chunks:
            digest.update(chunk)
        return digest.hexdigest()


def describe(
    contents: Contents,
    counts: Counts,
    columns: Sequence[Column],
    options: ExportOptions,
    agreement: Agreement,
) -> dict[str, Any]:
    """Returns all of the manifest but its files."""
    times = [record.submitted_at for record in contents.records if record.submitted_at]
    return {
        "schema_version": SCHEMA_VERSION,
        "format": options.format,
        "file_format": "json" if options.format.is_json else options.file_format,
        "conversational": contents.conversational,
        "split": options.split,
        "held_out_percent": options.held_out_percent,
        "licence": options.licence,
        "queues": sorted({record.queue for record in contents.records}),
        "counts": asdict(counts),
        "first_submitted_at": min(times, default=None),
        "last_submitted_at": max(times, default=None),
        "agreement": {
            name: {key: None if math.isnan(number) else number for key, number in asdict(measure).items()}
            for name, measure in sorted(agreement.items())
        },
        "columns": [asdict(column) for column in columns],
    }


def manifest(description: Mapping[str, Any], files: Sequence[DataFile]) -> str:
    """Returns the manifest's text; its ``digest`` stands for all files and their names."""
    listed = [{"name": file.name, "size_bytes": file.size_bytes, "digest": file.digest} for file in files]
    digest = blake3(json.dumps(listed).encode()).hexdigest()
    body = {"digest": digest, **description, "files": listed}
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
