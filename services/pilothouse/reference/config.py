"""Settings of one reference server."""

from typing import Literal

from pydantic import Field

from pilothouse.config import Config
from pilothouse.server import ServerConfig


class ReferenceConfig(Config):
    """What the reference service serves and within which bounds."""

    server: ServerConfig = ServerConfig()
    """Where it listens."""
    model: str = "tiny"
    """Model folder, or ``tiny`` for the built-in test model. It never changes while the server runs."""
    device: str = "cpu"
    """Where the model runs, for example ``cpu`` or ``cuda:0``."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Element type of the weights."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the model's operators on a CPU; unset: torch's choice."""
    max_sequence_tokens: int | None = Field(default=None, ge=2)
    """Longest prompt and response together; unset: the model's context."""
    max_batch_tokens: int = Field(default=2048, ge=1)
    """Most tokens computed at a time; a longer sequence goes alone."""
    max_request_tokens: int = Field(default=2**18, ge=1)
    """Most tokens of one request, over all its sequences."""
    max_text_bytes: int = Field(default=1_000_000, ge=1)
    """Longest prompt or response as text, in UTF-8 bytes."""
