"""What an image installs, read from pyproject.toml: the one place where versions are kept.

    requirements.py list EXTRA...     the base install and these extras, one requirement a line
    requirements.py constraints       the exact versions that the tests run with
    requirements.py lock FOLDER       the wheels in FOLDER with their digests, for `pip --require-hashes`

Standard library only: it runs before anything is installed.
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_OWN_EXTRAS = re.compile(r"pilothouse\[([^]]+)\]")
_PINNED = re.compile(r"[A-Za-z0-9._-]+==[^;\s]+")


def requirements(extras: list[str]) -> list[str]:
    """Returns the base dependencies and those of the extras, sorted; an extra that names others brings theirs.

    Raises:
        SystemExit: pyproject.toml has no such extra.
    """
    project = _pyproject()["project"]
    found = set(project["dependencies"])
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in project["optional-dependencies"]:
            sys.exit(f"pyproject.toml has no extra '{extra}'")
        for requirement in project["optional-dependencies"][extra]:
            own = _OWN_EXTRAS.fullmatch(requirement)
            if own:
                waiting += [name.strip() for name in own[1].split(",")]
            else:
                found.add(requirement)
    return sorted(found)


def constraints() -> list[str]:
    """Returns the ``name==version`` pins of the dependency group ``dev``."""
    return [pin for pin in _pyproject()["dependency-groups"]["dev"] if _PINNED.fullmatch(pin)]


def lock(folder: Path) -> list[str]:
    """Returns ``name==version --hash=sha256:...`` of every wheel in the folder, sorted."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}")
    return lines


def _pyproject() -> dict[str, Any]:
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> None:
    """Prints what the arguments ask for."""
    match arguments:
        case ["list", *extras]:
            lines = requirements(extras)
        case ["constraints"]:
            lines = constraints()
        case ["lock", folder]:
            lines = lock(Path(folder))
        case _:
            sys.exit(__doc__)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(sys.argv[1:])
