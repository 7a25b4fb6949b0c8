"""Messages of `pilothouse.v1.feedback` to the store's values and back; refuses what no store should see."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.records import ROLES, AnswerRecord, PromptRecord, Source
from pilothouse.feedback.store.claims import Held
from pilothouse.feedback.store.queues import QueueCounts, QueueSettings
from pilothouse.feedback.store.submissions import (
    Content,
    DemonstrationContent,
    RankingContent,
    Said,
    SkipContent,
)
from pilothouse.feedback.store.tasks import TaskRecord
from pilothouse.feedback.tables import Kind, RaterState
from pilothouse.v1 import feedback_pb2 as pb
from pilothouse.v1 import tensor_pb2

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KINDS = {pb.TASK_KIND_RANKING: Kind.RANKING, pb.TASK_KIND_DEMONSTRATION: Kind.DEMONSTRATION}
_KIND_NUMBERS = {kind: number for number, kind in _KINDS.items()}
RATER_STATES = {
    pb.RATER_STATE_ACTIVE: RaterState.ACTIVE,
    pb.RATER_STATE_DISABLED: RaterState.DISABLED,
    pb.RATER_STATE_EXCLUDED: RaterState.EXCLUDED,
}
RATER_STATE_NUMBERS = {state: number for number, state in RATER_STATES.items()}
_MAX_DAY_SECONDS = 86_400.0
_MAX_NAME_CHARACTERS = 80


class Decoder:
    """Reads messages under the service's limits."""

    def __init__(self, max_text_characters: int) -> None:
        self._max_characters = max_text_characters

    def queue(self, settings: pb.QueueSettings) -> QueueSettings:
        """Returns a queue's rules.

        Raises:
            InvalidRequestError: A setting is missing or out of range.
        """
        if settings.kind not in _KINDS:
            raise InvalidRequestError("settings.kind is not set; give TASK_KIND_RANKING or _DEMONSTRATION")
        return QueueSettings(
            name=name(settings.name, "settings.name"),
            kind=_KINDS[settings.kind],
            instructions=self.text(settings.instructions, "settings.instructions"),
            overlap=_within(settings.overlap, 1, 100, "settings.overlap"),
            lease_seconds=_within(settings.lease_seconds, 0, 86_400, "settings.lease_seconds"),
            gold_every=_within(settings.gold_every, 0, 1_000, "settings.gold_every"),
            paused=settings.paused,
        )

    def tasks(self, tasks: Iterable[pb.NewTask]) -> list[TaskRecord]:
        """Returns tasks to add.

        Raises:
            InvalidRequestError: A task is malformed, or an id comes twice.
        """
        found = [self._task(task) for task in tasks]
        if len({task.id for task in found}) != len(found):
            raise InvalidRequestError("two tasks of the request have the same id; give each its own")
        return found

    def said(self, request: pb.SubmitRequest) -> Said:
        """Returns a submission.

        Raises:
            InvalidRequestError: It has no content, or a part is out of range.
        """
        if not 8 <= len(request.id) <= 64:
            raise InvalidRequestError("the submission's id must have 8 to 64 characters; use a random one")
        if not 0 <= request.seconds < math.inf:
            raise InvalidRequestError("seconds must be a number from 0; send 0 where it is unknown")
        return Said(
            id=name(request.id, "id"),
            assignment=request.assignment,
            rater=request.rater,
            content=self._content(request),
            comment=self.text(request.comment, "comment"),
            seconds=min(request.seconds, _MAX_DAY_SECONDS),
        )

    def priorities(self, priorities: Mapping[str, float]) -> dict[str, float]:
        """Returns priorities by task id.

        Raises:
            InvalidRequestError: One is not a finite number.
        """
        wrong = next((task for task, value in priorities.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise InvalidRequestError(f"the priority of task '{wrong[:80]}' is no finite number")
        return dict(priorities)

    def person(self, name: str) -> str:
        """Returns a rater's name.

        Raises:
            InvalidRequestError: It is empty, too long, or has characters that cannot be seen.
        """
        tidy = name.strip()
        if not 1 <= len(tidy) <= _MAX_NAME_CHARACTERS or not tidy.isprintable():
            raise InvalidRequestError(f"a name has 1 to {_MAX_NAME_CHARACTERS} printable characters")
        return tidy

    def text(self, text: str, what: str) -> str:
        """Returns a text that is not too long and that a database can hold.

        Raises:
            InvalidRequestError: It is longer than the service takes, or holds a NUL character.
        """
        if len(text) > self._max_characters:
            raise InvalidRequestError(
                f"{what} has {len(text)} characters; the limit is {self._max_characters} "
                "(feedback.max_text_characters)"
            )
        if "\0" in text:
            raise InvalidRequestError(f"{what} holds a NUL character; remove it")
        return text

    def _task(self, task: pb.NewTask) -> TaskRecord:
        where = f"task '{task.id}'"
        answers = tuple(self._answer(answer, where) for answer in task.answers)
        if len({answer.text for answer in answers}) != len(answers):
            raise InvalidRequestError(f"{where} has two answers of the same text; leave one out")
        if not math.isfinite(task.priority):
            raise InvalidRequestError(f"{where} has a priority that is no number")
        gold = tuple(task.gold_ranks)
        if gold and (len(gold) != len(answers) or any(not 1 <= rank <= len(answers) for rank in gold)):
            raise InvalidRequestError(
                f"{where} has {len(gold)} gold ranks for {len(answers)} answers; give one to each, 1 the best"
            )
        return TaskRecord(
            id=name(task.id, "task id"),
            prompt=self._prompt(task.prompt, where),
            answers=answers,
            priority=task.priority,
            gold_ranks=gold,
        )

    def _prompt(self, prompt: pb.FeedbackPrompt, where: str) -> PromptRecord:
        messages = tuple(
            (message.role, self.text(message.content, f"a message of {where}")) for message in prompt.messages
        )
        if bool(prompt.text) == bool(messages):
            raise InvalidRequestError(f"{where} needs a prompt: either a text or messages")
        if any(role not in ROLES for role, _ in messages):
            raise InvalidRequestError(f"a message of {where} has an unknown role; use {', '.join(ROLES)}")
        return PromptRecord(
            text=self.text(prompt.text, f"the prompt of {where}"),
            messages=messages,
            source=self.text(prompt.source, f"the source of {where}"),
        )

    def _answer(self, answer: pb.Answer, where: str) -> AnswerRecord:
        if not answer.text.strip():
            raise InvalidRequestError(f"{where} has an empty answer; leave it out")
        source = answer.source
        if not math.isfinite(source.temperature):
            raise InvalidRequestError(f"{where} has an answer whose temperature is no number")
        return AnswerRecord(
            text=self.text(answer.text, f"an answer of {where}"),
            source=Source(
                model=self.text(source.model, f"a source of {where}"),
                run=self.text(source.run, f"a source of {where}"),
                version=source.version,
                temperature=source.temperature,
                seed=source.seed,
            ),
        )

    def _content(self, request: pb.SubmitRequest) -> Content:
        match request.WhichOneof("content"):
            case "ranking":
                ranking = request.ranking
                return RankingContent(
                    ranks=tuple(ranking.ranks),
                    unsafe=tuple(ranking.unsafe),
                    corrections={
                        place: self.text(text, "a correction")
                        for place, text in sorted(ranking.corrections.items())
                    },
                )
            case "demonstration":
                return DemonstrationContent(text=self.text(request.demonstration.text, "the written answer"))
            case "skip":
                return SkipContent(reason=request.skip.reason)
            case _:
                raise InvalidRequestError("the submission is empty; set ranking, demonstration or skip")


def name(text: str, what: str) -> str:
    """Returns a name that is safe in files, addresses and logs.

    Raises:
        InvalidRequestError: It has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(text):
        raise InvalidRequestError(
            f"{what} must be 1 to 64 letters, digits, '.', '_' or '-', not {text[:80]!r}"
        )
    return text


def queue_message(counts: QueueCounts) -> pb.Queue:
    """Returns a queue's message."""
    settings = counts.settings
    return pb.Queue(
        settings=pb.QueueSettings(
            name=settings.name,
            kind=_KIND_NUMBERS[settings.kind],
            instructions=settings.instructions,
            overlap=settings.overlap,
            lease_seconds=settings.lease_seconds,
            gold_every=settings.gold_every,
            paused=settings.paused,
        ),
        open_tasks=counts.open_tasks,
        done_tasks=counts.done_tasks,
        gold_tasks=counts.gold_tasks,
        leased=counts.leased,
        submissions=counts.submissions,
        skips=counts.skips,
    )


def held_message(held: Held) -> pb.Assignment:
    """Returns what a rater sees of a task: answers in the rater's order, without sources."""
    return pb.Assignment(
        id=held.id,
        task=held.task,
        queue=held.queue,
        kind=_KIND_NUMBERS[held.kind],
        instructions=held.instructions,
        prompt=prompt_message(held.prompt, with_source=False),
        answers=[pb.Answer(id=answer.id, text=answer.text) for answer in held.answers],
        lease_expires_at=held.lease_expires_at,
    )


def prompt_message(prompt: PromptRecord, *, with_source: bool = True) -> pb.FeedbackPrompt:
    """Returns a prompt's message."""
    return pb.FeedbackPrompt(
        text=prompt.text,
        messages=[tensor_pb2.ChatMessage(role=role, content=content) for role, content in prompt.messages],
        source=prompt.source if with_source else "",
    )


def task_messages(tasks: Sequence[TaskRecord]) -> list[pb.NewTask]:
    """Returns the messages of tasks, sources of the answers included."""
    return [
        pb.NewTask(
            id=task.id,
            prompt=prompt_message(task.prompt),
            answers=[
                pb.Answer(
                    id=identity,
                    text=answer.text,
                    source=pb.AnswerSource(
                        model=answer.source.model,
                        run=answer.source.run,
                        version=answer.source.version,
                        temperature=answer.source.temperature,
                        seed=answer.source.seed,
                    ),
                )
                for identity, answer in zip(task.answer_ids, task.answers, strict=True)
            ],
            priority=task.priority,
            gold_ranks=task.gold_ranks,
        )
        for task in tasks
    ]


def _within(value: int, least: int, most: int, what: str) -> int:
    if not least <= value <= most:
        raise InvalidRequestError(f"{what} must be {least} to {most}, not {value}")
    return value
