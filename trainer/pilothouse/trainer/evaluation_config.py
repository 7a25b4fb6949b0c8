"""Settings of a held-out evaluation."""

from pathlib import Path

from pydantic import Field

from pilothouse.config import Config
from pilothouse.trainer.run_config import ServicesConfig


class EvaluationConfig(Config):
    """One evaluation."""

    prompts: tuple[Path, ...] = ()
    """Held-out JSONL or Parquet files with a ``prompt`` column; one at least."""
    model: str = "tiny"
    """Folder whose tokenizer reads the prompts: that of the served policy."""
    max_prompts: int = Field(default=256, ge=1)
    """Prompts taken from the start of the files."""
    max_prompt_tokens: int = Field(default=512, ge=1)
    """Longer prompts are left out."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest response."""
    temperature: float = Field(default=0.01, ge=0)
    """Of sampling. Near 0 judges the policy's best guess; 1 judges what it does in training."""
    kl_temperature: float = Field(default=1.0, gt=0)
    """Temperature at which policy and reference are compared; that of training."""
    seed: int = Field(default=0, ge=0)
    """Of sampling."""
    independent: bool = True
    """Also judge texts by VADER."""
    services: ServicesConfig = ServicesConfig()
    """Where the services are."""
