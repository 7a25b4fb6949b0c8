"""Text for the PPO-ptx loss: what keeps the policy a good language model (InstructGPT, section 3.5)."""

from typing import Self

from pilothouse.errors import ConfigError
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Tokens
from pilothouse.trainer.data.encode import EncodedPrompt, encode_demonstrations
from pilothouse.trainer.data.records import read_demonstrations
from pilothouse.trainer.prompts import PromptCursor
from pilothouse.trainer.run_config import PpoRunConfig

_SHIFT = 1_000_003  # shuffles texts otherwise than prompts


class Pretraining:
    """Shuffled texts; which ones belong to a step follows from the seed and the step alone."""

    def __init__(self, texts: list[EncodedPrompt], *, seed: int, per_step: int) -> None:
        self._cursor = PromptCursor(texts, seed + _SHIFT)
        self._per_step = per_step
        self.digest = self._cursor.digest
        """Of the texts, which belong to a run's identity."""

    @classmethod
    def load(cls, config: PpoRunConfig, codec: TextCodec) -> Self:
        """Reads and encodes ``pretraining.texts``.

        Raises:
            ConfigError: No file is named.
            InvalidDataError: A record cannot be used, or no text is left.
        """
        settings = config.pretraining
        if not settings.texts:
            raise ConfigError(
                "ppo.pretraining_coefficient is set, but ppo.pretraining.texts names no file; give one, or "
                "set the coefficient to 0"
            )
        found = encode_demonstrations(
            read_demonstrations(settings.texts), codec, max_tokens=settings.max_tokens, overlong="drop"
        )
        texts = [EncodedPrompt(item.id, item.tokens) for item in found.items]
        return cls(texts, seed=config.seed, per_step=settings.texts_per_step)

    def of_step(self, step: int) -> list[Tokens]:
        """Returns the texts, each int32 [length >= 2], of a step counted from 1."""
        self._cursor.next_draw = (step - 1) * self._per_step
        return [draw.tokens for draw in self._cursor.draw(self._per_step)]
