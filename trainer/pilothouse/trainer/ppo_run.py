"""Brings an online PPO run together: models, services, run directory, server, signals; and resumes it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog
import torch

from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, WeightsClient
from pilothouse.errors import ConfigError, DivergedRunError
from pilothouse.models.text import TextCodec
from pilothouse.trainer.checkpoint import Checkpoint, CheckpointStore
from pilothouse.trainer.control import RunControl, StopSignals
from pilothouse.trainer.data.encode import EncodedPrompt, encode_prompts
from pilothouse.trainer.data.records import read_prompts
from pilothouse.trainer.durable import keep_rows_until
from pilothouse.trainer.learner_files import load_models, read_learner
from pilothouse.trainer.ledger import Ledger
from pilothouse.trainer.ledger_report import verify_ledger
from pilothouse.trainer.loop import Crew, Observer, PpoLoop, Record, RunResult
from pilothouse.trainer.metrics import MetricsLog
from pilothouse.trainer.overlap import AsyncRollouts
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.prompts import PromptCursor
from pilothouse.trainer.publisher import Publisher
from pilothouse.trainer.rollout import SyncRollouts, Workshop
from pilothouse.trainer.run_config import PpoRunConfig, ServicesConfig
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.servicer import serving

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Clients:
    """The services that a run talks to."""

    policy: PolicyClient
    weights: WeightsClient
    reward: RewardClient
    reference: ReferenceClient

    @classmethod
    @contextmanager
    def connected(cls, config: ServicesConfig) -> Iterator["Clients"]:
        """Makes the clients; connects when they are first used."""
        timeout = config.call_timeout_seconds
        with ExitStack() as stack:
            yield cls(
                stack.enter_context(PolicyClient(config.policy, timeout_seconds=timeout)),
                stack.enter_context(WeightsClient(config.weights, timeout_seconds=timeout)),
                stack.enter_context(RewardClient(config.reward, timeout_seconds=timeout)),
                stack.enter_context(ReferenceClient(config.reference, timeout_seconds=timeout)),
            )

    def patience(self, config: ServicesConfig, observer: Observer) -> Patience:
        """Returns who waits for them."""
        services = {
            "policy": self.policy,
            "weights": self.weights,
            "reward": self.reward,
            "reference": self.reference,
        }
        return Patience(services, wait_seconds=config.wait_seconds, on_wait=observer.on_wait)


def run_ppo(config: PpoRunConfig, observer: Observer | None = None) -> RunResult:
    """Runs online PPO to its end, going on from the newest checkpoint if there is one.

    Call it from the main thread to have Ctrl-C and SIGTERM save before they end the run.

    Args:
        config: The run.
        observer: Is told how it goes.

    Raises:
        ConfigError: A setting cannot work.
        RunInUseError: Another process writes to the run directory.
        DivergedRunError: The run directory's parts do not belong together.
        RunStoppedError: A gate ended the run.
        UnavailableError: A service did not come back; nothing is lost.
    """
    observer = observer or Observer()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    control = RunControl(config.run.name, "ppo", config.total_steps)
    signals = StopSignals(control)
    with ExitStack() as stack:
        stack.enter_context(signals.installed())
        run_dir = stack.enter_context(RunDir(config.run.folder / config.run.name))
        stack.enter_context(serving(control, config.server))
        clients = stack.enter_context(Clients.connected(config.services))
        loop = stack.enter_context(prepared(config, run_dir, clients, control, signals, observer))
        return loop.run()


@contextmanager
def prepared(
    config: PpoRunConfig,
    run_dir: RunDir,
    clients: Clients,
    control: RunControl,
    signals: StopSignals,
    observer: Observer,
) -> Iterator[PpoLoop]:
    """Loads or restores everything and yields the loop, ready to run; ends what it started on exit.

    Raises:
        ConfigError, DivergedRunError, UnavailableError: As `run_ppo`.
    """
    run = config.run
    checkpoints = CheckpointStore(run_dir.checkpoints_folder, keep_last=run.keep_last)
    checkpoint = checkpoints.latest()
    if not run.resume and (checkpoint or run_dir.ledger_file.exists()):
        raise ConfigError(f"{run_dir.folder} holds a run; set run.resume = true or choose another run.name")
    if changed := run_dir.write_config(config):
        _log.warning("settings differ from those the run had before", keys=changed)
    policy, value = load_models(config, checkpoint.folder if checkpoint else None)
    prompts = load_prompts(config, policy.codec)
    cursor = PromptCursor(prompts, config.seed)
    learner = PpoLearner(policy, value, config)
    patience = clients.patience(config.services, observer)
    learner.epoch = run_dir.take_epoch(above=patience.call("policy", clients.policy.model).epoch)
    with (
        Ledger(run_dir.ledger_file) as ledger,
        MetricsLog(
            run_dir.metrics_file, tensorboard=run_dir.tensorboard_folder if run.tensorboard else None
        ) as metrics,
    ):
        record = Record(run_dir=run_dir, ledger=ledger, metrics=metrics, checkpoints=checkpoints)
        redone = restore(config, record, checkpoint, learner, cursor)
        observer.on_start(learner.updates, config.total_steps, checkpoint is not None, redone)
        for row in metrics.rows():
            control.add_row(
                row.pop("step"), {name: number for name, number in row.items() if number is not None}
            )
        control.update(step=learner.updates, epoch=learner.epoch)
        publisher = Publisher(
            learner,
            weights=clients.weights,
            policy=clients.policy,
            patience=patience,
            probes=[prompt.tokens for prompt in prompts[: config.publish.probes]],
            run=run.name,
            config=config.publish,
        )
        workshop = Workshop(
            config=config,
            cursor=cursor,
            policy=clients.policy,
            reward=clients.reward,
            reference=clients.reference,
            patience=patience,
            publisher=publisher,
            ledger=ledger,
        )
        rollouts = SyncRollouts(workshop) if config.rollout.mode == "sync" else AsyncRollouts(workshop)
        crew = Crew(
            learner=learner,
            rollouts=rollouts,
            publisher=publisher,
            cursor=cursor,
            codec=policy.codec,
            pretraining=lambda step: (),
        )
        try:
            yield PpoLoop(config, crew, record, control=control, signals=signals, observer=observer)
        finally:
            rollouts.close()


def load_prompts(config: PpoRunConfig, codec: TextCodec) -> list[EncodedPrompt]:
    """Reads and encodes the run's prompts.

    Raises:
        ConfigError: No file is named.
        InvalidDataError: A record cannot be used, or no prompt is left.
    """
    rollout = config.rollout
    if not rollout.prompts:
        raise ConfigError(
            "ppo.rollout.prompts names no file; give a JSONL or Parquet file with a prompt column"
        )
    encoded = encode_prompts(
        read_prompts(rollout.prompts), codec, max_tokens=rollout.max_prompt_tokens, overlong=rollout.overlong
    )
    if encoded.dropped or encoded.truncated:
        _log.warning("long prompts", dropped=encoded.dropped, truncated=encoded.truncated)
    return encoded.items


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
        DivergedRunError: The ledger does not reach the checkpoint, or prompts or seed have changed.
        CorruptCheckpointError: The checkpoint does not fit models or settings.
    """
    run_dir, ledger = record.run_dir, record.ledger
    former = verify_ledger(run_dir.ledger_file)
    step = checkpoint.step if checkpoint else 0
    if former.steps < step or former.problems:
        problems = former.problems or [f"it ends at step {former.steps}"]
        raise DivergedRunError(
            f"{run_dir.ledger_file} does not match checkpoint {step}: {problems[0]}; restore the file that "
            "belongs to the checkpoint, or start a new run from its policy"
        )
    if checkpoint:
        read_learner(checkpoint.folder, learner)
        cursor.load_state(dict(checkpoint.state["cursor"]))
    redone = record.metrics.restore(step)
    keep_rows_until(run_dir.samples_file, step)
    record.checkpoints.forget_after(step)
    rollout = config.rollout
    ledger.start(
        run=config.run.name,
        mode=rollout.mode,
        max_staleness=config.max_staleness,
        samples_per_prompt=rollout.samples_per_prompt,
    )
    if checkpoint or former.draws:
        ledger.rewind(step=step, next_draw=cursor.next_draw, epoch=learner.epoch, why="resumed")
        name = checkpoint.folder.name if checkpoint else "none"
        _log.info("resumed", checkpoint=name, step=step, epoch=learner.epoch, redone_steps=redone)
    return redone
