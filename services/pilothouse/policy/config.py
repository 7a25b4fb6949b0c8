"""Settings of one policy server."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pilothouse.config import Config
from pilothouse.server import ServerConfig


class CatchUpConfig(Config):
    """Where a replica that starts late, or was cut off, finds the weights that are current."""

    peers: tuple[str, ...] = ()
    """Weights ports of the replicas, perhaps its own too: host:port, or dns:///NAME:PORT for all in DNS."""
    run: Path | None = None
    """Run directory of the trainer: where no peer has newer weights, its newest checkpoint is served."""
    check_seconds: float = Field(default=2.0, gt=0)
    """How often a replica that serves looks whether its peers are ahead."""
    wait_seconds: float = Field(default=300.0, ge=0)
    """How long a replica waits, not ready, for weights that are known to be current and that nobody has,
    before it serves what it has. To copy them from a peer may take as long, and five minutes at least."""


class PolicyConfig(Config):
    """What the policy service serves and within which bounds."""

    server: ServerConfig = ServerConfig()
    """Port for those who generate and score."""
    weights_server: ServerConfig = ServerConfig(http_port=-1, max_message_bytes=4 * 2**20)
    """Port for those who push weights."""
    model: str = "tiny"
    """Model folder, or ``tiny`` for the built-in test model."""
    device: str = "cpu"
    """Where the model runs, for example ``cpu`` or ``cuda:0``."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Element type of weights and KV cache."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the model's operators on a CPU; unset: torch's choice."""
    max_running: int = Field(default=32, ge=1, le=4096)
    """Most completions that run at the same time; each has a slot in the KV cache."""
    max_waiting: int = Field(default=1024, ge=1)
    """Most completions that may wait, and so the most that one request may ask for."""
    max_sequence_tokens: int = Field(default=2048, ge=2)
    """Longest prompt and completion together, at most the model's context: the length of a slot."""
    max_prompt_bytes: int = Field(default=1_000_000, ge=1)
    """Longest text or chat of one prompt, or text of one response to score, in UTF-8 bytes."""
    max_request_tokens: int = Field(default=2**18, ge=1)
    """Most tokens of one request for log-probs, over all its sequences."""
    prefill_tokens: int = Field(default=1024, ge=1)
    """Most prompt tokens computed between two decode steps; a longer prompt goes alone."""
    max_samples: int = Field(default=256, ge=1)
    """Most completions of one prompt (``n``)."""
    kv_policy: Literal["keep", "recompute"] = "keep"
    """What happens to the KV cache of running completions when weights change and the push does not say."""
    push_lease_seconds: float = Field(default=60, gt=0)
    """A weight push from which nothing is heard for this long is dropped."""
    keep_previous: bool = True
    """Keep the weights before the last push in memory, so that an operator can roll back."""
    catch_up: CatchUpConfig = CatchUpConfig()
    """How a replica gets the current weights when it starts, before it is ready."""
