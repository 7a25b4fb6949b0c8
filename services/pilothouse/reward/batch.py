"""What callers ask to have scored, before any model's tokenizer has seen it. Axes: B rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.tensors import Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Prompts and responses as text."""

    prompts: Sequence[str]
    """B; may be empty strings."""
    responses: Sequence[str]
    """B."""

    def prompt_of(self, row: int) -> str:
        """Returns what rows with the same prompt have in common."""
        return self.prompts[row]

    def rows(self, chosen: Sequence[int]) -> "Texts":
        """Returns the batch of the chosen rows."""
        return Texts([self.prompts[row] for row in chosen], [self.responses[row] for row in chosen])

    def __len__(self) -> int:
        return len(self.responses)


@dataclass(frozen=True, slots=True, eq=False)
class TokenPairs:
    """Prompts and responses as token ids."""

    sequences: Sequence[Tokens]
    """B, prompt and response joined, int32 of shape [tokens]."""
    prompt_lengths: Sequence[int]
    """B: how many tokens of every row are the prompt."""

    def prompt_of(self, row: int) -> bytes:
        """Returns what rows with the same prompt have in common."""
        return self.sequences[row][: self.prompt_lengths[row]].tobytes()

    def rows(self, chosen: Sequence[int]) -> "TokenPairs":
        """Returns the batch of the chosen rows."""
        return TokenPairs(
            [self.sequences[row] for row in chosen], [self.prompt_lengths[row] for row in chosen]
        )

    def __len__(self) -> int:
        return len(self.sequences)


Batch = Texts | TokenPairs


def by_prompt(batch: Batch) -> list[list[int]]:
    """Returns the numbers of the rows that share a prompt, group by group, in order of first appearance."""
    groups: dict[str | bytes, list[int]] = {}
    for row in range(len(batch)):
        groups.setdefault(batch.prompt_of(row), []).append(row)
    return list(groups.values())
