import numpy as np
import pytest
from tests.models.codecs import bos_codec

from pilothouse.errors import InvalidDataError
from pilothouse.models.text import TextCodec
from pilothouse.trainer.data.encode import encode_demonstrations, encode_prompts, encode_rankings
from pilothouse.trainer.data.records import Demonstration, Prompt, Ranking


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.load("tiny")


def test_checklist_03_long_prompts_are_dropped_at_data_time(codec: TextCodec) -> None:
    prompts = [Prompt("short", " the film"), Prompt("long", " the film was a good film"), Prompt("none", "")]
    encoded = encode_prompts(prompts, codec, max_tokens=3)
    assert [item.id for item in encoded.items] == ["short"]
    assert (encoded.dropped, encoded.truncated) == (2, 0)
    assert all(len(item.tokens) <= 3 for item in encoded.items)


def test_checklist_03_truncation_keeps_the_end_of_the_prompt(codec: TextCodec) -> None:
    encoded = encode_prompts([Prompt("long", " the film was good")], codec, max_tokens=2, overlong="truncate")
    assert codec.decode(encoded.items[0].tokens) == " was good"
    assert encoded.truncated == 1


def test_a_demonstration_ends_with_eos_and_knows_its_prompt(codec: TextCodec) -> None:
    encoded = encode_demonstrations([Demonstration("a", " the film", " was good")], codec, max_tokens=16)
    item = encoded.items[0]
    assert item.tokens[-1] == codec.eos_id
    assert item.prompt_length == 2
    assert codec.decode(item.tokens) == " the film was good"


def test_without_a_prompt_the_first_token_is_given(codec: TextCodec) -> None:
    item = encode_demonstrations([Demonstration("a", "", " the film")], codec, max_tokens=16).items[0]
    assert item.prompt_length == 1
    assert len(item.tokens) == 3


@pytest.fixture
def with_bos() -> TextCodec:
    """A tokenizer that puts BOS before a text, as those of Llama and Gemma do."""
    return bos_codec()


def test_bos_stands_once_before_a_demonstration_as_in_serving(with_bos: TextCodec) -> None:
    found = [Demonstration("a", " the film", " was good"), Demonstration("b", "", " so bad")]
    for item, source in zip(encode_demonstrations(found, with_bos, max_tokens=16).items, found, strict=True):
        assert isinstance(source.prompt, str)
        np.testing.assert_array_equal(item.tokens, with_bos.join(source.prompt, source.completion).tokens)
        assert item.tokens.tolist().count(with_bos.bos_id) == 1
        assert item.prompt_length == len(with_bos.encode(source.prompt))


def test_bos_stands_once_before_every_answer_of_a_ranking(with_bos: TextCodec) -> None:
    ranking = Ranking("r", " the film", (" was good", " was"), (1, 2))
    item = encode_rankings([ranking], with_bos, max_tokens=16).items[0]
    for row, response in zip(item.sequences, ranking.responses, strict=True):
        np.testing.assert_array_equal(row, with_bos.join(" the film", response).tokens)


def test_truncation_keeps_the_bos(with_bos: TextCodec) -> None:
    prompt = encode_prompts(
        [Prompt("a", " the film was")], with_bos, max_tokens=3, overlong="truncate"
    ).items[0]
    assert prompt.tokens.tolist() == with_bos.encode(" film was").tolist()
    found = [Demonstration("a", " the film was", " good")]
    item = encode_demonstrations(found, with_bos, max_tokens=5, overlong="truncate").items[0]
    assert item.tokens.tolist() == with_bos.join(" film was", " good").tokens.tolist()
    item = encode_demonstrations(found, with_bos, max_tokens=3, overlong="truncate").items[0]
    assert item.tokens.tolist() == with_bos.join("", " good").tokens.tolist()


def test_truncation_of_a_demonstration_spares_its_completion(codec: TextCodec) -> None:
    long = Demonstration("a", " the film and the plot", " was good")
    assert encode_demonstrations([long, Demonstration("b", " a", " b")], codec, max_tokens=5).dropped == 1
    item = encode_demonstrations([long], codec, max_tokens=5, overlong="truncate").items[0]
    assert codec.decode(item.tokens) == " the plot was good"
    assert item.prompt_length == 2


def test_a_chat_prompt_goes_through_the_template(codec: TextCodec) -> None:
    item = encode_demonstrations(
        [Demonstration("a", (("user", " good film"),), " so")], codec, max_tokens=99
    ).items[0]
    expected = codec.encode_chat([("user", " good film")])
    np.testing.assert_array_equal(item.tokens[: item.prompt_length], expected)


def test_all_answers_of_a_ranking_share_one_prompt(codec: TextCodec) -> None:
    ranking = Ranking("r", " the long long film", (" was good", " was"), (1, 2))
    item = encode_rankings([ranking], codec, max_tokens=6, overlong="truncate").items[0]
    assert [codec.decode(row) for row in item.sequences] == [
        " long long film was good",
        " long long film was",
    ]
    assert all(row[-1] == codec.eos_id for row in item.sequences)
    assert (
        encode_rankings([ranking, Ranking("s", "", (" a", " b"), (1, 1))], codec, max_tokens=6).dropped == 1
    )


def test_a_limit_that_leaves_nothing_is_refused(codec: TextCodec) -> None:
    with pytest.raises(InvalidDataError, match="none of the 1 records fits into 2 tokens"):
        encode_prompts([Prompt("a", " the film was")], codec, max_tokens=2)
