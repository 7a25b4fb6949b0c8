"""The runbook names only what is there: commands, settings, reasons, panels, sections."""

import functools
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from typer.main import get_command

from pilothouse import sections
from pilothouse.cli.main import app
from pilothouse.errors import BY_REASON

from .observing import BOARDS, RUNBOOK, panels
from .rendering import CHART, COMPONENTS, ROOT

TEXT = (ROOT / RUNBOOK).read_text()
QUOTED = re.findall(r"`([^`\n]+)`", TEXT)
SECTIONS = ("policy", "reward", "reference", "feedback", "trainer", "ppo", "loop")
schema = functools.cache(sections.json_schema)
LEASE_EXPIRED = "LEASE_EXPIRED"
"""The one reason of a dropped push that is nobody's error."""


def commands() -> list[str]:
    """Returns the commands of ours that are named, without arguments."""
    found = re.findall(r"\bpilothouse((?: [a-z][a-z-]+)+)", "\n".join(QUOTED) + TEXT.split("```")[1])
    return sorted({words.strip() for words in found})


def settings() -> list[str]:
    """Returns the settings that are named: keys of the configuration and of the chart's values."""
    words = ("COMPONENT", "networkPolicy", "observability", *SECTIONS)
    return sorted({name for name in QUOTED if re.fullmatch(rf"(?:{'|'.join(words)})(?:\.\w+)+", name)})


@pytest.mark.parametrize("words", commands())
def test_a_command_is_there(words: str) -> None:
    command: Any = get_command(app)
    for word in words.split():
        if not hasattr(command, "get_command"):
            return  # an argument
        context = click.Context(command)
        command = command.get_command(context, word)
        assert command is not None, f"pilothouse {words}"
        command = command.load() if hasattr(command, "load") else command


@pytest.mark.parametrize("name", settings())
def test_a_setting_is_one_of_the_configuration_or_of_the_chart(name: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    values |= {component: values["defaults"] | values[component] for component in COMPONENTS}
    path = name.replace("COMPONENT", "policy").split(".")
    assert in_schema(schema(), path) or in_values(values, path)


def in_schema(document: Any, path: list[str]) -> bool:
    """Whether the configuration has a key."""

    def has(inner: Any, left: list[str]) -> bool:
        if "$ref" in inner:
            inner = document["$defs"][inner["$ref"].removeprefix("#/$defs/")]
        found = inner.get("properties", {}).get(left[0]) if left else None
        return (
            not left
            or (found is not None and has(found, left[1:]))
            or any(has(one, left) for one in inner.get("anyOf", ()))
        )

    return has(document, path)


def in_values(values: Any, path: list[str]) -> bool:
    """Whether the chart's values have a key."""
    return not path or (path[0] in values and in_values(values[path[0]], path[1:]))


def test_a_reason_of_a_refused_push_is_one_of_ours() -> None:
    table = TEXT.split("### PilothousePushRejected")[1].split("###")[0]
    cells = re.findall(r"^\| ([A-Z_, ]+) \|", table, re.MULTILINE)
    reasons = {reason for cell in cells for reason in cell.split(", ")}
    assert len(reasons) >= 6
    assert reasons - {LEASE_EXPIRED} <= set(BY_REASON)


def test_a_panel_is_on_a_dashboard() -> None:
    text = re.sub(r"`[^`]*`", "", TEXT)
    named = set(re.findall(r"(?<![*\w])\*([A-Z][^*\n]+)\*(?!\*)", text)) - {"Last State"}  # of kubectl
    titles = {panel["title"] for board in BOARDS for panel in panels(board)}
    assert len(named) > 10
    assert named <= titles | {board.capitalize() for board in BOARDS}


def test_a_link_leads_somewhere() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        page, _, anchor = target.partition("#")
        assert (Path(ROOT / RUNBOOK).parent / page).exists()
        assert page or anchor in headings
