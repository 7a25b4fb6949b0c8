import json
from pathlib import Path

import pytest

from pilothouse.errors import CorruptCheckpointError
from pilothouse.trainer.checkpoint import CheckpointStore, read_checkpoint
from pilothouse.trainer.durable import Disk, read_rows


class Crash(BaseException):
    """The process ends here: nothing catches it."""


class CrashingDisk(Disk):
    """Dies before its ``at``-th operation; half of a write still reaches the file."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash

    def write(self, file: Path, data: bytes) -> None:
        try:
            self._tick()
        except Crash:
            file.write_bytes(data[: len(data) // 2])
            raise
        super().write(file, data)

    def append(self, file: Path, data: bytes) -> None:
        try:
            self._tick()
        except Crash:
            with file.open("ab") as stream:
                stream.write(data[: len(data) // 2])
            raise
        super().append(file, data)

    def sync(self, path: Path) -> None:
        self._tick()
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._tick()
        super().rename(source, target)

    def remove(self, folder: Path) -> None:
        self._tick()
        super().remove(folder)


def fill(step: int):  # type: ignore[no-untyped-def]
    def write(folder: Path) -> None:
        (folder / "policy").mkdir()
        (folder / "policy" / "model.bytes").write_bytes(bytes([step]) * 1000)
        (folder / "optimizer.bytes").write_bytes(bytes([step]) * 10)

    return write


def store(folder: Path, keep_last: int = 2, disk: Disk | None = None) -> CheckpointStore:
    return CheckpointStore(folder, keep_last=keep_last, disk=disk)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*step_*"))


def test_a_saved_checkpoint_is_the_latest_with_its_state(tmp_path: Path) -> None:
    folder = store(tmp_path).save(7, {"cursor": 3}, fill(7))
    found = store(tmp_path).latest()
    assert found is not None
    assert (found.folder, found.step, found.state) == (folder, 7, {"cursor": 3})
    assert {path.name for path in folder.iterdir()} >= {"policy", "state.json", "MANIFEST.json", "COMMITTED"}


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = store(tmp_path, keep_last=2)
    for step, score in ((1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3), (5, 0.4)):
        checkpoints.save(step, {}, fill(step), score=score)
    assert names(tmp_path) == ["step_00000002", "step_00000004", "step_00000005"]
    assert checkpoints.best() == "step_00000002"
    rows = list(read_rows(tmp_path / "checkpoints.jsonl"))
    assert [row["step"] for row in rows if row["status"] == "saved"] == [1, 2, 3, 4, 5]
    assert {row["folder"] for row in rows if row["status"] == "pruned"} == {"step_00000001", "step_00000003"}


def test_going_back_forgets_a_best_that_is_taken_again(tmp_path: Path) -> None:
    checkpoints = store(tmp_path, keep_last=5)
    for step, score in ((1, 0.5), (2, 0.2), (3, 0.9)):
        checkpoints.save(step, {}, fill(step), score=score)
    checkpoints.forget_after(2)
    assert checkpoints.best() == "step_00000001"


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "COMMITTED").unlink(),
        lambda folder: (folder / "MANIFEST.json").write_text("{}"),
        lambda folder: (folder / "policy" / "model.bytes").write_bytes(b"short"),
        lambda folder: (folder / "policy" / "model.bytes").unlink(),
        lambda folder: (folder / "state.json").write_text('{"cursor": 4}'),
        lambda folder: (folder / "foreign").write_text("?"),
    ],
    ids=["no marker", "other manifest", "changed file", "missing file", "changed state", "extra file"],
)
def test_a_broken_checkpoint_is_skipped_and_named(tmp_path: Path, harm) -> None:  # type: ignore[no-untyped-def]
    checkpoints = store(tmp_path)
    checkpoints.save(1, {}, fill(1))
    broken = checkpoints.save(2, {}, fill(2))
    harm(broken)
    with pytest.raises(CorruptCheckpointError, match="step_00000002"):
        read_checkpoint(broken)
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1
    row = list(read_rows(tmp_path / "checkpoints.jsonl"))[-1]
    assert (row["folder"], row["status"]) == ("step_00000002", "broken")


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    folder = store(tmp_path).save(1, {"cursor": 3}, fill(1))
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        original = file.read_bytes()
        for position in range(0, len(original), max(1, len(original) // 7)):
            changed = bytearray(original)
            changed[position] ^= 1
            file.write_bytes(bytes(changed))
            with pytest.raises(CorruptCheckpointError):
                read_checkpoint(folder)
        file.write_bytes(original)
    assert read_checkpoint(folder).step == 1


def test_a_newer_format_is_refused_by_number(tmp_path: Path) -> None:
    from blake3 import blake3

    folder = store(tmp_path).save(1, {}, fill(1))
    manifest = json.loads((folder / "MANIFEST.json").read_text()) | {"format": 9}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "COMMITTED").write_text(blake3((folder / "MANIFEST.json").read_bytes()).hexdigest())
    with pytest.raises(CorruptCheckpointError, match="format 9"):
        read_checkpoint(folder)


def test_a_crash_at_any_disk_operation_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    """F8: for every operation of a save, dying there costs at most the checkpoint being written."""
    survived, at = [], 0
    while True:
        folder = tmp_path / str(at)
        for step in (1, 2):
            store(folder).save(step, {"step": step}, fill(step), score=-step)
        try:
            store(folder, disk=CrashingDisk(at)).save(3, {"step": 3}, fill(3), score=-3.0)
        except Crash:
            found = store(folder).latest()
            assert found is not None
            assert found.state == {"step": found.step}
            assert found.step in (2, 3)
            survived.append(found.step)
            # and the next run cleans up and goes on
            again = store(folder)
            again.forget_after(found.step)
            again.save(4, {"step": 4}, fill(4))
            latest = again.latest()
            assert latest is not None
            assert latest.step == 4
            assert not list(folder.glob(".step_*"))
            at += 1
        else:
            break
    assert survived == sorted(survived), "once the new checkpoint is visible it stays so"
    assert set(survived) == {2, 3}


def test_a_step_saved_again_replaces_the_broken_one(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    checkpoints.save(1, {}, fill(1))
    broken = checkpoints.save(2, {}, fill(2))
    (broken / "COMMITTED").unlink()
    checkpoints.forget_after(1)
    checkpoints.save(2, {"again": True}, fill(2))
    found = checkpoints.latest()
    assert found is not None
    assert found.state == {"again": True}


def test_a_broken_newest_does_not_push_out_the_good_one(tmp_path: Path) -> None:
    checkpoints = store(tmp_path, keep_last=1)
    checkpoints.save(5, {}, fill(5))
    broken = checkpoints.save(10, {}, fill(10))
    assert names(tmp_path) == ["step_00000010"]
    (broken / "COMMITTED").unlink()
    checkpoints.forget_after(0)
    checkpoints.save(6, {}, fill(6))
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 6
