"""Settings of an online PPO run: everything around the PPO step."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config
from pilothouse.server.config import ServerConfig
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ranks.config import RanksConfig

Mode = Literal["sync", "async"]
"""``sync``: every step waits for its own rollout; bit-reproducible on CPU. ``async``: rollouts overlap
training by at most ``max_staleness`` versions; equal in distribution, not in bits."""


class RunConfig(Config):
    """The run directory: what is kept, and how often."""

    name: str = Field(default="ppo", pattern=r"^[a-z0-9._-]{1,64}$")
    """Name of the run, also sent with every weight push."""
    folder: Path = Path("runs")
    """Folder that holds run directories; this one is ``folder/name``."""
    resume: bool = True
    """Go on from the newest complete checkpoint. False: refuse a run directory that has one."""
    accept_changes: bool = False
    """Go on from it although settings or data have changed that decide what is learned. The models are those
    of the checkpoint all the same."""
    checkpoint_every_steps: int = Field(default=10, ge=1)
    """Steps between checkpoints; one more is written at the end and on every stop."""
    keep_last: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept, besides the best."""
    best_metric: str = "objective/rlhf_reward"
    """The checkpoint with the highest value of this metric is kept for good."""
    samples_every_steps: int = Field(default=1, ge=1)
    """Steps between entries of ``samples.jsonl``."""
    samples_per_step: int = Field(default=4, ge=0)
    """Samples written each time; 0 for none."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""


class RolloutConfig(Config):
    """How a batch of samples is made."""

    prompts: tuple[Path, ...] = ()
    """JSONL or Parquet files with a ``prompt`` column; one at least."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Prompts of one PPO step."""
    samples_per_prompt: int = Field(default=1, ge=1)
    """Answers sampled for each prompt."""
    max_prompt_tokens: int = Field(default=512, ge=1)
    """Longest prompt; see ``overlong``."""
    overlong: Literal["drop", "truncate"] = "drop"
    """What happens to longer prompts when the data is read: left out, or cut at their start."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest answer."""
    min_new_tokens: int = Field(default=0, ge=0)
    """No stop token is sampled before so many tokens."""
    top_k: int = Field(default=0, ge=0)
    """Keep only so many most likely tokens; 0 samples from the whole distribution."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the most likely tokens of this share; 1 samples from the whole distribution."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end an answer, besides the model's own."""
    calls: int = Field(default=1, ge=1)
    """Calls into which a batch is split, made at the same time: as many as the services have replicas. This
    number, and not that of the replicas, decides bits."""
    mode: Mode = "sync"
    """Whether rollouts overlap training."""


class PretrainingConfig(Config):
    """Text for the PPO-ptx loss; read only where ``pretraining_coefficient`` is above 0."""

    texts: tuple[Path, ...] = ()
    """JSONL or Parquet files with a ``text`` column, or with demonstrations."""
    texts_per_step: int = Field(default=128, ge=1)
    """Texts of one step (InstructGPT: eight times the episodes)."""
    max_tokens: int = Field(default=512, ge=2)
    """Longer texts are left out."""


class ServicesConfig(Config):
    """Where the services are and how patient the trainer is with them."""

    policy: str = "127.0.0.1:7001"
    """The policy service: host:port or unix:PATH. For several replicas: their port on every host that
    ``weights`` finds."""
    weights: str = "127.0.0.1:7002"
    """Its weights service, on a port of its own. For several replicas ipv4:HOST:PORT,HOST:PORT; or
    dns:///NAME:PORT, every address in DNS; or, in a cluster, kubernetes:///SERVICE.NAMESPACE:PORT, every pod
    behind the Service, ready or not as it publishes them."""
    reward: str = "127.0.0.1:7003"
    """The reward service; dns:///NAME:PORT spreads calls over replicas."""
    reference: str = "127.0.0.1:7004"
    """The reference service; dns:///NAME:PORT spreads calls over replicas."""
    wait_seconds: float = Field(default=120.0, gt=0)
    """How long a lost service is waited for before the run stops; nothing is lost by stopping."""
    call_timeout_seconds: float = Field(default=600.0, gt=0)
    """Deadline of one call."""


class LeaseConfig(Config):
    """A Lease of Kubernetes that makes sure that one trainer runs at a time."""

    name: str
    """Of the Lease; made if it is missing."""
    namespace: str
    """Of the Lease."""
    duration_seconds: float = Field(default=15.0, ge=3)
    """A trainer that has not renewed it for so long may be replaced by another one."""


class PublishConfig(Config):
    """How new weights reach the policy."""

    read_back_tolerance_nats: float = Field(default=1e-3, gt=0)
    """Largest difference between the policy's and the trainer's log-probs of a probe token."""
    probes: int = Field(default=2, ge=1)
    """Prompts used as probes for the read-back proof."""
    max_probe_tokens: int = Field(default=64, ge=2)
    """Longest probe."""
    quorum: Literal["all", "majority"] = "majority"
    """How many replicas of the policy must take new weights, of those that can be reached. One that did not
    is given them again before the next step, and asked for no completions until it has them."""
    kv_policy: Literal["default", "keep", "recompute"] = "default"
    """What happens to the KV cache of running sequences: the server's default, or one by name."""


class PpoRunConfig(PpoConfig):
    """A whole online PPO run: the step's own settings, and the run around it."""

    model: str = "tiny"
    """Folder of the policy at its start, usually the SFT model; ``tiny`` is built in."""
    value_model: str = ""
    """Folder of the scalar model that the value model starts from, usually the reward model. Empty: the
    policy's trunk with a fresh head, which wants ``critic_warmup_steps``."""
    device: str = "cpu"
    """Where the trainer's models live."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one torch operation; None leaves torch's choice. Changing it changes bits."""
    run: RunConfig = RunConfig()
    """The run directory."""
    rollout: RolloutConfig = RolloutConfig()
    """How samples are made."""
    pretraining: PretrainingConfig = PretrainingConfig()
    """Text for the PPO-ptx loss."""
    services: ServicesConfig = ServicesConfig()
    """Where the services are."""
    publish: PublishConfig = PublishConfig()
    """How weights are pushed."""
    lease: LeaseConfig | None = None
    """Inside a cluster: what a trainer holds while it runs, so that a second one waits for its end."""
    ranks: RanksConfig = RanksConfig()
    """How the processes of one run wait for each other."""
    server: ServerConfig = ServerConfig()
    """The trainer's own server: status, metrics, pause, resume, checkpoint, stop."""

    @model_validator(mode="after")
    def _staleness_fits_the_mode(self) -> Self:
        if self.rollout.mode == "sync" and self.max_staleness:
            raise ValueError(
                "max_staleness must be 0 with rollout.mode 'sync'; or choose rollout.mode = 'async'"
            )
        if self.rollout.mode == "async" and self.max_staleness < 1:
            raise ValueError("rollout.mode 'async' needs max_staleness of at least 1")
        return self
