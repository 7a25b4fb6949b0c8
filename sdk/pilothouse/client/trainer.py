"""Clients of a running trainer."""

from collections.abc import AsyncIterator, Iterator
from typing import Unpack

from pilothouse.client.base import AsyncClient, SyncClient
from pilothouse.client.channels import Security
from pilothouse.client.types import RunState, SavedCheckpoint, StepMetrics, TrainerStatus
from pilothouse.errors import DeadlineExceededError, ProtocolError
from pilothouse.v1 import trainer_pb2, trainer_pb2_grpc

_STATES: dict[int, RunState] = {
    trainer_pb2.RUN_STATE_STARTING: "starting",
    trainer_pb2.RUN_STATE_RUNNING: "running",
    trainer_pb2.RUN_STATE_PAUSED: "paused",
    trainer_pb2.RUN_STATE_FINISHED: "finished",
    trainer_pb2.RUN_STATE_FAILED: "failed",
}


class TrainerClient(SyncClient):
    """Watches and steers a running trainer."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = trainer_pb2_grpc.TrainerServiceStub(self._channel)

    def status(self) -> TrainerStatus:
        """Returns where the run stands."""
        return _status(self._call(self._stub.GetStatus, trainer_pb2.GetStatusRequest()))

    def metrics(self, from_step: int = 0) -> Iterator[StepMetrics]:
        """Yields the metrics of every step from ``from_step``, past ones first, until the run ends.

        Every call has a deadline; when it passes, the next one goes on where this one ended.
        """
        while True:
            request = trainer_pb2.WatchMetricsRequest(from_step=from_step)
            try:
                for response in self._stream(self._stub.WatchMetrics, request):
                    yield _step(response)
                    from_step = response.step + 1
                return
            except DeadlineExceededError:
                continue

    def pause(self) -> None:
        """Pauses before the next step."""
        self._call(self._stub.Pause, trainer_pb2.PauseRequest())

    def resume(self) -> None:
        """Goes on after a pause."""
        self._call(self._stub.Resume, trainer_pb2.ResumeRequest())

    def checkpoint(self) -> SavedCheckpoint:
        """Writes a checkpoint after the current step; returns when it is durable."""
        response = self._call(self._stub.Checkpoint, trainer_pb2.CheckpointRequest())
        return SavedCheckpoint(response.checkpoint, response.step)

    def stop(self) -> str:
        """Ends the run after the current step; returns the final checkpoint's folder."""
        return self._call(self._stub.Stop, trainer_pb2.StopRequest()).checkpoint


class AsyncTrainerClient(AsyncClient):
    """Watches and steers a running trainer, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = trainer_pb2_grpc.TrainerServiceStub(self._channel)

    async def status(self) -> TrainerStatus:
        """As ``TrainerClient.status``."""
        return _status(await self._call(self._stub.GetStatus, trainer_pb2.GetStatusRequest()))

    async def metrics(self, from_step: int = 0) -> AsyncIterator[StepMetrics]:
        """As ``TrainerClient.metrics``."""
        while True:
            request = trainer_pb2.WatchMetricsRequest(from_step=from_step)
            try:
                async for response in self._stream(self._stub.WatchMetrics, request):
                    yield _step(response)
                    from_step = response.step + 1
                return
            except DeadlineExceededError:
                continue

    async def pause(self) -> None:
        """As ``TrainerClient.pause``."""
        await self._call(self._stub.Pause, trainer_pb2.PauseRequest())

    async def resume(self) -> None:
        """As ``TrainerClient.resume``."""
        await self._call(self._stub.Resume, trainer_pb2.ResumeRequest())

    async def checkpoint(self) -> SavedCheckpoint:
        """As ``TrainerClient.checkpoint``."""
        response = await self._call(self._stub.Checkpoint, trainer_pb2.CheckpointRequest())
        return SavedCheckpoint(response.checkpoint, response.step)

    async def stop(self) -> str:
        """As ``TrainerClient.stop``."""
        folder: str = (await self._call(self._stub.Stop, trainer_pb2.StopRequest())).checkpoint
        return folder


def _status(response: trainer_pb2.GetStatusResponse) -> TrainerStatus:
    state = _STATES.get(response.state)
    if state is None:
        raise ProtocolError("the trainer is in a state that this client does not know; upgrade the client")
    return TrainerStatus(
        run=response.run,
        task=response.task,
        state=state,
        step=response.step,
        total_steps=response.total_steps,
        epoch=response.epoch,
        version=response.version,
        checkpoint=response.checkpoint,
        error=response.error,
        pause_reason=response.pause_reason,
    )


def _step(response: trainer_pb2.WatchMetricsResponse) -> StepMetrics:
    return StepMetrics(response.step, dict(response.metrics))
