"""The objects of templates/observability: what is scraped, judged and shown of a release."""

import json
from typing import Any

import pytest

from .observing import BOARDS, HERE, RUNBOOK, dashboard, groups
from .rendering import COMPONENTS, Manifest, Renderer

KINDS = ("PodMonitor", "PrometheusRule")
MONITORED = {"observability": {"podMonitor": {"enabled": True}}}
JUDGED = {"observability": {"prometheusRule": {"enabled": True}}}
SHOWN = {"observability": {"dashboards": {"enabled": True}}}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items()) and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector["matchExpressions"]
    )


def test_without_an_operator_in_the_cluster_nothing_asks_for_one(render: Renderer) -> None:
    found = render("default")
    assert not [one for one in found.objects if one["kind"] in KINDS]
    assert not [name for name in found.names("ConfigMap") if name.startswith("dashboard")]


@pytest.mark.parametrize("values", ["default", "loop", "postgresql", "ranks", "triton"])
def test_every_pod_with_metrics_is_scraped_and_no_other(render: Renderer, values: str) -> None:
    found = render(values, MONITORED)
    selector = found.one("PodMonitor")["spec"]["selector"]
    scraped, with_metrics = set(), set()
    for name, pod in found.pods():
        ports = [port["name"] for one in pod["spec"]["containers"] for port in one.get("ports", ())]
        if "http" in ports and not name.endswith("-triton"):  # Triton's is for inference
            with_metrics.add(name)
        if selects(selector, pod["metadata"].get("labels", {})):
            scraped.add(name)
    assert scraped == with_metrics
    assert len(scraped) == len(COMPONENTS)


def test_a_scrape_puts_on_the_labels_by_which_rules_and_dashboards_tell_releases(render: Renderer) -> None:
    values = {"observability": {"podMonitor": {"enabled": True, "interval": "5s", "labels": {"team": "a"}}}}
    found = render(values).one("PodMonitor")
    assert found["metadata"]["labels"]["team"] == "a"
    [endpoint] = found["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("http", "/metrics", "5s")
    labels = {
        step["targetLabel"]: step["sourceLabels"] for step in endpoint["relabelings"] if "targetLabel" in step
    }
    prefix = "__meta_kubernetes_pod_label_app_kubernetes_io_"
    assert labels == {"release": [f"{prefix}instance"], "component": [f"{prefix}component"]}


def test_what_has_ended_and_ranks_without_ports_are_no_targets(render: Renderer) -> None:
    [endpoint] = render(MONITORED).one("PodMonitor")["spec"]["podMetricsEndpoints"]
    dropped = {
        step["sourceLabels"][0]: step["regex"]
        for step in endpoint["relabelings"]
        if step.get("action") == "drop"
    }
    prefix = "__meta_kubernetes_pod_"
    assert dropped == {
        f"{prefix}phase": "Succeeded|Failed",
        f"{prefix}annotation_batch_kubernetes_io_job_completion_index": "[1-9][0-9]*",
    }


def by_name(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {group["name"]: group for group in found}


def test_the_rules_of_the_files_are_installed_for_this_release(render: Renderer) -> None:
    installed = render(JUDGED).one("PrometheusRule")["spec"]["groups"]
    assert by_name(installed) == by_name(groups())


def test_no_word_that_stands_for_something_is_left(render: Renderer) -> None:
    text = json.dumps(render(JUDGED).one("PrometheusRule"))
    assert not [word for word in HERE if word in text]


def test_another_release_has_rules_of_its_own(render: Renderer) -> None:
    [found] = render(JUDGED, release="other").all("PrometheusRule")
    text = json.dumps(found["spec"])
    assert 'release=\\"other\\"' in text
    assert "other-pilothouse-trainer" in text
    assert 'release=\\"run\\"' not in text


def test_alerts_lead_to_the_runbook_where_people_can_open_it(render: Renderer) -> None:
    page = "https://example.org/pilothouse/runbook"
    values = {
        "observability": {"prometheusRule": {"enabled": True, "runbook": page, "labels": {"team": "a"}}}
    }
    found = render(values).one("PrometheusRule")
    assert found["metadata"]["labels"]["team"] == "a"
    links = [
        rule["annotations"]["runbook_url"]
        for group in found["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert all(link.startswith(f"{page}#pilothouse") for link in links)
    assert RUNBOOK not in json.dumps(found)


@pytest.mark.parametrize("board", BOARDS)
def test_a_dashboard_is_a_config_map_that_grafanas_sidecar_finds(render: Renderer, board: str) -> None:
    found: Manifest = render(SHOWN).one("ConfigMap", f"dashboard-{board}")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    [(file, text)] = found["data"].items()
    assert file == f"pilothouse-{board}.json"
    assert json.loads(text) == dashboard(board)


def test_dashboards_take_labels_and_annotations(render: Renderer) -> None:
    dashboards = {"enabled": True, "labels": {"team": "a"}, "annotations": {"grafana_folder": "Pilothouse"}}
    for board in BOARDS:
        metadata = render({"observability": {"dashboards": dashboards}}).one(
            "ConfigMap", f"dashboard-{board}"
        )["metadata"]
        assert metadata["labels"]["team"] == "a"
        assert metadata["annotations"] == {"grafana_folder": "Pilothouse"}
