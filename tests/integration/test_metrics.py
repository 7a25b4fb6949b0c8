"""Every process tells Prometheus what operators need, under one name, one type and few labels."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.trainer.conftest import ANSWERS, Trainer

from pilothouse.cli.exits import Exit
from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, SamplingParams, WeightsClient
from pilothouse.errors import DeadlineExceededError, FencedError, QueueFullError
from pilothouse.local import LocalStack

LABELS = {"service", "method", "code", "model", "backend", "reason", "le"}
"""What may distinguish series; ``le`` is of Prometheus' own histograms."""
SETTINGS = [
    "policy.threads=1",
    "policy.max_running=1",
    "policy.max_waiting=8",
    "policy.max_sequence_tokens=256",
    "reference.threads=1",
    "reward.backend=rules",
    "reward.tokenizer=tiny",
]


class Page:
    """What one process shows."""

    def __init__(self, address: str) -> None:
        with urlopen(f"http://{address}/metrics") as answer:
            self.families = {
                family.name: family for family in text_string_to_metric_families(answer.read().decode())
            }
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Returns a series, which must be there."""
        return self.samples[f"pilothouse_{name}", tuple(sorted(labels.items()))]

    def kind(self, name: str) -> str:
        """Returns a family's type, also where it has no series yet."""
        return self.families[f"pilothouse_{name}"].type


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """Pages of all processes after a trainer's steps, and after callers that were served and refused."""
    folder = tmp_path_factory.mktemp("runs")
    with LocalStack(overrides=SETTINGS) as stack:
        trainer = Trainer(trainer_config(folder, dict(stack.targets)), folder / "seen")
        try:
            trainer.wait_for_step(3)
            with trainer.connect() as control:
                control.pause()
                control.checkpoint()  # answered between two steps: from here on nothing is being learned
                use(dict(stack.targets))
                told = {status.name: Page(str(status.http)) for status in stack.status()}
                told["trainer"] = Page(f"127.0.0.1:{trainer.http_port}")
                control.stop()
            trainer.finish(status=Exit.INTERRUPTED)  # stopped
        finally:
            trainer.kill()
        yield told


def trainer_config(folder: Path, services: dict[str, str]) -> dict[str, object]:
    prompts = folder / "prompts.jsonl"
    rows = [{"id": f"p{row}", "prompt": f"the film {word} was"} for row, word in enumerate(ANSWERS)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "total_steps": 1000,
        "epochs": 1,
        "minibatches": 1,
        "threads": 1,
        "services": services,
        "server": {"port_file": str(folder / "trainer.port"), "drain_seconds": 1},
        "run": {"name": "seen", "folder": str(folder)},
        "rollout": {"prompts": [str(prompts)], "prompts_per_step": 4, "max_new_tokens": 8},
    }


def use(targets: dict[str, str]) -> None:
    """Serves one of each kind, sheds one, lets one be given up, and refuses a push."""
    long = SamplingParams(max_new_tokens=240, ignore_eos=True)
    with (
        PolicyClient(targets["policy"], timeout_seconds=60) as policy,
        PolicyClient(targets["policy"], timeout_seconds=0.5) as hurried,
        RewardClient(targets["reward"]) as reward,
        ReferenceClient(targets["reference"]) as reference,
        WeightsClient(targets["weights"]) as weights,
    ):
        policy.generate(["the film"], n=2)
        reward.score(["the film"], [" was good"])
        reference.logprobs(prompts=["the film"], responses=[" was good"])
        stream = policy.stream(["the film"], long, n=8, stream_tokens=True)
        next(stream)
        with pytest.raises((QueueFullError, DeadlineExceededError)):  # as its last attempt met it
            hurried.generate(["the film"], n=8)
        stream.close()
        policy.generate(["the film"])  # answered when what was given up has left
        with pytest.raises(FencedError):
            weights.push({"a": np.ones(1, np.float32)}, run="old", epoch=0, version=1)


def test_the_policy_shows_queue_tokens_versions_and_pushes(pages: dict[str, Page]) -> None:
    policy, trainer = pages["policy"], pages["trainer"]
    assert policy.value("policy_version") == trainer.value("trainer_version") >= 2
    assert policy.value("policy_epoch") >= 1
    assert policy.value("weights_push_seconds_count") >= 2
    assert policy.value("weights_rejected_total", reason="FENCED") == 1
    assert policy.value("shed_total", reason="policy_queue") >= 1
    assert policy.value("policy_cancelled_total") >= 1
    assert policy.kind("policy_failures") == "counter"
    assert policy.kind("policy_running") == policy.kind("policy_waiting") == "gauge"
    started = policy.value("policy_queue_seconds_count")
    assert started >= policy.value("policy_completion_seconds_count") >= 10
    assert started - 1 <= policy.value("policy_time_to_first_token_seconds_count") <= started
    assert policy.value("policy_inter_token_seconds_count") > 0
    assert policy.value("policy_generation_tokens_total") > started
    assert policy.value("policy_prompt_tokens_total") > started
    ended = sum(value for (name, _), value in policy.samples.items() if name.endswith("completions_total"))
    assert ended == policy.value("policy_completion_seconds_count")


def test_reward_and_reference_show_work_queue_and_failures(pages: dict[str, Page]) -> None:
    reward, reference = pages["reward"], pages["reference"]
    rows = reward.value("reward_scores_total", model="score")
    assert rows == reward.value("reward_queue_seconds_count", model="score") >= 9
    assert reward.value("reward_batch_seconds_count", model="score") >= 3
    assert reward.value("reward_waiting_rows", model="score") == 0
    assert reward.kind("reward_failures") == "counter"
    requests = reference.value("reference_logprobs_seconds_count")
    assert requests == reference.value("reference_queue_seconds_count") >= 3
    assert reference.value("reference_tokens_total") > requests
    assert reference.value("reference_running") == reference.value("reference_waiting") == 0
    assert reference.value("reference_cancelled_total") == 0
    assert reference.kind("reference_failures") == "counter"


def test_the_trainer_shows_what_researchers_watch(pages: dict[str, Page]) -> None:
    trainer = pages["trainer"]
    assert trainer.value("trainer_step") >= 2
    assert trainer.value("rollout_staleness") == 0
    assert np.isfinite(trainer.value("kl"))
    assert 0 <= trainer.value("reward_mean") <= 1
    assert trainer.value("reward_std") >= 0
    assert trainer.value("weights_push_seconds_count") == trainer.value("trainer_step")
    assert trainer.value("weights_push_seconds_sum") > 0


@pytest.mark.parametrize("name", ["policy", "reward", "reference", "trainer"])
def test_calls_are_shown_under_the_names_of_grpc_proposal_a66(pages: dict[str, Page], name: str) -> None:
    methods = {
        "policy": ("PolicyService/Generate", "OK"),
        "reward": ("RewardService/Score", "OK"),
        "reference": ("ReferenceService/Logprobs", "OK"),
        "trainer": ("TrainerService/Pause", "OK"),
    }
    method, code = methods[name]
    labels = {"method": f"/pilothouse.v1.{method}"}
    served = pages[name].value("grpc_server_call_duration_seconds_count", code=code, **labels)
    assert pages[name].value("grpc_server_call_started_total", **labels) >= served >= 1
    if name != "trainer":
        called = pages["trainer"].value("grpc_client_call_duration_seconds_count", code=code, **labels)
        assert 2 <= called <= served


def test_a_name_has_one_type_and_only_labels_that_are_allowed(pages: dict[str, Page]) -> None:
    kinds: dict[str, set[str]] = {}
    labels: set[str] = set()
    for page in pages.values():
        for name, family in page.families.items():
            if name.startswith(("python_", "process_")):
                continue
            assert name.startswith("pilothouse_")
            kinds.setdefault(name, set()).add(family.type)
            labels |= {label for sample in family.samples for label in sample.labels}
    assert {name for name, found in kinds.items() if len(found) > 1} == set()
    assert labels <= LABELS
