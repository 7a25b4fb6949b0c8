"""Alarms of over-optimisation: what a policy does when it has found out how to please its reward model.

A reward model is a proxy. Pushed far enough, its score goes on rising while the answers get worse (Gao et al.
2023, "Scaling laws for reward model overoptimization"); on the way they often get longer, repeat themselves
or stop ending. Each step's samples are watched for that, and compared with a *gold* reward model, which was
trained on rankings that the proxy has not seen.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from pydantic import Field

from pilothouse.cli.output import null_for_nan
from pilothouse.config import Config
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.control import RunControl
from pilothouse.trainer.durable import append_rows, read_rows, write_atomic
from pilothouse.trainer.loop import Observer
from pilothouse.trainer.samples import Sample

_log = structlog.get_logger(__name__)

GoldScores = Callable[[Sequence[Tokens]], Floats]
"""Scores [B] of whole sequences under the gold reward model."""


class GuardConfig(Config):
    """Limits past which a run is paused. None turns one off."""

    window_steps: int = Field(default=5, ge=1)
    """Means are taken over the last so many steps, and compared with the first so many."""
    kl_nats: float | None = Field(default=None, gt=0)
    """Largest KL to the reference per response. (`ppo.gates.kl_budget_nats` ends a run; this pauses it.)"""
    length_factor: float | None = Field(default=2.0, gt=1)
    """Largest growth of the mean response length."""
    repetition_share: float | None = Field(default=0.5, gt=0, le=1)
    """Largest share of a response's trigrams of tokens that it has had before."""
    eos_share: float | None = Field(default=0.2, ge=0, lt=1)
    """Smallest share of responses that end by themselves, where more than that did at first."""
    gold_fall: float | None = Field(default=0.5, gt=0)
    """Largest fall of the gold score below its best window while the proxy's rises, in standard deviations of
    the gold scores of the first window."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A limit that was passed."""

    name: str
    """``kl``, ``length``, ``repetition``, ``eos`` or ``gold``."""
    step: int
    message: str
    """What happened, and what would mend it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One step's samples in numbers."""

    step: int
    kl_nats: float
    length: float
    repetition: float
    eos_share: float
    proxy: float
    """Mean score of the reward service."""
    gold: float
    """Mean score of the gold model; nan without one."""
    gold_deviation: float
    """Standard deviation of the batch's gold scores; nan without one."""


class Guards(Observer):
    """Watches a PPO run and pauses it at the first alarm; resumed, each alarm stays quiet for a window.

    Give it to `pilothouse.trainer.ppo_run.run_ppo`; wrap another observer to have that told too.
    """

    def __init__(
        self, config: GuardConfig, inner: Observer, file: Path, gold: GoldScores | None = None
    ) -> None:
        """Prepares to watch.

        Args:
            config: The limits.
            inner: Is told everything too.
            file: Where readings are kept, so that a run that goes on is compared with its own beginning.
            gold: The held-out judge; None for none.
        """
        self._config, self._inner, self._file, self._gold = config, inner, file, gold
        self._control: RunControl | None = None
        self._first: list[Reading] = []
        self._recent: deque[Reading] = deque(maxlen=config.window_steps)
        self._best_gold: tuple[float, float] | None = None
        """(gold, proxy) means of the window with the best gold score."""
        self._quiet_until: dict[str, int] = {}
        self.alarms: list[Alarm] = []
        """All so far, oldest first."""
        self.readings: list[Reading] = []
        """All so far, oldest first."""

    def on_control(self, control: RunControl) -> None:  # noqa: D102
        self._control = control
        self._inner.on_control(control)

    def on_start(self, step: int, total_steps: int, resumed: bool, redone: int) -> None:
        """Takes in what was read up to this step; a run that was ended while paused is paused again."""
        self._inner.on_start(step, total_steps, resumed, redone)
        rows = [row for row in read_rows(self._file) if row["step"] <= step]
        write_atomic(self._file, b"")
        append_rows(self._file, rows)  # later ones are of steps that are taken anew
        for row in rows:
            known: dict[str, Any] = {name: np.nan if one is None else one for name, one in row.items()}
            self.alarms += self.watch(Reading(**known))
        if self.alarms and self.alarms[-1].step == step:
            self._pause(self.alarms[-1])

    def on_wait(self, service: str, seconds_left: float) -> None:  # noqa: D102
        self._inner.on_wait(service, seconds_left)

    def on_checkpoint(self, folder: Path, step: int) -> None:  # noqa: D102
        self._inner.on_checkpoint(folder, step)

    def on_step(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Reads the step's samples, and pauses the run where a limit is passed."""
        self._inner.on_step(step, metrics, samples)
        reading = self._read(step, metrics, samples)
        append_rows(self._file, [null_for_nan(reading)])
        for alarm in self.watch(reading):
            self.alarms.append(alarm)
            _log.warning("alarm", name=alarm.name, step=alarm.step, message=alarm.message)
            self._pause(alarm)

    def watch(self, reading: Reading) -> list[Alarm]:
        """Takes in one step and returns the alarms that it raises."""
        self.readings.append(reading)
        self._recent.append(reading)
        if len(self._first) < self._config.window_steps:
            self._first.append(reading)
            return []
        found = [
            Alarm(name, reading.step, message)
            for name, message in self._problems()
            if self._quiet_until.get(name, 0) <= reading.step
        ]
        for alarm in found:
            self._quiet_until[alarm.name] = reading.step + self._config.window_steps
        return found

    def _pause(self, alarm: Alarm) -> None:
        if self._control is not None:
            self._control.pause(alarm.message)

    def _problems(self) -> list[tuple[str, str]]:
        config, found = self._config, []
        kl, length = _mean(self._recent, "kl_nats"), _mean(self._recent, "length")
        repetition, endings = _mean(self._recent, "repetition"), _mean(self._recent, "eos_share")
        if config.kl_nats is not None and kl > config.kl_nats:
            found.append(
                ("kl", f"KL is {kl:.1f} nats a response, the limit {config.kl_nats:g}; raise ppo.kl.beta")
            )
        start = _mean(self._first, "length")
        if config.length_factor is not None and length > config.length_factor * start:
            found.append(
                (
                    "length",
                    f"responses have grown from {start:.0f} to {length:.0f} tokens; look at samples, and "
                    "whether people prefer longer answers (`pilothouse feedback quality`)",
                )
            )
        if config.repetition_share is not None and repetition > config.repetition_share:
            found.append(
                (
                    "repetition",
                    f"{repetition:.0%} of the trigrams of a response repeat earlier ones; look at samples, "
                    "and collect rankings of such answers",
                )
            )
        if config.eos_share is not None and endings < config.eos_share <= _mean(self._first, "eos_share"):
            found.append(
                (
                    "eos",
                    f"only {endings:.0%} of the responses end by themselves; raise "
                    "ppo.rollout.max_new_tokens, or set ppo.scores.missing_eos_score",
                )
            )
        gold = self._gold_problem()
        return [*found, ("gold", gold)] if gold else found

    def _gold_problem(self) -> str:
        """Says how far the gold score has fallen while the proxy rose; empty for not too far."""
        limit, gold, proxy = self._config.gold_fall, _mean(self._recent, "gold"), _mean(self._recent, "proxy")
        if limit is None or np.isnan(gold):
            return ""
        if self._best_gold is None:
            self._best_gold = _mean(self._first, "gold"), _mean(self._first, "proxy")
        best, proxy_then = self._best_gold
        if gold >= best:
            self._best_gold = gold, proxy
            return ""
        fall = (best - gold) / max(_mean(self._first, "gold_deviation"), 1e-6)
        if fall <= limit or proxy <= proxy_then:
            return ""
        return (
            f"the reward rose from {proxy_then:.2f} to {proxy:.2f} while the held-out gold model's score "
            f"fell by {fall:.2f} deviations: the policy exploits the reward model; stop here, collect "
            "rankings of the new answers, or use an ensemble"
        )

    def _read(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> Reading:
        gold = (
            self._gold([sample.answer.sequence for sample in samples]) if self._gold else np.array([np.nan])
        )
        return Reading(
            step=step,
            kl_nats=metrics["objective/kl"],
            length=metrics["response/length"],
            repetition=float(np.mean([repetition(sample.answer.completion.tokens) for sample in samples])),
            eos_share=metrics["response/eos_share"],
            proxy=metrics["objective/scores"],
            gold=float(np.mean(gold)),
            gold_deviation=float(np.std(gold)),
        )


def repetition(tokens: Tokens, n: int = 3) -> float:
    """Returns the share of the n-grams of a sequence that it has had before; 0 where it is too short.

    Args:
        tokens: int32 [C].
        n: Tokens of one n-gram.
    """
    grams = [tuple(tokens[start : start + n].tolist()) for start in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _mean(readings: Sequence[Reading] | deque[Reading], name: str) -> float:
    return float(np.mean([getattr(reading, name) for reading in readings]))
