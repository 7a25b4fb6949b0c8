"""Reviews from templates for the tiny demo: their words of praise or blame are their labels."""

import numpy as np

from pilothouse.models.tiny_text import NEGATIVE_WORDS, POSITIVE_WORDS
from pilothouse.trainer.demo.material import Review

_OPENINGS = ("the film was", "this movie is", "I think the story was", "we saw it and it was", "the cast is")
_MIDDLES = ("and", "and very", "and really", "but also", "and so")
_ENDS = ("all the time", "from the first scene", "in the end", "and that is it", "as always")

# Only words whose judgement does not hang on the rest of the sentence.
_PRAISE = tuple(word for word in POSITIVE_WORDS if word not in {"best", "love", "loved"})
_BLAME = tuple(word for word in NEGATIVE_WORDS if word not in {"worst", "hate", "hated"})


def make_reviews(count: int, seed: int) -> list[Review]:
    """Returns ``count`` reviews, every other one positive, the same for the same seed."""
    generator = np.random.Generator(np.random.Philox(seed))
    return [_review(generator, index, positive=index % 2 == 0) for index in range(count)]


def _review(generator: np.random.Generator, index: int, *, positive: bool) -> Review:
    words = _PRAISE if positive else _BLAME
    first, second = generator.choice(words, size=2, replace=False)
    opening, middle, end = (generator.choice(part) for part in (_OPENINGS, _MIDDLES, _ENDS))
    return Review(f"synthetic:{index}", f" {opening} {first} {middle} {second} {end}", positive)
