"""Settings that supervised training of any kind shares, and those of SFT and of the reward model."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pilothouse.config import Config
from pilothouse.server.config import ServerConfig
from pilothouse.trainer.ppo.config import OptimiserConfig


class FitConfig(Config):
    """One supervised training: model, data, passes, memory, output.

    There is no dropout: policy, reference, reward and value model all run without it, so that two forward
    passes agree (InstructGPT's SFT used 0.2 over 16 epochs; here few epochs and a held-out loss replace it).
    """

    model: str = "tiny"
    """Folder of the model to start from; ``tiny`` is built in."""
    data: tuple[Path, ...] = ()
    """JSONL or Parquet files to learn from; one at least."""
    evaluation_data: tuple[Path, ...] = ()
    """Held-out files of the same form; none for no evaluation."""
    output: Path = Path("runs/fit")
    """Folder of checkpoints, ``metrics.jsonl`` and, in ``model``, the result."""
    resume: bool = True
    """Go on from the newest complete checkpoint in ``output``. False starts anew."""
    accept_changes: bool = False
    """Go on from it although settings or data have changed that decide what is learned."""
    seed: int = Field(default=0, ge=0)
    """Decides the order of the data and fresh weights."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data, each shuffled anew."""
    batch_size: int = Field(default=16, ge=1)
    """Records of one optimiser step."""
    micro_batch_tokens: int = Field(default=2048, ge=1)
    """Tokens of one forward and backward pass; bounds memory, changes the result by rounding only."""
    max_sequence_tokens: int = Field(default=512, ge=2)
    """Longest record; see ``overlong``."""
    overlong: Literal["drop", "truncate"] = "drop"
    """What happens to longer records when the data is read: left out, or their prompt is cut at its start."""
    trainable_layers: int | None = Field(default=None, ge=1)
    """Train only this many upper layers, the final norm and the head; None for all."""
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=2e-5, schedule="cosine")
    """AdamW, schedule, gradient clip."""
    evaluate_every_steps: int | None = Field(default=None, ge=1)
    """Steps between evaluations; None evaluates at the end only."""
    checkpoint_every_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints; one more is written when the run ends or is stopped."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""
    device: str = "cpu"
    """Where the model lives."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one torch operation; None leaves torch's choice. Changing it changes bits."""
    server: ServerConfig = ServerConfig()
    """The run's own server: status, metrics, pause, resume, checkpoint, stop."""


class SftConfig(FitConfig):
    """Supervised fine-tuning on people's demonstrations."""

    output: Path = Path("runs/sft")
    """Folder of checkpoints, ``metrics.jsonl`` and, in ``model``, the result."""
    choose_by: Literal["last", "loss", "reward"] = "last"
    """Which weights are the result: the last, those of the least held-out loss, or those whose samples the
    reward model likes best (InstructGPT, section C.1). The latter two need ``evaluation_data``."""
    reward_model: str = ""
    """Reward model folder for ``choose_by = "reward"``; its tokenizer must be the model's."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest sample for ``choose_by = "reward"``."""


class RewardModelConfig(FitConfig):
    """A reward model from people's rankings."""

    output: Path = Path("runs/reward-model")
    """Folder of checkpoints, ``metrics.jsonl`` and, in ``model``, the result."""
    loss: Literal["pairs", "plackett-luce", "best-of-k"] = "pairs"
    """All pairs of a ranking (InstructGPT), the ranking as choices in turn (Plackett, Luce), or the best
    against the others in one softmax (Ziegler)."""
    ties: Literal["half", "drop"] = "half"
    """A tied pair pulls its scores together (soft target 1/2; Efron in ``plackett-luce``), or does not
    count."""
    dialogues: Literal["auto", "text"] = "auto"
    """Whether ``chosen`` and ``rejected`` in the form of hh-rlhf ("Human: ... Assistant: ...") are read as
    conversations, for the model's chat template, or as texts like any other."""
    square_penalty: float = Field(default=0.0, ge=0)
    """Weight of the mean squared score, which keeps scores from drifting (Open-Assistant: 0.001)."""
    normalise_with: tuple[Path, ...] = ()
    """Prompts from which ``policy`` is sampled to normalise scores; none: the ranked answers do."""
    policy: str = ""
    """Folder of the reference policy for ``normalise_with``; empty: ``model``."""
    normalise_samples: int = Field(default=256, ge=2)
    """Samples scored to normalise."""
    normalise_before: bool = True
    """Also normalise before training, so that scores start with deviation 1."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of those samples; that of the rollout."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest of those samples."""
    members: int = Field(default=1, ge=1)
    """Models to train, each with a seed of its own: an ensemble, in ``member-1/model`` and so on."""
    member_bootstrap: bool = True
    """Each of several members learns from prompts drawn with replacement, as many as there are."""
    std_factor: float = Field(default=1.0, ge=0)
    """λ of mean - λ · deviation of the members' scores, for the report."""
