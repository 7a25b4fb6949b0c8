import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.local.conftest import kill, until

from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, SamplingParams
from pilothouse.errors import UnavailableError
from pilothouse.local import LocalStack

OVERRIDES = [
    "policy.threads=1",
    "policy.max_running=4",
    "policy.max_sequence_tokens=64",
    "reference.threads=1",
    "reward.backend=rules",
]
TOKENS = np.arange(10, 18, dtype=np.int32)


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The three services on the built-in model."""
    with LocalStack(overrides=OVERRIDES, folder=tmp_path_factory.mktemp("stack")) as running:
        yield running


def pid_of(stack: LocalStack, name: str) -> int:
    (pid,) = [service.pid for service in stack.status() if service.name == name]
    assert pid is not None
    return pid


def serving_count(stack: LocalStack, name: str) -> int:
    return [event.kind for event in stack.events if event.service == name].count("serving")


def generate(stack: LocalStack) -> list[int]:
    with PolicyClient(stack.targets["policy"]) as policy:
        policy.wait_ready(120)
        (completion,) = policy.generate([TOKENS], SamplingParams(max_new_tokens=4), seeds=[3])
    return [int(token) for token in completion.tokens]


def score(stack: LocalStack) -> list[float]:
    with RewardClient(stack.targets["reward"]) as reward:
        reward.wait_ready(120)
        return [float(value) for value in reward.score(["a"], ["b c"]).values]


def logprobs(stack: LocalStack) -> list[float]:
    with ReferenceClient(stack.targets["reference"]) as reference:
        reference.wait_ready(120)
        (row,) = reference.logprobs([TOKENS], [4]).rows
    return [float(value) for value in row]


ASK: dict[str, Callable[[LocalStack], object]] = {"policy": generate, "reward": score, "reference": logprobs}


def test_killed_services_answer_again_at_their_addresses_as_before(stack: LocalStack) -> None:
    targets = dict(stack.targets)
    before = {name: ask(stack) for name, ask in ASK.items()}
    for name in ASK:
        kill(pid_of(stack, name))
    until(lambda: all(serving_count(stack, name) == 2 for name in ASK), seconds=120)
    assert {name: ask(stack) for name, ask in ASK.items()} == before
    assert dict(stack.targets) == targets


def test_killing_the_policy_in_a_stream_ends_it_with_unavailable(stack: LocalStack) -> None:
    lives = serving_count(stack, "policy")
    begun = threading.Event()
    raised: list[BaseException] = []

    def read() -> None:
        sampling = SamplingParams(max_new_tokens=50, ignore_eos=True)
        with PolicyClient(stack.targets["policy"]) as policy:
            try:
                for _ in range(1000):
                    for _ in policy.stream([TOKENS] * 4, sampling, n=8, stream_tokens=True):
                        begun.set()
            except UnavailableError as error:
                raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(120)
    kill(pid_of(stack, "policy"))
    reader.join(120)
    assert raised
    until(lambda: serving_count(stack, "policy") > lives, seconds=120)
    assert len(generate(stack)) == 4


def test_every_service_has_an_http_port_and_a_log(stack: LocalStack) -> None:
    for service in stack.status():
        assert service.http
        assert Path(service.log).is_file()
