"""What the engine is asked for and what it answers: arrays only, neither text nor messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from pilothouse.policy.kv_cache import PromptKv
from pilothouse.policy.sampling import Sampling, WaitingTimes
from pilothouse.policy.stop import TokenStop
from pilothouse.tensors import Floats, Tokens

FinishReason = Literal["stop_token", "stop_string", "length"]


class Version(NamedTuple):
    """Which weights; ordered by epoch, then version. (0, 0) is what the server started with."""

    epoch: int
    version: int


class Span(NamedTuple):
    """Tokens [start, end) of a completion that were sampled with one version."""

    version: Version
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished completion."""

    prompt_index: int
    sample_index: int
    tokens: Tokens
    """[C] int32, a stop token included."""
    logprobs: Floats
    """[C] nats, after temperature and before any cut."""
    reason: FinishReason
    spans: tuple[Span, ...]
    """They cover every token once, in order."""
    prompt_tokens: int
    """Length of the prompt."""
    stop_characters: int = 0
    """Characters at the end of the text, from the stop string that ended it on; 0 where none did."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """The token that one running completion got in one decode step."""

    prompt_index: int
    sample_index: int
    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Update:
    """What one decode step brought to one request."""

    tokens: list[NewToken] = field(default_factory=list)
    """Only for requests that stream."""
    completed: list[Completed] = field(default_factory=list)
    error: Exception | None = None
    """The request has failed; nothing follows."""


@dataclass(eq=False, slots=True, kw_only=True)
class Request:
    """One call: completions of one or more prompts, queued and cancelled together."""

    prompts: tuple[Tokens, ...]
    """Token ids, each int32 of shape [P >= 1]."""
    seeds: tuple[int, ...]
    """One per prompt."""
    n: int = 1
    """Completions per prompt."""
    sampling: Sampling
    stream: bool = False
    """Report every token."""
    stop: Callable[[], TokenStop] | None = None
    """Makes a fresh watcher of stop strings for one completion."""
    listener: Callable[[Update], object]
    """Called on the engine's thread; must not block."""
    submitted: float = 0.0
    """When it was queued, by ``time.monotonic``."""
    unfinished: int = 0
    """Completions that have not ended; the engine's."""
    ended: bool = False
    """Completed, cancelled or failed; the engine's."""

    @property
    def size(self) -> int:
        """Completions asked for."""
        return self.n * len(self.prompts)


@dataclass(eq=False, slots=True)
class Prompt:
    """One prompt of a request, shared by its completions."""

    tokens: Tokens
    waiting: int
    """Completions not yet running."""
    kv: PromptKv | None = None
    """Kept from the first completion's start to the last one's."""


@dataclass(eq=False, slots=True, kw_only=True)
class Sequence:
    """One completion, waiting or running."""

    request: Request
    prompt: Prompt
    prompt_index: int
    sample_index: int
    sampling: Sampling
    waiting_times: WaitingTimes
    stop: TokenStop | None
    slot: int = -1
    """Where its keys and values lie; -1 while it does not run."""
    ended: bool = False
    """It has all its tokens."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    stop_characters: int = 0
    """What ``stop`` said of the newest token."""

    @property
    def produced(self) -> int:
        """Tokens sampled so far."""
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Prompt and completion together."""
        return len(self.prompt.tokens) + len(self.tokens)

    @property
    def newest(self) -> NewToken:
        """The token sampled last."""
        return NewToken(self.prompt_index, self.sample_index, self.tokens[-1], self.logprobs[-1])

    def append(self, token: int, logprob: float, version: Version) -> None:
        """Takes a sampled token."""
        at = len(self.tokens)
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if self.spans and self.spans[-1].version == version:
            self.spans[-1] = self.spans[-1]._replace(end=at + 1)
        else:
            self.spans.append(Span(version, at, at + 1))

    def finish_reason(self, longest: int) -> FinishReason | None:
        """Returns why the newest token ends the completion, or None.

        Args:
            longest: Positions of a slot: prompt and completion together.
        """
        token = self.tokens[-1]
        self.stop_characters = self.stop(token) if self.stop is not None else 0
        if token in self.sampling.stop_ids:
            return "stop_token"
        if self.stop_characters and self.produced >= self.sampling.min_new_tokens:
            return "stop_string"
        full = self.produced >= self.sampling.max_new_tokens or self.length >= longest
        return "length" if full else None

    def completed(self, reason: FinishReason) -> Completed:
        """Returns the finished completion."""
        return Completed(
            prompt_index=self.prompt_index,
            sample_index=self.sample_index,
            tokens=np.asarray(self.tokens, dtype=np.int32),
            logprobs=np.asarray(self.logprobs, dtype=np.float32),
            reason=reason,
            spans=tuple(self.spans),
            prompt_tokens=len(self.prompt.tokens),
            stop_characters=self.stop_characters if reason == "stop_string" else 0,
        )
