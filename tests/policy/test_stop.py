"""Stop strings across token borders."""

import pytest

from pilothouse.models.text import TextCodec
from pilothouse.policy.stop import StopStrings, cut_at_stop


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.load("tiny")


@pytest.mark.parametrize("text", ["a good film, é great!", "naïve 😀 text\n\nEnd", "日本 and more"])
def test_every_piece_of_a_text_is_found_at_its_last_token(codec: TextCodec, text: str) -> None:
    tokens = codec.encode(text).tolist()
    whole = codec.decode(tokens)
    for start in range(0, len(whole), 3):
        stop = whole[start : start + 4]
        watcher = StopStrings(codec, [stop, "never there"])
        found = next(index for index, token in enumerate(tokens) if watcher(token))
        assert stop in codec.decode(tokens[: found + 1])
        assert stop not in codec.decode(tokens[:found])


def test_half_a_character_does_not_hold_up_the_rest(codec: TextCodec) -> None:
    lone = codec.encode("😀").tolist()[:1]
    watcher = StopStrings(codec, ["good"])
    hits = [watcher(token) for token in lone * 40 + codec.encode(" so good").tolist()]
    assert hits[-1]
    assert not any(hits[:-1])


def test_text_is_cut_before_the_earliest_stop() -> None:
    assert cut_at_stop("one two three", ["three", " two"]) == "one"
    assert cut_at_stop("one", ["two"]) == "one"
