"""Clients of the feedback service."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from pilothouse.client import feedback_codec as codec
from pilothouse.client.base import SyncClient
from pilothouse.client.channels import Security
from pilothouse.client.feedback_files import export_request, import_messages, write_export
from pilothouse.client.feedback_types import (
    Adjustment,
    Assignment,
    ExportFormat,
    FeedbackProgress,
    FeedbackTask,
    FileFormat,
    Imported,
    Invite,
    Quality,
    Queue,
    QueueSettings,
    Ranking,
    RaterReport,
    RaterState,
    Skip,
    Split,
    WrittenAnswer,
)
from pilothouse.errors import DeadlineExceededError
from pilothouse.v1 import feedback_pb2 as pb
from pilothouse.v1 import feedback_pb2_grpc


class FeedbackClient(SyncClient):
    """Collects people's judgements."""

    def __init__(self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = feedback_pb2_grpc.FeedbackServiceStub(self._channel)

    def put_queue(self, settings: QueueSettings) -> Queue:
        """Creates a queue, or changes the settings of the one with this name.

        Raises:
            InvalidRequestError: A setting is out of range, or the queue exists with another kind.
        """
        return codec.queue(self._call(self._stub.PutQueue, codec.put_queue_request(settings)).queue)

    def queues(self) -> list[Queue]:
        """Returns all queues, by name."""
        found = self._call(self._stub.ListQueues, pb.ListQueuesRequest()).queues
        return [codec.queue(message) for message in found]

    def page_address(self) -> str:
        """Returns the address of the page where people rank; empty where the service has none."""
        return self._call(self._stub.ListQueues, pb.ListQueuesRequest()).page_address

    def add_tasks(self, queue: str, tasks: Sequence[FeedbackTask]) -> int:
        """Adds tasks; those whose id exists, or whose prompt is vetoed, are left alone.

        Returns:
            How many were new.

        Raises:
            NotFoundError: There is no such queue.
            InvalidRequestError: A task is malformed.
        """
        return self._call(self._stub.AddTasks, codec.add_tasks_request(queue, tasks)).added

    def set_priorities(self, priorities: Mapping[str, float]) -> int:
        """Sets priorities by task id, the highest go first; returns how many of the tasks exist."""
        return self._call(self._stub.SetPriorities, pb.SetPrioritiesRequest(priorities=priorities)).updated

    def open_tasks(self, queue: str, *, page: int = 1000) -> Iterator[FeedbackTask]:
        """Yields the tasks that are not done by id, with the sources of their answers; no gold ones."""
        after = ""
        while True:
            request = pb.ListOpenTasksRequest(queue=queue, limit=page, after=after)
            found = self._call(self._stub.ListOpenTasks, request).tasks
            yield from (codec.task(message) for message in found)
            if len(found) < page:
                return
            after = found[-1].id

    def claim(self, queue: str, rater: str) -> Assignment:
        """Gives the rater the task that it holds already, else the next one.

        Raises:
            NoTaskError: Nothing is left for this rater.
            RaterBarredError: The rater may not work.
            NotFoundError: There is no such queue or rater.
        """
        request = pb.ClaimTaskRequest(queue=queue, rater=rater)
        return codec.assignment(self._call(self._stub.ClaimTask, request).assignment)

    def renew(self, assignment: str, rater: str) -> float:
        """Extends a lease; returns when it ends.

        Raises:
            LeaseLostError: Another rater has the place.
            AssignmentClosedError: The task was answered or skipped.
        """
        request = pb.RenewLeaseRequest(assignment=assignment, rater=rater)
        return self._call(self._stub.RenewLease, request).lease_expires_at

    def release(self, assignment: str, rater: str) -> None:
        """Gives a task back unanswered."""
        self._call(self._stub.ReleaseTask, pb.ReleaseTaskRequest(assignment=assignment, rater=rater))

    def submit(
        self,
        id: str,
        assignment: str,
        rater: str,
        content: Ranking | WrittenAnswer | Skip,
        *,
        comment: str = "",
        seconds: float = 0.0,
    ) -> bool:
        """Stores what the rater says; it is durable when this returns.

        Args:
            id: The caller's, 8 to 64 characters. The same one again is the same submission, so that a call
                whose answer was lost may be repeated.
            assignment: Id of the assignment.
            rater: Id of the rater.
            content: What the task asks for, or a skip.
            comment: For whoever runs the queue.
            seconds: How long it took; 0 where unknown.

        Returns:
            False where this submission was stored before.

        Raises:
            LeaseLostError: The lease ran out and another rater has the place.
            AssignmentClosedError: The task was answered under another id.
            SubmissionConflictError: The id was used for another content.
        """
        request = codec.submit_request(id, assignment, rater, content, comment, seconds)
        return not self._call(self._stub.Submit, request).repeated

    def undo(self, submission: str, rater: str) -> Assignment:
        """Takes the rater's own submission back.

        Raises:
            UndoTooLateError: The time for that is over.
        """
        request = pb.UndoRequest(submission=submission, rater=rater)
        return codec.assignment(self._call(self._stub.Undo, request).assignment)

    def adjust_answer(self, answer: str, kind: Adjustment, *, lift: bool = False, reason: str = "") -> None:
        """Vetoes or flags an answer, or lifts that."""
        number = codec.number(codec.ADJUSTMENTS, kind, "adjustment")
        self._call(self._stub.Adjust, pb.AdjustRequest(answer=answer, kind=number, lift=lift, reason=reason))

    def adjust_prompt(self, task: str, kind: Adjustment, *, lift: bool = False, reason: str = "") -> None:
        """Vetoes or flags the prompt of a task, or lifts that."""
        number = codec.number(codec.ADJUSTMENTS, kind, "adjustment")
        request = pb.AdjustRequest(prompt_of_task=task, kind=number, lift=lift, reason=reason)
        self._call(self._stub.Adjust, request)

    def add_rater(self, name: str) -> str:
        """Makes a rater without a password, for programs; returns the id."""
        return self._call(self._stub.AddRater, pb.AddRaterRequest(name=name)).rater

    def invite(self, *, admin: bool = False, valid_seconds: int = 0) -> Invite:
        """Makes an invitation for one person; 0 seconds is a week."""
        request = pb.CreateInviteRequest(admin=admin, valid_seconds=valid_seconds)
        response = self._call(self._stub.CreateInvite, request)
        return Invite(response.token, response.url)

    def raters(self, queue: str = "") -> list[RaterReport]:
        """Returns all raters with what is known of their work."""
        found = self._call(self._stub.ListRaters, pb.ListRatersRequest(queue=queue)).raters
        return [codec.rater(message) for message in found]

    def set_rater_state(self, rater: str, state: RaterState) -> None:
        """Lets a rater in or keeps one out; what an excluded rater said counts no more."""
        number = codec.number(codec.STATES, state, "state")
        self._call(self._stub.SetRaterState, pb.SetRaterStateRequest(rater=rater, state=number))

    def erase_rater(self, rater: str) -> int:
        """Forgets a person; returns how many rankings stay, under a new pseudonym."""
        return self._call(self._stub.EraseRater, pb.EraseRaterRequest(rater=rater)).kept_rankings

    def quality(self, queue: str = "") -> Quality:
        """Measures agreement, bias and raters over a queue, or over all."""
        return codec.quality(self._call(self._stub.GetQuality, pb.GetQualityRequest(queue=queue)))

    def progress(self, queue: str = "") -> FeedbackProgress:
        """Returns how much was collected."""
        return next(self.watch(queue))

    def watch(self, queue: str = "") -> Iterator[FeedbackProgress]:
        """Yields how much was collected, at once and whenever that changes, without end."""
        while True:
            try:
                for message in self._stream(self._stub.WatchFeedback, pb.WatchFeedbackRequest(queue=queue)):
                    yield FeedbackProgress(message.rankings, message.demonstrations, message.open_tasks)
            except DeadlineExceededError:
                continue

    def export(
        self,
        folder: Path,
        *,
        queue: str = "",
        format: ExportFormat = "ranking",
        file_format: FileFormat = "jsonl",
        conversational: bool = False,
        split: Split = "all",
        held_out_percent: int = 0,
    ) -> dict[str, object]:
        """Writes a data set into a new folder: the data, ``manifest.json`` and a card, ``README.md``.

        Args:
            folder: Must not exist, or be empty; it is there as a whole or not at all.
            queue: Name of a queue; empty for all.
            format: Shape of the records.
            file_format: How they are written.
            conversational: Prompts and answers as messages, texts too.
            split: Part of the prompts; a prompt's part never changes.
            held_out_percent: Share of the prompts held out, 0 to 90.

        Returns:
            The manifest.

        Raises:
            InvalidRequestError: The folder is in use.
            CorruptDataError: What arrived is not what the manifest says.
        """
        request = export_request(queue, format, file_format, conversational, split, held_out_percent)
        return write_export(folder, self._stream(self._stub.Export, request))

    def import_file(
        self, queue: str, file: Path, *, format: ExportFormat = "ranking", file_format: FileFormat = "jsonl"
    ) -> Imported:
        """Adds the records of a file, all or none; those that are there already are passed over.

        Raises:
            InvalidDataError: A record cannot be used; the message names it and what would mend it.
            NotFoundError: There is no such queue.
        """
        messages = import_messages(queue, file, format, file_format)
        response = self._call(self._stub.Import, messages)
        return Imported(response.tasks, response.rankings, response.known)
