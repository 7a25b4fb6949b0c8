"""Reads a sample ledger back and proves, or refutes, that no sample was lost or used twice."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.trainer.durable import read_rows

_MOST_PROBLEMS = 50


@dataclass(slots=True)
class LedgerReport:
    """What a ledger says about its run."""

    steps: int = 0
    """Committed steps that still count."""
    draws: int = 0
    """Prompts drawn that still count."""
    trained: int = 0
    """Samples that a step trained on."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Samples that were dropped, by reason."""
    in_flight: int = 0
    """Samples of the step, or of the rollouts ahead, that was under way at the end of the file."""
    superseded_samples: int = 0
    """Samples that a crash or a stop took back; they were drawn again under the same ids."""
    superseded_steps: int = 0
    """Steps that were taken again."""
    rewinds: int = 0
    """How often the run went on from an earlier point."""
    repeated_equal: int = 0
    """Steps taken again with bit-equal batches."""
    repeated_different: int = 0
    """Steps taken again with other batches; never in sync mode on the same machine and settings."""
    problems: list[str] = field(default_factory=list)
    """What is wrong, at most 50 sentences; empty for a sound ledger."""

    @property
    def ok(self) -> bool:
        """Whether every sample was used exactly once or dropped for a reason."""
        return not self.problems


def verify_ledger(file: Path) -> LedgerReport:
    """Reads a whole ledger and checks every rule that it must keep; never raises on what it finds.

    Rules: draws are numbered without gaps; a sample is drawn, generated, scored and referenced once and in
    this order, then trained in one step or dropped once; steps follow one another; a step's samples are no
    staler than the run allows and share one reward version; all share one reference; nothing below a step's
    cursor is open.
    """
    reader = _Reader()
    try:
        for row in read_rows(file):
            reader.read(row)
    except (ValueError, KeyError, TypeError) as error:
        reader.problem(f"{file} cannot be read on: {error!r}")
    return reader.finish()


@dataclass(slots=True)
class _Life:
    versions: list[int] | None = None
    reward: str | None = None
    reference: str | None = None
    step: int | None = None
    dropped: str | None = None

    @property
    def ended(self) -> bool:
        return self.step is not None or self.dropped is not None


class _Reader:
    """Folds rows into the present state of the run."""

    def __init__(self) -> None:
        self.report = LedgerReport()
        self._lives: dict[str, _Life] = {}
        self._run: dict[str, Any] = {"max_staleness": 0, "samples_per_prompt": 1}
        self._next_draw = 0  # next number to be drawn
        self._cursor = 0  # first draw that no committed step has used
        self._step = 0
        self._trained: dict[int, str] = {}  # batch digest by step
        self._former: dict[int, str] = {}  # of steps since superseded
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "run": self._run_row, "drawn": self._drawn, "generated": self._generated, "scored": self._scored,
            "referenced": self._referenced, "dropped": self._dropped, "trained": self._trained_row,
            "step": self._step_row, "rewind": self._rewind,
        }  # fmt: skip

    def read(self, row: dict[str, Any]) -> None:
        self._handlers[row["event"]](row)

    def problem(self, text: str) -> None:
        if len(self.report.problems) < _MOST_PROBLEMS:
            self.report.problems.append(text)

    def finish(self) -> LedgerReport:
        report = self.report
        report.steps, report.draws = self._step, self._next_draw
        report.trained = sum(life.step is not None for life in self._lives.values())
        report.dropped = Counter(life.dropped for life in self._lives.values() if life.dropped)
        report.in_flight = sum(not life.ended for life in self._lives.values())
        self._check_settled(self._cursor)
        references = {life.reference for life in self._lives.values() if life.step is not None}
        if len(references) > 1:
            self.problem(f"samples were compared with {len(references)} different reference models")
        return report

    def _run_row(self, row: dict[str, Any]) -> None:
        self._run = row

    def _drawn(self, row: dict[str, Any]) -> None:
        for number, _prompt, _seed in row["draws"]:
            if number != self._next_draw:
                self.problem(f"draw {number} came where draw {self._next_draw} was due")
            self._next_draw = number + 1
            for index in range(self._run["samples_per_prompt"]):
                name = f"{number:08d}.{index}"
                if name in self._lives:
                    self.problem(f"sample {name} was drawn twice")
                self._lives[name] = _Life()

    def _generated(self, row: dict[str, Any]) -> None:
        for name, spans in row["samples"].items():
            life = self._life(name)
            if life.versions is not None:
                self.problem(f"sample {name} was generated twice")
            life.versions = [version for _epoch, version, _tokens in spans]

    def _scored(self, row: dict[str, Any]) -> None:
        for name in row["samples"]:
            life = self._life(name)
            if life.reward is not None or life.versions is None:
                self.problem(f"sample {name} was scored twice or before it was generated")
            life.reward = row["reward_version"]

    def _referenced(self, row: dict[str, Any]) -> None:
        for name in row["samples"]:
            life = self._life(name)
            if life.reference is not None or life.versions is None:
                self.problem(f"sample {name} got reference log-probs twice or before it was generated")
            life.reference = row["reference_digest"]

    def _dropped(self, row: dict[str, Any]) -> None:
        for name in row["samples"]:
            life = self._life(name)
            if life.ended:
                self.problem(f"sample {name} was dropped ({row['reason']}) after its end")
            life.dropped = row["reason"]

    def _trained_row(self, row: dict[str, Any]) -> None:
        step = row["step"]
        if step != self._step + 1 or step in self._trained:
            self.problem(f"step {step} was trained where step {self._step + 1} was due")
        self._trained[step] = row["digest"]
        self._compare_with_former(step)
        for name in row["samples"]:
            life = self._life(name)
            if life.ended:
                self.problem(f"sample {name} was used twice: again in step {step}")
            if life.versions is None or life.reward is None or life.reference is None:
                self.problem(f"step {step} trained on sample {name} before it was complete")
            elif row["version"] - min(life.versions) > self._run["max_staleness"]:
                self.problem(f"sample {name} was too stale for step {step}")
            life.step = step
        if len({self._life(name).reward for name in row["samples"]}) > 1:
            self.problem(f"step {step} mixed reward versions")

    def _compare_with_former(self, step: int) -> None:
        former = self._former.pop(step, None)
        if former is not None:
            equal = former == self._trained[step]
            self.report.repeated_equal += equal
            self.report.repeated_different += not equal

    def _step_row(self, row: dict[str, Any]) -> None:
        if row["step"] != self._step + 1 or row["step"] not in self._trained:
            self.problem(f"step {row['step']} was committed where step {self._step + 1} was due")
        self._step = row["step"]
        self._cursor = row["next_draw"]
        self._check_settled(self._cursor)

    def _rewind(self, row: dict[str, Any]) -> None:
        step, next_draw = row["step"], row["next_draw"]
        if step > self._step or next_draw > self._next_draw:
            self.problem(
                f"the run went on from step {step}, draw {next_draw}, which this ledger never reached"
            )
        gone = [name for name in self._lives if _draw_of(name) >= next_draw]
        for name in gone:
            del self._lives[name]
        for later in [known for known in self._trained if known > step]:
            self._former[later] = self._trained.pop(later)
        kept = [name for name, life in self._lives.items() if life.step is not None and life.step > step]
        if kept:
            self.problem(f"{len(kept)} samples of steps after {step} are below the draw it went on from")
        self.report.rewinds += 1
        self.report.superseded_samples += len(gone)
        self.report.superseded_steps += max(0, self._step - step)
        self._step, self._cursor, self._next_draw = step, next_draw, next_draw

    def _check_settled(self, cursor: int) -> None:
        lost = [name for name, life in self._lives.items() if not life.ended and _draw_of(name) < cursor]
        if lost:
            self.problem(f"{len(lost)} samples were lost, the first is {lost[0]}")

    def _life(self, name: str) -> _Life:
        if name not in self._lives:
            self.problem(f"sample {name} was never drawn")
            self._lives[name] = _Life()
        return self._lives[name]


def _draw_of(name: str) -> int:
    return int(name.partition(".")[0])
