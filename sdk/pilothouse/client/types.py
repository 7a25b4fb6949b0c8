"""What the clients take and return.

Axes: B batch, C completion, R response tokens of a batch, end to end. Log-probs are nats, float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pilothouse.sequences import Spans
from pilothouse.tensors import Floats, Tokens

FinishReason = Literal["stop_token", "stop_string", "length"]
KvPolicy = Literal["keep", "recompute"]
RunState = Literal["starting", "running", "paused", "finished", "failed"]

Message = tuple[str, str] | Mapping[str, str]
"""One turn of a conversation: (role, content), or a mapping with these two keys."""
Chat = Sequence[Message]
"""A conversation, oldest turn first."""
TokenRow = Tokens | Sequence[int]
"""Token ids of one sequence, any integer type."""
Prompts = Sequence[str] | Sequence[TokenRow] | Sequence[Chat]
"""Plain texts, token ids or conversations; all of one kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: float = 1.0
    """Keeps the smallest set of tokens whose probability reaches this share, in (0, 1]; 1 is off."""
    top_k: int = 0
    """Keeps this many most likely tokens; 0 is off."""
    min_new_tokens: int = 0
    """No stop token is sampled before this many tokens, and a stop string complete before ends nothing."""
    max_new_tokens: int = 64
    """Completion length limit in tokens, at least 1."""
    stop_token_ids: Sequence[int] = ()
    """Further token ids that end a completion."""
    stop_strings: Sequence[str] = ()
    """Texts that end a completion; its text is cut before the match that ended it, its tokens are not."""
    ignore_eos: bool = False
    """The model's own end-of-sequence ids do not end a completion."""


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Positions [start, end) of a completion that one weight version sampled."""

    epoch: int
    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """A finished completion."""

    prompt_index: int
    """Which prompt of the request."""
    sample_index: int
    """Which of the prompt's ``n`` completions."""
    tokens: Tokens
    """int32 [C], a stop token included."""
    logprobs: Floats
    """[C], after temperature, before any top-p or top-k cut."""
    text: str
    """Without special tokens, cut before a stop string."""
    finish_reason: FinishReason
    version_spans: tuple[VersionSpan, ...]
    """Cover every token once, in order."""
    prompt_tokens: int
    """Length of the prompt in tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenEvent:
    """New tokens of a completion that is still running."""

    prompt_index: int
    sample_index: int
    tokens: Tokens
    """int32 [new tokens]."""
    logprobs: Floats
    """[new tokens]."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenisedTexts:
    """What the service's tokenizer made of prompts and responses; one entry per row in each field."""

    sequences: list[Tokens]
    """Prompt and response joined, int32 [prompt + response tokens]. As token ids they get the same answer."""
    prompt_lengths: list[int]
    """How many tokens of every row are the prompt."""
    spans: list[Spans]
    """int32 [response tokens, 2]: ``response[start:end]`` is the text of a token, as the tokenizer tells it.
    A space may belong to no token; the end-of-sequence id has an empty range."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyLogprobs:
    """What the policy now serving thinks of given responses."""

    rows: list[Floats]
    """One row per sequence, [response tokens]."""
    epoch: int
    version: int
    tokenised: TokenisedTexts | None = None
    """The tokens behind the rows; only where texts were given."""


@dataclass(frozen=True, slots=True)
class PolicyModel:
    """The policy being served."""

    model: str
    architecture: str
    epoch: int
    version: int
    """(epoch, version) is (0, 0) before the first push."""
    digest: str
    """BLAKE3 over all weights, lower-case hex."""
    vocabulary_size: int
    max_sequence_tokens: int
    max_running: int
    max_waiting: int
    eos_token_ids: tuple[int, ...]
    tokenizer_digest: str = ""
    """Of what token ids mean and how text becomes them; empty where the service does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class PushResult:
    """A finished weight push."""

    epoch: int
    version: int
    digest: str
    """BLAKE3 of the weights now serving, lower-case hex."""
    probe_logprobs: Floats
    """Log-probs of tokens 1.. of every probe under the new weights, ragged end to end."""
    swap_seconds: float
    """How long generation was held up."""
    uploaded_bytes: int
    """Size of the upload, without what was sent again."""
    digests: Mapping[str, bytes] = field(repr=False)
    """BLAKE3 of every tensor; give those of unchanged ones to the next push to save hashing them again."""


@dataclass(frozen=True, slots=True)
class WeightsState:
    """Which weights a policy serves."""

    instance: str
    """Names the policy's process: another one after a restart."""
    epoch: int
    version: int
    digest: str
    """BLAKE3 of the weights, lower-case hex; equal to that of the push which brought them."""
    fence: int
    """Highest epoch that has begun a push there."""
    tokenizer_digest: str
    """As in `PolicyModel`."""
    arriving: tuple[int, int] | None
    """(epoch, version) of the push that is open."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreComponent:
    """One part of a composed score."""

    name: str
    weight: float
    values: Floats
    """[B], before weighting."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of a batch."""

    values: Floats
    """[B], all finite."""
    reward_version: str
    """Version of the reward model that scored."""
    components: tuple[ScoreComponent, ...]
    """The parts of a composed score; one for a plain backend."""
    disagreement: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    """[B], the population standard deviation of an ensemble's members; [0] where there is no ensemble."""


@dataclass(frozen=True, slots=True)
class RewardModel:
    """The reward model being served."""

    reward_version: str
    backend: str
    providers: tuple[str, ...]
    """ONNX Runtime execution providers in use; empty for other backends."""
    max_sequence_tokens: int
    """0 where the backend has no such limit."""
    max_batch_rows: int
    tokenizer_digest: str = ""
    """Of the tokenizer whose ids may be sent; empty where there is none and texts are all that it takes."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLogprobs:
    """What the frozen reference model thinks of given responses."""

    rows: list[Floats]
    """One row per sequence, [response tokens]."""
    kl: list[Floats] | None
    """behaviour - reference per token, same shapes; None where no behaviour log-probs were given."""
    reference_digest: str
    """BLAKE3 of the reference model's weights, lower-case hex."""
    tokenised: TokenisedTexts | None = None
    """The tokens behind the rows; only where texts were given."""


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """The reference model being served."""

    model: str
    reference_digest: str
    vocabulary_size: int
    max_sequence_tokens: int
    tokenizer_digest: str = ""
    """Of what token ids mean and how text becomes them; empty where the service does not say."""


@dataclass(frozen=True, slots=True)
class TrainerStatus:
    """Where a training run stands."""

    run: str
    task: str
    """``sft``, ``reward-model`` or ``ppo``."""
    state: RunState
    step: int
    """Steps done."""
    total_steps: int
    """Steps planned; 0 before the data have been read."""
    epoch: int
    version: int
    """Last (epoch, version) that the policy serves."""
    checkpoint: str
    """Newest complete checkpoint, relative to the run directory; empty before the first. The result,
    ``model``, where an SFT or reward-model run has come to its end."""
    error: str
    """Why the run failed; empty otherwise."""
    pause_reason: str = ""
    """Why the run was paused, where a guard paused it; empty otherwise."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of one training step."""

    step: int
    """Counted from 1."""
    metrics: Mapping[str, float]
    """By name, for example ``objective/kl``."""


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint that is durable."""

    checkpoint: str
    """Folder, relative to the run directory."""
    step: int
    """Step after which it was taken."""
