"""Which records go into an export, and how many they are."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from pilothouse.feedback.formats.judged import Judged, corrections, judge, pair_count
from pilothouse.feedback.formats.options import ExportOptions, Format, Split
from pilothouse.feedback.formats.split import prompt_digest, split_of
from pilothouse.feedback.records import DemonstrationRecord, PromptRecord, RankingRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The records of an export, by id."""

    rankings: tuple[Judged, ...] = ()
    """And corrections; empty in an export of demonstrations."""
    demonstrations: tuple[DemonstrationRecord, ...] = ()
    """And corrections; empty in every other export."""
    conversational: bool
    """Prompts and answers are messages."""
    vetoed_rankings: int = 0
    """Left out because every answer is vetoed."""
    gold_rankings: int = 0
    """Left out because the right ranks were known."""

    @property
    def records(self) -> list[RankingRecord | DemonstrationRecord]:
        """All of them."""
        return [*(item.record for item in self.rankings), *self.demonstrations]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much is in an export."""

    rankings: int
    corrections: int
    demonstrations: int
    """Written from nothing."""
    pairs: int
    """Of answers that are not tied, over rankings and corrections."""
    raters: int
    tasks: int
    prompts: int
    vetoed_rankings: int
    """Left out because every answer is vetoed."""
    gold_rankings: int
    """Left out because the right ranks were known."""


def gather(
    rankings: Iterable[RankingRecord], demonstrations: Iterable[DemonstrationRecord], options: ExportOptions
) -> Contents:
    """Returns what an export holds. Gold tasks are left out: what is said of them measures people.

    A column has one type: where one prompt of all the records is a conversation, or the options ask for it,
    the export is conversational; whichever part of the prompts it is for.
    """
    rankings, demonstrations = list(rankings), list(demonstrations)
    prompts = chain((one.prompt for one in rankings), (one.prompt for one in demonstrations))
    conversational = options.conversational or any(prompt.messages for prompt in prompts)
    rankings = [record for record in rankings if in_part(record.prompt, options)]
    demonstrations = [record for record in demonstrations if in_part(record.prompt, options)]
    if options.format is Format.DEMONSTRATION:
        ordered = sorted(demonstrations, key=lambda record: record.id)
        return Contents(demonstrations=tuple(ordered), conversational=conversational)
    judged = [item for record in rankings if (item := judge(record))]
    kept = [item for item in judged if not item.is_gold]
    return Contents(
        rankings=tuple(
            sorted([*kept, *corrections(demonstrations)], key=lambda item: (item.kind, item.record.id))
        ),
        conversational=conversational,
        vetoed_rankings=len(rankings) - len(judged),
        gold_rankings=len(judged) - len(kept),
    )


def count(contents: Contents) -> Counts:
    """Counts what an export holds."""
    records = contents.records
    mended = [item for item in contents.rankings if item.kind == "correction"]
    written = [record for record in contents.demonstrations if record.corrects is None]
    return Counts(
        rankings=len(contents.rankings) - len(mended),
        corrections=len(mended) + len(contents.demonstrations) - len(written),
        demonstrations=len(written),
        pairs=sum(map(pair_count, contents.rankings)),
        raters=len({record.rater for record in records}),
        tasks=len({record.task for record in records}),
        prompts=len({prompt_digest(record.prompt) for record in records}),
        vetoed_rankings=contents.vetoed_rankings,
        gold_rankings=contents.gold_rankings,
    )


def in_part(prompt: PromptRecord, options: ExportOptions) -> bool:
    """Returns whether a prompt belongs to the part that is asked for."""
    if options.split is Split.ALL:
        return True
    held_out = split_of(prompt, options.held_out_percent) == Split.HELD_OUT
    return held_out == (options.split is Split.HELD_OUT)
