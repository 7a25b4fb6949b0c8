"""Writes the chart's values.schema.json; with --check only says whether the committed one differs.

The chart's own keys stand in schema.yaml. `config` comes from the classes that read the configuration file,
so Helm knows the keys that the processes know. Draft 7 is what both Helm 3 and Helm 4 read.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from pilothouse import sections

HERE = Path(__file__).resolve().parent
SCHEMA = HERE / "pilothouse" / "values.schema.json"

Json = dict[str, Any]

_DROPPED = {"title", "default", "format"}
"""Keywords that say nothing in a values file: Helm shows no titles, and the defaults are the program's."""


def values_schema() -> Json:
    """Returns the whole schema."""
    own = yaml.safe_load((HERE / "schema.yaml").read_text(encoding="utf-8"))
    config, classes = config_schema()
    block = {name: {"$ref": f"#/definitions/block/properties/{name}"} for name in own["block"]}
    enabled = {"enabled": {"type": "boolean"}}
    components = {name: _closed({**enabled, **block, **extra}) for name, extra in own["components"].items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Pilothouse chart",
        **_closed(
            {
                "config": config,
                "defaults": {"$ref": "#/definitions/block"},
                **components,
                **own["values"],
            }
        ),
        "definitions": {"block": _closed(own["block"]), **own["definitions"], **classes},
    }


def config_schema() -> tuple[Json, Json]:
    """Returns the schema of `config`, and the definitions it refers to.

    Nothing is required but in elements of lists: the chart fills in the rest.
    """
    whole = sections.json_schema()
    names = {name: f"config.{name}" for name in whole["$defs"]}
    in_lists = _listed(whole)
    definitions = {
        names[name]: _translated(definition, names, keep_required=name in in_lists)
        for name, definition in whole["$defs"].items()
    }
    properties = {
        name: _translated(section, names, keep_required=False)
        for name, section in whole["properties"].items()
    }
    about = "Content of the configuration file, as `pilothouse config schema` describes it"
    return {"description": about, **_closed(properties)}, definitions


def _translated(schema: Any, names: dict[str, str], *, keep_required: bool) -> Any:
    """Returns a schema of pydantic's for values: references moved, "none" beside null, less said."""
    if isinstance(schema, list):
        return [_translated(item, names, keep_required=keep_required) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            found[key] = f"#/definitions/{names[value.removeprefix('#/$defs/')]}"
        elif key == "properties":
            found[key] = {
                name: _translated(field, names, keep_required=keep_required) for name, field in value.items()
            }
        elif key not in _DROPPED and (key != "required" or keep_required):
            found[key] = _translated(value, names, keep_required=keep_required)
    if {"type": "null"} in found.get("anyOf", ()):
        found["anyOf"].append({"const": "none"})
    return found


def _listed(schema: Any) -> set[str]:
    """Returns the names of the definitions that describe elements of lists."""
    if isinstance(schema, list):
        return {name for item in schema for name in _listed(item)}
    if not isinstance(schema, dict):
        return set()
    found = {name for value in schema.values() for name in _listed(value)}
    items = schema.get("items")
    if isinstance(items, dict) and "$ref" in items:
        found.add(items["$ref"].removeprefix("#/$defs/"))
    return found


def _closed(properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def main(arguments: list[str]) -> int:
    """Writes the file, or compares it; returns the exit status."""
    text = json.dumps(values_schema(), indent=1) + "\n"
    if arguments == ["--check"]:
        if SCHEMA.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{SCHEMA} is not what its sources say; run 'make chart-schema' and commit\n")
        return 1
    SCHEMA.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
