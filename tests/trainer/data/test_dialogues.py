import json
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.data.dialogues import parse_dialogue
from pilothouse.trainer.data.records import Ranking, read_rankings

OPENING = "\n\nHuman: Hi!\n\nAssistant: Hello.\n\nHuman: What colour is\n the sky?\n\nAssistant:"
PROMPT = (("user", "Hi!"), ("assistant", "Hello."), ("user", "What colour is\n the sky?"))
SPEAKERS = {"user": "Human", "assistant": "Assistant"}


def _file(folder: Path, *pairs: tuple[object, object]) -> Path:
    file = folder / "data.jsonl"
    rows = [{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_dialogues_are_conversations_up_to_the_last_answer(tmp_path: Path) -> None:
    file = _file(tmp_path, (f"{OPENING} It is blue.", f"{OPENING} It is green."))
    assert read_rankings(file) == [Ranking("data.jsonl:1", PROMPT, ("It is blue.", "It is green."), (1, 2))]


def test_dialogues_can_be_read_as_texts_all_the_same(tmp_path: Path) -> None:
    (item,) = read_rankings(_file(tmp_path, (f"{OPENING} Blue.", f"{OPENING} Green.")), dialogues="text")
    assert (item.prompt, item.responses) == (OPENING, (" Blue.", " Green."))


def test_other_texts_stay_texts(tmp_path: Path) -> None:
    pairs = [
        ("The sky is blue.", "The sky is green."),
        ("Human: no answer", "Human: none"),
        ("He said:\n\nHuman: x\n\nAssistant: y", "He said:\n\nHuman: x\n\nAssistant: z"),
        ("\n\nAssistant: a\n\nHuman: b", "\n\nAssistant: a\n\nHuman: c"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a, and so on"),
    ]
    assert all(isinstance(item.prompt, str) for item in read_rankings(_file(tmp_path, *pairs)))


def test_pairs_that_are_no_two_answers_to_one_prompt_are_left_out_and_counted(tmp_path: Path) -> None:
    other = OPENING.replace("Hello", "Good day")
    bad = [
        (f"{OPENING} Blue.", f"{other} Green."),
        (f"{OPENING} Blue.", f"{OPENING} Green.\n\nHuman: Sure?\n\nAssistant: Yes."),
        (f"{OPENING} Blue.", f"{OPENING}"),
        (f"{OPENING} Blue.", f"{OPENING}  Blue.\n"),
        (f"{OPENING} Blue.\n\nHuman: Thanks", f"{OPENING} Blue.\n\nHuman: Oh"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b"),
    ]
    with structlog.testing.capture_logs() as logs:
        items = read_rankings(_file(tmp_path, *bad, (f"{OPENING} Blue.", f"{OPENING} Green.")))
    assert [item.responses for item in items] == [("Blue.", "Green.")]
    told = {"differ_before_the_last_answer": len(bad), "kept": 1}
    assert logs == [{"event": "rankings left out", "log_level": "warning", **told}]


def test_a_file_of_such_pairs_alone_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b"))
    with pytest.raises(InvalidDataError, match=r"no ranking of .*differ_before_the_last_answer: 1"):
        read_rankings(file)


def test_a_pair_of_unequal_kinds_is_still_refused(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(InvalidDataError, match="must both be"):
        read_rankings(_file(tmp_path, (f"{OPENING} Blue.", messages)))


def test_successive_turns_of_one_speaker_are_one_message() -> None:
    text = "\n\nHuman: a\n\nHuman: b\n\nAssistant: \n\nAssistant: c\n\nAssistant:"
    assert parse_dialogue(text) == (("user", "a\n\nb"), ("assistant", "c"))


def test_a_speaker_is_named_only_after_an_empty_line() -> None:
    text = "\n\nHuman: Write 'Human: x'\nAssistant: y\n\nAssistant: Human: no"
    assert parse_dialogue(text) == (("user", "Write 'Human: x'\nAssistant: y"), ("assistant", "Human: no"))


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_text_breaks_the_parser(before: str, after: str) -> None:
    for text in (before, f"\n\nHuman:{before}\n\nAssistant:{after}", f"Human:{before}\n\nAssistant:{after}"):
        chat = parse_dialogue(text)
        if chat is not None:
            roles = [role for role, _ in chat]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
            assert all(content == content.strip() for _, content in chat)


MESSAGES = st.lists(
    st.text(st.characters(exclude_characters=":"), min_size=1).map(str.strip).filter(bool),
    min_size=2,
    max_size=6,
)


@settings(deadline=None)
@given(MESSAGES)
def test_what_is_written_as_a_dialogue_is_read_back(contents: list[str]) -> None:
    chat = tuple(("assistant" if turn % 2 else "user", content) for turn, content in enumerate(contents))
    text = "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in chat)
    assert parse_dialogue(text) == chat
