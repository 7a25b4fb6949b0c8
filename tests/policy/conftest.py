"""An engine on a small model, driven without a server."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from transformers import PreTrainedModel

from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.load import parameters_by_name
from pilothouse.models.panels import in_panels
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import small_model
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.metrics import EngineMetrics
from pilothouse.policy.requests import Completed, NewToken, Request, Update
from pilothouse.policy.runner import ModelRunner
from pilothouse.policy.sampling import Sampling
from pilothouse.policy.scheduler import Scheduler
from pilothouse.tensors import Tokens

ARCHITECTURES = ("llama-tied", "llama-untied", "qwen3", "gemma3", "gpt2")


@lru_cache
def model_of(architecture: str, seed: int = 0) -> PreTrainedModel:
    """Returns a small random model; nobody changes it."""
    return small_model(architecture, seed)


def engine_weights(model: PreTrainedModel) -> DecoderWeights:
    """Returns a model's weights in the engine's layout."""
    state = {name: tensor.detach() for name, tensor in parameters_by_name(model).items()}
    return in_panels(DecoderWeights.from_state(decoder_spec(model.config), state))


def make_engine(
    weights: DecoderWeights, *, slots: int = 8, max_waiting: int = 512, prefill_tokens: int = 256
) -> PolicyEngine:
    """Returns an engine that is not started."""
    runner = ModelRunner(
        weights, slots=slots, positions=weights.spec.max_positions, prefill_tokens=prefill_tokens
    )
    scheduler = Scheduler(slots=slots, max_waiting=max_waiting, prefill_tokens=prefill_tokens)
    return PolicyEngine(runner, scheduler, metrics=EngineMetrics(CollectorRegistry()), threads=1)


@dataclass(eq=False)
class Collector:
    """Listens to one request."""

    size: int
    completed: list[Completed] = field(default_factory=list)
    tokens: list[NewToken] = field(default_factory=list)
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)
    on_update: Callable[[Update], None] | None = None

    def __call__(self, update: Update) -> None:
        self.tokens += update.tokens
        self.completed += update.completed
        self.error = update.error or self.error
        if self.error is not None or len(self.completed) == self.size:
            self.done.set()
        if self.on_update is not None:
            self.on_update(update)

    def result(self) -> list[Completed]:
        """Waits and returns the completions by prompt, then sample."""
        assert self.done.wait(60), "the request did not end"
        if self.error is not None:
            raise self.error
        return sorted(self.completed, key=lambda entry: (entry.prompt_index, entry.sample_index))


def request_of(
    prompts: Sequence[Tokens],
    sampling: Sampling,
    *,
    n: int = 1,
    seeds: Sequence[int] | None = None,
    stream: bool = False,
    on_update: Callable[[Update], None] | None = None,
    **more: object,
) -> tuple[Request, Collector]:
    """Returns a request and what listens to it."""
    collector = Collector(len(prompts) * n, on_update=on_update)
    request = Request(
        prompts=tuple(prompts),
        seeds=tuple(seeds if seeds is not None else range(len(prompts))),
        n=n,
        sampling=sampling,
        stream=stream,
        listener=collector,
        **more,  # type: ignore[arg-type]
    )
    return request, collector


def generate(
    engine: PolicyEngine, prompts: Sequence[Tokens], sampling: Sampling, **more: object
) -> list[Completed]:
    """Runs one request to its end."""
    request, collector = request_of(prompts, sampling, **more)  # type: ignore[arg-type]
    engine.submit(request)
    return collector.result()


def random_prompts(count: int, seed: int = 0, longest: int = 24, vocabulary: int = 512) -> list[Tokens]:
    """Returns ragged random prompts."""
    random = np.random.default_rng(seed)
    return [
        random.integers(3, vocabulary, size=random.integers(1, longest + 1)).astype(np.int32)
        for _ in range(count)
    ]


@pytest.fixture
def tiny_engine() -> Iterator[PolicyEngine]:
    """A running engine on the small tied Llama."""
    engine = make_engine(engine_weights(model_of("llama-tied")))
    engine.start()
    yield engine
    engine.close()
