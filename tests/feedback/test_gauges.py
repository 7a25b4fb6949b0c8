"""What Prometheus reads of all queues is true, though nobody watches and nobody asks for the quality."""

import json
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse.client import FeedbackAnswer, FeedbackClient, FeedbackTask, QueueSettings, Ranking

from .serving import process


def gauge(port: int, name: str) -> float:
    """Returns what the service shows now."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    return families[f"pilothouse_{name}"].samples[0].value


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after a minute."""
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.1)


@pytest.mark.heavy
def test_open_tasks_and_agreement_follow_what_people_do(tmp_path: Path, url: str) -> None:
    tasks = [
        FeedbackTask(id=name, prompt=name, answers=[FeedbackAnswer(text=f"{name} {a}") for a in range(3)])
        for name in ("a", "b")
    ]
    with (
        process(tmp_path, url, server__http_port=0) as service,
        FeedbackClient(service.target) as feedback,
    ):
        port = json.loads((tmp_path / "port.json").read_text())["http_port"]
        assert math.isnan(gauge(port, "label_agreement_alpha"))
        feedback.put_queue(QueueSettings(name="films", overlap=2))
        feedback.add_tasks("films", tasks)
        wait_for(lambda: gauge(port, "feedback_open_tasks") == 2)
        for name in ("Ada", "Grace"):
            rater = feedback.add_rater(name)
            for _ in tasks:
                held = feedback.claim("films", rater)
                order = sorted(answer.text for answer in held.answers)
                ranks = [order.index(answer.text) + 1 for answer in held.answers]
                feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks))
        wait_for(lambda: gauge(port, "feedback_open_tasks") == 0)
        wait_for(lambda: gauge(port, "label_agreement_alpha") == 1)
