"""Data files of a lineage: digests, the exports that they are of, the policies whose answers they hold."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from pilothouse.errors import InvalidDataError
from pilothouse.models.reward_files import file_digest
from pilothouse.trainer.data.files import read_records
from pilothouse.trainer.lineage_nodes import Answering, DataFile, FileState, Part, Snapshot

MANIFEST = "manifest.json"
"""Name of an export's manifest, beside its files."""


def data_files(paths: Sequence[Path], part: Part, recorded: Sequence[Mapping[str, Any]]) -> list[DataFile]:
    """Returns the files of one part of a run's data.

    Args:
        paths: Where the run's settings say that they lie.
        part: What they were for.
        recorded: ``name`` and ``blake3`` of each as they were trained on, in the same order; may be empty.
    """
    if len(recorded) != len(paths):
        recorded = [{}] * len(paths)
    return [data_file(path, part, entry.get("blake3")) for path, entry in zip(paths, recorded, strict=True)]


def data_file(path: Path, part: Part, trained: str | None) -> DataFile:
    """Returns what is known of a file.

    Args:
        path: Where it should lie.
        part: What it was for.
        trained: Digest of what was trained on; None where that is not on record.
    """
    now = file_digest(path) if path.is_file() else None
    exported, snapshot, problems = _manifest(path)
    if exported and exported != (trained or now):
        snapshot = None
        problems.append(f"{MANIFEST} beside it vouches for other bytes than those that were trained on")
    state = _state(now, trained, exported)
    if state == "changed":
        problems.append("its bytes are not those that were " + ("trained on" if trained else "exported"))
    if state == "missing":
        problems.append(f"there is no file {path}")
    return DataFile(
        path=str(path),
        part=part,
        state=state,
        digest=now,
        trained_digest=trained,
        snapshot=snapshot,
        policies=_policies(path) if state not in ("changed", "missing") else (),
        problems=tuple(problems),
    )


def _state(now: str | None, trained: str | None, exported: str | None) -> FileState:
    if now is None:
        return "missing"
    if trained is not None:
        return "as trained" if now == trained else "changed"
    if exported is not None:
        return "as exported" if now == exported else "changed"
    return "unproven"


def _manifest(path: Path) -> tuple[str | None, Snapshot | None, list[str]]:
    """Returns the file's digest by the export's manifest beside it, the export, and what is wrong with it."""
    file = path.parent / MANIFEST
    try:
        body = json.loads(file.read_bytes())
        listed = [{key: item[key] for key in ("name", "size_bytes", "digest")} for item in body["files"]]
        digests = {str(item["name"]): str(item["digest"]) for item in listed}
        snapshot = _snapshot(body)
    except FileNotFoundError:
        return None, None, []
    except (OSError, ValueError, KeyError, TypeError):
        return None, None, [f"{MANIFEST} beside it is none of an export"]
    if path.name not in digests:
        return None, None, []
    if blake3(json.dumps(listed).encode()).hexdigest() != snapshot.digest:
        return None, None, [f"{MANIFEST} beside it was edited: its digest is not that of its files"]
    return digests[path.name], snapshot, []


def _snapshot(body: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        digest=str(body["digest"]),
        format=str(body["format"]),
        split=str(body["split"]),
        queues=tuple(map(str, body["queues"])),
        counts=dict(body["counts"]),
        agreement=dict(body["agreement"]),
        first_submitted_at=body["first_submitted_at"],
        last_submitted_at=body["last_submitted_at"],
    )


def _policies(path: Path) -> tuple[Answering, ...]:
    """Returns who wrote the answers, those with the most first; an answer that several ranked counts once."""
    writers: dict[tuple[str, int], tuple[str, str, int]] = {}
    try:
        for record in read_records(path):
            by_task = record.fields.get("kind") == "ranking"
            task = str(record.fields["task"]) if by_task else record.id
            for place, source in enumerate(record.fields.get("sources", ())):
                who = str(source["model"]), str(source["run"]), int(source["version"])
                writers[task, place] = who
    except (InvalidDataError, KeyError, TypeError, ValueError):
        return ()
    ordered = sorted(Counter(writers.values()).items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Answering(model=model, run=run, version=version, answers=count)
        for (model, run, version), count in ordered
    )
