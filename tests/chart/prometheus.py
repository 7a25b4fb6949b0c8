"""A real Prometheus, that discovers processes as it discovers pods through the chart's PodMonitor."""

import json
import math
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from .observing import Expression, rule_file
from .rendering import NAMESPACE, Manifest

INTERVAL_SECONDS = 1
"""Between two scrapes, and two evaluations of a rule."""
_META = "__meta_kubernetes_"
_OPERATORS = [
    {"source_labels": [f"{_META}namespace"], "target_label": "namespace"},
    {"source_labels": [f"{_META}pod_name"], "target_label": "pod"},
]
"""Of what the Prometheus operator puts on by itself, what rules and dashboards use."""


class Prometheus:
    """One that runs."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """Returns the data of an API's answer."""
        with urlopen(f"http://{self._address}/api/v1/{path}?{urlencode(parameters)}") as answer:
            return json.load(answer)["data"]

    def has(self, expression: Expression) -> bool:
        """Whether an expression has a result now that is a number, with all labels that are shown with it."""
        found = self.ask("query", query=expression.text)["result"]
        return any(
            not math.isnan(float(series["value"][1])) and expression.labels <= set(series["metric"])
            for series in found
        )


def discovered(
    name: str, address: str, metadata: Manifest, *, phase: str = "Running", rank: str = ""
) -> dict[str, Any]:
    """Returns a target with the labels that discovery gives to a pod.

    Args:
        name: Of the pod.
        address: Where it shows its metrics.
        metadata: Of its template.
        phase: Of its life.
        rank: Index of an Indexed Job's pod; empty for no such pod.
    """
    labels = {
        f"{_META}pod_label_{re.sub(r'[^a-zA-Z0-9]', '_', key)}": v for key, v in metadata["labels"].items()
    }
    labels |= {
        f"{_META}namespace": NAMESPACE,
        f"{_META}pod_name": name,
        f"{_META}pod_phase": phase,
        f"{_META}pod_annotation_batch_kubernetes_io_job_completion_index": rank,
    }
    return {"targets": [address], "labels": labels}


@contextmanager
def running(
    path: str, folder: Path, targets: Sequence[Mapping[str, Any]], monitor: Manifest
) -> Iterator[Prometheus]:
    """Runs Prometheus with all rules until the end of the block.

    Args:
        path: Of the program.
        folder: Empty, for its files.
        targets: What it discovers.
        monitor: The PodMonitor, whose relabelings it follows.
    """
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    ours = [{names.get(key, key): value for key, value in step.items()} for step in endpoint["relabelings"]]
    seconds = f"{INTERVAL_SECONDS}s"
    config = {
        "global": {"scrape_interval": seconds, "scrape_timeout": seconds, "evaluation_interval": seconds},
        "rule_files": [str(rule_file(folder / "rules.yaml"))],
        "scrape_configs": [
            {
                "job_name": "pods",
                "metrics_path": endpoint["path"],
                "static_configs": list(targets),
                "relabel_configs": [*_OPERATORS, *ours],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    words = [
        path,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=folder)
    try:
        yield Prometheus(_listening(log, process))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _listening(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Waits until Prometheus is ready and returns its address, which it writes into its log."""
    deadline = monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert monotonic() < deadline, log.read_text()
        for line in log.read_text().splitlines():
            if 'msg="Listening on"' in line:
                address = line.split("address=")[1].split()[0]
                try:
                    urlopen(f"http://{address}/-/ready").close()
                except URLError:
                    break
                return address
        sleep(0.1)
