"""FeedbackService on the wire: decodes, calls the store, encodes."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.codec import (
    RATER_STATES,
    Decoder,
    held_message,
    queue_message,
    task_messages,
)
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.data_servicer import DataServicer
from pilothouse.feedback.database import Database
from pilothouse.feedback.desk import Desk
from pilothouse.feedback.invitations import invite_url
from pilothouse.feedback.measures import Measures
from pilothouse.feedback.store import adjustments, claims, people, queues
from pilothouse.feedback.store.tasks import add_tasks, list_open_tasks, set_priorities
from pilothouse.v1 import feedback_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]

_WEEK_SECONDS = 7 * 86_400
_LISTED = 1_000
_LISTED_AT_MOST = 10_000
_ADJUSTMENTS = {
    pb.ADJUSTMENT_KIND_VETO: adjustments.Adjustment.VETO,
    pb.ADJUSTMENT_KIND_FLAG: adjustments.Adjustment.FLAG,
}


class FeedbackServicer(DataServicer):
    """Queues, tasks, raters and what they say. Catches no errors."""

    def __init__(
        self,
        database: Database,
        config: FeedbackConfig,
        measures: Measures,
        *,
        page_address: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Serves ``database``.

        Args:
            database: Migrated.
            config: Limits and defaults.
            measures: Of the same database.
            page_address: Where the page is; empty without one.
            clock: Present time, seconds since 1970-01-01 UTC.
        """
        super().__init__(database, config, measures, clock)
        self._page_address = page_address
        self._decode = Decoder(config.max_text_characters)
        self._desk = Desk(database, config, clock)

    async def PutQueue(self, request: pb.PutQueueRequest, context: Context) -> pb.PutQueueResponse:  # noqa: D102
        settings = self._decode.queue(request.settings)
        await self._database.write(queues.put_queue, settings, now=self._now())
        found = await self._database.read(queues.list_queues, now=self._now())
        queue = next(counts for counts in found if counts.settings.name == settings.name)
        return pb.PutQueueResponse(queue=queue_message(queue))

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Context) -> pb.ListQueuesResponse:  # noqa: D102
        found = await self._database.read(queues.list_queues, now=self._now())
        return pb.ListQueuesResponse(
            queues=[queue_message(counts) for counts in found], page_address=self._page_address
        )

    async def AddTasks(self, request: pb.AddTasksRequest, context: Context) -> pb.AddTasksResponse:  # noqa: D102
        tasks = await asyncio.to_thread(self._decode.tasks, request.tasks)
        added = await self._database.write(add_tasks, request.queue, tasks, now=self._now())
        return pb.AddTasksResponse(added=added, skipped=len(tasks) - added)

    async def SetPriorities(  # noqa: D102
        self, request: pb.SetPrioritiesRequest, context: Context
    ) -> pb.SetPrioritiesResponse:
        priorities = self._decode.priorities(request.priorities)
        updated = await self._database.write(set_priorities, priorities)
        return pb.SetPrioritiesResponse(updated=updated)

    async def ListOpenTasks(  # noqa: D102
        self, request: pb.ListOpenTasksRequest, context: Context
    ) -> pb.ListOpenTasksResponse:
        limit = min(request.limit or _LISTED, _LISTED_AT_MOST)
        if limit < 1:
            raise InvalidRequestError("limit must be at least 1; 0 takes the default")
        tasks = await self._database.read(list_open_tasks, request.queue, limit=limit, after=request.after)
        return pb.ListOpenTasksResponse(tasks=task_messages(tasks))

    async def ClaimTask(self, request: pb.ClaimTaskRequest, context: Context) -> pb.ClaimTaskResponse:  # noqa: D102
        held = await self._desk.claim(request.queue, request.rater)
        return pb.ClaimTaskResponse(assignment=held_message(held))

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: Context) -> pb.RenewLeaseResponse:  # noqa: D102
        ends = await self._desk.renew(request.assignment, request.rater)
        return pb.RenewLeaseResponse(lease_expires_at=ends)

    async def ReleaseTask(self, request: pb.ReleaseTaskRequest, context: Context) -> pb.ReleaseTaskResponse:  # noqa: D102
        await self._database.write(claims.release, assignment=request.assignment, rater=request.rater)
        return pb.ReleaseTaskResponse()

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:  # noqa: D102
        new = await self._desk.submit(self._decode.said(request))
        return pb.SubmitResponse(repeated=not new)

    async def Undo(self, request: pb.UndoRequest, context: Context) -> pb.UndoResponse:  # noqa: D102
        held = await self._desk.undo(request.submission, request.rater)
        return pb.UndoResponse(assignment=held_message(held))

    async def Adjust(self, request: pb.AdjustRequest, context: Context) -> pb.AdjustResponse:  # noqa: D102
        kind = _ADJUSTMENTS.get(request.kind)
        if kind is None:
            raise InvalidRequestError("kind is not set; give ADJUSTMENT_KIND_VETO or _FLAG")
        target = request.WhichOneof("target")
        if target is None:
            raise InvalidRequestError("the adjustment names nothing; set answer or prompt_of_task")
        adjust = adjustments.adjust_answer if target == "answer" else adjustments.adjust_prompt
        await self._database.write(
            adjust,
            getattr(request, target),
            kind,
            lift=request.lift,
            reason=self._decode.text(request.reason, "reason"),
            actor=request.rater,
            now=self._now(),
        )
        return pb.AdjustResponse()

    async def AddRater(self, request: pb.AddRaterRequest, context: Context) -> pb.AddRaterResponse:  # noqa: D102
        rater = await self._database.write(
            people.add_rater, name=self._decode.person(request.name), now=self._now()
        )
        return pb.AddRaterResponse(rater=rater)

    async def CreateInvite(  # noqa: D102
        self, request: pb.CreateInviteRequest, context: Context
    ) -> pb.CreateInviteResponse:
        if request.valid_seconds < 0:
            raise InvalidRequestError("valid_seconds must not be negative; 0 is a week")
        token = await self._database.write(
            people.create_invite,
            admin=request.admin,
            valid_seconds=request.valid_seconds or _WEEK_SECONDS,
            actor="",
            now=self._now(),
        )
        return pb.CreateInviteResponse(token=token, url=invite_url(self._page_address, token))

    async def SetRaterState(  # noqa: D102
        self, request: pb.SetRaterStateRequest, context: Context
    ) -> pb.SetRaterStateResponse:
        state = RATER_STATES.get(request.state)
        if state is None:
            raise InvalidRequestError("state is not set; give ACTIVE, DISABLED or EXCLUDED")
        await self._database.write(people.set_state, request.rater, state, actor="", now=self._now())
        return pb.SetRaterStateResponse()

    async def EraseRater(self, request: pb.EraseRaterRequest, context: Context) -> pb.EraseRaterResponse:  # noqa: D102
        kept = await self._database.write(people.erase, request.rater, actor="", now=self._now())
        await self._database.scrub()
        return pb.EraseRaterResponse(kept_rankings=kept)
