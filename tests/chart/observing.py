"""What the chart says of metrics: rules, dashboards, and the tools that judge them."""

import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .rendering import CHART, FULL_NAME, NAMESPACE, RELEASE, Require, program

BOARDS = ("serving", "training", "labelling")
RUNBOOK = "docs/runbook.md"
HERE = {"$namespace": NAMESPACE, "$release": RELEASE, "$fullname": FULL_NAME}
"""What the words of rules and dashboards stand for in tests."""

Rule = dict[str, Any]
Panel = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """One PromQL expression, and where it stands."""

    place: str
    text: str
    labels: frozenset[str] = frozenset()
    """Labels by which its results are told apart where they are shown."""


def promtool(require: Require) -> Callable[..., str]:
    """Returns ``run(*words)``: the output of promtool, which must be content."""
    path = program("promtool", require)

    def run(*words: str | Path) -> str:
        done = subprocess.run([path, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def here(text: str) -> str:
    """Puts in what the words stand for."""
    for word, value in HERE.items():
        text = text.replace(word, value)
    return text


@functools.cache
def groups() -> list[dict[str, Any]]:
    """Returns the groups of all rules, as they are evaluated here."""
    texts = [here(file.read_text()) for file in sorted((CHART / "rules").glob("*.yaml"))]
    return [group for text in texts for group in yaml.safe_load(text)["groups"]]


def rules(kind: str) -> dict[str, Rule]:
    """Returns the rules of a kind, ``alert`` or ``record``, by name."""
    found = [rule for group in groups() for rule in group["rules"] if kind in rule]
    assert len({rule[kind] for rule in found}) == len(found), "a name is given twice"
    return {rule[kind]: rule for rule in found}


def dashboard(name: str) -> dict[str, Any]:
    """Returns a dashboard."""
    found: dict[str, Any] = json.loads((CHART / f"dashboards/{name}.json").read_text())
    return found


def panels(name: str) -> list[Panel]:
    """Returns the panels of a dashboard, without its rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def shown(*, rate_interval: str = "5m") -> Iterator[Expression]:
    """Yields the expressions of all panels, as Grafana sends them for this release."""
    for board in BOARDS:
        for panel in panels(board):
            for target in panel["targets"]:
                text = here(target["expr"].replace("$__rate_interval", rate_interval))
                labels = frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                yield Expression(f"{board}: {panel['title']} {target['refId']}", text, labels)


def judged() -> Iterator[Expression]:
    """Yields the expressions of all rules."""
    for kind in ("record", "alert"):
        for name, rule in rules(kind).items():
            yield Expression(name, rule["expr"])


_KEYWORDS = {"and", "or", "unless", "bool", "offset"}
_LABELS = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"


def metric_names(expression: str) -> set[str]:
    """Returns the names of the series that a PromQL expression reads."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    text = re.sub(_LABELS, " ", re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset\s+\w+", " ", text))
    words = re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()", text)
    return set(words) - _KEYWORDS


def rule_file(path: Path, *, annotations: bool = True) -> Path:
    """Writes all rules into one file, as Prometheus reads them."""
    left_out = set() if annotations else {"annotations"}  # promtool compares them letter by letter
    kept = [
        group
        | {"rules": [{key: rule[key] for key in rule if key not in left_out} for rule in group["rules"]]}
        for group in groups()
    ]
    path.write_text(yaml.safe_dump({"groups": kept}, sort_keys=False))
    return path
