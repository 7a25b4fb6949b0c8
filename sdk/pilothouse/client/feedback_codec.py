"""Messages of the feedback service to the client's dataclasses and back."""

from collections.abc import Sequence
from typing import Any

from pilothouse.client.base import sendable
from pilothouse.client.feedback_types import (
    AnswerSource,
    Assignment,
    Estimate,
    ExportFormat,
    FeedbackAnswer,
    FeedbackTask,
    FileFormat,
    Quality,
    Queue,
    QueueSettings,
    Ranking,
    RaterReport,
    RaterState,
    Skip,
    Split,
    TaskKind,
    WrittenAnswer,
)
from pilothouse.client.policy_codec import chat_message
from pilothouse.client.types import Chat
from pilothouse.errors import InvalidRequestError, ProtocolError
from pilothouse.v1 import feedback_pb2 as pb

KINDS: dict[TaskKind, Any] = {
    "ranking": pb.TASK_KIND_RANKING,
    "demonstration": pb.TASK_KIND_DEMONSTRATION,
}
STATES: dict[RaterState, Any] = {
    "active": pb.RATER_STATE_ACTIVE,
    "disabled": pb.RATER_STATE_DISABLED,
    "excluded": pb.RATER_STATE_EXCLUDED,
}
ADJUSTMENTS: dict[str, Any] = {"veto": pb.ADJUSTMENT_KIND_VETO, "flag": pb.ADJUSTMENT_KIND_FLAG}
FORMATS: dict[ExportFormat, Any] = {
    "ranking": pb.EXPORT_FORMAT_RANKING,
    "preference": pb.EXPORT_FORMAT_PREFERENCE,
    "preference-implicit": pb.EXPORT_FORMAT_PREFERENCE_IMPLICIT,
    "unpaired": pb.EXPORT_FORMAT_UNPAIRED,
    "demonstration": pb.EXPORT_FORMAT_DEMONSTRATION,
    "label-studio": pb.EXPORT_FORMAT_LABEL_STUDIO,
    "argilla": pb.EXPORT_FORMAT_ARGILLA,
}
FILES: dict[FileFormat, Any] = {"jsonl": pb.FILE_FORMAT_JSONL, "parquet": pb.FILE_FORMAT_PARQUET}
SPLITS: dict[Split, Any] = {
    "all": pb.SPLIT_UNSPECIFIED,
    "train": pb.SPLIT_TRAIN,
    "held-out": pb.SPLIT_HELD_OUT,
}


def number(table: dict[Any, Any], name: str, what: str) -> Any:
    """Returns the wire's number of a name.

    Raises:
        InvalidRequestError: There is no such name.
    """
    if name not in table:
        raise InvalidRequestError(f"{what} '{name}' is unknown; give one of {', '.join(table)}")
    return table[name]


@sendable()
def put_queue_request(settings: QueueSettings) -> pb.PutQueueRequest:
    """Returns the request of PutQueue."""
    return pb.PutQueueRequest(
        settings=pb.QueueSettings(
            name=settings.name,
            kind=number(KINDS, settings.kind, "kind"),
            instructions=settings.instructions,
            overlap=settings.overlap,
            lease_seconds=settings.lease_seconds,
            gold_every=settings.gold_every,
            paused=settings.paused,
        )
    )


@sendable()
def add_tasks_request(queue: str, tasks: Sequence[FeedbackTask]) -> pb.AddTasksRequest:
    """Returns the request of AddTasks."""
    return pb.AddTasksRequest(queue=queue, tasks=[_task_message(task) for task in tasks])


@sendable()
def submit_request(
    id: str,
    assignment: str,
    rater: str,
    content: Ranking | WrittenAnswer | Skip,
    comment: str,
    seconds: float,
) -> pb.SubmitRequest:
    """Returns the request of Submit."""
    request = pb.SubmitRequest(id=id, assignment=assignment, rater=rater, comment=comment, seconds=seconds)
    if isinstance(content, Ranking):
        ranking = pb.RankingSubmission(
            ranks=content.ranks, unsafe=content.unsafe, corrections=dict(content.corrections)
        )
        request.ranking.CopyFrom(ranking)
    elif isinstance(content, WrittenAnswer):
        request.demonstration.text = content.text
    else:
        request.skip.reason = content.reason
    return request


def queue(message: pb.Queue) -> Queue:
    """Returns a queue."""
    settings = message.settings
    return Queue(
        settings=QueueSettings(
            name=settings.name,
            kind=_name(KINDS, settings.kind),
            instructions=settings.instructions,
            overlap=settings.overlap,
            lease_seconds=settings.lease_seconds,
            gold_every=settings.gold_every,
            paused=settings.paused,
        ),
        open_tasks=message.open_tasks,
        done_tasks=message.done_tasks,
        gold_tasks=message.gold_tasks,
        leased=message.leased,
        submissions=message.submissions,
        skips=message.skips,
    )


def assignment(message: pb.Assignment) -> Assignment:
    """Returns a task in a rater's hands."""
    return Assignment(
        id=message.id,
        task=message.task,
        queue=message.queue,
        kind=_name(KINDS, message.kind),
        instructions=message.instructions,
        prompt=_prompt(message.prompt),
        answers=tuple(FeedbackAnswer(text=answer.text, id=answer.id) for answer in message.answers),
        lease_expires_at=message.lease_expires_at,
    )


def task(message: pb.NewTask) -> FeedbackTask:
    """Returns a task as it is listed."""
    return FeedbackTask(
        id=message.id,
        prompt=_prompt(message.prompt),
        answers=tuple(
            FeedbackAnswer(
                text=answer.text,
                id=answer.id,
                source=AnswerSource(
                    model=answer.source.model,
                    run=answer.source.run,
                    version=answer.source.version,
                    temperature=answer.source.temperature,
                    seed=answer.source.seed,
                ),
            )
            for answer in message.answers
        ),
        priority=message.priority,
        gold_ranks=tuple(message.gold_ranks),
        source=message.prompt.source,
    )


def rater(message: pb.RaterReport) -> RaterReport:
    """Returns what is known of a rater."""
    return RaterReport(
        rater=message.rater,
        pseudonym=message.pseudonym,
        state=_name(STATES, message.state),
        rankings=message.rankings,
        skips=message.skips,
        agreement=message.agreement,
        gold_accuracy=message.gold_accuracy,
        reliability=message.reliability,
        drift=message.drift,
        first_position_rate=message.first_position_rate,
        suspicions=tuple(message.suspicions),
        median_seconds=message.median_seconds,
    )


def quality(message: pb.GetQualityResponse) -> Quality:
    """Returns agreement, bias and raters."""
    return Quality(
        rankings=message.rankings,
        overlapping_tasks=message.overlapping_tasks,
        alpha=_estimate(message.alpha),
        pair_agreement=_estimate(message.pair_agreement),
        tau=_estimate(message.tau),
        gold_accuracy=_estimate(message.gold_accuracy),
        top_by_position=tuple(message.top_by_position),
        longer_preferred=_estimate(message.longer_preferred),
        raters=tuple(rater(report) for report in message.raters),
    )


def _task_message(task: FeedbackTask) -> pb.NewTask:
    message = pb.NewTask(id=task.id, priority=task.priority, gold_ranks=task.gold_ranks)
    message.prompt.source = task.source
    if isinstance(task.prompt, str):
        message.prompt.text = task.prompt
    else:
        message.prompt.messages.extend(chat_message(turn) for turn in task.prompt)
    message.answers.extend(
        _answer_message(FeedbackAnswer(text=answer) if isinstance(answer, str) else answer)
        for answer in task.answers
    )
    return message


def _answer_message(answer: FeedbackAnswer) -> pb.Answer:
    source = answer.source
    return pb.Answer(
        text=answer.text,
        source=pb.AnswerSource(
            model=source.model,
            run=source.run,
            version=source.version,
            temperature=source.temperature,
            seed=source.seed,
        ),
    )


def _prompt(message: pb.FeedbackPrompt) -> str | Chat:
    if message.text:
        return message.text
    return tuple((turn.role, turn.content) for turn in message.messages)


def _estimate(message: pb.Estimate) -> Estimate:
    return Estimate(message.value, message.low, message.high)


def _name(table: dict[Any, Any], number: int) -> Any:
    for name, value in table.items():
        if value == number:
            return name
    raise ProtocolError(
        "the feedback service sent a value that this client does not know; upgrade the client"
    )
