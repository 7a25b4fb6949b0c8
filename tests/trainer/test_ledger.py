import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.trainer.data.encode import EncodedPrompt
from pilothouse.trainer.ledger import Ledger, batch_digest
from pilothouse.trainer.ledger_report import LedgerReport, verify_ledger
from pilothouse.trainer.prompts import PromptCursor

PER_STEP = 3


class Run:
    """Writes the ledger that a loop would write, and can crash."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.cursor = PromptCursor([EncodedPrompt(f"p{n}", np.array([n + 3], np.int32)) for n in range(5)], 0)
        self.step, self.epoch, self.committed = 0, 1, 0
        self.ledger = Ledger(file)
        self.ledger.start(run="test", mode="sync", max_staleness=0, samples_per_prompt=1)

    def take_step(self, *, upto: int = 99, salt: int = 0) -> None:
        """Does the first ``upto`` writes of a step."""
        names: list[str] = []

        def draw() -> None:
            draws = self.cursor.draw(PER_STEP)
            self.ledger.drawn(draws)
            names.extend(name for item in draws for name in item.sample_ids(1))

        number = self.step + 1
        digest = f"{number}-{salt}"
        actions = [
            draw,
            lambda: self.ledger.generated({name: [(self.epoch, self.step, 4)] for name in names}),
            lambda: self.ledger.scored(names, "r1"),
            lambda: self.ledger.referenced(names, "d1"),
            lambda: self.ledger.trained(number, names, version=self.step, digest=digest),
            lambda: self.ledger.commit(
                number, epoch=self.epoch, version=number, next_draw=self.cursor.next_draw
            ),
        ]
        for action in actions[:upto]:
            action()
        if upto >= len(actions):
            self.step, self.committed = number, self.cursor.next_draw

    def crash_and_resume(self, step: int) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.file)
        self.step, self.epoch = step, self.epoch + 1
        self.cursor.next_draw = self.committed = step * PER_STEP
        self.ledger.start(run="test", mode="sync", max_staleness=0, samples_per_prompt=1)
        self.ledger.rewind(step=step, next_draw=self.cursor.next_draw, epoch=self.epoch, why="resumed")


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rewrite(file: Path, items: list[dict[str, object]]) -> LedgerReport:
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return verify_ledger(file)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "ledger.jsonl")
    yield run
    run.ledger.close()


def test_an_unbroken_run_uses_every_sample_once(run: Run) -> None:
    for _ in range(4):
        run.take_step()
    report = verify_ledger(run.file)
    assert report.ok, report.problems
    assert (report.steps, report.draws, report.trained, report.in_flight) == (4, 12, 12, 0)


def test_a_step_under_way_is_in_flight_not_lost(run: Run) -> None:
    run.take_step()
    run.take_step(upto=2)
    report = verify_ledger(run.file)
    assert report.ok, report.problems
    assert (report.trained, report.in_flight) == (3, 3)


@settings(deadline=None)
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=8
    )
)
def test_crashes_at_any_write_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]]
) -> None:
    run = Run(tmp_path_factory.mktemp("run") / "ledger.jsonl")
    for upto, back, torn in moves:
        run.take_step()
        run.take_step(upto=upto)
        with run.file.open("ab") as stream:
            stream.write(b'{"event":"trained","step":99,"samples":["0'[:torn])
        run.crash_and_resume(max(0, run.step - back))
    run.take_step()
    run.ledger.close()
    report = verify_ledger(run.file)
    assert report.ok, report.problems
    assert report.steps == run.step
    assert report.trained == run.step * PER_STEP
    assert report.in_flight == 0
    assert report.rewinds == len(moves)


def test_repeated_steps_are_compared_with_the_first_time(run: Run) -> None:
    for _ in range(3):
        run.take_step()
    run.crash_and_resume(1)
    run.take_step()
    run.take_step(salt=1)
    report = verify_ledger(run.file)
    assert report.ok
    assert (report.repeated_equal, report.repeated_different) == (1, 1)
    assert (report.superseded_steps, report.superseded_samples) == (2, 6)


def test_dropped_samples_are_counted_by_reason(run: Run) -> None:
    draws = run.cursor.draw(1)
    run.ledger.drawn(draws)
    run.ledger.generated({"00000000.0": [(1, 0, 2)]})
    run.ledger.dropped(["00000000.0"], "stale")
    run.take_step()
    report = verify_ledger(run.file)
    assert report.ok, report.problems
    assert report.dropped == {"stale": 1}


def test_a_lost_sample_is_named(run: Run) -> None:
    run.take_step()
    items = rows(run.file)
    trained = next(item for item in items if item["event"] == "trained")
    trained["samples"] = trained["samples"][1:]  # type: ignore[index]
    report = rewrite(run.file, items)
    assert not report.ok
    assert "00000000.0" in report.problems[0]


def test_a_sample_used_twice_is_named(run: Run) -> None:
    run.take_step()
    run.take_step()
    items = rows(run.file)
    second = [item for item in items if item["event"] == "trained"][1]
    second["samples"].append("00000001.0")  # type: ignore[attr-defined]
    report = rewrite(run.file, items)
    assert any("00000001.0 was used twice" in problem for problem in report.problems)


def test_a_missing_row_of_any_kind_is_a_problem(run: Run) -> None:
    run.take_step()
    run.take_step()
    items = rows(run.file)
    for index in range(1, len(items) - 1):
        report = rewrite(run.file, items[:index] + items[index + 1 :])
        assert not report.ok, items[index]


def test_stale_mixed_and_foreign_samples_are_problems(run: Run) -> None:
    run.take_step()
    run.take_step()
    items = rows(run.file)
    generated = [item for item in items if item["event"] == "generated"][1]
    generated["samples"]["00000003.0"] = [[1, 0, 4]]  # type: ignore[index]
    assert any("too stale" in problem for problem in rewrite(run.file, items).problems)

    run.take_step()
    items = rows(run.file)
    scored = next(item for item in items if item["event"] == "referenced")
    scored["reference_digest"] = "other"
    assert any("reference models" in problem for problem in rewrite(run.file, items).problems)


def test_a_checkpoint_beyond_the_ledger_is_a_problem(run: Run) -> None:
    run.take_step()
    run.crash_and_resume(5)
    assert any("never reached" in problem for problem in verify_ledger(run.file).problems)


def test_an_unreadable_ledger_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"event":"unheard of"}\nnot json\n')
    assert not verify_ledger(tmp_path / "ledger.jsonl").ok


def test_batch_digests_see_every_bit_and_shape() -> None:
    array = np.arange(6, dtype=np.float32)
    changed = array.copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    digests = {batch_digest([array]), batch_digest([changed]), batch_digest([array.reshape(2, 3)])}
    assert len(digests) == 3
    assert batch_digest([array]) == batch_digest([array.copy()])
