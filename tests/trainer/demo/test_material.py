import csv
from pathlib import Path

import pytest

from pilothouse.errors import InvalidDataError
from pilothouse.models.text import TextCodec
from pilothouse.trainer.data.records import read_demonstrations, read_prompts, read_rankings
from pilothouse.trainer.demo.material import Material, Review, Sizes, write_material
from pilothouse.trainer.demo.reviews import natural, read_reviews
from pilothouse.trainer.demo.synthetic import make_reviews
from pilothouse.trainer.evaluate import vader

SIZES = Sizes(
    demonstrations=40, rankings=20, held_out_rankings=8, prompts=30, held_out_prompts=10, prompt_tokens=3
)


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return write_material(make_reviews(200, seed=0), SIZES, TextCodec.load("tiny"), tmp_path, seed=0)


def test_the_files_read_like_a_users_own(material: Material) -> None:
    assert len(read_demonstrations(material.demonstrations)) == 40
    assert len(read_rankings(material.rankings)) == 20
    assert len(read_rankings(material.rankings_held_out)) == 8
    assert len(read_prompts(material.prompts)) == 30
    assert len(read_prompts(material.prompts_held_out)) == 10


def test_a_ranking_is_two_tiers_that_follow_the_labels(material: Material) -> None:
    sentiment = vader()
    for ranking in read_rankings(material.rankings):
        assert ranking.ranks == (1, 1, 2, 2)
        scores = [sentiment(response) for response in ranking.responses]
        assert min(scores[:2]) > max(scores[2:])


def test_nothing_held_out_is_trained_on(material: Material) -> None:
    ranked = {name for item in read_rankings(material.rankings) for name in item.id.split("+")}
    held_out = {name for item in read_rankings(material.rankings_held_out) for name in item.id.split("+")}
    trained = ranked | {item.id for item in read_demonstrations(material.demonstrations)}
    trained |= {item.id for item in read_prompts(material.prompts)}
    asked = {item.id for item in read_prompts(material.prompts_held_out)}
    assert not trained & held_out
    assert not trained & asked
    assert not held_out & asked
    assert len(ranked) == 80


def test_prompts_are_the_first_whole_words_of_reviews(material: Material) -> None:
    codec = TextCodec.load("tiny")
    texts = {review.id: review.text for review in make_reviews(200, seed=0)}
    for item in read_prompts(material.prompts):
        assert isinstance(item.content, str)
        assert texts[item.id].startswith(item.content + " ")
        assert len(codec.encode(item.content)) == 3


def test_a_word_longer_than_a_prompt_is_kept_whole(tmp_path: Path) -> None:
    reviews = [Review(str(i), f"unbelievably{i} so", positive=i % 2 == 0) for i in range(200)]
    made = write_material(reviews, SIZES, TextCodec.load("tiny"), tmp_path, seed=0)
    assert all(str(item.content).startswith("unbelievably") for item in read_prompts(made.prompts))
    assert not any(str(item.content).endswith("so") for item in read_prompts(made.prompts))


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    codec = TextCodec.load("tiny")
    one, two, other = (
        write_material(make_reviews(200, 0), SIZES, codec, tmp_path / name, seed)
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    assert one.rankings.read_bytes() == two.rankings.read_bytes() != other.rankings.read_bytes()


def test_too_few_reviews_are_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="20 rankings of 4 need 40 reviews of each kind"):
        write_material(make_reviews(60, 0), SIZES, TextCodec.load("tiny"), tmp_path, seed=0)


def test_half_of_the_synthetic_reviews_praise_and_vader_agrees() -> None:
    reviews, sentiment = make_reviews(100, seed=3), vader()
    assert sum(review.positive for review in reviews) == 50
    assert all((sentiment(review.text) > 0) == review.positive for review in reviews)


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        ("it's so-so , but n't bad .", "it's so-so, butn't bad."),
        ("does n't work ( at all ) !", "doesn't work (at all)!"),
        ("the film 's ending ; a joy", "the film's ending; a joy"),
        ('what " empire " lacks , " jason " has', 'what "empire" lacks, "jason" has'),
    ],
)
def test_corpus_spacing_becomes_that_of_people(corpus: str, text: str) -> None:
    assert natural(corpus) == text


def test_reviews_of_the_right_source_and_length_are_kept_once(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    rows = [("the film was good", "1", "rotten_tomatoes"), ("the film was good", "1", "rotten_tomatoes")]
    rows += [
        ("bad", "0", "rotten_tomatoes"),
        ("the story was so bad .", "0", "rotten_tomatoes"),
        ("a b c d", "1", "imdb"),
    ]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label", "source"), *rows])
    found = read_reviews(file, TextCodec.load("tiny"), min_tokens=4, max_tokens=40)
    assert [(review.text, review.positive) for review in found] == [
        ("the film was good", True),
        ("the story was so bad.", False),
    ]


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidDataError, match="expected text, label and source"):
        read_reviews(tmp_path / "x.csv", TextCodec.load("tiny"), min_tokens=1, max_tokens=9)
