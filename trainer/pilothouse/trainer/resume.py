"""Going on from a checkpoint: learner, cursor, ledger, metrics and samples, all at the same step again."""

from pathlib import Path

import structlog

from pilothouse.errors import DivergedRunError
from pilothouse.trainer.checkpoint import Checkpoint
from pilothouse.trainer.durable import keep_rows_until
from pilothouse.trainer.learner_files import read_learner
from pilothouse.trainer.ledger_report import LedgerReport, verify_ledger
from pilothouse.trainer.loop import Record
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.prompts import PromptCursor
from pilothouse.trainer.run_config import PpoRunConfig

_log = structlog.get_logger(__name__)


def restore(
    config: PpoRunConfig,
    record: Record,
    checkpoint: Checkpoint | None,
    learner: PpoLearner,
    cursor: PromptCursor,
) -> int:
    """Brings learner, cursor and record back to a checkpoint, or to the start, and says so.

    Returns:
        Steps that were taken after the checkpoint, and are taken again.

    Raises:
        DivergedRunError: The ledger does not reach the checkpoint.
        CorruptCheckpointError: The checkpoint does not fit models or settings.
    """
    run_dir, step = record.run_dir, checkpoint.step if checkpoint else 0
    former = verify_ledger(run_dir.ledger_file)
    _check_ledger(former, step, run_dir.ledger_file)
    if checkpoint:
        read_learner(checkpoint.folder, learner)
        cursor.load_state(dict(checkpoint.state["cursor"]))
    redone = record.metrics.restore(step)
    keep_rows_until(run_dir.samples_file, step)
    record.checkpoints.forget_after(step)
    record.ledger.start(
        run=config.run.name,
        mode=config.rollout.mode,
        max_staleness=config.max_staleness,
        samples_per_prompt=config.rollout.samples_per_prompt,
    )
    if checkpoint or former.draws:
        record.ledger.rewind(step=step, next_draw=cursor.next_draw, epoch=learner.epoch, why="resumed")
        name = checkpoint.folder.name if checkpoint else "none"
        _log.info("resumed", checkpoint=name, step=step, epoch=learner.epoch, redone_steps=redone)
    return redone


def _check_ledger(former: LedgerReport, step: int, file: Path) -> None:
    """Demands a sound ledger that reaches the checkpoint."""
    problems = former.problems or ([f"it ends at step {former.steps}"] if former.steps < step else [])
    if problems:
        raise DivergedRunError(
            f"{file} does not match checkpoint {step}: {problems[0]}; restore the file that belongs to the "
            "checkpoint, or start a new run from its policy"
        )
