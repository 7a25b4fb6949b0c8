"""Every alert fires when it should and only then: promtool decides the cases of `tests/chart/alerts`."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .observing import RUNBOOK, metric_names, promtool, rule_file, rules
from .rendering import CHART, ROOT, Require

CASES = Path(__file__).parent / "alerts"
FILES = sorted(CASES.glob("*.yaml"))
SEVERITIES = {"critical", "warning", "info"}


@pytest.fixture(name="promtool")
def _promtool(require: Require) -> Callable[..., str]:
    return promtool(require)


@functools.cache
def expectations() -> list[dict[str, Any]]:
    """Returns everything that the cases expect of an alert at a time."""
    cases = [case for file in FILES for case in yaml.safe_load(file.read_text())["tests"]]
    return [expected for case in cases for expected in case["alert_rule_test"]]


def anchors() -> set[str]:
    """Returns the anchors of the runbook's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_alerts_do_what_the_cases_say(file: Path, tmp_path: Path, promtool: Callable[..., str]) -> None:
    rule_file(tmp_path / "rules.yaml", annotations=False)
    test = yaml.safe_load(file.read_text()) | {"rule_files": ["rules.yaml"], "evaluation_interval": "1m"}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "test.yaml")


@pytest.mark.parametrize("name", rules("alert"))
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    outcomes = {bool(expected["exp_alerts"]) for expected in expectations() if expected["alertname"] == name}
    assert outcomes == {True, False}


def test_the_cases_know_no_other_alerts() -> None:
    assert {expected["alertname"] for expected in expectations()} == set(rules("alert"))


def test_there_are_alerts_enough_to_be_woken_by_and_none_without_a_word() -> None:
    alerts = rules("alert")
    assert len(alerts) >= 12
    for name, alert in alerts.items():
        assert re.fullmatch(r"Pilothouse([A-Z][a-z]+)+", name)
        assert alert["labels"]["severity"] in SEVERITIES, name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert len(alert["annotations"]["summary"]) <= 80, name
        assert alert["annotations"]["description"].endswith("."), name


def test_every_alert_leads_to_its_own_section_of_the_runbook_and_every_section_to_an_alert() -> None:
    found = anchors()
    for name, alert in rules("alert").items():
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"
        assert name.lower() in found
    assert {anchor for anchor in found if anchor.startswith("pilothouse")} == {
        name.lower() for name in rules("alert")
    }


@pytest.mark.parametrize("name", rules("alert"))
def test_an_alert_speaks_only_of_labels_that_it_has(name: str) -> None:
    """Labels as the cases say that it fires with."""
    said = set(re.findall(r"\$labels\.(\w+)", str(rules("alert")[name]["annotations"])))
    fired = [
        alert["exp_labels"]
        for expected in expectations()
        if expected["alertname"] == name
        for alert in expected["exp_alerts"]
    ]
    assert all(said <= set(labels) for labels in fired)


def test_a_rule_reads_its_own_release_only() -> None:
    for rule in (rules("alert") | rules("record")).values():
        selectors = re.findall(r"([\w:]+)\{([^}]*)\}", rule["expr"])
        assert {name for name, _ in selectors} == metric_names(rule["expr"])
        assert all('namespace="rl"' in labels for _, labels in selectors)
        ours = [labels for name, labels in selectors if "pilothouse_" in name or name == "up"]
        assert all('release="run"' in labels for labels in ours)


def test_promtool_accepts_the_rules_as_they_lie_in_the_chart(promtool: Callable[..., str]) -> None:
    for file in sorted((CHART / "rules").glob("*.yaml")):
        assert "SUCCESS" in promtool("check", "rules", file)


def test_names_of_series_are_found_in_an_expression() -> None:
    expression = (
        'histogram_quantile(0.95, sum by (le, by) (rate(a_bucket{x="y{z",b=~"c|d"}[5m]))) / on (pod) '
        "group_left (q) max without (r) (lvl:b_total:rate5m offset 30m) > bool 1e9 "
        "unless (c == 2) or time() - d"
    )
    assert metric_names(expression) == {"a_bucket", "lvl:b_total:rate5m", "c", "d"}
