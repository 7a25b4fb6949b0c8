"""Settings of the reward service."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config
from pilothouse.server.config import ServerConfig
from pilothouse.tls import Tls

DEFAULT_BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)

ProviderName = Literal["tensorrt", "cuda", "cpu"]
CombinationName = Literal["weighted", "mean", "min", "mean_minus_std"]
Name = r"^[a-z0-9._-]{1,64}$"


class BatchingConfig(Config):
    """How rows of waiting requests become batches."""

    token_budget: int = Field(default=4096, ge=1)
    """Most padded tokens of one batch: rows times the length to which they are padded."""
    max_rows: int = Field(default=256, ge=1)
    """Most rows of one batch."""
    max_waiting_rows: int = Field(default=4096, ge=1)
    """Rows that may wait per scorer; more are refused with RESOURCE_EXHAUSTED and a retry hint."""
    window_seconds: float = Field(default=0.002, ge=0, le=1)
    """How long the first row of an idle scorer waits for company."""
    length_buckets: tuple[int, ...] = DEFAULT_BUCKETS
    """Lengths, ascending, to which sequences are padded; rows of one batch share a bucket."""
    across_requests: bool = True
    """Put rows of different requests into one batch. Without it a request's batches follow from the request
    alone, so that its scores have the same bits whenever it is sent."""
    warm_up_tokens: int = Field(default=128, ge=0)
    """Before serving, one row of every bucket up to this length is scored."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        buckets = self.length_buckets
        if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
            raise ValueError("length_buckets must be positive and ascending")
        return self


class RuleConfig(Config):
    """One rule over the response's text; scores lie in [0, 1]."""

    kind: Literal["length", "regex", "format"] = "length"
    """Which rule: `length`, `regex` or `format`."""
    unit: Literal["words", "characters"] = "words"
    """What `length` counts."""
    minimum: int = Field(default=1, ge=0)
    """`length`: shortest response that scores 1."""
    maximum: int = Field(default=64, ge=0)
    """`length`: longest response that scores 1."""
    falloff: float = Field(default=16.0, gt=0)
    """`length`: so many units outside the range the score has fallen to 0."""
    pattern: str = ""
    r"""`regex`: regular expression in RE2's syntax, whose time is linear in the text; 1 where it is found in
    the response. No look-around or back-references; `\w`, `\d`, `\s`, `\b` know ASCII, `\p{L}` any letter."""
    whole: bool = False
    """`regex`: the whole response must match."""
    format: Literal["json", "sentence", "tags"] = "sentence"
    """`format`: JSON; a text that starts with a capital and ends with `.`, `!` or `?`; or `tags` in order."""
    tags: tuple[str, ...] = ()
    """`format = "tags"`: names of XML-like elements, each once, in this order, nothing between them."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "length" and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if self.kind == "regex" and not self.pattern:
            raise ValueError("a regex rule needs a pattern")
        if self.kind == "format" and self.format == "tags" and not self.tags:
            raise ValueError('a rule of format "tags" needs tags')
        return self


class PythonConfig(Config):
    """The user's own scorer."""

    scorer: str = ""
    """Name of its entry point in the group `pilothouse.scorers`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for a scorer that is a class."""


class TritonConfig(Config):
    """A model on a Triton server, or on any other server of the Open Inference Protocol v2."""

    target: str = ""
    """Its gRPC address, host:port."""
    model: str = "reward"
    """The model's name there."""
    model_version: str = ""
    """The model's version there; empty lets the server choose."""
    inputs: Literal["tokens", "text"] = "tokens"
    """`tokens`: INT64 `input_ids` and `lengths`, as exported by Pilothouse; the folder `model` holds the
    tokenizer and the normaliser. `text`: BYTES `prompt` and `response`."""
    output: str = "score"
    """Name of its FP32 output, one number a row."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """Longest wait for one batch, retries included; the callers' deadlines end it sooner."""
    tls: Tls | None = None
    """Certificates for the connection to it, read when the service starts; None for plaintext. The service's
    own section ``tls`` is not used for it."""


class ScorerConfig(Config):
    """One scorer."""

    backend: Literal["onnx", "torch", "triton", "rules", "python", "composite"] = "rules"
    """What computes the score; `composite` combines those of `reward.parts`."""
    model: str = ""
    """Folder of the reward model with its `reward.json`, for `onnx`, `torch` and `triton`."""
    tokenizer: str = ""
    """Folder of a tokenizer with which `rules`, `python` and text on Triton turn token ids into text; without
    one they take texts only."""
    providers: tuple[ProviderName, ...] = ("tensorrt", "cuda", "cpu")
    """ONNX Runtime execution providers in order of preference; those not available are passed over."""
    require: tuple[ProviderName, ...] = ()
    """Providers that must really be in use after the model is loaded; else the service refuses to start."""
    device: str = "cpu"
    """Torch device."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Torch compute type."""
    threads: int | None = Field(default=None, ge=1)
    """Compute threads of ONNX Runtime or torch; None lets the library choose."""
    rule: RuleConfig = RuleConfig()
    """For `rules`."""
    python: PythonConfig = PythonConfig()
    """For `python`."""
    triton: TritonConfig = TritonConfig()
    """For `triton`."""

    @model_validator(mode="after")
    def _has_what_its_backend_needs(self) -> Self:
        if self.backend in ("onnx", "torch") and not self.model:
            raise ValueError(f"backend {self.backend} needs model, the folder of a reward model")
        if self.backend == "triton" and not self.triton.target:
            raise ValueError("backend triton needs triton.target, host:port")
        if self.backend == "triton" and self.triton.inputs == "tokens" and not self.model:
            raise ValueError("backend triton needs model, the exported folder, unless triton.inputs is text")
        if self.backend == "python" and not self.python.scorer:
            raise ValueError("backend python needs python.scorer, the name of an entry point")
        return self


class PartConfig(ScorerConfig):
    """One component of a composed score."""

    name: str = Field(pattern=Name)
    """Name under which its own scores are reported."""
    weight: float = Field(default=1.0, allow_inf_nan=False)
    """Weight with which it enters a weighted sum; members of an ensemble have none."""

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        if self.backend == "composite":
            raise ValueError("a part cannot itself be composite; list its parts beside the others")
        return self


class ShadowConfig(Config):
    """How a staged candidate is compared with the reward model that serves, on live rows."""

    percent: float = Field(default=0.0, ge=0, le=100)
    """Share of live rows that the candidate scores too, in the background; rows of one request with the same
    prompt go together. They take from the same processor as live ones."""
    max_waiting_rows: int = Field(default=1024, ge=1)
    """Rows that may wait for the candidate; more are passed over and counted."""


class RewardConfig(ScorerConfig):
    """Settings of one reward service process: its scorer, and how it is served."""

    server: ServerConfig = ServerConfig()
    """Port for those who score."""
    models_server: ServerConfig = ServerConfig(http_port=-1)
    """Port for those who stage, compare and promote reward models; closed without `models_folder`."""
    models_folder: Path | None = None
    """Folder under which staged reward models lie; none can be staged without it. Its `serving.json` names
    the promoted one, which serves after a restart in place of the configured scorer. Every process needs a
    folder of its own."""
    keep_previous: bool = True
    """Keep the reward model before the last promotion in memory, so that an operator can roll back."""
    shadow: ShadowConfig = ShadowConfig()
    """How a candidate is compared on live rows."""
    parts: tuple[PartConfig, ...] = ()
    """Components of a `composite` score."""
    combine: CombinationName = "weighted"
    """How the parts become one score: their `weighted` sum, or, for the members of an ensemble, their `mean`,
    their `min` or `mean_minus_std`."""
    std_factor: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """How many standard deviations of the members `mean_minus_std` subtracts from their mean."""
    batching: BatchingConfig = BatchingConfig()
    """How rows become batches."""
    max_batch_rows: int = Field(default=1024, ge=1)
    """Most rows of one request."""
    max_text_characters: int = Field(default=100_000, ge=1)
    """Longest prompt or response as text."""
    v2_model_name: str = Field(default="reward", pattern=Name)
    """Name under which Open Inference Protocol v2 clients find the scorer."""

    @property
    def closed_servers(self) -> tuple[str, ...]:
        """Keys of the servers that are not opened."""
        return () if self.models_folder else ("models_server",)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.backend == "composite") != bool(self.parts):
            raise ValueError('backend "composite" needs parts, and parts need backend "composite"')
        names = [part.name for part in self.parts]
        if len(names) != len(set(names)):
            raise ValueError("parts must have different names")
        if self.combine != "weighted":
            self._check_ensemble()
        if self.max_batch_rows > self.batching.max_waiting_rows:
            raise ValueError(
                "max_batch_rows is above batching.max_waiting_rows: such a request could never wait"
            )
        return self

    def _check_ensemble(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f'combine "{self.combine}" needs backend "composite" with two parts or more')
        if any(part.weight != 1.0 for part in self.parts):
            raise ValueError(
                f'parts have no weight with combine "{self.combine}"; remove it, or use "weighted"'
            )
