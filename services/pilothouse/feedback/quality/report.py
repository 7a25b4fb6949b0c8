"""Everything that is measured about a crowd's rankings, and the weights of its raters in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality import raters
from pilothouse.feedback.quality.agreement import kendall_tau, pair_agreement
from pilothouse.feedback.quality.alpha import alpha
from pilothouse.feedback.quality.bias import gold_accuracy, gold_pairs, longer_preferred
from pilothouse.feedback.quality.consensus import TYPICAL, fit
from pilothouse.feedback.quality.intervals import Estimate
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.position import chance_by_position, position_bias, top_by_position
from pilothouse.feedback.quality.suspects import Suspicion, find_suspects
from pilothouse.feedback.quality.table import Table, tabulate


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterQuality:
    """What is known of one rater; nan where nothing is."""

    rater: str
    rankings: int
    agreement: float
    """Share of pairs ordered as the others' consensus orders them."""
    gold_accuracy: float
    """Share of gold pairs ordered right, a tie counting half."""
    reliability: float
    """Of the consensus model, 0 for random answers, 1 for a perfect rater."""
    drift: float
    """Change of agreement from the first half of the work to the second."""
    first_position_rate: float
    """Share of rankings in which the first answer shown is at the top, ties shared."""
    suspicions: tuple[Suspicion, ...]
    """Why this rater looks unreliable; empty for none."""
    median_seconds: float
    """Median time of a ranking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """What is known of a crowd; nan where something is undefined.

    Alpha, agreement, tau and the bias of length leave gold tasks out: everybody answers them, and their
    answers were made to be told apart.
    """

    rankings: int
    """Rankings measured."""
    overlapping_tasks: int
    """Tasks with at least two rankings, gold ones not counted."""
    alpha: Estimate
    """Krippendorff's alpha for ordinal data."""
    pair_agreement: Estimate
    """Share of pairs that two raters put in the same order, over pairs that neither ties."""
    tau: Estimate
    """Mean Kendall tau-b of two raters of a task."""
    gold_accuracy: Estimate
    """Share of gold pairs ordered right, a tie counting half."""
    top_by_position: tuple[float, ...]
    """Share of rankings with each shown position at the top, ties shared; empty where no order is known."""
    chance_by_position: tuple[float, ...]
    """What those shares are if nobody minds positions."""
    position_p_value: float
    """Chance of tops so uneven or more if nobody minds positions."""
    longer_preferred: Estimate
    """Share of untied pairs in which the longer answer was preferred."""
    raters: tuple[RaterQuality, ...]
    """By name."""


def measure(judgements: Sequence[Judgement]) -> QualityReport:
    """Measures a crowd. The same judgements give the same report, in whatever order they come.

    Raises:
        ValueError: Two judgements of a task have different numbers of answers.
    """
    table = tabulate(judgements)
    ordinary = tabulate([item for item in judgements if not item.gold])
    return QualityReport(
        rankings=len(table.task),
        overlapping_tasks=int((np.bincount(ordinary.task) > 1).sum()),
        alpha=alpha(ordinary),
        pair_agreement=pair_agreement(ordinary),
        tau=kendall_tau(ordinary),
        gold_accuracy=gold_accuracy(table),
        top_by_position=top_by_position(table),
        chance_by_position=chance_by_position(table),
        position_p_value=position_bias(table),
        longer_preferred=longer_preferred(ordinary),
        raters=_raters(table),
    )


def weights(report: QualityReport) -> dict[str, float]:
    """Returns how much each rater's rankings count in training, in [0, 1].

    The reliability; 0 for suspected raters, and what is typical for raters with whom nobody can be compared.
    """
    return {
        each.rater: 0.0 if each.suspicions else TYPICAL if np.isnan(each.reliability) else each.reliability
        for each in report.raters
    }


def _raters(table: Table) -> tuple[RaterQuality, ...]:
    reliability = fit(table).reliability
    findings = find_suspects(table, reliability)
    same, pairs = raters.consensus_pairs(table, findings.others)
    rankings = table.by_rater(np.ones(len(table.task)))
    agreement = raters.share(table, same, pairs)
    gold = raters.share(table, *gold_pairs(table))
    drift = raters.drift(table, same, pairs)
    first = raters.first_position_rate(table)
    seconds = raters.median_seconds(table)
    return tuple(
        RaterQuality(
            rater=name,
            rankings=int(rankings[index]),
            agreement=float(agreement[index]),
            gold_accuracy=float(gold[index]),
            reliability=float(reliability[index]),
            drift=float(drift[index]),
            first_position_rate=float(first[index]),
            suspicions=findings.suspicions[index],
            median_seconds=float(seconds[index]),
        )
        for index, name in enumerate(table.raters)
    )
