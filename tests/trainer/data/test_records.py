import gzip
import json
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.data.files import read_records
from pilothouse.trainer.data.records import (
    Demonstration,
    Prompt,
    Ranking,
    read_demonstrations,
    read_prompts,
    read_rankings,
)


def _jsonl(folder: Path, *objects: object, name: str = "data.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(json.dumps(item) for item in objects) + "\n")
    return file


USER = {"role": "user", "content": "What colour is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}


def test_prompts_are_texts_or_conversations_with_an_id_each(tmp_path: Path) -> None:
    file = _jsonl(tmp_path, {"prompt": "The film", "id": "a"}, {"prompt": [USER], "other": 1})
    chat = (("user", "What colour is the sky?"),)
    assert read_prompts(file) == [Prompt("a", "The film"), Prompt("data.jsonl:2", chat)]


def test_demonstrations_come_in_every_form_that_trl_knows(tmp_path: Path) -> None:
    file = _jsonl(
        tmp_path,
        {"prompt": "The sky", "completion": " is blue."},
        {"text": "The sky is blue."},
        {"prompt": [USER], "completion": [BLUE]},
        {"messages": [USER, BLUE]},
    )
    chat = (("user", "What colour is the sky?"),)
    assert [(item.prompt, item.completion) for item in read_demonstrations(file)] == [
        ("The sky", " is blue."),
        ("", "The sky is blue."),
        (chat, "It is blue."),
        (chat, "It is blue."),
    ]


def test_a_conversation_gives_one_demonstration_for_each_answer(tmp_path: Path) -> None:
    file = _jsonl(
        tmp_path, {"messages": [USER, BLUE, {"role": "user", "content": "Sure?"}, GREEN], "id": "c"}
    )
    first, second = read_demonstrations(file)
    assert first == Demonstration("c#1", (("user", USER["content"]),), "It is blue.")
    assert second.id == "c#3"
    assert [role for role, _ in second.prompt] == ["user", "assistant", "user"]


def test_rankings_keep_their_ties(tmp_path: Path) -> None:
    file = _jsonl(tmp_path, {"prompt": "", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "id": "r"})
    assert read_rankings(file) == [Ranking("r", "", ("a", "b", "c"), (2, 1, 2))]


def test_pairs_are_rankings_of_two_with_or_without_a_prompt(tmp_path: Path) -> None:
    file = _jsonl(
        tmp_path,
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
    )
    chat = (("user", "What colour is the sky?"),)
    assert [(item.prompt, item.responses) for item in read_rankings(file)] == [
        ("The sky is", (" blue.", " green.")),
        ("The sky is", (" blue.", " green.")),
        (chat, ("It is blue.", "It is green.")),
        (chat, ("It is blue.", "It is green.")),
    ]
    assert {item.ranks for item in read_rankings(file)} == {(1, 2)}


def test_parquet_and_compressed_lines_read_like_plain_lines(tmp_path: Path) -> None:
    rows = [{"prompt": "One", "id": "1"}, {"prompt": "Two", "id": "2"}]
    plain = _jsonl(tmp_path, *rows)
    packed = tmp_path / "data.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    table = tmp_path / "data.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), table)
    assert read_prompts(plain) == read_prompts(packed) == read_prompts(table)
    assert len(read_prompts([plain, table])) == 4


def test_null_columns_count_as_missing(tmp_path: Path) -> None:
    file = _jsonl(tmp_path, {"prompt": "One", "completion": None, "text": "Two"})
    assert read_demonstrations(file)[0].completion == "Two"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", r"line 2: not valid JSON .*one object per line"),
        ("[1]", r"line 2: expected a JSON object, got list"),
        ('{"promt": "x"}', r"line 2: 'prompt' must be .*the columns here are: promt"),
        ('{"prompt": ""}', r"line 2: 'prompt' must be .*not empty"),
        (
            '{"prompt": [{"role": "human", "content": "x"}]}',
            r"line 2: message 1 of 'prompt' has role 'human'; use",
        ),
        ('{"prompt": [{"role": "user"}]}', r"line 2: message 1 of 'prompt' must have 'role' and 'content'"),
    ],
)
def test_a_bad_prompt_is_refused_with_its_line_and_the_mend(
    tmp_path: Path, line: str, complaint: str
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "good"}\n' + line + "\n")
    with pytest.raises(InvalidDataError, match=complaint):
        read_prompts(file)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"prompt": "p"}, "a ranking has 'responses' and 'ranks', or 'chosen' and 'rejected'"),
        ({"responses": ["a"], "ranks": [1]}, "at least two answers"),
        ({"responses": ["a", ""], "ranks": [1, 2]}, "none of them empty"),
        ({"responses": ["a", "b"], "ranks": [1]}, "2 responses, but 1 ranks"),
        ({"responses": ["a", "b"], "ranks": [0.5, 1]}, "whole numbers"),
        ({"chosen": "same", "rejected": "same"}, "do not differ"),
        ({"chosen": [USER, BLUE], "rejected": "green"}, "must both be"),
        ({"chosen": [USER, BLUE], "rejected": [GREEN, USER]}, "one message of the assistant"),
        ({"prompt": "p", "chosen": "a"}, "'rejected' must be a text"),
    ],
)
def test_a_bad_ranking_is_refused_with_its_line_and_the_mend(
    tmp_path: Path, fields: object, complaint: str
) -> None:
    with pytest.raises(InvalidDataError, match=rf"data\.jsonl, line 1: .*{complaint}"):
        read_rankings(_jsonl(tmp_path, fields))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"prompt": "p"}, "a demonstration has"),
        ({"messages": [BLUE]}, "no answer of the assistant after the first message"),
        ({"prompt": "p", "completion": "  "}, "'completion' is empty"),
        ({"prompt": [USER], "completion": [BLUE, USER]}, "one message of the assistant"),
    ],
)
def test_a_bad_demonstration_is_refused(tmp_path: Path, fields: object, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=complaint):
        read_demonstrations(_jsonl(tmp_path, fields))


def test_missing_unknown_and_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("prompt\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidDataError, match="there is no data file"):
        list(read_records(tmp_path / "none.jsonl"))
    with pytest.raises(InvalidDataError, match=r"data\.csv is none of .*\.parquet"):
        list(read_records(tmp_path / "data.csv"))
    with pytest.raises(InvalidDataError, match=r"broken\.parquet is not a Parquet file"):
        list(read_records(tmp_path / "broken.parquet"))
    with pytest.raises(InvalidDataError, match="not UTF-8"):
        list(read_records(tmp_path / "latin.jsonl"))
    with pytest.raises(InvalidDataError, match="holds no prompts"):
        read_prompts(tmp_path / "empty.jsonl")


def test_a_ranking_has_the_weight_task_and_rater_of_its_record(tmp_path: Path) -> None:
    ranked = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}
    exported = {"kind": "ranking", "unsafe": [1], "gold_ranks": [], "sources": [{"model": "m"}]}
    file = _jsonl(
        tmp_path,
        ranked | exported | {"id": "1", "weight": 0.25, "task": "t", "rater": "r7"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "id": "2", "weight": 1, "rater": 3},
        ranked | {"id": "3"},
        ranked | {"id": "4", "weight": 0},
    )
    answers = (("a", "b"), (1, 2))
    assert read_rankings(file) == [
        Ranking("1", "p", *answers, weight=0.25, task="t", rater="r7"),
        Ranking("2", "p", *answers, rater="3"),
        Ranking("3", "p", *answers),
    ]


@pytest.mark.parametrize("weight", ["-0.1", "1.5", "NaN", "Infinity", "1e999", '"1"', "true", "[1]"])
def test_a_weight_that_is_none_is_refused_with_its_line_and_the_mend(tmp_path: Path, weight: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"responses": ["a", "b"], "ranks": [1, 2], "weight": ' + weight + "}\n")
    with pytest.raises(
        InvalidDataError, match=r"line 1: 'weight' must be a number from 0 to 1, got .* counts 1"
    ):
        read_rankings(file)


def test_a_file_whose_rankings_all_weigh_nothing_says_so(tmp_path: Path) -> None:
    file = _jsonl(tmp_path, *[{"responses": ["a", "b"], "ranks": [1, 2], "weight": 0}] * 3)
    with pytest.raises(InvalidDataError, match=r"no ranking of .* can be used \(weight_zero: 3\)"):
        read_rankings(file)
