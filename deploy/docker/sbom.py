"""Completes an image's list of Python packages to an SBOM of the image, and validates it.

    sbom.py IMAGE PYTHON_JSON DEBIAN_LIST > IMAGE.cdx.json

PYTHON_JSON is what ``cyclonedx-py environment`` wrote; a line of DEBIAN_LIST is ``package version arch``.
"""

import json
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

VERSION = SchemaVersion.V1_6


def debian(line: str) -> Component:
    """Returns the component that one line of dpkg-query tells of."""
    name, version, architecture = line.split()
    url = PackageURL("deb", "debian", name, version, {"arch": architecture})
    return Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url))


def complete(image: str, python: dict[str, object], debian_lines: list[str]) -> str:
    """Returns the SBOM of an image as CycloneDX JSON.

    Raises:
        SystemExit: The result does not fit the schema.
    """
    bom = Bom.from_json(python)
    bom.components.update(debian(line) for line in debian_lines)
    name, _, version = image.rpartition(":")
    container = Component(type=ComponentType.CONTAINER, name=name, version=version, bom_ref=image)
    bom.metadata.component = container
    bom.register_dependency(container, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=2)
    problem = JsonStrictValidator(VERSION).validate_str(text)
    if problem:
        sys.exit(f"the SBOM of {image} is not valid: {problem}")
    return text


if __name__ == "__main__":
    chosen, python_file, debian_file = sys.argv[1:]
    listed = json.loads(Path(python_file).read_text(encoding="utf-8"))
    packages = Path(debian_file).read_text(encoding="utf-8").splitlines()
    sys.stdout.write(complete(chosen, listed, packages) + "\n")
