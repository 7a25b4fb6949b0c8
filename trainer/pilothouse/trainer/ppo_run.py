"""Brings an online PPO run together: models, services, run directory, server, signals; and resumes it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import structlog
import torch

from pilothouse.errors import ConfigError, DivergedRunError
from pilothouse.models.memory import keep_freed_memory
from pilothouse.models.text import TextCodec
from pilothouse.trainer.checkpoint import CheckpointStore
from pilothouse.trainer.clients import Clients
from pilothouse.trainer.control import RunControl, StopSignals
from pilothouse.trainer.data.encode import EncodedPrompt, encode_prompts
from pilothouse.trainer.data.records import read_prompts
from pilothouse.trainer.identity import check_identity, identity
from pilothouse.trainer.learner_files import load_models
from pilothouse.trainer.ledger import Ledger
from pilothouse.trainer.loop import Crew, Observer, PpoLoop, Record, RunResult
from pilothouse.trainer.metrics import MetricsLog
from pilothouse.trainer.overlap import AsyncRollouts
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.pretraining import Pretraining
from pilothouse.trainer.prompts import PromptCursor
from pilothouse.trainer.publisher import Publisher
from pilothouse.trainer.ranks.leader import Alone, Order, leading
from pilothouse.trainer.resume import restore
from pilothouse.trainer.rollout import SyncRollouts, Workshop
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.servicer import serving
from pilothouse.trainer.token_ids import check_services
from pilothouse.trainer.trainer_lease import NoLease, TrainerLease, held_lease

_log = structlog.get_logger(__name__)

_MAY_CHANGE: dict[str, bool | set[str]] = {
    "total_steps": True,
    "gates": True,
    "ranks": True,
    "run": True,
    "services": True,
    "server": True,
    "publish": {"read_back_tolerance_nats", "probes", "max_probe_tokens"},
    "rollout": {"prompts"},  # what the files hold has a digest
    "pretraining": {"texts"},
}
"""Settings that may change between two parts of one run, see `pilothouse.trainer.identity`."""


def run_ppo(config: PpoRunConfig, observer: Observer | None = None) -> RunResult:
    """Runs online PPO to its end, going on from the newest checkpoint if there is one.

    Among several ranks this is rank 0's part, see `pilothouse.trainer.ranks`.

    Call it from the main thread to have Ctrl-C and SIGTERM save before they end the run. The process keeps
    the memory that it frees from here on, see `pilothouse.models.memory.keep_freed_memory`.

    Args:
        config: The run.
        observer: Is told how it goes.

    Raises:
        ConfigError: A setting cannot work.
        RunInUseError: Another process writes to the run directory.
        DivergedRunError: The run directory's parts do not belong together, or not to these settings and data.
        RunStoppedError: A gate ended the run.
        UnavailableError: A service did not come back, or a rank was lost; nothing else is lost.
    """
    observer = observer or Observer()
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    control = RunControl(config.run.name, "ppo", config.total_steps)
    observer.on_control(control)
    signals = StopSignals(control)
    with ExitStack() as stack:
        stack.enter_context(signals.installed())
        stack.enter_context(serving(control, config.server))
        # Ranks meet first: those of a trainer that waits for the lease are kept in touch with meanwhile.
        leader = stack.enter_context(leading(config, control.request_stop))
        lease = stack.enter_context(held_lease(config.lease, lambda: control.stopping))
        if lease is None:
            control.finish(None, "it was stopped while another trainer held the lease")
            raise KeyboardInterrupt
        run_dir = stack.enter_context(RunDir(config.run.folder / config.run.name))
        clients = stack.enter_context(Clients.connected(config))
        loop = stack.enter_context(
            prepared(config, run_dir, clients, control, signals, observer, leader=leader, lease=lease)
        )
        result = loop.run()
        leader.end(Order.FINISHED if result.state == "finished" else Order.STOPPED)
        return result


@contextmanager
def prepared(
    config: PpoRunConfig,
    run_dir: RunDir,
    clients: Clients,
    control: RunControl,
    signals: StopSignals,
    observer: Observer,
    *,
    leader: Alone | None = None,
    lease: TrainerLease | None = None,
) -> Iterator[PpoLoop]:
    """Loads or restores everything and yields the loop, ready to run; ends what it started on exit.

    Raises:
        ConfigError, DivergedRunError, UnavailableError: As `run_ppo`.
    """
    run, leader = config.run, leader or Alone()
    checkpoints = CheckpointStore(run_dir.checkpoints_folder, keep_last=run.keep_last)
    checkpoint = checkpoints.latest()
    if not run.resume and (checkpoint or run_dir.ledger_file.exists()):
        raise ConfigError(
            f"{run_dir.folder} holds a run; set ppo.run.resume = true or choose another ppo.run.name"
        )
    if checkpoint is None and checkpoints.folders():
        raise DivergedRunError(
            f"no checkpoint in {run_dir.checkpoints_folder} can be read (the log says why); restore one, or "
            "move the folder of the run away to start again from nothing"
        )
    policy, value = load_models(config, checkpoint.folder if checkpoint else None)
    cursor = PromptCursor(load_prompts(config, policy.codec), config.seed)
    pretraining = Pretraining.load(config, policy.codec) if config.pretraining_coefficient else None
    texts = pretraining.digest if pretraining else ""
    size = str(leader.ranks.size)  # changes rounding
    now = identity(config, _MAY_CHANGE, prompts=cursor.digest, pretraining_texts=texts, number_of_ranks=size)
    if checkpoint:
        anew = "choose another ppo.run.name"
        check_identity(checkpoint, now, accept=run.accept_changes, flag="ppo.run.accept_changes", anew=anew)
    lease = lease or NoLease()
    patience = clients.patience(config.services, observer.on_wait, lease)
    served_epoch = _reach_services(clients, patience, policy.codec, config.model)
    run_dir.write_config(config)
    learner = PpoLearner(policy, value, config, ranks=leader.ranks)
    learner.epoch = run_dir.take_epoch(above=max(served_epoch, lease.epoch))
    patience.call("lease", partial(lease.note_epoch, learner.epoch))
    tensorboard = run_dir.tensorboard_folder if run.tensorboard else None
    with (
        Ledger(run_dir.ledger_file) as ledger,
        MetricsLog(run_dir.metrics_file, tensorboard=tensorboard) as metrics,
    ):
        record = Record(
            run_dir=run_dir, ledger=ledger, metrics=metrics, checkpoints=checkpoints, identity=now
        )
        redone = restore(config, record, checkpoint, learner, cursor)
        leader.share(learner)
        observer.on_start(learner.updates, config.total_steps, checkpoint is not None, redone)
        control.restored(learner.updates, metrics.rows(), epoch=learner.epoch)
        control.update(checkpoint=run_dir.relative(checkpoint.folder) if checkpoint else "")
        crew = _crew(
            config, clients, patience, learner, leader, policy.codec, cursor, pretraining, ledger, lease
        )
        with closing(crew):
            yield PpoLoop(
                config,
                crew,
                record,
                control=control,
                signals=signals,
                observer=observer,
                checkpoint=checkpoint,
            )


def _reach_services(clients: Clients, patience: Patience, codec: TextCodec, model: str) -> int:
    """Makes sure that every service answers and has the policy's tokenizer; returns the newest epoch.

    Raises:
        ConfigError: A service has another tokenizer.
        UnavailableError: A service did not come up in time.
    """
    states = patience.call("weights", clients.weights.states)  # a policy may be waiting for its weights
    reward = patience.call("reward", clients.reward.model)
    reference = patience.call("reference", clients.reference.model)
    for state in states:
        check_services(codec, model, state, reward, reference)
    return max(max(state.epoch, state.fence) for state in states)


def _crew(
    config: PpoRunConfig,
    clients: Clients,
    patience: Patience,
    learner: PpoLearner,
    leader: Alone,
    codec: TextCodec,
    cursor: PromptCursor,
    pretraining: Pretraining | None,
    ledger: Ledger,
    lease: TrainerLease,
) -> Crew:
    publisher = Publisher(
        learner,
        weights=clients.weights,
        policy=clients.policy,
        patience=patience,
        lease=lease,
        probes=cursor.probes(config.publish.probes, codec.eos_id),
        run=config.run.name,
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
    return Crew(
        learner=learner,
        leader=leader,
        rollouts=SyncRollouts(workshop) if config.rollout.mode == "sync" else AsyncRollouts(workshop),
        publisher=publisher,
        cursor=cursor,
        codec=codec,
        pretraining=pretraining,
    )


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
    return encoded.told("prompts")
