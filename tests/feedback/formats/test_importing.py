import json
from io import BytesIO
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as arrow_parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.errors import InvalidDataError, InvalidRequestError
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.formats.importing import read
from pilothouse.feedback.formats.located import Limits
from pilothouse.feedback.formats.options import FileFormat, Format
from pilothouse.feedback.records import PromptRecord, Source

READABLE = [
    Format.RANKING,
    Format.PREFERENCE,
    Format.PREFERENCE_IMPLICIT,
    Format.LABEL_STUDIO,
    Format.ARGILLA,
]
USER = {"role": "user", "content": "What colour is the sky?"}
BLUE = {"role": "assistant", "content": "Blue."}
GREEN = {"role": "assistant", "content": "Green."}
GOOD = {"prompt": "What colour?", "responses": ["Green.", "Blue."], "ranks": [2, 1]}


def lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def table(*records: dict[str, Any]) -> bytes:
    sink = BytesIO()
    arrow_parquet.write_table(arrow.Table.from_pylist(list(records)), sink)
    return sink.getvalue()


def rankings(*records: object, format: Format = Format.RANKING, **limits: int) -> list[ImportedRanking]:
    return list(read(lines(*records), format, limits=Limits(**limits)))


def test_a_ranking_is_kept_by_its_answers_texts() -> None:
    (item,) = rankings(GOOD | {"rater": "ann", "submitted_at": 12.5})
    assert [(answer.text, rank) for answer, rank in zip(item.answers, item.ranks, strict=True)] == [
        ("Blue.", 1),
        ("Green.", 2),
    ]
    assert (item.prompt, item.rater, item.submitted_at) == (PromptRecord(text="What colour?"), "ann", 12.5)


def test_ranks_become_dense_and_sources_stay() -> None:
    source = {"model": "policy", "run": "r", "version": 3, "temperature": 0.5, "seed": 1}
    record = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [7, 2, 7], "sources": [source] * 3}
    (item,) = rankings(record)
    assert item.ranks == (2, 1, 2)
    assert item.answers[0].source == Source(model="policy", run="r", version=3, temperature=0.5, seed=1)


def test_preferences_are_rankings_of_two_that_do_not_tell_the_better_by_its_place() -> None:
    records = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "b", "rejected": "a"},
        {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
    ]
    one, other, chat = rankings(*records, format=Format.PREFERENCE)
    assert one.answers == other.answers
    assert (one.ranks, other.ranks) == ((1, 2), (2, 1))
    assert one.content == other.content
    assert chat.prompt == PromptRecord(messages=(("user", USER["content"]),))


def test_an_implicit_prompt_is_what_both_begin_with() -> None:
    records = [
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
    ]
    text, chat = rankings(*records, format=Format.PREFERENCE_IMPLICIT)
    assert text.prompt == PromptRecord(text="The sky is")
    assert {answer.text for answer in text.answers} == {" blue.", " green."}
    assert chat.prompt.messages == (("user", USER["content"]),)


def test_rankings_without_a_name_stay_several_and_nameless() -> None:
    found = rankings(GOOD, GOOD | {"rater": "ann"}, GOOD)
    assert [item.rater for item in found] == ["", "ann", ""]
    assert len({item.content for item in found}) == 1
    assert [item.place for item in found] == ["line 1", "line 2", "line 3"]


def test_the_id_of_an_export_is_kept() -> None:
    (item,) = rankings(GOOD | {"id": "said-1"})
    assert item.record == "said-1"


def test_a_text_and_that_text_as_the_users_message_are_one_task() -> None:
    text, chat = rankings(GOOD, GOOD | {"prompt": [{"role": "user", "content": GOOD["prompt"]}]})
    assert text.content == chat.content


@pytest.mark.parametrize("name", ["task", "queue"])
def test_columns_of_other_tools_are_passed_over(name: str) -> None:
    assert rankings(GOOD | {name: {"any": [1]}}) == rankings(GOOD)


def test_parquet_gives_what_the_lines_give() -> None:
    found = list(read(table(GOOD, GOOD), Format.RANKING, FileFormat.PARQUET))
    assert found == rankings(GOOD, GOOD)


def test_a_byte_order_mark_and_blank_lines_are_passed_over() -> None:
    data = b"\xef\xbb\xbf\n" + lines(GOOD) + b"  \r\n"
    assert list(read(data, Format.RANKING)) == rankings(GOOD)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ([1], "expected a JSON object, got list"),
        ({"prompt": "p"}, "a ranking has prompt, responses, ranks; responses is missing.*here: prompt"),
        (GOOD | {"prompt": ""}, "'prompt' must be a text that is not empty"),
        (GOOD | {"prompt": 3}, "'prompt' must be a text that is not empty, got 3"),
        (GOOD | {"prompt": []}, "'prompt' must be a list of 1 to 1000 messages"),
        (GOOD | {"prompt": [{"role": "robot", "content": "x"}]}, "has role 'robot'; use system"),
        (GOOD | {"prompt": [{"role": "user"}]}, "message 1 of 'prompt' must have 'role' and 'content'"),
        (GOOD | {"prompt": [{"role": ["user"], "content": "x"}]}, "has role list"),
        (GOOD | {"responses": "ab"}, "'responses' must be a list of at most 9"),
        (GOOD | {"responses": ["a"], "ranks": [1]}, "1 answers; a ranking has 2 to 9"),
        (GOOD | {"responses": ["a", "a"]}, "two answers have the same text"),
        (GOOD | {"responses": ["a", " "]}, "'responses' must be a text that is not empty"),
        (GOOD | {"responses": ["a", [USER]]}, "must be one message of the assistant"),
        (GOOD | {"responses": [str(number) for number in range(10)]}, "at most 9"),
        (GOOD | {"ranks": [1]}, "2 answers, but 1 ranks"),
        (GOOD | {"ranks": [1, 1.5]}, "whole numbers"),
        (GOOD | {"ranks": [True, False]}, "whole numbers"),
        (GOOD | {"ranks": {"a": 1}}, "whole numbers"),
        (GOOD | {"rater": ["ann"]}, "'rater' must be a name"),
        (GOOD | {"rater": "x" * 201}, "'rater' must be a name of at most 200"),
        (GOOD | {"submitted_at": "yesterday"}, "'submitted_at' is no time"),
        (GOOD | {"submitted_at": 1.7e12}, "must be a time in seconds"),
        (GOOD | {"submitted_at": True}, "must be a time in seconds"),
        (GOOD | {"sources": [{}]}, "'sources' must be a list with one entry for each of the 2"),
        (GOOD | {"sources": [{}, {}]}, "every entry of 'sources' must have model, run"),
        (GOOD | {"prompt": "\0"}, "no text"),
        (GOOD | {"prompt": "\ud800"}, "half a surrogate pair"),
        (GOOD | {"rater": "\udfff"}, "half a surrogate pair"),
    ],
)
def test_a_bad_ranking_is_refused_with_its_line_and_the_mend(record: object, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=f"line 2: .*{complaint}"):
        rankings(GOOD, record)


@pytest.mark.parametrize(
    ("format", "record", "complaint"),
    [
        (Format.PREFERENCE, {"chosen": "a", "rejected": "b"}, "import it as preference with implicit"),
        (Format.PREFERENCE, {"prompt": "p", "chosen": "a"}, "rejected is missing"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": "pa", "rejected": ["pb"]}, "must both be"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": "a", "rejected": "b"}, "begin differently"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": "ab", "rejected": "ab"}, "do not differ"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": "ab", "rejected": "abc"}, "is the beginning of the other"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": [USER, BLUE], "rejected": [USER, BLUE]}, "do not differ"),
        (Format.PREFERENCE_IMPLICIT, {"chosen": [USER, BLUE], "rejected": [GREEN]}, "different messages"),
        (
            Format.PREFERENCE_IMPLICIT,
            {"chosen": [USER, BLUE, USER], "rejected": [USER, GREEN]},
            "one message of the assistant",
        ),
    ],
)
def test_a_bad_preference_is_refused_with_the_mend(format: Format, record: object, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=f"line 1: .*{complaint}"):
        rankings(record, format=format)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("format", READABLE)
@pytest.mark.parametrize(
    ("hostile", "complaint"),
    [
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b'{"prompt": ' + DEEP + b"}", "nested too deeply"),
        (b'{"prompt": ' * 5_000 + b"1" + b"}" * 5_000, "nested too deeply|line 1|record 1"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "does not fit 64 bits"),
        (b'{"a": 9223372036854775808}', "does not fit 64 bits"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' comes twice"),
        (b'{"a": 1', "not valid JSON"),
        (b'"text"', "expected a JSON object, got str"),
    ],
)
def test_hostile_json_is_refused_by_name(format: Format, hostile: bytes, complaint: str) -> None:
    for data in [hostile + b"\n", *([b"[" + hostile + b"]"] if format.is_json else [])]:
        with pytest.raises(InvalidDataError, match=complaint):
            list(read(data, format))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "the file holds no records"),
        (b"[]", "the file holds no records"),
        (b"[{}", "behind record 1 a comma or the closing bracket is missing"),
        (b"[{} {}]", "behind record 1 a comma"),
        (b"[{},", "record 2: not valid JSON"),
        (b"[{}] x", "something behind the closing bracket"),
    ],
)
def test_a_broken_array_is_refused_by_name(data: bytes, complaint: str) -> None:
    good = b'{"data": {"prompt": "p", "items": [{"id": 1, "body": "a"}, {"id": 2, "body": "b"}]}}'
    with pytest.raises(InvalidDataError, match=complaint):
        list(read(data.replace(b"{}", good), Format.LABEL_STUDIO))


def test_broken_and_swelling_parquet_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="cannot be read as Parquet"):
        list(read(b"PAR1 not", Format.RANKING, FileFormat.PARQUET))
    good = table(GOOD)
    for cut in range(0, len(good), 97):
        with pytest.raises(InvalidDataError):
            list(read(good[:cut], Format.RANKING, FileFormat.PARQUET))
    bomb = table(*({"prompt": f"{number}" + "x" * 30_000} for number in range(200)))
    limits = Limits(max_bytes=len(bomb))
    with pytest.raises(InvalidDataError, match="unpacks to"):
        list(read(bomb, Format.RANKING, FileFormat.PARQUET, limits))


def test_sizes_are_bounded() -> None:
    with pytest.raises(InvalidDataError, match="the limit is 10; import it in parts"):
        rankings(GOOD, max_bytes=10)
    with pytest.raises(InvalidDataError, match="more than 1 records"):
        rankings(GOOD, GOOD, max_records=1)
    with pytest.raises(InvalidDataError, match="'responses' has 6 characters, the limit is 5"):
        rankings(GOOD | {"prompt": "short"}, max_text_characters=5)
    chat = [{"role": "user", "content": "short"}] * 2
    with pytest.raises(InvalidDataError, match="'prompt' has more than 9 characters"):
        rankings(GOOD | {"prompt": chat}, max_text_characters=9)


def test_formats_without_rankings_are_refused() -> None:
    for format in (Format.UNPAIRED, Format.DEMONSTRATION):
        with pytest.raises(InvalidRequestError, match="hold no rankings; import one of ranking"):
            list(read(lines(GOOD), format))


VALID: dict[Format, dict[str, Any]] = {
    Format.RANKING: GOOD
    | {
        "rater": "ann",
        "submitted_at": 1.5,
        "sources": [{"model": "m", "run": "r", "version": 1, "temperature": 1.0, "seed": 2}] * 2,
    },
    Format.PREFERENCE: {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
    Format.PREFERENCE_IMPLICIT: {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
    Format.LABEL_STUDIO: {
        "data": {"prompt": "p", "items": [{"id": "a", "body": "A"}, {"id": "b", "body": "B"}]},
        "annotations": [
            {
                "completed_by": {"email": "x"},
                "created_at": "2024-05-01T12:00:00Z",
                "result": [
                    {
                        "type": "ranker",
                        "value": {"ranker": {"rank-1": ["a"], "rank-2": ["b"]}},
                        "meta": {"rater": "ann", "submitted_at": 3.5},
                    }
                ],
            }
        ],
    },
    Format.ARGILLA: {
        "fields": {"prompt": "p", "answer-1": "A", "answer-2": "B"},
        "responses": [
            {
                "values": {
                    "ranking": {"value": [{"value": "answer-1", "rank": 1}, {"value": "answer-2", "rank": 2}]}
                },
                "user_id": "u",
                "status": "submitted",
                "inserted_at": "2024-05-01T12:00:00",
            }
        ],
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a value of JSON."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


def with_another(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The same value but for what stands in one place."""
    if not path:
        return other
    changed = value.copy()
    changed[path[0]] = with_another(value[path[0]], path[1:], other)
    return changed


@pytest.mark.parametrize("format", READABLE)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw=st.data())
def test_a_record_with_anything_anywhere_is_refused_or_read(format: Format, draw: st.DataObject) -> None:
    record = VALID[format]
    assert list(read(lines(record), format))
    for _ in range(draw.draw(st.integers(1, 2))):
        record = with_another(record, draw.draw(st.sampled_from(places(record)[1:])), draw.draw(JSON))
    found, told = [], ""
    try:
        found = list(read(lines(record), format))
    except InvalidDataError as error:
        told = str(error)
    assert found or told.startswith("line 1: ")


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for format in READABLE:
        for file_format in FileFormat:
            with pytest.raises(InvalidDataError):
                list(read(data, format, file_format))
