"""Text to tokens and back, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.codecs import SETTINGS, bos_codec, swapped_codec
from tokenizers import normalizers
from transformers import AutoTokenizer

from pilothouse.errors import ConfigError, InvalidRequestError, ModelNotFoundError
from pilothouse.models import tiny_text
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny_text import NEGATIVE_WORDS, NEUTRAL_WORDS, POSITIVE_WORDS, TINY_VOCABULARY_SIZE

CODEC = TextCodec.load("tiny")
CHAT = [("system", "You like films."), ("user", "A great film?"), ("assistant", "Yes.")]


def change_settings(folder: Path, **values: object) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CODEC.save(tmp_path)
    return tmp_path


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@given(text=TEXTS.filter(lambda text: "<|" not in text))  # Hypothesis also draws names that stand in our code
@settings(deadline=None)
def test_every_text_without_special_tokens_survives_the_way_to_tokens_and_back(text: str) -> None:
    tokens = CODEC.encode(text)
    assert tokens.dtype == "int32"
    assert CODEC.decode(tokens) == text


@given(prompt=TEXTS, response=TEXTS.filter(lambda text: "<|" not in text))
@settings(deadline=None)
def test_joined_texts_are_the_prompt_the_response_and_the_end(prompt: str, response: str) -> None:
    joined = CODEC.join(prompt, response)
    own = joined.tokens[joined.prompt_length :]
    assert joined.tokens[: joined.prompt_length].tolist() == CODEC.encode(prompt).tolist()
    assert own.tolist() == [*CODEC.encode(response), CODEC.eos_id]
    open_end = CODEC.join(prompt, response, unfinished=True)
    assert open_end.tokens.tolist() == joined.tokens[:-1].tolist()
    assert (joined.tokens.dtype, joined.spans.dtype) == ("int32", "int32")
    assert (joined.spans.shape, open_end.spans.shape) == ((len(own), 2), (len(own) - 1, 2))
    starts, ends = joined.spans[:, 0], joined.spans[:, 1]
    assert (starts <= ends).all()
    assert joined.spans[-1].tolist() == [len(response)] * 2
    covered = {place for start, end in joined.spans.tolist() for place in range(start, end)}
    assert covered == set(range(len(response)))


def test_only_the_prompt_gets_the_special_tokens_that_stand_around_a_text(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    start = {"id": "<|im_start|>", "type_id": 0}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": start}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            "<|im_start|>": {"id": "<|im_start|>", "ids": [CODEC.bos_id], "tokens": ["<|im_start|>"]}
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    joined = TextCodec.load(folder).join("good", " film")
    plain = CODEC.join("good", " film")
    assert joined.tokens.tolist() == [CODEC.bos_id, *plain.tokens]
    assert joined.prompt_length == plain.prompt_length + 1


def test_the_name_of_a_special_token_in_a_text_becomes_that_token() -> None:
    tokens = CODEC.encode("so<|im_end|>")
    assert tokens[-1] == CODEC.eos_id
    assert CODEC.decode(tokens) == "so"


@pytest.mark.parametrize("word", [*POSITIVE_WORDS, *NEGATIVE_WORDS, *NEUTRAL_WORDS])
def test_a_known_word_is_one_token(word: str) -> None:
    assert len(CODEC.encode(f" {word}")) == 1


def test_the_tiny_tokenizer_fills_the_models_vocabulary() -> None:
    assert CODEC.vocabulary_size == TINY_VOCABULARY_SIZE
    assert (CODEC.pad_id, CODEC.bos_id, CODEC.eos_id) == (0, 1, 2)


def test_special_tokens_are_left_out_of_the_text() -> None:
    assert CODEC.decode([*CODEC.encode("good"), CODEC.eos_id, CODEC.pad_id]) == "good"


def test_an_answer_ends_in_eos_and_has_no_bos_of_its_own() -> None:
    codec = bos_codec()
    assert codec.encode(" good").tolist() == [codec.bos_id, *CODEC.encode(" good")]
    answer = codec.encode_answer(" good")
    assert answer.tolist() == [*CODEC.encode(" good"), codec.eos_id]
    assert answer.dtype == "int32"


def test_transformers_reads_what_was_saved_the_same_way(folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs("A great film.").input_ids == CODEC.encode("A great film.").tolist()
    messages = [{"role": role, "content": content} for role, content in CHAT]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True).input_ids
    assert ids == CODEC.encode_chat(CHAT).tolist()
    assert (theirs.pad_token_id, theirs.eos_token_id) == (CODEC.pad_id, CODEC.eos_id)


def test_what_was_saved_loads_as_the_same_tokenizer(folder: Path) -> None:
    assert TextCodec.load(folder).digest == CODEC.digest


def test_the_digest_tells_what_changes_ids_and_nothing_else(folder: Path) -> None:
    assert swapped_codec().decode(CODEC.encode(" good")) == " bad"
    lowering = tiny_text.tiny_tokenizer()
    lowering.normalizer = normalizers.Lowercase()
    change_settings(folder, eos_token="<|endoftext|>")
    others = [swapped_codec(), bos_codec(), TextCodec(lowering, SETTINGS), TextCodec.load(folder)]
    assert len({codec.digest for codec in [CODEC, *others]}) == 5
    change_settings(folder, eos_token="<|im_end|>", pad_token="<|im_start|>")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    same = TextCodec.load(folder)
    assert same.pad_id != CODEC.pad_id
    assert same.digest == CODEC.digest


def test_the_digest_is_the_same_in_another_process_and_needs_no_torch() -> None:
    script = (
        "import sys; from pilothouse.models.text import TextCodec; print(TextCodec.load('tiny').digest); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == CODEC.digest


def test_checklist_01_the_pad_is_never_the_end_of_sequence(folder: Path) -> None:
    change_settings(folder, pad_token="<|im_end|>")
    assert TextCodec.load(folder).pad_id == CODEC.encode("<|endoftext|>")[0]
    change_settings(folder, pad_token=None, unk_token=None, eos_token={"content": "<|endoftext|>"})
    codec = TextCodec.load(folder)
    assert codec.eos_id == 0
    assert codec.pad_id not in (codec.eos_id, codec.bos_id)


def test_a_tokenizer_without_an_end_of_sequence_is_refused(folder: Path) -> None:
    change_settings(folder, eos_token=None)
    with pytest.raises(ConfigError, match="eos_token"):
        TextCodec.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=name):
        TextCodec.load(folder)


def test_a_broken_tokenizer_file_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        TextCodec.load(folder)


def test_messages_without_a_chat_template_are_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    codec = TextCodec.load(folder)
    with pytest.raises(InvalidRequestError, match="no chat template"):
        codec.encode_chat(CHAT)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.__class__.__mro__ }}",  # the sandbox
        "{% for x in %}",
        "{{ messages[0].content + 1 }}",  # no error of jinja's own
    ],
)
def test_a_template_that_refuses_or_breaks_out_is_an_error(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InvalidRequestError, match="chat template"):
        TextCodec.load(folder).encode_chat(CHAT)


def test_one_of_several_templates_in_the_settings_is_taken(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    templates = [{"name": "tools", "template": "no"}, {"name": "default", "template": "a {{ bos_token }}"}]
    change_settings(folder, chat_template=templates)
    assert TextCodec.load(folder).render_chat(CHAT) == "a <|im_start|>"
