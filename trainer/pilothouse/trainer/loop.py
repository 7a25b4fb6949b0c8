"""The online PPO loop. `PpoLoop.step` is the life of one step; everything else here keeps it safe."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import structlog

from pilothouse.errors import NonFiniteWeightsError
from pilothouse.models.text import TextCodec
from pilothouse.published import Published
from pilothouse.trainer.checkpoint import Checkpoint, CheckpointStore
from pilothouse.trainer.control import RunControl, Saved, StepAbandoned, StopSignals
from pilothouse.trainer.durable import append_rows
from pilothouse.trainer.identity import Identity
from pilothouse.trainer.learner_files import POLICY, write_learner
from pilothouse.trainer.ledger import Ledger, batch_digest
from pilothouse.trainer.metrics import CHECKPOINT_SECONDS, VERSION, MetricsLog
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.pretraining import Pretraining
from pilothouse.trainer.prompts import PromptCursor
from pilothouse.trainer.publisher import Publisher, Push
from pilothouse.trainer.ranks.leader import Alone
from pilothouse.trainer.rollout import Rollout, RolloutMaker
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.samples import Sample, as_batch, table_row

_log = structlog.get_logger(__name__)


class Observer:
    """Is told how a run goes, for live displays. Override what is wanted."""

    def on_control(self, control: RunControl) -> None:
        """The run can be paused and stopped through ``control``."""

    def on_start(self, step: int, total_steps: int, resumed: bool, redone: int) -> None:
        """The run begins after ``step``; ``redone`` steps were lost with a crash and are taken again."""

    def on_step(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """A step is done."""

    def on_wait(self, service: str, seconds_left: float) -> None:
        """A lost service is waited for; called about once a second."""
        _log.warning("waiting for service", service=service, seconds_left=round(seconds_left))

    def on_checkpoint(self, folder: Path, step: int) -> None:
        """A checkpoint is durable."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    state: Literal["finished", "stopped"]
    step: int
    """Steps done."""
    checkpoint: Path
    """The last checkpoint, of exactly that step."""
    by_signal: bool = False
    """A signal ended it, and not a client: whoever called it is to end too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Those who do the work of a run; see `pilothouse.trainer.ppo_run.run_ppo` for how they come together."""

    learner: PpoLearner
    leader: Alone
    """Has the other ranks, if there are any, learn along."""
    rollouts: RolloutMaker
    publisher: Publisher
    cursor: PromptCursor
    codec: TextCodec
    pretraining: Pretraining | None
    """Text for the PPO-ptx loss; None without it."""

    def close(self) -> None:
        """Ends rollouts that run ahead."""
        self.rollouts.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept of a run."""

    run_dir: RunDir
    ledger: Ledger
    metrics: MetricsLog
    checkpoints: CheckpointStore
    identity: Identity
    """What a checkpoint is bound to."""


class PpoLoop:
    """Takes PPO steps until the run is finished or is asked to stop."""

    def __init__(
        self,
        config: PpoRunConfig,
        crew: Crew,
        record: Record,
        *,
        control: RunControl,
        signals: StopSignals,
        observer: Observer,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Takes over where things stand.

        Args:
            config: The run.
            crew: Those who work.
            record: What is kept.
            control: Shows the run and takes orders.
            signals: Ctrl-C and SIGTERM.
            observer: Is told how it goes.
            checkpoint: From which the crew was restored.
        """
        self._config = config
        self._crew = crew
        self._record = record
        self._control = control
        self._signals = signals
        self._observer = observer
        self._next_draw = crew.cursor.next_draw
        self._score: float | None = None
        self._saved: Saved | None = None
        self._published = Published(0, 0)
        """What policies that start are told."""
        if checkpoint is not None:
            self._note_saved(checkpoint.folder, checkpoint.step, int(checkpoint.state["epoch"]))
        self._between_steps = True
        """Whether learner and record stand at the end of the same step."""

    def run(self) -> RunResult:
        """Takes all steps that are left.

        Raises:
            PilothouseError: A gate ended the run, or a service did not come back or refused. Unless that was
                amid learning, the state of the last finished step was saved.
        """
        try:
            return self._run()
        except BaseException as error:  # whatever it was: those who wait for the run must hear of its end
            self._control.finish(self._saved, str(error) or type(error).__name__)
            raise

    def step(self) -> None:
        """Publishes, rolls out, learns, records."""
        crew, record, number = self._crew, self._record, self._crew.learner.updates + 1
        started = time.perf_counter()
        with self._signals.abandonable():
            push = self._publish()
            rollout = crew.rollouts.collect()
        batch = as_batch(rollout.samples)
        texts = crew.pretraining.of_step(number) if crew.pretraining else ()
        learning = time.perf_counter()
        self._between_steps = False
        with crew.leader.learning(batch, texts):
            metrics = crew.learner.step(batch, texts)
        record.ledger.trained(number, batch.sample_ids, version=number - 1, digest=_digest(batch))
        self._commit(number, rollout)
        metrics |= rollout.metrics | {
            "time/push_seconds": push.seconds,
            "time/update_seconds": time.perf_counter() - learning,
            "time/step_seconds": time.perf_counter() - started,
            "push/read_back_gap": push.read_back_gap_nats,
        }
        self._note(number, metrics, rollout.samples)

    def _run(self) -> RunResult:
        total = self._config.total_steps
        try:
            while self._crew.learner.updates < total and self._control.between_steps(self.save):
                self.step()
                if self._crew.learner.updates % self._config.run.checkpoint_every_steps == 0:
                    self.save()
        except StepAbandoned:
            _log.info("step abandoned; nothing was learned from it", step=self._crew.learner.updates + 1)
        except Exception as error:
            self._rescue(error)
            raise
        folder, step = self._settle("ended")
        finished = step >= total and not self._control.stopping
        if finished:
            self._publish()  # the policy goes on with what was learned last
        self._control.finish((folder, step))
        state: Literal["finished", "stopped"] = "finished" if finished else "stopped"
        return RunResult(state, step, self._record.run_dir.folder / folder, self._signals.received)

    def save(self) -> Saved:
        """Writes a checkpoint of the last finished step, unless there is one already, and returns it."""
        crew, step = self._crew, self._crew.learner.updates
        if self._saved is not None and self._saved[1] == step:
            return self._saved
        started = time.perf_counter()
        state = {
            "run": self._config.run.name,
            "step": step,
            "epoch": crew.learner.epoch,
            "version": crew.learner.updates,
            "cursor": crew.cursor.state() | {"next_draw": self._next_draw},
            "identity": dict(self._record.identity),
        }
        folder = self._record.checkpoints.save(
            step, state, lambda target: write_learner(target, crew.learner, crew.codec), score=self._score
        )
        seconds = time.perf_counter() - started
        CHECKPOINT_SECONDS.set(seconds)
        saved = self._note_saved(folder, step, crew.learner.epoch)
        _log.info("checkpoint saved", folder=saved[0], seconds=round(seconds, 2))
        self._record.run_dir.write_published(self._published)
        self._control.update(checkpoint=saved[0])
        self._observer.on_checkpoint(folder, step)
        return saved

    def _note_saved(self, folder: Path, step: int, epoch: int) -> Saved:
        name = self._record.run_dir.relative(folder)
        self._saved = (name, step)
        self._published = replace(
            self._published, model=f"{name}/{POLICY}", model_epoch=epoch, model_version=step
        )
        return self._saved

    def _publish(self) -> Push:
        """Brings the weights into the policy."""
        epoch, version = self._crew.learner.version
        self._published = replace(self._published, epoch=epoch, version=version)
        self._record.run_dir.write_published(self._published)  # first: who starts now waits for them
        push = self._crew.publisher.publish()
        VERSION.set(version)
        self._control.update(epoch=epoch, version=version)
        return push

    def _commit(self, step: int, rollout: Rollout) -> None:
        epoch, version = self._crew.learner.version
        self._next_draw = rollout.next_draw
        self._record.ledger.commit(step, epoch=epoch, version=version, next_draw=self._next_draw)

    def _settle(self, why: str) -> Saved:
        """Ends the rollouts, undoes draws from which nothing was learned, and saves."""
        crew = self._crew
        crew.close()
        if crew.cursor.next_draw != self._next_draw:
            self._record.ledger.rewind(
                step=crew.learner.updates, next_draw=self._next_draw, epoch=crew.learner.epoch, why=why
            )
            crew.cursor.next_draw = self._next_draw
        return self.save()

    def _rescue(self, error: Exception) -> None:
        """Saves the last finished step on the way out; must not hide the error that ends the run.

        Not amid a step, where the learner has half moved; not where its own weights are the error.
        """
        sound = self._between_steps and not isinstance(error, NonFiniteWeightsError)
        if not sound or self._crew.learner.updates == 0:
            return
        try:
            self._settle("failed")
        except Exception:
            _log.exception("the last finished step could not be saved", step=self._crew.learner.updates)

    def _note(self, step: int, metrics: dict[str, float], samples: Sequence[Sample]) -> None:
        run = self._config.run
        self._score = metrics.get(run.best_metric)
        self._record.metrics.write(step, metrics)
        if run.samples_per_step and step % run.samples_every_steps == 0:
            decode = self._crew.codec.decode
            chosen = samples[: run.samples_per_step]
            rows = [table_row(step, sample, decode(sample.answer.draw.tokens)) for sample in chosen]
            append_rows(self._record.run_dir.samples_file, rows)
        self._between_steps = True
        self._control.add_row(step, metrics)
        self._observer.on_step(step, metrics, samples)


def _digest(batch: RolloutBatch) -> str:
    return batch_digest(
        [
            *batch.sequences,
            batch.behaviour_logprobs,
            batch.reference_logprobs,
            batch.scores,
            batch.versions,
        ]
    )
