"""The asyncio client of the feedback service."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Unpack

from pilothouse.client import feedback_codec as codec
from pilothouse.client.base import AsyncClient
from pilothouse.client.channels import Security
from pilothouse.client.feedback_types import (
    Adjustment,
    Assignment,
    FeedbackProgress,
    FeedbackTask,
    Invite,
    Quality,
    Queue,
    QueueSettings,
    Ranking,
    RaterReport,
    RaterState,
    Skip,
    WrittenAnswer,
)
from pilothouse.errors import DeadlineExceededError
from pilothouse.v1 import feedback_pb2 as pb
from pilothouse.v1 import feedback_pb2_grpc


class AsyncFeedbackClient(AsyncClient):
    """Collects people's judgements, for asyncio. Files go through ``FeedbackClient``."""

    def __init__(self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = feedback_pb2_grpc.FeedbackServiceStub(self._channel)

    async def put_queue(self, settings: QueueSettings) -> Queue:
        """As ``FeedbackClient.put_queue``."""
        return codec.queue((await self._call(self._stub.PutQueue, codec.put_queue_request(settings))).queue)

    async def queues(self) -> list[Queue]:
        """As ``FeedbackClient.queues``."""
        found = (await self._call(self._stub.ListQueues, pb.ListQueuesRequest())).queues
        return [codec.queue(message) for message in found]

    async def page_address(self) -> str:
        """As ``FeedbackClient.page_address``."""
        found: str = (await self._call(self._stub.ListQueues, pb.ListQueuesRequest())).page_address
        return found

    async def add_tasks(self, queue: str, tasks: Sequence[FeedbackTask]) -> int:
        """As ``FeedbackClient.add_tasks``."""
        found: int = (await self._call(self._stub.AddTasks, codec.add_tasks_request(queue, tasks))).added
        return found

    async def set_priorities(self, priorities: Mapping[str, float]) -> int:
        """As ``FeedbackClient.set_priorities``."""
        found: int = (
            await self._call(self._stub.SetPriorities, pb.SetPrioritiesRequest(priorities=priorities))
        ).updated
        return found

    async def open_tasks(self, queue: str, *, page: int = 1000) -> AsyncIterator[FeedbackTask]:
        """As ``FeedbackClient.open_tasks``."""
        after = ""
        while True:
            request = pb.ListOpenTasksRequest(queue=queue, limit=page, after=after)
            found = (await self._call(self._stub.ListOpenTasks, request)).tasks
            for message in found:
                yield codec.task(message)
            if len(found) < page:
                return
            after = found[-1].id

    async def claim(self, queue: str, rater: str) -> Assignment:
        """As ``FeedbackClient.claim``."""
        request = pb.ClaimTaskRequest(queue=queue, rater=rater)
        return codec.assignment((await self._call(self._stub.ClaimTask, request)).assignment)

    async def renew(self, assignment: str, rater: str) -> float:
        """As ``FeedbackClient.renew``."""
        request = pb.RenewLeaseRequest(assignment=assignment, rater=rater)
        found: float = (await self._call(self._stub.RenewLease, request)).lease_expires_at
        return found

    async def release(self, assignment: str, rater: str) -> None:
        """As ``FeedbackClient.release``."""
        await self._call(self._stub.ReleaseTask, pb.ReleaseTaskRequest(assignment=assignment, rater=rater))

    async def submit(
        self,
        id: str,
        assignment: str,
        rater: str,
        content: Ranking | WrittenAnswer | Skip,
        *,
        comment: str = "",
        seconds: float = 0.0,
    ) -> bool:
        """As ``FeedbackClient.submit``."""
        request = codec.submit_request(id, assignment, rater, content, comment, seconds)
        return not (await self._call(self._stub.Submit, request)).repeated

    async def undo(self, submission: str, rater: str) -> Assignment:
        """As ``FeedbackClient.undo``."""
        request = pb.UndoRequest(submission=submission, rater=rater)
        return codec.assignment((await self._call(self._stub.Undo, request)).assignment)

    async def adjust_answer(
        self, answer: str, kind: Adjustment, *, lift: bool = False, reason: str = ""
    ) -> None:
        """As ``FeedbackClient.adjust_answer``."""
        number = codec.number(codec.ADJUSTMENTS, kind, "adjustment")
        await self._call(
            self._stub.Adjust, pb.AdjustRequest(answer=answer, kind=number, lift=lift, reason=reason)
        )

    async def adjust_prompt(
        self, task: str, kind: Adjustment, *, lift: bool = False, reason: str = ""
    ) -> None:
        """As ``FeedbackClient.adjust_prompt``."""
        number = codec.number(codec.ADJUSTMENTS, kind, "adjustment")
        request = pb.AdjustRequest(prompt_of_task=task, kind=number, lift=lift, reason=reason)
        await self._call(self._stub.Adjust, request)

    async def add_rater(self, name: str) -> str:
        """As ``FeedbackClient.add_rater``."""
        found: str = (await self._call(self._stub.AddRater, pb.AddRaterRequest(name=name))).rater
        return found

    async def invite(self, *, admin: bool = False, valid_seconds: int = 0) -> Invite:
        """As ``FeedbackClient.invite``."""
        request = pb.CreateInviteRequest(admin=admin, valid_seconds=valid_seconds)
        response = await self._call(self._stub.CreateInvite, request)
        return Invite(response.token, response.url)

    async def raters(self, queue: str = "") -> list[RaterReport]:
        """As ``FeedbackClient.raters``."""
        found = (await self._call(self._stub.ListRaters, pb.ListRatersRequest(queue=queue))).raters
        return [codec.rater(message) for message in found]

    async def set_rater_state(self, rater: str, state: RaterState) -> None:
        """As ``FeedbackClient.set_rater_state``."""
        number = codec.number(codec.STATES, state, "state")
        await self._call(self._stub.SetRaterState, pb.SetRaterStateRequest(rater=rater, state=number))

    async def erase_rater(self, rater: str) -> int:
        """As ``FeedbackClient.erase_rater``."""
        found: int = (
            await self._call(self._stub.EraseRater, pb.EraseRaterRequest(rater=rater))
        ).kept_rankings
        return found

    async def quality(self, queue: str = "") -> Quality:
        """As ``FeedbackClient.quality``."""
        return codec.quality(await self._call(self._stub.GetQuality, pb.GetQualityRequest(queue=queue)))

    async def progress(self, queue: str = "") -> FeedbackProgress:
        """As ``FeedbackClient.progress``."""
        async for now in self.watch(queue):
            return now
        raise AssertionError("unreachable: a watch does not end")

    async def watch(self, queue: str = "") -> AsyncIterator[FeedbackProgress]:
        """As ``FeedbackClient.watch``."""
        while True:
            try:
                async for message in self._stream(
                    self._stub.WatchFeedback, pb.WatchFeedbackRequest(queue=queue)
                ):
                    yield FeedbackProgress(message.rankings, message.demonstrations, message.open_tasks)
            except DeadlineExceededError:
                continue
