"""Looks at Python, libraries, disk and memory."""

import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from pilothouse.cli.doctor.findings import Finding, ok

DISTRIBUTION = "pilothouse"
OLDEST_PYTHON = (3, 11)
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""Distributions that own the same folder, so that only one may be installed; either is ONNX Runtime."""
SHOWN = ("grpcio", "protobuf", "numpy", "pydantic", "torch", "transformers", *RUNTIMES, "tritonclient")
"""Libraries whose versions a bug report needs."""
GIB = 2**30

_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def check_python() -> Finding:
    """Looks at the interpreter."""
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Finding("python", "error", found, f"make the environment with Python {wanted} or newer")
    return ok("python", found)


def check_versions() -> Finding:
    """Lists the versions of what matters."""
    versions = {name: version_of(name) for name in (DISTRIBUTION, *SHOWN)}
    return ok("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version))


def check_extras(wanted: Iterable[str]) -> Iterator[Finding]:
    """Looks for what every extra needs.

    Args:
        wanted: Extras that the configuration uses; what they lack is an error, for others it is said only.
    """
    wanted = set(wanted)
    requirements = importlib.metadata.requires(DISTRIBUTION) or []
    for extra in sorted({found for line in requirements for found in _EXTRA.findall(line)} - {"all"}):
        missing = [name for name in needed_by(extra, requirements) if not _is_there(name)]
        if extra.endswith("-gpu"):
            continue  # stands in the place of the plain extra; the provider check tells what is in use
        check = f"extra {extra}"
        if not missing:
            yield ok(check, "installed")
        elif extra in wanted:
            mend = f"pip install '{DISTRIBUTION}[{_installable(extra, requirements)}]'"
            yield Finding(check, "error", f"missing {', '.join(missing)}", mend)
        else:
            yield ok(check, f"not installed ({', '.join(missing)})")


def check_runtimes() -> Finding:
    """Looks for two builds of ONNX Runtime that overwrite each other."""
    found = [name for name in RUNTIMES if version_of(name)]
    if len(found) > 1:
        mend = f"pip uninstall -y {' '.join(found)}, then install one of the extras reward and reward-gpu"
        return Finding("onnxruntime", "error", f"{' and '.join(found)} own the same folder", mend)
    return ok("onnxruntime", found[0] if found else "not installed")


def check_disk(folders: Iterable[Path], least_free_bytes: int = 2 * GIB) -> Iterator[Finding]:
    """Looks at the free space where runs and state are written.

    Args:
        folders: They need not exist yet.
        least_free_bytes: Less is an error.
    """
    for folder in folders:
        there = next(each for each in (folder, *folder.resolve().parents) if each.exists())
        free = shutil.disk_usage(there).free
        check, detail = f"disk {folder}", f"{free / GIB:.1f} GiB free"
        if free < least_free_bytes:
            mend = f"free {(least_free_bytes - free) / GIB:.1f} GiB, or write elsewhere"
            yield Finding(check, "error", detail, mend)
        else:
            yield ok(check, detail)


def check_memory(least_free_bytes: int = 2 * GIB) -> Finding:
    """Looks at the memory that processes can have without swapping.

    Args:
        least_free_bytes: Less is a warning.
    """
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB available"
    if memory.available < least_free_bytes:
        mend = "end other programs, or lower policy.max_running, policy.max_sequence_tokens and batch sizes"
        return Finding("memory", "warning", detail, mend)
    return ok("memory", detail)


def version_of(distribution: str) -> str:
    """Returns the installed version; empty where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_there(distribution: str) -> bool:
    """Whether a distribution is installed, or the other build of it."""
    builds = RUNTIMES if distribution in RUNTIMES else (distribution,)
    return any(version_of(build) for build in builds)


def _installable(extra: str, requirements: list[str]) -> str:
    """Returns the extra, or its GPU form where that build is installed: the plain one would overwrite it."""
    gpu = f"{extra}-gpu"
    known = {found for line in requirements for found in _EXTRA.findall(line)}
    return gpu if gpu in known and version_of("onnxruntime-gpu") else extra


def needed_by(extra: str, requirements: list[str]) -> list[str]:
    """Returns the distributions that an extra needs, those of the extras it includes too.

    Args:
        extra: Name of an extra.
        requirements: As `importlib.metadata.requires` gives them.
    """
    names: list[str] = []
    for line in requirements:
        if extra not in _EXTRA.findall(line):
            continue
        match = _NAME.match(line)
        name = match.group() if match else ""
        if name == DISTRIBUTION:
            for inner in line.partition("[")[2].partition("]")[0].split(","):
                names += needed_by(inner.strip(), requirements)
        else:
            names.append(name)
    return sorted(set(names))
