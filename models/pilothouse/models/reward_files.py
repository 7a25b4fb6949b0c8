"""``reward.json``, the manifest of a reward model's folder: its files and the normaliser of its scores.

A served reward model is exactly the files its manifest names, with exactly the bytes their digests say; its
version is the digest of all that. This module needs neither torch nor ONNX Runtime: every process reads it.
"""

import json
import math
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from pilothouse.errors import CorruptDataError, ModelNotFoundError, UnsafeModelError

MANIFEST = "reward.json"
"""Name of the manifest file."""

CARD, README = "card.json", "README.md"
"""What is said of a model. No loader reads them, and they belong to it only where a manifest names them."""

PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pt2", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".npz"}
)
"""Files that loaders may unpickle. They are refused by name, whatever they hold."""

CODE_SUFFIXES = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})
"""Files that loaders may execute."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RewardManifest:
    """What ``reward.json`` says."""

    gain: float
    """Factor of the normaliser: a score is ``gain * raw + bias``."""
    bias: float
    """Offset of the normaliser."""
    max_sequence_tokens: int
    """Longest sequence that the model scores, prompt and response together."""
    files: dict[str, str]
    """blake3 digest, hexadecimal, of every file of the model by its name."""
    vocabulary_size: int | None = None
    """Rows of the model's embedding: token ids are below it. It may be padded to more than the tokenizer has.
    None where the folder does not say."""

    @property
    def version(self) -> str:
        """The reward model's version: the digest of its files and its normaliser."""
        return blake3(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()

    def _body(self) -> dict[str, Any]:
        body = {
            "gain": float(self.gain),
            "bias": float(self.bias),
            "max_sequence_tokens": int(self.max_sequence_tokens),
            "files": dict(sorted(self.files.items())),
        }
        # Left out where unknown, so that folders written without it keep their version.
        return body if self.vocabulary_size is None else body | {"vocabulary_size": self.vocabulary_size}

    def to_json(self) -> str:
        """Returns the text of ``reward.json``."""
        return json.dumps({"version": self.version, **self._body()}, indent=2) + "\n"


def write_manifest(
    folder: Path,
    *,
    gain: float = 1.0,
    bias: float = 0.0,
    max_sequence_tokens: int,
    vocabulary_size: int | None = None,
) -> RewardManifest:
    """Writes ``reward.json`` over every file that lies in the folder now, and returns what it says.

    Args:
        folder: A saved reward model; no folder inside it is read.
        gain: Factor of the normaliser.
        bias: Offset of the normaliser.
        max_sequence_tokens: Longest sequence that the model scores.
        vocabulary_size: Rows of the model's embedding; None where they are not known.

    Raises:
        UnsafeModelError: A file is a link, may hold a pickle or code, or has an unusual name.
    """
    digests = {name: file_digest(check_file(folder, name)) for name in sorted(_listed(folder))}
    manifest = RewardManifest(
        gain=gain,
        bias=bias,
        max_sequence_tokens=max_sequence_tokens,
        files=digests,
        vocabulary_size=vocabulary_size,
    )
    partial = folder / f".{MANIFEST}.partial"
    partial.write_text(manifest.to_json())
    os.replace(partial, folder / MANIFEST)
    return manifest


def read_manifest(folder: Path) -> RewardManifest:
    """Returns the folder's manifest after comparing every file it names with its digest.

    Raises:
        ModelNotFoundError: The folder, its manifest or a named file is missing.
        UnsafeModelError: A named file is a link, leaves the folder, or may hold a pickle or code; or there
            are files that the manifest does not name.
        CorruptDataError: The manifest is malformed, or a file's bytes or the version are not what it says.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelNotFoundError(
            f"no reward model in {folder}: {MANIFEST} is missing; train one with "
            "`pilothouse train reward-model` or export one with `pilothouse export`"
        )
    manifest, version = _parse(check_file(folder, MANIFEST))
    strays = _listed(folder) - manifest.files.keys()
    if strays:
        raise UnsafeModelError(
            f"{folder} holds files that {MANIFEST} does not name, and a loader might pick them up: "
            f"{', '.join(sorted(strays))}; remove them or write the folder anew"
        )
    for name, expected in manifest.files.items():
        if file_digest(check_file(folder, name)) != expected:
            raise CorruptDataError(
                f"{name} in {folder} is not the one {MANIFEST} names; copy the folder anew"
            )
    if version != manifest.version:
        raise CorruptDataError(f"{MANIFEST} in {folder} was edited: its version is not its digest")
    return manifest


def ensemble_version(combination: str, std_factor: float, versions: Sequence[str]) -> str:
    """Returns the version of an ensemble: the digest of its members' versions and of their combination.

    Args:
        combination: ``mean``, ``min`` or ``mean_minus_std``.
        std_factor: Of ``mean_minus_std``; 0 otherwise.
        versions: Of the members, in their order.
    """
    content = [combination, std_factor, *versions]
    return f"ensemble:{blake3(json.dumps(content).encode()).hexdigest()}"


def check_file(folder: Path, name: str) -> Path:
    """Returns the path of a file of the folder once its name and kind are harmless.

    Raises:
        ModelNotFoundError: It does not exist.
        UnsafeModelError: It is a link, not a plain file, leaves the folder, or may hold a pickle or code.
    """
    if not _NAME.fullmatch(name):
        raise UnsafeModelError(f"{name!r} is no plain file name; a model's files lie directly in its folder")
    if Path(name).suffix.lower() in PICKLE_SUFFIXES | CODE_SUFFIXES:
        raise UnsafeModelError(f"{name} may hold a pickle or code; use safetensors or ONNX files only")
    path = folder / name
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{name} is named by {MANIFEST}, but is not in {folder}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise UnsafeModelError(f"{name} in {folder} is a link or no plain file; copy the file itself there")
    return path


def file_digest(path: Path) -> str:
    """Returns the blake3 digest of a file's bytes, hexadecimal."""
    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _listed(folder: Path) -> set[str]:
    """Returns the names of the files that belong into a manifest: no folders, nothing hidden, not itself."""
    return {
        path.name
        for path in folder.iterdir()
        if not path.is_dir() and not path.name.startswith(".") and path.name not in (MANIFEST, CARD, README)
    }


def _parse(path: Path) -> tuple[RewardManifest, str]:
    """Reads the manifest and the version written in it."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        manifest = RewardManifest(
            gain=float(body["gain"]),
            bias=float(body["bias"]),
            max_sequence_tokens=int(body["max_sequence_tokens"]),
            files={str(name): str(digest) for name, digest in body["files"].items()},
            vocabulary_size=int(body["vocabulary_size"]) if "vocabulary_size" in body else None,
        )
        version = str(body["version"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"{path} is not a reward manifest ({error}); write the folder anew") from None
    if not (math.isfinite(manifest.gain) and math.isfinite(manifest.bias)):
        raise CorruptDataError(f"{path} has a normaliser that is not finite; train the reward model anew")
    if manifest.max_sequence_tokens < 1:
        raise CorruptDataError(
            f"{path} has max_sequence_tokens {manifest.max_sequence_tokens}; it must be at least 1"
        )
    return manifest, version
