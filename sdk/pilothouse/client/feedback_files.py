"""Files of the feedback service: a data set written as a whole or not at all, a file sent in pieces."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from pilothouse.client import feedback_codec as codec
from pilothouse.client.feedback_types import ExportFormat, FileFormat, Split
from pilothouse.errors import CorruptDataError, InvalidRequestError, ProtocolError
from pilothouse.v1 import feedback_pb2 as pb

MANIFEST = "manifest.json"
"""Name of the manifest in a data set's folder."""

_CHUNK_BYTES = 2**20


def export_request(
    queue: str,
    format: ExportFormat,
    file_format: FileFormat,
    conversational: bool,
    split: Split,
    held_out_percent: int,
) -> pb.ExportRequest:
    """Returns the request of Export."""
    return pb.ExportRequest(
        queue=queue,
        format=codec.number(codec.FORMATS, format, "format"),
        file_format=codec.number(codec.FILES, file_format, "file format"),
        conversational=conversational,
        split=codec.number(codec.SPLITS, split, "split"),
        held_out_percent=held_out_percent,
    )


def write_export(folder: Path, messages: Iterable[pb.ExportResponse]) -> dict[str, Any]:
    """Writes what an export streams into ``folder``, checks it, and returns the manifest.

    Raises:
        InvalidRequestError: The folder is in use.
        CorruptDataError: The bytes are not those of the manifest.
        ProtocolError: The stream does not begin with a manifest.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequestError(f"{folder} exists; choose a new folder for the data set")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        manifest = _receive(scratch, messages)
        scratch.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return manifest


def import_messages(
    queue: str, file: Path, format: ExportFormat, file_format: FileFormat
) -> Iterator[pb.ImportRequest]:
    """Yields a file in pieces, settings first.

    Raises:
        InvalidRequestError: The file cannot be read.
    """
    first = pb.ImportRequest(
        queue=queue,
        format=codec.number(codec.FORMATS, format, "format"),
        file_format=codec.number(codec.FILES, file_format, "file format"),
    )
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidRequestError(f"cannot read {file}: {error.strerror}") from None
    return _pieces(first, opened)


def _pieces(first: pb.ImportRequest, opened: Any) -> Iterator[pb.ImportRequest]:
    with opened:
        yield first
        while data := opened.read(_CHUNK_BYTES):
            yield pb.ImportRequest(data=data)


def _receive(folder: Path, messages: Iterable[pb.ExportResponse]) -> dict[str, Any]:
    stream = iter(messages)
    first = next(stream, None)
    if first is None or first.WhichOneof("content") != "manifest":
        raise ProtocolError("the export does not begin with a manifest; upgrade the client")
    manifest: dict[str, Any] = json.loads(first.manifest)
    (folder / MANIFEST).write_text(first.manifest, encoding="utf-8")
    expected = {file["name"]: file["digest"] for file in manifest["files"]}
    digests = {name: blake3() for name in expected}
    for name in digests:
        if Path(name).name != name:
            raise ProtocolError(f"the export has a file of the name {name!r}; upgrade the client")
        (folder / name).touch()
    for message in stream:
        chunk = message.chunk
        if chunk.name not in digests:
            raise ProtocolError(f"the export sends {chunk.name!r}, which its manifest does not name")
        digests[chunk.name].update(chunk.data)
        with (folder / chunk.name).open("ab") as file:
            file.write(chunk.data)
    for name, digest in digests.items():
        if digest.hexdigest() != expected[name]:
            raise CorruptDataError(f"{name} arrived with another digest than its manifest's; export again")
    return manifest
