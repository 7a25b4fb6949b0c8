"""What both demos learn from, in files like a user's own: demonstrations, rankings, prompts."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.errors import InvalidDataError
from pilothouse.models.text import TextCodec

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Review:
    """A text and what a person thought of the film."""

    id: str
    text: str
    positive: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of what is made."""

    demonstrations: int
    rankings: int
    held_out_rankings: int
    prompts: int
    held_out_prompts: int
    prompt_tokens: int
    """Longest prompt: the whole words at the start of a review that fit."""
    answers: int = 4
    """K: reviews of one ranking, half of them positive."""


@dataclass(frozen=True, slots=True)
class Material:
    """Paths of the files."""

    demonstrations: Path
    demonstrations_held_out: Path
    rankings: Path
    rankings_held_out: Path
    prompts: Path
    prompts_held_out: Path

    @classmethod
    def inside(cls, folder: Path) -> "Material":
        """Returns the paths inside a folder."""
        return cls(*(folder / f"{name.replace('_', '-')}.jsonl" for name in cls.__slots__))


def write_material(
    reviews: Sequence[Review], sizes: Sizes, codec: TextCodec, folder: Path, seed: int
) -> Material:
    """Writes the files.

    A ranking is made from labels: K / 2 positive reviews share rank 1 and K / 2 negative ones rank 2. Prompts
    are the openings of reviews. No review is used both for training and held out.

    Args:
        reviews: Enough for everything; demonstrations and rankings share theirs.
        sizes: How much of what.
        codec: The model's tokenizer.
        folder: Where to.
        seed: Decides who is held out and which reviews meet in a ranking.

    Raises:
        InvalidDataError: There are too few reviews of one kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    material = Material.inside(folder)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(reviews))
    shuffled = [reviews[int(index)] for index in order]
    asked, rest = shuffled[: sizes.held_out_prompts], shuffled[sizes.held_out_prompts :]
    held_out = _rankings(rest, sizes.held_out_rankings, sizes.answers)
    used = {review.id for group in held_out for review in group}
    training = [review for review in rest if review.id not in used]
    groups = _rankings(training, sizes.rankings, sizes.answers)
    demonstrations = training[-sizes.demonstrations :]
    _write(material.demonstrations, ({"id": r.id, "text": r.text} for r in demonstrations))
    _write(material.demonstrations_held_out, ({"id": r.id, "text": r.text} for r in asked))
    _write(material.rankings, map(_ranking_row, groups))
    _write(material.rankings_held_out, map(_ranking_row, held_out))
    openings = [_opening(review, codec, sizes.prompt_tokens) for review in training]
    _write(material.prompts, openings[-sizes.prompts :])
    _write(material.prompts_held_out, (_opening(r, codec, sizes.prompt_tokens) for r in asked))
    return material


def _rankings(reviews: Sequence[Review], count: int, answers: int) -> list[list[Review]]:
    """Returns ``count`` groups of half positive, half negative reviews; no review appears twice."""
    half = answers // 2
    positive = [review for review in reviews if review.positive][: count * half]
    negative = [review for review in reviews if not review.positive][: count * half]
    if min(len(positive), len(negative)) < count * half:
        raise InvalidDataError(
            f"{count} rankings of {answers} need {count * half} reviews of each kind; there are "
            f"{len(positive)} positive and {len(negative)} negative ones"
        )
    return [positive[i * half : (i + 1) * half] + negative[i * half : (i + 1) * half] for i in range(count)]


def _ranking_row(group: Sequence[Review]) -> Mapping[str, Any]:
    return {
        "id": "+".join(review.id for review in group),
        "prompt": "",
        "responses": [review.text for review in group],
        "ranks": [1 if review.positive else 2 for review in group],
        "source": "made from 0/1 labels",
    }


def _opening(review: Review, codec: TextCodec, tokens: int) -> Mapping[str, Any]:
    """Returns the first whole words of a review that fit into so many tokens; at least one word."""
    ends = [match.end() for match in _WORD.finditer(review.text)]
    fitting = [end for end in ends if len(codec.encode(review.text[:end])) <= tokens]
    return {"id": review.id, "prompt": review.text[: max(fitting, default=ends[0])]}


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
