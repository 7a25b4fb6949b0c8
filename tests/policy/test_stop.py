"""Stop strings across token borders."""

import pytest

from pilothouse.models.text import TextCodec
from pilothouse.policy.stop import StopStrings


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
        found, cut = next((index, cut) for index, token in enumerate(tokens) if (cut := watcher(token)))
        so_far = codec.decode(tokens[: found + 1])
        assert so_far[:-cut] + stop == so_far[: len(so_far) - cut + len(stop)]
        assert stop not in codec.decode(tokens[:found])


def test_half_a_character_does_not_hold_up_the_rest(codec: TextCodec) -> None:
    lone = codec.encode("😀").tolist()[:1]
    watcher = StopStrings(codec, ["good"])
    hits = [watcher(token) for token in lone * 40 + codec.encode(" so good").tolist()]
    assert hits[-1]
    assert not any(hits[:-1])


def test_the_text_is_cut_before_the_first_of_the_stops_that_the_newest_token_completes(
    codec: TextCodec,
) -> None:
    watcher = StopStrings(codec, ["od", " good", "a film"])
    cuts = [watcher(token) for token in codec.encode(" so good film").tolist()]
    assert cuts == [0, len(" good"), 0]


def test_a_stop_that_was_complete_before_is_no_match_of_later_tokens(codec: TextCodec) -> None:
    watcher = StopStrings(codec, ["good", "much longer than that"])
    cuts = [watcher(token) for token in codec.encode(" good film and good").tolist()]
    assert cuts == [len("good"), 0, 0, len("good")]
