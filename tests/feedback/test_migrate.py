"""``python -m pilothouse.feedback.migrate``: tables are brought up to date, and the process ends."""

import sqlite3
from pathlib import Path

import pytest

from pilothouse.feedback.migrate import main


def tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_it_makes_the_tables_and_does_nothing_the_second_time(tmp_path: Path) -> None:
    file = tmp_path / "feedback.db"
    database = ["--set", f"feedback.database=sqlite:///{file}"]
    assert main(database) == 0
    made = tables(file)
    assert {"alembic_version", "tasks", "raters"} <= made
    assert main(database) == 0
    assert tables(file) == made


def test_it_takes_the_database_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_FEEDBACK__DATABASE", f"sqlite:///{tmp_path / 'feedback.db'}")
    assert main([]) == 0
    assert tables(tmp_path / "feedback.db")


def test_it_reads_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "pilothouse.toml"
    file.write_text(f'[feedback]\ndatabase = "sqlite:///{tmp_path / "feedback.db"}"\n')
    assert main(["--config", str(file)]) == 0
    assert tables(tmp_path / "feedback.db")


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql+psycopg://nobody@127.0.0.1:1/none"])
def test_what_is_wrong_is_told_in_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--set", f"feedback.database={url}"])
    told = capsys.readouterr().err
    assert status == (2 if url.startswith("mysql") else 1)
    assert told.startswith("migrate: ")
    assert told.count("\n") == 1
