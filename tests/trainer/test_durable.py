from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.trainer.durable import append_rows, cut_torn_line, keep_rows_until, read_rows, write_atomic


def test_rows_come_back_as_they_were_appended(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_rows(file, [{"step": 1, "text": "ä\n"}])
    append_rows(file, [{"step": 2}, {"step": 3}])
    assert list(read_rows(file)) == [{"step": 1, "text": "ä\n"}, {"step": 2}, {"step": 3}]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "none.jsonl")) == []
    cut_torn_line(tmp_path / "none.jsonl")
    assert keep_rows_until(tmp_path / "none.jsonl", 3) == 0


@given(kept=st.integers(0, 5), torn=st.integers(0, 200_000))
def test_a_torn_last_line_is_cut_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, kept: int, torn: int
) -> None:
    file = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    rows = [{"step": number} for number in range(kept)]
    append_rows(file, rows)
    with file.open("ab") as stream:
        stream.write(b"x" * torn)
    assert list(read_rows(file)) == rows
    cut_torn_line(file)
    append_rows(file, [{"step": 99}])
    assert list(read_rows(file)) == [*rows, {"step": 99}]


def test_rows_after_a_step_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_rows(file, [{"step": step} for step in (1, 2, 3, 4)])
    assert keep_rows_until(file, 2) == 2
    assert [row["step"] for row in read_rows(file)] == [1, 2]


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_rows(tmp_path / "rows.jsonl", [{"loss": float("nan")}])


def test_an_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "pointer.json"
    write_atomic(file, b"old and long")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["pointer.json"]
