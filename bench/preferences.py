"""Preference files in the form of hh-rlhf, made from people's ratings of conversations.

The package chitchat-dataset (BYU Perception, Control & Cognition Lab; MIT) holds conversations of people,
each with an opening question and the scores witty, interesting and upbeat. Two with the same opening and
different scores make a pair: the question is the human's turn, what was said then the assistant's.

    python -m bench.preferences FOLDER
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.trainer.demo.packages import Package, fetch

CHITCHAT = Package(
    name="chitchat-dataset",
    version="0.9.0",
    sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    member="chitchat_dataset/dataset.json",
    licence="MIT",
)
"""Conversations between people, with ratings."""

TRAINING, HELD_OUT = "train.jsonl", "held-out.jsonl"
"""Names of the files."""

_SCALES = ("witty", "interesting", "upbeat")
_LEAST_TURNS = 3
_LEAST_DIFFERENCE = 3  # of the sum of three scores of 1 to 10
_MOST_CHARACTERS = 400

Pair = Mapping[str, str]
"""``chosen`` and ``rejected``, each a whole dialogue."""


def make_pairs(conversations: Iterable[Mapping[str, Any]], *, seed: int) -> list[Pair]:
    """Returns every pair that can be made when no conversation is used twice, shuffled."""
    generator = np.random.Generator(np.random.Philox(seed))
    rated: dict[str, list[tuple[int, str]]] = {}
    for conversation in conversations:
        scores = conversation.get("ratings") or {}
        if all(scale in scores for scale in _SCALES) and len(conversation["messages"]) >= _LEAST_TURNS:
            total = sum(int(scores[scale]) for scale in _SCALES)
            rated.setdefault(conversation["prompt"], []).append((total, _transcript(conversation)))
    pairs = []
    for prompt, group in sorted(rated.items()):
        waiting: list[tuple[int, str]] = []
        for index in generator.permutation(len(group)):
            score, text = group[int(index)]
            other = next((item for item in waiting if abs(item[0] - score) >= _LEAST_DIFFERENCE), None)
            if other is None:
                waiting.append((score, text))
            elif text != other[1]:
                waiting.remove(other)
                worse, better = sorted([other, (score, text)])
                pairs.append(
                    {"chosen": _dialogue(prompt, better[1]), "rejected": _dialogue(prompt, worse[1])}
                )
    return [pairs[int(index)] for index in generator.permutation(len(pairs))]


def write_preferences(folder: Path, pairs: Sequence[Pair], *, held_out: int) -> None:
    """Writes `TRAINING` and `HELD_OUT` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ((HELD_OUT, pairs[:held_out]), (TRAINING, pairs[held_out:])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _transcript(conversation: Mapping[str, Any]) -> str:
    """Returns whole turns, one a line, from the first on; the first may be cut."""
    lines: list[str] = []
    for turn in conversation["messages"]:
        line = "- " + " ".join(" ".join(message["text"] for message in turn).split())
        if lines and len("\n".join([*lines, line])) > _MOST_CHARACTERS:
            break
        lines.append(line[:_MOST_CHARACTERS])
    return "\n".join(lines)


def _dialogue(prompt: str, answer: str) -> str:
    return f"\n\nHuman: {' '.join(prompt.split())}\n\nAssistant: {answer}"


def main(folder: str, count: str = "500", held_out: str = "100") -> None:
    """Takes the package from the configured index, or from the cache, and writes the files."""
    conversations = json.loads(fetch(CHITCHAT).read_text(encoding="utf-8")).values()
    pairs = make_pairs(conversations, seed=0)[: int(count)]
    write_preferences(Path(folder), pairs, held_out=int(held_out))
    print(f"{len(pairs) - int(held_out)} pairs to learn from, {held_out} held out, in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
