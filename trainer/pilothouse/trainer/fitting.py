"""Supervised training with checkpoints: data order, optimiser, metrics, resume. The task gives the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from blake3 import blake3
from torch import Tensor

from pilothouse.errors import ConfigError, CorruptCheckpointError
from pilothouse.trainer.checkpoint import Checkpoint, CheckpointStore
from pilothouse.trainer.control import Saved
from pilothouse.trainer.fit_config import FitConfig
from pilothouse.trainer.fit_run import FitRun, StoppedOnRequest
from pilothouse.trainer.identity import Identity, check_identity, identity
from pilothouse.trainer.ppo.optimiser import Optimiser, learning_rate
from pilothouse.trainer.ppo.ragged import OneRank
from pilothouse.trainer.progress import Progress, silent

_MAY_CHANGE = {"output", "resume", "accept_changes", "epochs", "checkpoint_every_steps"} | {
    "tensorboard",
    "server",
    "evaluate_every_steps",
    "data",  # what the files hold is in the task's digest
    "evaluation_data",
    "normalise_with",
    "dialogues",
    "members",
    "member_bootstrap",
    "std_factor",
}
"""Settings that may change between two parts of one run, see `pilothouse.trainer.identity`."""

Metrics = dict[str, float]
"""Values by TRL's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learned."""

    name: str
    """For messages: ``sft`` or ``reward_model``."""
    parameters: Mapping[str, Tensor]
    """Those that learn, by name."""
    lengths: Sequence[int]
    """Tokens of every record."""
    digest: str
    """Of the data that decide the result, so that a resume notices others."""
    backward: Callable[[list[int]], Metrics]
    """Adds the gradients of one batch, given as record numbers; returns its metrics, ``loss`` among them."""
    evaluate: Callable[[], Metrics] | None = None
    """Metrics on held-out data, named ``eval_...``."""
    choose: Callable[[Metrics], float] | None = None
    """Score of an evaluation, higher is better: the best weights are the result. None: the last are."""


class Fit:
    """One training run in one folder."""

    def __init__(self, config: FitConfig, task: Task, run: FitRun) -> None:
        self._config, self._task, self._run = config, task, run
        self._store = CheckpointStore(run.run_dir.checkpoints_folder, keep_last=1)
        per_epoch = -(-len(task.lengths) // config.batch_size)
        self.total_steps = config.epochs * per_epoch
        self._per_epoch = per_epoch
        self._optimiser = Optimiser(config.optimiser, task.parameters, total_steps=self.total_steps)
        self._tokens = 0
        self._best: tuple[float, dict[str, Tensor]] | None = None

    def run(self, progress: Progress = silent) -> Metrics:
        """Trains to the end and leaves the chosen weights in the parameters.

        Returns:
            The metrics of the last step, with those of the last evaluation.

        Raises:
            StoppedOnRequest: A signal or a caller asked for the end; a checkpoint was written before.
            KeyboardInterrupt: A second signal came.
            NonFiniteLossError: A gradient is NaN or infinite.
            ConfigError: The folder holds a longer run.
            DivergedRunError: The checkpoint belongs to other settings or data.
            CorruptCheckpointError: It belongs to another model.
        """
        step, metrics, control = self._resume(), Metrics(), self._run.control
        with self._run.signals.installed():
            if step == self.total_steps:
                last = (row for _, row in control.rows(-1))  # none where its log has gone
                metrics = Metrics(*last) | self._evaluate()
            while step < self.total_steps and control.between_steps(partial(self._save, step)):
                metrics = self._step(step)
                step += 1
                if self._evaluates_after(step):
                    metrics |= self._evaluate()
                self._run.metrics.write(step, metrics)
                control.add_row(step, metrics)
                progress(step, self.total_steps, metrics)
                if step % self._config.checkpoint_every_steps == 0:
                    self._save(step)
            # Of a finished run too: called again it has nothing to do, or epochs to add.
            checkpoint, step = self._save(step)
            if control.stopping:
                raise StoppedOnRequest(self._run.run_dir.folder / checkpoint, step)
        if self._best is not None:
            self._restore(self._best[1])
        return metrics

    def _step(self, step: int) -> Metrics:
        rows = self._rows(step)
        metrics = self._task.backward(rows)
        norm = self._optimiser.apply(step, section=f"{self._task.name}.optimiser", ranks=OneRank())
        self._tokens += sum(self._task.lengths[row] for row in rows)
        return metrics | {
            "grad_norm": norm,
            "learning_rate": learning_rate(self._config.optimiser, step, self.total_steps),
            "num_tokens": float(self._tokens),
            "epoch": (step + 1) / self._per_epoch,
        }

    def _rows(self, step: int) -> list[int]:
        """Returns the records of a step: a function of the seed and the step alone."""
        epoch, index = divmod(step, self._per_epoch)
        sequence = np.random.SeedSequence(self._config.seed, spawn_key=(epoch,))
        order = np.random.Generator(np.random.Philox(sequence)).permutation(len(self._task.lengths))
        size = self._config.batch_size
        return [int(row) for row in order[index * size : (index + 1) * size]]

    def _evaluates_after(self, step: int) -> bool:
        every = self._config.evaluate_every_steps
        return step == self.total_steps or (every is not None and step % every == 0)

    def _evaluate(self) -> Metrics:
        if self._task.evaluate is None:
            return {}
        metrics = self._task.evaluate()
        if self._task.choose is not None:
            score = self._task.choose(metrics)
            if self._best is None or score > self._best[0]:
                self._best = (score, {name: p.detach().clone() for name, p in self._task.parameters.items()})
        return metrics

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._task.parameters.items():
                parameter.copy_(tensors[name])

    def _identity(self) -> Identity:
        # Where weights are chosen by their evaluation, when that happens decides the result.
        kept = set() if self._task.choose is None else {"evaluate_every_steps"}
        return identity(self._config, _MAY_CHANGE - kept, data=self._task.digest, task=self._task.name)

    def _save(self, step: int) -> Saved:
        """Writes a checkpoint of the state after a step, unless there is one already, and returns it."""
        saved = self._run.saved
        if saved is not None and saved[1] == step:
            return saved

        def write(folder: Path) -> None:
            save = safetensors.torch.save_file
            save(
                {name: p.detach().contiguous() for name, p in self._task.parameters.items()},
                folder / "weights.safetensors",
            )
            save(self._optimiser.state(), folder / "optimiser.safetensors")
            if self._best is not None:
                save(self._best[1], folder / "best.safetensors")

        best = None if self._best is None else self._best[0]
        state = {"step": step, "tokens": self._tokens, "best": best, "identity": dict(self._identity())}
        return self._note_saved(self._store.save(step, state, write), step)

    def _note_saved(self, folder: Path, step: int) -> Saved:
        saved = (self._run.run_dir.relative(folder), step)
        self._run.saved = saved
        self._run.control.update(checkpoint=saved[0])
        return saved

    def _resume(self) -> int:
        """Restores the newest checkpoint and returns its step; 0 without one."""
        run, checkpoint = self._run, self._store.latest() if self._config.resume else None
        if checkpoint is not None:
            if checkpoint.step > self.total_steps:
                raise ConfigError(
                    f"{run.run_dir.folder} holds a run of {checkpoint.step} steps, more than the "
                    f"{self.total_steps} asked for; raise {self._task.name}.epochs, choose another output "
                    "folder, or start anew with resume = false"
                )
            self._load(checkpoint)
            self._note_saved(checkpoint.folder, checkpoint.step)
        run.run_dir.write_config(self._config)
        step = checkpoint.step if checkpoint else 0
        self._store.forget_after(step)  # a later one would outlive those that are now written
        run.metrics.restore(step)
        run.control.update(total_steps=self.total_steps)
        run.control.restored(step, run.metrics.rows(), epoch=0)
        return step

    def _load(self, checkpoint: Checkpoint) -> None:
        check_identity(
            checkpoint,
            self._identity(),
            accept=self._config.accept_changes,
            flag=f"{self._task.name}.accept_changes",
            anew="choose another output folder, start anew with resume = false",
        )
        state, load = checkpoint.state, safetensors.torch.load_file
        weights = load(checkpoint.folder / "weights.safetensors")
        parameters = self._task.parameters
        if {name: t.shape for name, t in weights.items()} != {
            name: p.shape for name, p in parameters.items()
        }:
            raise CorruptCheckpointError(
                f"{checkpoint.folder} holds other parameters than those that learn now; restore model and "
                "trainable_layers, or start anew with resume = false"
            )
        self._restore(weights)
        self._optimiser.load_state(load(checkpoint.folder / "optimiser.safetensors"))
        self._tokens = int(state["tokens"])
        if state["best"] is not None:
            self._best = (float(state["best"]), load(checkpoint.folder / "best.safetensors"))


def require_data(config: FitConfig, section: str) -> None:
    """Refuses a configuration without data.

    Raises:
        ConfigError: ``data`` is empty.
    """
    if not config.data:
        raise ConfigError(
            f"{section}.data names no file; set it, for example --set '{section}.data=[\"data.jsonl\"]'"
        )


def data_digest(rows: Sequence[Sequence[np.ndarray[Any, Any]]]) -> str:
    """Returns a BLAKE3 digest, in order, of every record's integers: its tokens and what they are for."""
    hasher = blake3()
    for group in rows:
        for row in group:
            hasher.update(np.ascontiguousarray(row, dtype="<i4").tobytes() + b"\0")
    return hasher.hexdigest()
