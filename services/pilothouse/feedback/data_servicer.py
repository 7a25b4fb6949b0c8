"""The calls of FeedbackService that measure, export and import."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
from sqlalchemy.orm import Session

from pilothouse.errors import InvalidDataError, InvalidRequestError
from pilothouse.feedback.codec import RATER_STATE_NUMBERS, name
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.formats.contents import in_part
from pilothouse.feedback.formats.exporting import DataSet, export
from pilothouse.feedback.formats.importing import read
from pilothouse.feedback.formats.located import Limits
from pilothouse.feedback.formats.manifest import Agreement
from pilothouse.feedback.formats.options import ExportOptions, FileFormat, Format, Split
from pilothouse.feedback.measures import Measures
from pilothouse.feedback.quality.intervals import Estimate
from pilothouse.feedback.quality.judgements import judgement
from pilothouse.feedback.quality.report import QualityReport, RaterQuality, measure, weights
from pilothouse.feedback.records import DemonstrationRecord, RankingRecord
from pilothouse.feedback.store import events, people, progress, reading
from pilothouse.feedback.store.importing import add_rankings
from pilothouse.feedback.store.people import Person
from pilothouse.feedback.store.queues import check_queue
from pilothouse.v1 import feedback_pb2 as pb
from pilothouse.v1 import feedback_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_WATCH_SECONDS = 0.5
_FORMATS = {
    pb.EXPORT_FORMAT_RANKING: Format.RANKING,
    pb.EXPORT_FORMAT_PREFERENCE: Format.PREFERENCE,
    pb.EXPORT_FORMAT_PREFERENCE_IMPLICIT: Format.PREFERENCE_IMPLICIT,
    pb.EXPORT_FORMAT_UNPAIRED: Format.UNPAIRED,
    pb.EXPORT_FORMAT_DEMONSTRATION: Format.DEMONSTRATION,
    pb.EXPORT_FORMAT_LABEL_STUDIO: Format.LABEL_STUDIO,
    pb.EXPORT_FORMAT_ARGILLA: Format.ARGILLA,
}
_FILES = {pb.FILE_FORMAT_JSONL: FileFormat.JSONL, pb.FILE_FORMAT_PARQUET: FileFormat.PARQUET}
_SPLITS = {
    pb.SPLIT_UNSPECIFIED: Split.ALL,
    pb.SPLIT_TRAIN: Split.TRAIN,
    pb.SPLIT_HELD_OUT: Split.HELD_OUT,
}


class DataServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """Measures, exports and imports. Catches no errors."""

    def __init__(
        self, database: Database, config: FeedbackConfig, measures: Measures, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._config = config
        self._measures = measures
        self._now = clock

    async def ListRaters(self, request: pb.ListRatersRequest, context: Context) -> pb.ListRatersResponse:  # noqa: D102
        report = await self._measures.fresh(request.queue)
        return pb.ListRatersResponse(raters=await self._raters(report, request.queue))

    async def GetQuality(self, request: pb.GetQualityRequest, context: Context) -> pb.GetQualityResponse:  # noqa: D102
        report = await self._measures.fresh(request.queue)
        return pb.GetQualityResponse(
            rankings=report.rankings,
            overlapping_tasks=report.overlapping_tasks,
            alpha=_estimate(report.alpha),
            pair_agreement=_estimate(report.pair_agreement),
            tau=_estimate(report.tau),
            gold_accuracy=_estimate(report.gold_accuracy),
            top_by_position=report.top_by_position,
            longer_preferred=_estimate(report.longer_preferred),
            raters=await self._raters(report, request.queue),
        )

    async def WatchFeedback(  # noqa: D102
        self, request: pb.WatchFeedbackRequest, context: Context
    ) -> AsyncIterator[pb.WatchFeedbackResponse]:
        told = None
        while True:
            now = await self._database.read(progress.progress, request.queue)
            if now != told:
                told = now
                yield pb.WatchFeedbackResponse(
                    rankings=now.rankings, demonstrations=now.demonstrations, open_tasks=now.open_tasks
                )
            await asyncio.sleep(_WATCH_SECONDS)

    async def Export(  # noqa: D102
        self, request: pb.ExportRequest, context: Context
    ) -> AsyncIterator[pb.ExportResponse]:
        options = _options(request)
        rankings, demonstrations = await self._database.read(_everything, request.queue)
        found = await asyncio.to_thread(_data_set, rankings, demonstrations, options)
        await self._database.write(
            events.record,
            "export",
            target=request.queue,
            detail=f"{options.format}, {len(rankings)} rankings",
            now=self._now(),
        )
        yield pb.ExportResponse(manifest=found.manifest)
        for file in found.files:
            for chunk in file.chunks:
                yield pb.ExportResponse(chunk=pb.FileChunk(name=file.name, data=chunk))

    async def Import(  # noqa: D102
        self, requests: AsyncIterator[pb.ImportRequest], context: Context
    ) -> pb.ImportResponse:
        first: pb.ImportRequest | None = None
        data = bytearray()
        async for request in requests:
            first = first or request
            data += request.data
            if len(data) > self._config.max_import_bytes:
                raise InvalidRequestError(
                    f"the file is larger than {self._config.max_import_bytes} bytes "
                    "(feedback.max_import_bytes); import it in parts"
                )
        if first is None:
            raise InvalidDataError("nothing was sent; send the settings, then the file")
        file_format, limits = _file_format(first.file_format), self._limits()
        queue, format = name(first.queue, "queue"), _format(first.format)
        rankings = await asyncio.to_thread(lambda: list(read(bytes(data), format, file_format, limits)))
        added = await self._database.write(add_rankings, queue, rankings, now=self._now())
        return pb.ImportResponse(tasks=added.tasks, rankings=added.rankings, known=added.known)

    def _limits(self) -> Limits:
        return Limits(
            max_bytes=self._config.max_import_bytes, max_text_characters=self._config.max_text_characters
        )

    async def _raters(self, report: QualityReport, queue: str) -> list[pb.RaterReport]:
        everyone = await self._database.read(people.list_people)
        skips = await self._database.read(progress.skips_by_rater, queue)
        measured = {each.rater: each for each in report.raters}
        return [
            _rater(person, measured.get(person.pseudonym), skips.get(person.id, 0)) for person in everyone
        ]


def _everything(session: Session, queue: str) -> tuple[list[RankingRecord], list[DemonstrationRecord]]:
    check_queue(session, queue)
    return list(reading.rankings(session, queue=queue)), list(reading.demonstrations(session, queue=queue))


def _data_set(
    rankings: Sequence[RankingRecord], demonstrations: Sequence[DemonstrationRecord], options: ExportOptions
) -> DataSet:
    """Measures the raters, weighs what they said by it, and exports it: all of one moment.

    Raters are weighed by all that they said, the agreement is that of the part which is exported.
    """
    report = measure([judgement(record) for record in rankings])
    trust = weights(report)
    return export(
        [replace(record, weight=trust[record.rater]) for record in rankings],
        [replace(record, weight=trust.get(record.rater, 1.0)) for record in demonstrations],
        options,
        agreement=_agreement(_report_of_part(report, rankings, options)),
    )


def _report_of_part(
    report: QualityReport, rankings: Sequence[RankingRecord], options: ExportOptions
) -> QualityReport:
    if options.split is Split.ALL:
        return report
    return measure([judgement(record) for record in rankings if in_part(record.prompt, options)])


def _rater(person: Person, measured: RaterQuality | None, skips: int) -> pb.RaterReport:
    message = pb.RaterReport(
        rater=person.id,
        pseudonym=person.pseudonym,
        state=RATER_STATE_NUMBERS[person.state],
        skips=skips,
    )
    if measured is None:
        for field in ("agreement", "gold_accuracy", "reliability", "drift", "first_position_rate"):
            setattr(message, field, math.nan)
        return message
    message.rankings = measured.rankings
    message.agreement, message.gold_accuracy = measured.agreement, measured.gold_accuracy
    message.reliability, message.drift = measured.reliability, measured.drift
    message.first_position_rate, message.median_seconds = (
        measured.first_position_rate,
        measured.median_seconds,
    )
    message.suspicions.extend(measured.suspicions)
    return message


def _estimate(estimate: Estimate) -> pb.Estimate:
    return pb.Estimate(value=estimate.value, low=estimate.low, high=estimate.high)


def _agreement(report: QualityReport) -> Agreement:
    return {
        "alpha": report.alpha,
        "pair_agreement": report.pair_agreement,
        "kendall_tau": report.tau,
        "gold_accuracy": report.gold_accuracy,
    }


def _options(request: pb.ExportRequest) -> ExportOptions:
    if request.split not in _SPLITS:
        raise InvalidRequestError("split is unknown; give SPLIT_TRAIN or SPLIT_HELD_OUT, or leave it out")
    return ExportOptions(
        format=_format(request.format),
        file_format=_file_format(request.file_format),
        conversational=request.conversational,
        split=_SPLITS[request.split],
        held_out_percent=request.held_out_percent,
    )


def _format(number: pb.ExportFormat) -> Format:
    if number not in _FORMATS:
        raise InvalidRequestError("format is not set; give one, for example EXPORT_FORMAT_RANKING")
    return _FORMATS[number]


def _file_format(number: pb.FileFormat) -> FileFormat:
    if number not in _FILES:
        raise InvalidRequestError("file_format is not set; give FILE_FORMAT_JSONL or FILE_FORMAT_PARQUET")
    return _FILES[number]
