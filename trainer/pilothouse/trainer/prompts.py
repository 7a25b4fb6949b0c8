"""The endless, shuffled stream of prompts, with a cursor that a checkpoint keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pilothouse.errors import InvalidDataError
from pilothouse.tensors import Tokens
from pilothouse.trainer.data.encode import EncodedPrompt

# Keep the random streams of one run apart. Never renumber: that would change every run.
_SHUFFLE, _SAMPLING = 1, 2


@dataclass(frozen=True, slots=True)
class Draw:
    """One prompt, drawn."""

    number: int
    """Counts the draws of the run from 0; names the draw in the ledger."""
    prompt: EncodedPrompt
    seed: int
    """Seed, int64, of the samples made from this draw."""

    @property
    def tokens(self) -> Tokens:
        """int32 [P]."""
        return self.prompt.tokens

    def sample_ids(self, samples: int) -> list[str]:
        """Returns the ledger ids of the samples made from this draw."""
        return [f"{self.number:08d}.{index}" for index in range(samples)]


class PromptCursor:
    """Draws prompts in an order that follows from the seed alone; every pass over the data is shuffled anew.

    Which prompt is draw number n is a function of (seed, n, data), so the cursor's whole state is one number.
    """

    def __init__(self, prompts: Sequence[EncodedPrompt], seed: int) -> None:
        """Starts before the first draw.

        Raises:
            InvalidDataError: There is no prompt.
        """
        if not prompts:
            raise InvalidDataError("there are no prompts to draw; give a file with at least one record")
        self._prompts = prompts
        self._seed = seed
        self.digest = prompts_digest(prompts)
        """Of the prompts, which belong to a run's identity."""
        self._pass_order = lru_cache(maxsize=2)(self._shuffle)
        self.next_draw = 0
        """Number of the next draw."""

    def draw(self, count: int) -> list[Draw]:
        """Returns the next ``count`` draws and moves on."""
        first, self.next_draw = self.next_draw, self.next_draw + count
        return [self._at(number) for number in range(first, self.next_draw)]

    def probes(self, count: int, eos_id: int) -> list[Tokens]:
        """Returns sequences, int32 [length >= 2], to compare two models by, whatever has been drawn.

        They are the first prompts of the data. One token alone predicts nothing, so EOS is put behind it:
        data of such prompts must not leave a run without probes.
        """
        first = [prompt.tokens for prompt in self._prompts[:count]]
        return [row if len(row) > 1 else np.append(row, np.int32(eos_id)) for row in first]

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return {"next_draw": self.next_draw}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes to where ``state`` was taken."""
        self.next_draw = int(state["next_draw"])

    def _at(self, number: int) -> Draw:
        passes, index = divmod(number, len(self._prompts))
        prompt = self._prompts[int(self._pass_order(passes)[index])]
        return Draw(number, prompt, sampling_seed(self._seed, number))

    def _shuffle(self, passes: int) -> npt.NDArray[np.int64]:
        sequence = np.random.SeedSequence(self._seed, spawn_key=(_SHUFFLE, passes))
        return np.random.Generator(np.random.Philox(sequence)).permutation(len(self._prompts))


def sampling_seed(seed: int, draw: int) -> int:
    """Returns the seed, in [0, 2**63), of the samples made from draw number ``draw`` of a run."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_SAMPLING, draw))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def prompts_digest(prompts: Sequence[EncodedPrompt]) -> str:
    """Returns a BLAKE3 digest, lower-case hex, of the ids and tokens of all prompts in order."""
    hasher = blake3()
    for prompt in prompts:
        hasher.update(prompt.id.encode() + b"\0")
        hasher.update(np.ascontiguousarray(prompt.tokens, dtype="<i4").tobytes() + b"\0")
    return hasher.hexdigest()
