"""Stand-ins for the services, in this process: they keep the services' promises and can be told to break."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilothouse.client import (
    Cancellation,
    Completion,
    PolicyLogprobs,
    PolicyModel,
    PushResult,
    ReferenceLogprobs,
    ReferenceModel,
    RewardModel,
    SamplingParams,
    Scores,
    VersionSpan,
    WeightsState,
)
from pilothouse.config import parse
from pilothouse.errors import FencedError, UnavailableError
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import tiny_model
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.clients import Clients
from pilothouse.trainer.control import RunControl, StopSignals
from pilothouse.trainer.loop import Observer, PpoLoop
from pilothouse.trainer.ppo_run import prepared
from pilothouse.trainer.push_all import NewWeights
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir


class Service:
    """Fails as often as it is told to, then works."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.calls = 0

    def wait_ready(self, timeout_seconds: float) -> None: ...

    def answer(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)


class FakePolicy(Service):
    """Serves the tiny model; tokens follow from the seed, log-probs from the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.model_now = tiny_model()
        self.epoch = self.version = 0
        self.requests: list[list[list[int]]] = []
        self.tokenizer = TextCodec.load("tiny").digest
        self.offset = 0
        """Added to log-probs, to fake an engine that computes something else."""
        self.restart()

    def restart(self) -> None:
        """What kill -9 and a supervisor do."""
        self.model_now = tiny_model()
        self.weights = DecoderWeights.from_model(self.model_now)
        self.epoch = self.version = 0

    def model(self) -> PolicyModel:
        at = (self.epoch, self.version)
        return PolicyModel("tiny", "LlamaForCausalLM", *at, "", 512, 256, 32, 99, (2,), self.tokenizer)

    def logprobs(
        self, sequences: Sequence[Tokens], prompt_lengths: Sequence[int], temperature: float = 1.0
    ) -> PolicyLogprobs:
        with torch.no_grad():
            flat = response_logprobs(self.weights, sequences, prompt_lengths, temperature=temperature).numpy()
        counts = [len(row) - length for row, length in zip(sequences, prompt_lengths, strict=True)]
        rows: list[Floats] = np.split(flat + np.float32(self.offset), np.cumsum(counts)[:-1])
        return PolicyLogprobs(rows, self.epoch, self.version)

    def stream(
        self,
        prompts: Sequence[Tokens],
        sampling: SamplingParams,
        *,
        n: int,
        seeds: Sequence[int],
        cancellation: Cancellation | None = None,
    ) -> Iterator[Completion]:
        self.requests.append([list(map(int, prompt)) for prompt in prompts])
        self.answer()
        for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            for index in range(n):
                random = np.random.default_rng([seed, index])
                length = int(random.integers(1, sampling.max_new_tokens + 1))
                tokens = random.integers(3, 500, size=length).astype(np.int32)
                sequence = np.concatenate([prompt, tokens])
                logprobs = self.logprobs([sequence], [len(prompt)], sampling.temperature).rows[0]
                span = VersionSpan(self.epoch, self.version, 0, length)
                reason: Any = "length" if length == sampling.max_new_tokens else "stop_token"
                yield Completion(row, index, tokens, logprobs, "text", reason, (span,), len(prompt))

    def generate(
        self, prompts: Sequence[Tokens], sampling: SamplingParams, *, n: int, seeds: Sequence[int]
    ) -> list[Completion]:
        return list(self.stream(prompts, sampling, n=n, seeds=seeds))


class FakeWeights(Service):
    """Swaps the policy's weights under the rules of the wire."""

    def __init__(self, policy: FakePolicy) -> None:
        super().__init__()
        self.policy = policy
        self.dense: list[int] = []
        self.lose_answers = 0

    def states(self) -> list[WeightsState]:
        policy = self.policy
        return [WeightsState("i", policy.epoch, policy.version, "", policy.epoch, policy.tokenizer, None)]

    def push(self, new: NewWeights) -> list[PushResult]:
        self.answer()
        policy = self.policy
        if new.epoch < policy.epoch:
            raise FencedError("fenced")
        if (new.epoch, new.version) == (policy.epoch, policy.version):
            return []
        unchanged = new.unchanged if new.parent == (policy.epoch, policy.version) else {}
        with torch.no_grad():
            for name, target in policy.model_now.named_parameters():
                if name not in unchanged:
                    target.copy_(torch.from_numpy(np.array(new.tensors[name])))
        self.dense.append(len(new.tensors) - len(unchanged))
        policy.epoch, policy.version = new.epoch, new.version
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnavailableError("the answer was lost")
        rows = policy.logprobs(new.probes, [1] * len(new.probes)).rows
        digests = dict.fromkeys(new.tensors, b"d")
        return [PushResult(new.epoch, new.version, "", np.concatenate(rows), 0.0, 0, digests)]


class FakeReward(Service):
    version = "r1"
    tokenizer = TextCodec.load("tiny").digest

    def model(self) -> RewardModel:
        return RewardModel(self.version, "rules", (), 0, 999, self.tokenizer)

    def score(self, *, sequences: Sequence[Tokens], prompt_lengths: Sequence[int]) -> Scores:
        self.answer()
        values = np.array([float(row[-1]) / 500 for row in sequences], dtype=np.float32)
        return Scores(values, self.version, ())


class FakeReference(Service):
    digest = "d1"
    tokenizer = TextCodec.load("tiny").digest

    def __init__(self) -> None:
        super().__init__()
        self.weights = DecoderWeights.from_model(tiny_model())

    def model(self) -> ReferenceModel:
        return ReferenceModel("tiny", self.digest, 512, 256, self.tokenizer)

    def logprobs(
        self, sequences: Sequence[Tokens], prompt_lengths: Sequence[int], temperature: float
    ) -> ReferenceLogprobs:
        self.answer()
        with torch.no_grad():
            flat = response_logprobs(self.weights, sequences, prompt_lengths, temperature=temperature).numpy()
        counts = [len(row) - length for row, length in zip(sequences, prompt_lengths, strict=True)]
        return ReferenceLogprobs(np.split(flat, np.cumsum(counts)[:-1]), None, self.digest)


class Cluster:
    """All services."""

    def __init__(self) -> None:
        self.policy = FakePolicy()
        self.weights = FakeWeights(self.policy)
        self.reward = FakeReward()
        self.reference = FakeReference()

    @property
    def clients(self) -> Clients:
        services: Any = (self.policy, self.weights, self.reward, self.reference)
        return Clients(*services)


class Watcher(Observer):
    """Calls back after every step, and remembers."""

    def __init__(self) -> None:
        self.after: dict[int, Callable[[], None]] = {}
        self.metrics: dict[int, Mapping[str, float]] = {}
        self.starts: list[tuple[int, bool, int]] = []

    def on_start(self, step: int, total_steps: int, resumed: bool, redone: int) -> None:
        self.starts.append((step, resumed, redone))

    def on_step(self, step: int, metrics: Mapping[str, float], samples: Any) -> None:
        self.metrics[step] = metrics
        self.after.get(step, lambda: None)()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., PpoRunConfig]:
    """``config(key=value)``: a run of four steps in ``tmp_path/run``."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": f"p{row}", "prompt": f"the film {word} was"} for row, word in enumerate("abcdefg")]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def build(**overrides: Any) -> PpoRunConfig:
        values: dict[str, Any] = {
            "total_steps": 4,
            "epochs": 1,
            "services": {"wait_seconds": 5},
            "policy": {"learning_rate": 1e-3},
        }
        values |= overrides
        run = {"name": "run", "folder": tmp_path, "checkpoint_every_steps": 2, "tensorboard": False}
        rollout = {"prompts": [prompts], "prompts_per_step": 4, "max_new_tokens": 6}
        values["run"] = run | overrides.get("run", {})
        values["rollout"] = rollout | overrides.get("rollout", {})
        return parse(PpoRunConfig, values, section="ppo")

    return build


Ready = Callable[[PpoRunConfig], Any]


@pytest.fixture
def ready(cluster: Cluster, watcher: Watcher, tmp_path: Path) -> Ready:
    """``with ready(config) as (loop, control)``: a loop over the cluster."""

    @contextmanager
    def prepare(config: PpoRunConfig) -> Iterator[tuple[PpoLoop, RunControl]]:
        control = RunControl(config.run.name, "ppo", config.total_steps)
        signals = StopSignals(control)
        with (
            RunDir(tmp_path / config.run.name) as run_dir,
            prepared(config, run_dir, cluster.clients, control, signals, watcher) as loop,
        ):
            yield loop, control

    return prepare
