import json
import random
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as arrow_parquet
import pytest
from blake3 import blake3
from tests.feedback.formats.samples import CHAT, SKY, data, demonstration, ranking, realistic, written

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.formats import writing
from pilothouse.feedback.formats.columns import columns
from pilothouse.feedback.formats.exporting import DataSet, export
from pilothouse.feedback.formats.options import ExportOptions, FileFormat, Format, Split
from pilothouse.feedback.formats.split import split_of
from pilothouse.feedback.quality.intervals import Estimate
from pilothouse.feedback.records import AnswerRecord, PromptRecord
from pilothouse.trainer.data.records import read_demonstrations, read_rankings

MENDED = AnswerRecord(text="Blu.")
RECORDS = [
    ranking("r2", (1, 2), texts=("It is blue.", "It is grey."), task="t1", weight=0.5),
    ranking("r1", (2, 1, 1), vetoed=(2,), task="t2", comment="easy", unsafe=(1,)),
    ranking("r3", (2, 1), gold_ranks=(2, 1), task="t3"),
    ranking("r4", (1, 2), vetoed=(0, 1), task="t4"),
]
WRITTEN = [demonstration("d2", "Blue.", corrects=MENDED, task="t1"), demonstration("d1")]
TABLES = [format for format in Format if not format.is_json]


def rows(format: Format, **options: Any) -> list[dict[str, Any]]:
    exported = export(RECORDS, WRITTEN, ExportOptions(format=format, **options))
    return [json.loads(line) for line in data(exported).splitlines()]


def test_a_ranking_has_all_that_training_uses() -> None:
    first, second, third = rows(Format.RANKING)
    assert [first["id"], second["id"], third["id"]] == ["d2", "r1", "r2"]
    assert first["kind"] == "correction"
    assert (first["responses"], first["ranks"]) == (["Blue.", "Blu."], [1, 2])
    assert (second["ranks"], second["vetoed"], second["unsafe"]) == ([2, 1, 3], [2], [1])
    assert (second["comment"], second["prompt"], second["prompt_source"]) == ("easy", SKY.text, "list")
    assert second["sources"][2] == {"model": "policy", "run": "", "version": 3, "temperature": 1.0, "seed": 0}
    assert (third["weight"], third["rater"], third["order"]) == (0.5, "calm-otter", [1, 0])


@pytest.mark.parametrize("format", Format)
def test_what_was_said_of_gold_tasks_is_in_no_format(format: Format) -> None:
    options = ExportOptions(format=format)
    exported, without = (
        export(records, WRITTEN, options)
        for records in (RECORDS, [record for record in RECORDS if not record.gold_ranks])
    )
    assert data(exported) == data(without)
    counted = json.loads(exported.manifest)["counts"]["gold_rankings"]
    assert counted == (0 if format is Format.DEMONSTRATION else 1)


def test_trl_formats_have_trls_columns() -> None:
    blue = {"prompt": SKY.text, "chosen": "It is blue.", "rejected": "It is grey."}
    no_idea = {"prompt": SKY.text, "chosen": "It is grey.", "rejected": "No idea."}
    assert rows(Format.PREFERENCE) == [
        {"prompt": SKY.text, "chosen": "Blue.", "rejected": "Blu."},
        blue,
        no_idea,
        blue | {"rejected": "No idea."},
        blue,
    ]
    assert rows(Format.PREFERENCE_IMPLICIT)[1] == {
        "chosen": f"{SKY.text}It is blue.",
        "rejected": f"{SKY.text}It is grey.",
    }
    assert rows(Format.UNPAIRED)[:2] == [
        {"prompt": SKY.text, "completion": "Blue.", "label": True},
        {"prompt": SKY.text, "completion": "Blu.", "label": False},
    ]


def test_demonstrations_are_what_people_wrote_and_mended() -> None:
    assert [(row["id"], row["kind"], row["completion"]) for row in rows(Format.DEMONSTRATION)] == [
        ("d1", "demonstration", "Blue, mostly."),
        ("d2", "correction", "Blue."),
    ]


def test_conversational_rows_are_messages() -> None:
    user, blue = {"role": "user", "content": SKY.text}, {"role": "assistant", "content": "Blue."}
    assert rows(Format.PREFERENCE, conversational=True)[0] == {
        "prompt": [user],
        "chosen": [blue],
        "rejected": [{"role": "assistant", "content": "Blu."}],
    }
    assert rows(Format.PREFERENCE_IMPLICIT, conversational=True)[0]["chosen"] == [user, blue]
    assert rows(Format.RANKING, conversational=True)[0]["responses"][0] == [blue]


@pytest.mark.parametrize("split", Split)
def test_one_conversation_makes_the_whole_export_conversational_in_both_parts(split: Split) -> None:
    prompts = [PromptRecord(text=f"Question {number}?") for number in range(40)]
    records = [ranking(f"r{number}", prompt=prompt) for number, prompt in enumerate(prompts)]
    options = ExportOptions(format=Format.RANKING, split=split, held_out_percent=20)
    exported = export([*records, ranking("chat", prompt=CHAT)], [], options)
    assert json.loads(exported.manifest)["conversational"] is True
    lines = [json.loads(line) for line in data(exported).splitlines()]
    assert {type(line["prompt"]) for line in lines} == {list}


def test_the_parts_are_disjoint_and_whole() -> None:
    prompts = [PromptRecord(text=f"Question {number}?") for number in range(60)]
    records = [ranking(f"r{number}", prompt=prompt) for number, prompt in enumerate(prompts)]

    def asked(split: Split) -> set[str]:
        options = ExportOptions(format=Format.PREFERENCE, split=split, held_out_percent=30)
        return {json.loads(line)["prompt"] for line in written(records, options).splitlines()}

    train, held_out = asked(Split.TRAIN), asked(Split.HELD_OUT)
    assert held_out == {prompt.text for prompt in prompts if split_of(prompt, 30) == "held-out"}
    assert not train & held_out
    assert train | held_out == asked(Split.ALL)


@pytest.mark.parametrize("file_format", FileFormat)
@pytest.mark.parametrize("format", Format)
def test_the_same_records_in_any_order_give_the_same_bytes(format: Format, file_format: FileFormat) -> None:
    if format.is_json and file_format is FileFormat.PARQUET:
        return
    options = ExportOptions(format=format, file_format=file_format)
    once = export(RECORDS, WRITTEN, options)
    for seed in range(5):
        shuffled, others = list(RECORDS), list(WRITTEN)
        random.Random(seed).shuffle(shuffled)
        random.Random(seed).shuffle(others)
        assert export(shuffled, others, options) == once


@pytest.mark.parametrize("conversational", [False, True])
@pytest.mark.parametrize("format", TABLES)
def test_parquet_holds_what_the_lines_hold(format: Format, conversational: bool) -> None:
    lines = rows(format, conversational=conversational)
    options = ExportOptions(format=format, file_format=FileFormat.PARQUET, conversational=conversational)
    table = arrow_parquet.read_table(BytesIO(data(export(RECORDS, WRITTEN, options))))
    assert table.to_pylist() == lines
    assert table.column_names == [column.name for column in columns(format, conversational=conversational)]


@pytest.mark.parametrize("file_format", FileFormat)
@pytest.mark.parametrize("format", TABLES)
def test_an_export_of_nothing_is_an_empty_file(format: Format, file_format: FileFormat) -> None:
    exported = export([], [], ExportOptions(format=format, file_format=file_format))
    body = json.loads(exported.manifest)
    assert (body["records"], body["first_submitted_at"]) == (0, None)
    if file_format is FileFormat.PARQUET:
        assert arrow_parquet.read_table(BytesIO(data(exported))).num_rows == 0
    else:
        assert data(exported) == b""


@pytest.mark.parametrize("conversational", [False, True])
@pytest.mark.parametrize("file_format", FileFormat)
def test_the_trainer_reads_every_format_that_it_trains_on(
    tmp_path: Path, file_format: FileFormat, conversational: bool
) -> None:
    def file(format: Format) -> Path:
        options = ExportOptions(format=format, file_format=file_format, conversational=conversational)
        path = tmp_path / f"{format}.{file_format}"
        path.write_bytes(data(export(RECORDS, WRITTEN, options)))
        return path

    prompt = (("user", SKY.text),) if conversational else SKY.text
    rankings = read_rankings(file(Format.RANKING))
    assert [(item.id, item.ranks) for item in rankings] == [
        ("d2", (1, 2)),
        ("r1", (2, 1, 3)),
        ("r2", (1, 2)),
    ]
    assert rankings[1].responses == ("It is grey.", "It is blue.", "No idea.")
    assert {item.prompt for item in rankings} == {prompt}
    pairs = read_rankings(file(Format.PREFERENCE))
    assert [item.responses for item in pairs][:2] == [("Blue.", "Blu."), ("It is blue.", "It is grey.")]
    assert len(read_rankings(file(Format.PREFERENCE_IMPLICIT))) == len(pairs)
    demonstrations = read_demonstrations(file(Format.DEMONSTRATION))
    assert [(item.id, item.prompt, item.completion) for item in demonstrations] == [
        ("d1", prompt, "Blue, mostly."),
        ("d2", prompt, "Blue."),
    ]


def test_the_manifest_counts_and_names_every_byte() -> None:
    options = ExportOptions(format=Format.PREFERENCE, licence="cc-by-4.0")
    agreement = {"tau": Estimate(0.5, 0.4, 0.6), "alpha": Estimate(float("nan"), float("nan"), float("nan"))}
    exported = export(RECORDS, WRITTEN, options, agreement=agreement)
    body = json.loads(exported.manifest)
    assert body["counts"] == {
        "rankings": 2,
        "corrections": 1,
        "demonstrations": 0,
        "pairs": 5,
        "raters": 1,
        "tasks": 2,
        "prompts": 1,
        "vetoed_rankings": 1,
        "gold_rankings": 1,
    }
    assert (body["schema_version"], body["records"], body["queues"]) == (1, 5, ["main"])
    assert (body["first_submitted_at"], body["last_submitted_at"]) == (1_700_000_000.25, 1_700_000_500.0)
    assert body["agreement"]["tau"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert body["agreement"]["alpha"]["value"] is None
    assert [column["name"] for column in body["columns"]] == ["prompt", "chosen", "rejected"]
    assert body["licence"] == "cc-by-4.0"
    for file, entry in zip(exported.files, body["files"], strict=True):
        content = b"".join(file.chunks)
        assert entry == {
            "name": file.name,
            "size_bytes": len(content),
            "digest": blake3(content).hexdigest(),
        }


def test_the_digest_changes_with_any_byte_of_any_file() -> None:
    options = ExportOptions(format=Format.RANKING)
    changed = [*RECORDS[1:], ranking("r2", (2, 1), texts=("It is blue.", "It is grey."), task="t1")]

    def digest(exported: DataSet) -> str:
        return str(json.loads(exported.manifest)["digest"])

    assert digest(export(RECORDS, WRITTEN, options)) != digest(export(changed, WRITTEN, options))


def test_the_card_tells_a_reader_what_is_in_it() -> None:
    options = ExportOptions(format=Format.RANKING, split=Split.HELD_OUT, held_out_percent=90)
    exported = export(RECORDS, WRITTEN, options, agreement={"alpha|x": Estimate(0.61, 0.5, 0.7)})
    text = b"".join(exported.files[-1].chunks).decode()
    assert text.startswith("---\nlicense: unknown\n")
    assert "- split: test\n    path: held-out.jsonl\n---" in text
    assert "| 2 | rankings |" in text
    assert "| 1 | rankings left out because the right ranks were known before |" in text
    assert "| `ranks` | integers |" in text
    assert r"| alpha\|x | 0.610 | 0.500 to 0.700 |" in text
    assert "Collected from 2023-11-14 to 2023-11-14." in text
    assert "random pseudonym" in text


@pytest.mark.parametrize("format", [Format.LABEL_STUDIO, Format.ARGILLA])
def test_the_card_says_how_the_other_tool_must_be_set_up(format: Format) -> None:
    exported = export(RECORDS, [], ExportOptions(format=format))
    text = b"".join(exported.files[-1].chunks).decode()
    wanted = '<Bucket name="rank-3"' if format is Format.LABEL_STUDIO else '"answer-3"]'
    assert wanted in text
    assert "configs:" not in text


def test_argilla_has_a_file_for_each_number_of_answers() -> None:
    exported = export(RECORDS, WRITTEN, ExportOptions(format=Format.ARGILLA))
    assert [file.name for file in exported.files] == [
        "data-2-answers.json",
        "data-3-answers.json",
        "README.md",
    ]


@pytest.mark.parametrize("file_format", FileFormat)
def test_large_files_come_in_chunks_that_fit_a_message(
    file_format: FileFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", 50)
    records = realistic(120)
    options = ExportOptions(format=Format.RANKING, file_format=file_format)
    file = export(records, [], options).files[0]
    assert len(file.chunks) > 3
    assert max(map(len, file.chunks)) <= 20_000
    if file_format is FileFormat.PARQUET:
        found = arrow_parquet.ParquetFile(BytesIO(b"".join(file.chunks)))
        assert found.metadata.num_row_groups == 3
        assert found.read().column("id").to_pylist() == [record.id for record in records]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"held_out_percent": 91}, "held_out_percent must be 0 to 90"),
        ({"split": Split.HELD_OUT}, "give a share above 0"),
        ({"format": Format.ARGILLA, "file_format": FileFormat.PARQUET}, "argilla is always JSON"),
        ({"licence": "mine\ntags: [x]"}, "no name of a licence"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        ExportOptions(**{"format": Format.RANKING} | options)
