import os
from pathlib import Path

import pytest

from pilothouse.feedback.database import Database


@pytest.fixture
def open_mask():
    """Files are made readable by everybody, as most systems do."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


@pytest.mark.usefixtures("open_mask")
def test_files_of_sqlite_are_their_owners_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'feedback.db'}")
    database.migrate()
    private = dict.fromkeys(("feedback.db", "feedback.db-wal", "feedback.db-shm"), "0o600")
    assert modes(tmp_path) == private
    for path in tmp_path.iterdir():
        path.chmod(0o644)  # as they were made by another program
    again = Database(f"sqlite:///{tmp_path / 'feedback.db'}")
    assert modes(tmp_path) == private
    again.close()
    database.close()
