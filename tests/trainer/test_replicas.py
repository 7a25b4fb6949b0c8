"""Several real replicas of the policy, and a trainer that treats them as one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilothouse.client import (
    PolicyClient,
    PushResult,
    SamplingParams,
    StagedPush,
    WeightsClient,
    policy_codec,
)
from pilothouse.errors import (
    FencedError,
    InvalidRequestError,
    ManifestMismatchError,
    UnavailableError,
)
from pilothouse.models.tiny import tiny_model
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.push_all import NewWeights, Quorum, WeightReplicas
from pilothouse.trainer.replicas import Replica, Replicas
from pilothouse.trainer.spread import PolicyReplicas, parts

PROMPTS = [np.array([5 + row, 9, 77], dtype=np.int32) for row in range(7)]
SEEDS = list(range(7))
SAMPLING = SamplingParams(max_new_tokens=5)


class Process:
    """One policy."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "policy.json"
        self._weights_file = folder / "weights.json"
        self.port = self.weights_port = 0
        self.start()

    def start(self) -> None:
        for file in (self._file, self._weights_file):
            file.unlink(missing_ok=True)
        settings = {
            "model": "tiny",
            "threads": 1,
            "max_running": 8,
            "server.http_port": -1,
            "server.port": self.port,
            "server.port_file": str(self._file),
            "weights_server.port": self.weights_port,
            "weights_server.port_file": str(self._weights_file),
        }
        flags = [f"--set=policy.{name}={json.dumps(value)}" for name, value in settings.items()]
        command = [sys.executable, "-m", "pilothouse.policy", *flags]
        self.process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def await_ready(self) -> None:
        while not (self._file.exists() and self._weights_file.exists()):
            assert self.process.poll() is None
            time.sleep(0.02)
        self.port = json.loads(self._file.read_text())["port"]
        self.weights_port = json.loads(self._weights_file.read_text())["port"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Group:
    """The replicas, and who has an address."""

    name = ""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes
        self.listed = list(processes)
        self.replicas = Replicas(self, self.connect)

    def current(self) -> frozenset[str]:
        return frozenset(f"127.0.0.1:{process.weights_port}" for process in self.listed)

    def close(self) -> None: ...

    def connect(self, address: str) -> Replica:
        port = next(entry.port for entry in self.processes if address.endswith(f":{entry.weights_port}"))
        weights = WeightsClient(address, timeout_seconds=20)
        return Replica(address, weights, PolicyClient(f"127.0.0.1:{port}", timeout_seconds=20))

    def weights(self, quorum: Quorum = "majority") -> WeightReplicas:
        return WeightReplicas(self.replicas, quorum)

    def versions(self) -> list[tuple[int, int] | None]:
        """What each listed process serves; None where it cannot be reached."""
        found: list[tuple[int, int] | None] = []
        for process in self.listed:
            with WeightsClient(f"127.0.0.1:{process.weights_port}") as client:
                try:
                    state = client.state()
                except UnavailableError:
                    found.append(None)
                else:
                    found.append((state.epoch, state.version))
        return found


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Callable[[int], Group]]:
    """``group(n)``: n policies."""
    started: list[Process] = []
    groups: list[Group] = []

    def start(count: int) -> Group:
        for _ in range(count):
            folder = tmp_path / f"{len(started)}"
            folder.mkdir()
            started.append(Process(folder))
        for process in started:
            process.await_ready()
        groups.append(Group(started[-count:]))
        return groups[-1]

    yield start
    for one in groups:
        one.replicas.close()
    for process in started:
        process.kill()


def new(version: int, *, epoch: int = 1, seed: int = 3, **more: Any) -> NewWeights:
    named = tiny_model(seed=seed).named_parameters()
    tensors = {name: tensor.detach().numpy() for name, tensor in named}
    return NewWeights(tensors=tensors, run="test", epoch=epoch, version=version, **more)


@pytest.mark.heavy
def test_a_push_reaches_every_replica_and_each_proves_it(group: Callable[[int], Group]) -> None:
    three = group(3)
    results = three.weights().push(new(1, probes=PROMPTS[:2]))
    assert [(result.epoch, result.version) for result in results] == [(1, 1)] * 3
    assert three.versions() == [(1, 1)] * 3
    assert all((result.probe_logprobs == results[0].probe_logprobs).all() for result in results)
    assert three.weights().push(new(1)) == []  # again: all have it


@pytest.mark.heavy
def test_completions_do_not_depend_on_the_number_of_replicas(group: Callable[[int], Group]) -> None:
    one, three = group(1), group(3)
    for some in (one, three):
        some.weights().push(new(1))
    found = [
        PolicyReplicas(some.replicas, calls=3).generate(PROMPTS, SAMPLING, n=2, seeds=SEEDS)
        for some in (one, three)
    ]
    alone, spread = ([(e.prompt_index, e.sample_index, e.tokens.tolist()) for e in part] for part in found)
    assert alone == spread
    assert [entry[:2] for entry in spread] == [(row, sample) for row in range(7) for sample in range(2)]
    assert all((a.logprobs == b.logprobs).all() for a, b in zip(*found, strict=True))


@pytest.mark.heavy
def test_a_stream_brings_every_completion_once(group: Callable[[int], Group]) -> None:
    two = group(2)
    two.weights().push(new(1))
    events = list(PolicyReplicas(two.replicas, calls=2).stream(PROMPTS, SAMPLING, n=2, seeds=SEEDS))
    places = sorted((event.prompt_index, event.sample_index) for event in events)
    assert places == [(row, sample) for row in range(7) for sample in range(2)]


@pytest.mark.heavy
def test_prompts_of_a_lost_replica_go_to_another(group: Callable[[int], Group]) -> None:
    two = group(2)
    two.weights().push(new(1))
    two.processes[0].kill()
    policy = PolicyReplicas(two.replicas, calls=2)
    assert len(policy.generate(PROMPTS, SAMPLING, n=1, seeds=SEEDS)) == 7
    two.processes[1].kill()
    with pytest.raises(UnavailableError):
        policy.generate(PROMPTS, SAMPLING, n=1, seeds=SEEDS)


@pytest.mark.heavy
def test_a_majority_is_enough_and_who_missed_a_push_is_not_asked(group: Callable[[int], Group]) -> None:
    three = group(3)
    three.weights().push(new(1))
    os.kill(three.processes[0].process.pid, signal.SIGSTOP)  # no answer, and no refusal either
    try:
        assert len(three.weights().push(new(2, seed=4))) == 2
    finally:
        os.kill(three.processes[0].process.pid, signal.SIGCONT)
    policy = PolicyReplicas(three.replicas, calls=3)
    found = policy.generate(PROMPTS, SAMPLING, n=1, seeds=SEEDS)
    assert {entry.version_spans[0].version for entry in found} == {2}
    assert len(three.weights().push(new(2, seed=4))) == 1  # it is given what it missed
    assert three.versions() == [(1, 2)] * 3


@pytest.mark.heavy
def test_without_a_quorum_nothing_changes_anywhere(group: Callable[[int], Group]) -> None:
    three = group(3)
    three.weights().push(new(1))
    for process in three.processes[:2]:
        process.kill()
    weights = three.weights()
    patience = Patience({"weights": weights}, wait_seconds=3, on_wait=lambda name, left: None)
    with pytest.raises(UnavailableError, match="1 of 3 policy replicas answer, 2 are needed"):
        patience.call("weights", lambda: weights.push(new(2, seed=4)))
    assert three.versions() == [None, None, (1, 1)]
    three.processes[0].start()
    three.processes[0].await_ready()
    assert len(patience.call("weights", lambda: weights.push(new(2, seed=4)))) == 2


@pytest.mark.heavy
def test_all_means_all(group: Callable[[int], Group]) -> None:
    two = group(2)
    two.weights("all").push(new(1))
    two.processes[0].kill()
    for _ in range(2):  # trying again does not make it forgotten
        with pytest.raises(UnavailableError, match="1 of 2 policy replicas answer, 2 are needed"):
            two.weights("all").push(new(2))
    assert two.versions() == [None, (1, 1)]
    two.listed.pop(0)  # its address is gone: the group is smaller now
    assert len(two.weights("all").push(new(2))) == 1


@pytest.mark.heavy
def test_a_replica_that_came_back_with_older_weights_is_given_the_current_ones(
    group: Callable[[int], Group],
) -> None:
    two = group(2)
    weights = two.weights()
    weights.push(new(1))
    two.processes[0].kill()
    two.processes[0].start()
    two.processes[0].await_ready()
    frozen = {
        name: digest for name, digest in weights.push(new(2, seed=4))[0].digests.items() if "norm" in name
    }
    assert two.versions() == [(1, 2)] * 2
    two.processes[0].kill()
    two.processes[0].start()
    two.processes[0].await_ready()
    third = new(3, seed=4, parent=(1, 2), unchanged=frozen)  # one replica lacks the parent
    assert len(weights.push(third)) == 2
    assert two.versions() == [(1, 3)] * 2


@pytest.mark.heavy
def test_replicas_come_and_go(group: Callable[[int], Group]) -> None:
    three = group(3)
    three.listed = three.processes[:1]
    three.weights().push(new(1))
    three.listed = three.processes
    assert sorted(state.version for state in three.weights().states()) == [0, 0, 1]
    assert len(three.weights().push(new(1))) == 2
    three.listed = three.processes[1:]
    with three.replicas.held() as members:
        assert len(members) == 2
    assert len(three.weights().push(new(2))) == 2
    assert three.versions() == [(1, 2)] * 2


@pytest.mark.heavy
def test_a_replica_is_not_closed_while_somebody_pushes_to_it(group: Callable[[int], Group]) -> None:
    two = group(2)
    leaving = f"127.0.0.1:{two.processes[0].weights_port}"
    with two.replicas.held() as members:
        two.listed.pop(0)
        two.weights().push(new(1))  # looks at the addresses, as another thread would
        (left,) = [replica for replica in members if replica.address == leaving]
        assert left.weights.state().version == 0
    with pytest.raises(InvalidRequestError, match="is closed"):
        left.weights.state()


@pytest.mark.heavy
def test_a_replica_that_was_started_anew_before_its_commit_is_lost_and_no_more(
    group: Callable[[int], Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    three = group(3)
    weights = three.weights()
    weights.push(new(1))
    victim = three.processes[0]
    commit = WeightsClient.commit

    def after_a_restart(client: WeightsClient, *arguments: Any, **more: Any) -> PushResult:
        if client.target.endswith(f":{victim.weights_port}"):
            victim.kill()
            victim.start()
            victim.await_ready()
        return commit(client, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(WeightsClient, "commit", after_a_restart)
        assert len(weights.push(new(2, seed=4))) == 2
    assert three.versions() == [(0, 0), (1, 2), (1, 2)]
    assert len(weights.push(new(2, seed=4))) == 1


@pytest.mark.heavy
def test_a_replica_that_copies_the_weights_while_they_are_pushed_has_them(
    group: Callable[[int], Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = group(2)
    late = two.processes[0]
    stage = WeightsClient.stage

    def after_a_copy(client: WeightsClient, *arguments: Any, **more: Any) -> StagedPush:
        if client.target.endswith(f":{late.weights_port}"):
            with WeightsClient(client.target) as peer:
                peer.commit(stage(peer, new(1).whole, run="copy", epoch=1, version=1))
        return stage(client, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(WeightsClient, "stage", after_a_copy)
        assert len(two.weights().push(new(1))) == 1
    assert two.versions() == [(1, 1)] * 2


@pytest.mark.heavy
def test_an_interrupted_batch_ends_at_all_replicas(
    group: Callable[[int], Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = group(2)
    two.weights().push(new(1))
    ended: list[object] = []
    events = policy_codec.events

    def counted(response: Any) -> Iterator[Any]:
        ended.append(response)
        return events(response)

    def interrupt_when_both_work() -> None:
        with two.replicas.held() as members:
            while not all(replica.calls for replica in members):
                time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(policy_codec, "events", counted)
    long = SamplingParams(min_new_tokens=200, max_new_tokens=200)
    with ThreadPoolExecutor() as threads:
        interrupting = threads.submit(interrupt_when_both_work)
        with pytest.raises(KeyboardInterrupt):
            PolicyReplicas(two.replicas, calls=2).generate(PROMPTS, long, n=16, seeds=SEEDS)
        interrupting.result()
    assert len(ended) < 7 * 16
    with two.replicas.held() as members:
        assert [(replica.calls, replica.version) for replica in members] == [(0, (1, 1))] * 2


@pytest.mark.heavy
def test_a_refusal_by_one_replica_leaves_all_as_they_were(group: Callable[[int], Group]) -> None:
    two = group(2)
    two.weights().push(new(1))
    with WeightsClient(f"127.0.0.1:{two.processes[0].weights_port}") as client:
        client.push(new(1, epoch=9, seed=5).tensors, run="newer", epoch=9, version=1)
    with pytest.raises(FencedError):
        two.weights().push(new(2))
    assert two.versions() == [(9, 1), (1, 1)]
    wrong = NewWeights(tensors={"x": np.zeros(3, np.float32)}, run="test", epoch=10, version=1)
    with pytest.raises(ManifestMismatchError):
        two.weights().push(wrong)
    assert two.versions() == [(9, 1), (1, 1)]


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("calls", range(1, 12))
def test_parts_are_consecutive_whole_and_about_equal(count: int, calls: int) -> None:
    found = parts(count, calls)
    assert [number for part in found for number in part] == list(range(count))
    assert len(found) == min(count, calls)
    assert max(map(len, found)) - min(map(len, found)) <= 1
