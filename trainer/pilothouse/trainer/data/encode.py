"""Records to token ids, within length limits. P prompt, C completion, K answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import structlog

from pilothouse.errors import InvalidDataError
from pilothouse.tensors import Tokens
from pilothouse.trainer.data.messages import Chat
from pilothouse.trainer.data.records import Demonstration, Prompt, Ranking

Item = TypeVar("Item")
_log = structlog.get_logger(__name__)
Overlong = Literal["drop", "truncate"]
"""What happens to a record that is too long: it is left out, or its prompt loses tokens at the start."""


class Codec(Protocol):
    """The part of `pilothouse.models.text.TextCodec` that data needs."""

    bos_id: int | None

    def encode(self, text: str) -> Tokens:
        """Returns the ids of a text that stands by itself, int32."""

    def encode_answer(self, text: str) -> Tokens:
        """Returns the ids of an answer, which goes on where its prompt ends, and its EOS, int32."""

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> Tokens:
        """Returns the ids of a conversation up to where the assistant answers, int32."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt ready to be continued."""

    id: str
    tokens: Tokens
    """int32 [P], P >= 1."""


@dataclass(frozen=True, slots=True)
class EncodedDemonstration:
    """A demonstration ready to be learned."""

    id: str
    tokens: Tokens
    """int32 [P + C]; the last is EOS, which is a target like any other."""
    prompt_length: int
    """P >= 1: tokens that are given, not learned. Without a prompt the first token takes its place."""


@dataclass(frozen=True, slots=True)
class EncodedRanking:
    """A ranking ready to be learned."""

    id: str
    sequences: tuple[Tokens, ...]
    """K rows int32 [P + C]: the prompt, an answer, EOS."""
    ranks: tuple[int, ...]
    """K ranks, smaller is better."""
    prompt_length: int = 0
    """P: tokens that all answers have before them."""
    weight: float = 1.0
    """How much it counts in training, in (0, 1]."""
    task: str = ""
    """Rankings of the same task are of the same answers; empty where unknown."""
    rater: str = ""
    """Who put them in order; empty where unknown."""


@dataclass(frozen=True, slots=True)
class Encoded(Generic[Item]):
    """Encoded records and what the length limit did."""

    items: list[Item]
    dropped: int
    """Records left out."""
    truncated: int
    """Records whose prompt lost tokens at its start."""
    longest: int
    """Tokens of the longest record, kept or not, as it was before it lost any."""

    def counts(self, what: str) -> dict[str, float]:
        """Returns how many of ``what`` there are and what the length limit did, by the names of metrics."""
        found = {what: len(self.items), f"{what}_left_out": self.dropped, f"{what}_truncated": self.truncated}
        return {name: float(count) for name, count in found.items()}

    def told(self, what: str) -> list[Item]:
        """Returns the records, and logs how many of ``what`` the length limit touched."""
        if self.dropped or self.truncated:
            kept = len(self.items)
            _log.warning(f"long {what}", dropped=self.dropped, truncated=self.truncated, kept=kept)
        return self.items


def encode_prompts(
    prompts: Iterable[Prompt], codec: Codec, *, max_tokens: int, overlong: Overlong = "drop"
) -> Encoded[EncodedPrompt]:
    """Encodes prompts and drops or truncates the long ones, so that none can surprise a run later.

    Truncation keeps the end of the prompt: what comes right before the answer (Stiennon et al. 2020), and a
    BOS at its start, without which models that have one lose their footing.

    Raises:
        InvalidDataError: No prompt is left.
    """
    items: list[EncodedPrompt] = []
    dropped = truncated = longest = 0
    for prompt in prompts:
        tokens = encode_content(codec, prompt.content)
        longest = max(longest, len(tokens))
        cut = len(tokens) > max_tokens
        if len(tokens) == 0 or (cut and overlong == "drop"):
            dropped += 1
            continue
        truncated += cut
        items.append(EncodedPrompt(prompt.id, _end_of(tokens, max_tokens, codec)))
    return _kept(items, dropped, truncated, longest, max_tokens)


def encode_demonstrations(
    demonstrations: Iterable[Demonstration], codec: Codec, *, max_tokens: int, overlong: Overlong = "drop"
) -> Encoded[EncodedDemonstration]:
    """Encodes demonstrations as prompt, completion, EOS.

    Raises:
        InvalidDataError: No demonstration is left.
    """
    items: list[EncodedDemonstration] = []
    dropped = truncated = longest = 0
    for item in demonstrations:
        prompt, completion = encode_content(codec, item.prompt), codec.encode_answer(item.completion)
        longest = max(longest, len(prompt) + len(completion))
        room = max_tokens - len(completion)
        cut = len(prompt) > room
        if (cut and overlong == "drop") or room < min(1, len(prompt)) or len(prompt) + len(completion) < 2:
            dropped += 1
            continue
        truncated += cut
        prompt = _end_of(prompt, room, codec)
        items.append(EncodedDemonstration(item.id, np.concatenate([prompt, completion]), max(1, len(prompt))))
    return _kept(items, dropped, truncated, longest, max_tokens)


def encode_rankings(
    rankings: Iterable[Ranking], codec: Codec, *, max_tokens: int, overlong: Overlong = "drop"
) -> Encoded[EncodedRanking]:
    """Encodes every answer of a ranking as prompt, answer, EOS; the prompt is cut alike for all of them.

    Raises:
        InvalidDataError: No ranking is left.
    """
    items: list[EncodedRanking] = []
    dropped = truncated = longest = 0
    for item in rankings:
        prompt = encode_content(codec, item.prompt)
        answers = [codec.encode_answer(response) for response in item.responses]
        answer_tokens = max(len(answer) for answer in answers)
        longest = max(longest, len(prompt) + answer_tokens)
        room = max_tokens - answer_tokens
        cut = len(prompt) > room
        if (cut and overlong == "drop") or room < min(1, len(prompt)):
            dropped += 1
            continue
        truncated += cut
        prompt = _end_of(prompt, room, codec)
        rows = tuple(np.concatenate([prompt, answer]) for answer in answers)
        items.append(
            EncodedRanking(item.id, rows, item.ranks, len(prompt), item.weight, item.task, item.rater)
        )
    return _kept(items, dropped, truncated, longest, max_tokens)


def encode_content(codec: Codec, content: str | Chat) -> Tokens:
    """Returns the ids, int32 [P], of a text or of a conversation up to the assistant's turn.

    An empty text is what the tokenizer puts before every text: BOS, or nothing.
    """
    return codec.encode(content) if isinstance(content, str) else codec.encode_chat(content)


def _end_of(prompt: Tokens, room: int, codec: Codec) -> Tokens:
    """Returns the last ``room`` tokens of a prompt; a BOS at its start takes the first of these places."""
    if len(prompt) <= room:
        return prompt
    bos = prompt[:1] if prompt[0] == codec.bos_id else prompt[:0]
    return np.concatenate([bos, prompt[len(prompt) - room + len(bos) :]])


def _kept(items: list[Item], dropped: int, truncated: int, longest: int, max_tokens: int) -> Encoded[Item]:
    if not items:
        raise InvalidDataError(
            f"none of the {dropped} records fits into {max_tokens} tokens, the longest has {longest}; "
            "raise the limit or shorten the texts"
        )
    return Encoded(items, dropped, truncated, longest)
