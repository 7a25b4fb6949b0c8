"""Rules and dashboards read what the processes really show: all of them run, and Prometheus scrapes them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.test_metrics import SETTINGS, trainer_config, use
from tests.integration.trainer.conftest import Trainer

from pilothouse.client import FeedbackAnswer, FeedbackClient, FeedbackTask, QueueSettings, Ranking
from pilothouse.local import LocalStack

from .observing import judged, metric_names, rules, shown
from .prometheus import INTERVAL_SECONDS, discovered, running
from .rendering import FULL_NAME, RELEASE, Renderer, Require, program

FOREIGN = {
    "Prometheus": {"up"},
    "kube-state-metrics": {
        "kube_job_failed",
        "kube_pod_container_resource_limits",
        "kube_pod_container_status_last_terminated_reason",
        "kube_pod_container_status_restarts_total",
        "kube_pod_container_status_terminated_reason",
        "kube_pod_status_phase",
        "kube_pod_status_ready",
    },
    "cAdvisor": {"container_memory_working_set_bytes"},
    "kubelet": {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"},
}
"""Series of others that alerts read, by who shows them."""
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}
NOTHING_TO_SHOW = {
    "serving: Completions ended B",  # no completion fails
    "serving: Rows scored B",  # no score either
    "serving: Tokens judged by the reference B",
    "training: Calls of the trainer that fail A",
    "training: Loss A",  # PPO runs, and neither of these
    "training: Loss B",
    "training: Held-out accuracy A",
}
"""Panels of what does not happen in these tests."""


class System:
    """All processes of a release."""

    def __init__(self, stack: LocalStack, trainer: Trainer) -> None:
        self.targets = dict(stack.targets)
        self.pages = {status.name: str(status.http) for status in stack.status()}
        self.pages["trainer"] = f"127.0.0.1:{trainer.http_port}"
        self._trainer = trainer

    def names(self) -> set[str]:
        """Returns the names of all series that the processes show or will show."""
        found = set()
        for address in self.pages.values():
            with urlopen(f"http://{address}/metrics") as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            found |= {f.name + suffix for f in families for suffix in SUFFIXES.get(f.type, ())}
        return found

    def use(self) -> None:
        """Serves, sheds, gives up and refuses once, while the trainer is held; it learns on afterwards."""
        with self._trainer.connect() as control:
            control.pause()
            control.checkpoint()  # answered between two steps
            use(self.targets)
            control.resume()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Services and a trainer that learns all the time, on the tiny model."""
    folder = tmp_path_factory.mktemp("system")
    settings = [
        "local.services=['policy','reward','reference','feedback']",
        f"feedback.database='sqlite:///{folder / 'feedback.db'}'",
        "feedback.page.port=-1",
    ]
    with LocalStack(overrides=[*SETTINGS, *settings]) as stack:
        services = {name: target for name, target in stack.targets.items() if name != "feedback"}
        config = trainer_config(folder, services) | {"total_steps": 10**6}
        trainer = Trainer(config, folder / "seen")
        try:
            trainer.wait_for_step(2)
            yield System(stack, trainer)
        finally:
            trainer.kill()


def judge(feedback: FeedbackClient) -> None:
    """Two people rank the same answers alike."""
    answers = [FeedbackAnswer(text=text) for text in ("good", "fine", "bad")]
    feedback.put_queue(QueueSettings(name="films", overlap=2))
    feedback.add_tasks("films", [FeedbackTask(id=name, prompt=name, answers=answers) for name in "abc"])
    for person in ("Ada", "Grace"):
        rater = feedback.add_rater(person)
        for _ in range(2):
            held = feedback.claim("films", rater)
            order = sorted(answer.text for answer in held.answers)
            ranks = [order.index(answer.text) + 1 for answer in held.answers]
            feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks))


def test_every_series_that_is_read_is_shown_by_a_process_or_is_known_to_be_anothers(system: System) -> None:
    shown_names = system.names()
    recorded = set(rules("record"))
    foreign = set[str]().union(*FOREIGN.values())
    for one in shown():  # a dashboard works where the rules are not installed
        assert metric_names(one.text) <= shown_names, one.place
    for one in judged():
        assert metric_names(one.text) <= shown_names | recorded | foreign, one.place
    assert not foreign & shown_names
    used = set[str]().union(*(metric_names(one.text) for one in judged()))
    assert foreign <= used  # the list has none that nobody reads any more
    assert recorded <= used


def test_names_are_ours_and_records_say_their_level() -> None:
    for one in (*shown(), *judged()):
        for name in metric_names(one.text):
            assert name.startswith(("pilothouse_", "process_", "kube", "container_", "up")) or ":" in name
    for name in rules("record"):
        level, metric, operation = name.split(":")
        assert level in {"component", "pod", "release"}
        assert metric.startswith("pilothouse_")
        assert operation


def wait_until(condition: Callable[[], object], *, seconds: float = 120) -> None:
    """Returns when the condition holds, or then: who asks looks again."""
    deadline = monotonic() + seconds
    while not condition() and monotonic() < deadline:
        sleep(0.5)


@pytest.mark.heavy
def test_a_real_prometheus_has_an_answer_for_every_panel_and_rule(
    system: System, tmp_path: Path, render: Renderer, require: Require
) -> None:
    chart = render({"observability": {"podMonitor": {"enabled": True}}})
    pods = {name: chart.workload(name)["spec"]["template"]["metadata"] for name in system.pages}
    nowhere = "127.0.0.1:1"
    targets = [
        *(discovered(f"{FULL_NAME}-{name}-a", address, pods[name]) for name, address in system.pages.items()),
        discovered("ended", nowhere, pods["trainer"], phase="Failed"),
        discovered("second-rank", nowhere, pods["trainer"], rank="1"),
    ]
    with (
        FeedbackClient(system.targets["feedback"]) as feedback,
        running(program("prometheus", require), tmp_path, targets, chart.one("PodMonitor")) as prometheus,
    ):
        wait_until(lambda: prometheus.ask("targets")["activeTargets"])
        scraped = prometheus.ask("targets")["activeTargets"]
        assert sorted(target["labels"]["component"] for target in scraped) == sorted(system.pages)
        assert {target["labels"]["release"] for target in scraped} == {RELEASE}
        sleep(3 * INTERVAL_SECONDS)  # a counter increases only from what was scraped before
        panels = {one.place: one for one in shown(rate_interval="1m") if one.place not in NOTHING_TO_SHOW}

        def silent() -> set[str]:
            system.use()
            return {place for place, one in panels.items() if not prometheus.has(one)}

        judge(feedback)
        wait_until(lambda: not silent())
        assert silent() == set()
        for place in NOTHING_TO_SHOW:
            [idle] = [one for one in shown() if one.place == place]
            assert not prometheus.has(idle), f"{place} has something to show"

        evaluated = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in evaluated} == set(rules("alert") | rules("record"))
        assert {rule["name"]: rule.get("lastError", "") for rule in evaluated if rule["health"] != "ok"} == {}
        # `use` pushes with an old epoch.
        pending = {alert["labels"]["alertname"]: alert for alert in prometheus.ask("alerts")["alerts"]}
        assert pending["PilothousePushRejected"]["labels"]["reason"] == "FENCED"
        assert pending["PilothousePushRejected"]["state"] == "firing"
        assert "FENCED" in pending["PilothousePushRejected"]["annotations"]["summary"]
