"""What an image installs, read from pyproject.toml: the one place where versions are kept.

    requirements.py list IMAGE [--gpu]    what an image needs, one requirement a line
    requirements.py constraints           the exact versions that the tests run with
    requirements.py lock FOLDER           the wheels in FOLDER with their digests, for `pip --require-hashes`

Standard library only: it runs before anything is installed.
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
IMAGES = {
    "policy": ["policy"],
    "reference": ["reference"],
    "reward": ["reward"],
    "feedback": ["feedback-postgresql"],
    # `pilothouse export` compares what it wrote with torch by the runtime that the reward service will use.
    "trainer": ["trainer", "cluster", "reward"],
}
"""The extras in each image."""

_CUDA = {"reward": ["reward-gpu"]}
_OWN_EXTRAS = re.compile(r"pilothouse\[([^]]+)\]")
_PINNED = re.compile(r"[A-Za-z0-9._-]+==[^;\s]+")


def requirements(image: str, *, gpu: bool = False) -> list[str]:
    """Returns the base dependencies and those of an image's extras, sorted.

    Args:
        image: Its name.
        gpu: With ONNX Runtime for CUDA and CUDA's libraries as wheels, so that the same base serves; a CUDA
            build of torch names its own.

    Raises:
        SystemExit: There is no such image.
    """
    if image not in IMAGES:
        sys.exit(f"there is no image '{image}'; there are {', '.join(IMAGES)}")
    project = _pyproject()["project"]
    found = set(project["dependencies"])
    waiting = list(_CUDA.get(image, IMAGES[image]) if gpu else IMAGES[image])
    while waiting:  # an extra that names others brings theirs
        for requirement in project["optional-dependencies"][waiting.pop()]:
            own = _OWN_EXTRAS.fullmatch(requirement)
            if own:
                waiting += [name.strip() for name in own[1].split(",")]
            else:
                found.add(requirement.replace("onnxruntime-gpu", "onnxruntime-gpu[cuda,cudnn]"))
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
        case ["list", image]:
            lines = requirements(image)
        case ["list", image, "--gpu"]:
            lines = requirements(image, gpu=True)
        case ["constraints"]:
            lines = constraints()
        case ["lock", folder]:
            lines = lock(Path(folder))
        case _:
            sys.exit(__doc__)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(sys.argv[1:])
