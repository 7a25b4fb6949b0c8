"""The trainer's own gRPC service: status, metrics, pause, resume, checkpoint, stop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from pilothouse.server import Server, ServerConfig
from pilothouse.trainer.control import RunControl
from pilothouse.v1 import trainer_pb2, trainer_pb2_grpc

SERVICE = "pilothouse.v1.TrainerService"

_STATES = {
    "starting": trainer_pb2.RUN_STATE_STARTING,
    "running": trainer_pb2.RUN_STATE_RUNNING,
    "paused": trainer_pb2.RUN_STATE_PAUSED,
    "finished": trainer_pb2.RUN_STATE_FINISHED,
    "failed": trainer_pb2.RUN_STATE_FAILED,
}

Context = grpc.aio.ServicerContext[Any, Any]


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Decodes, asks the run's control, encodes."""

    def __init__(self, control: RunControl) -> None:
        self._control = control

    async def GetStatus(
        self, request: trainer_pb2.GetStatusRequest, context: Context
    ) -> trainer_pb2.GetStatusResponse:
        """Reports where the run stands."""
        status = self._control.status
        return trainer_pb2.GetStatusResponse(
            run=status.run,
            task=status.task,
            state=_STATES[status.state],
            step=status.step,
            total_steps=status.total_steps,
            epoch=status.epoch,
            version=status.version,
            checkpoint=status.checkpoint,
            error=status.error,
            pause_reason=status.pause_reason,
        )

    async def WatchMetrics(
        self, request: trainer_pb2.WatchMetricsRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.WatchMetricsResponse]:
        """Streams past and then new metrics until the run ends."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice() -> None:
            loop.call_soon_threadsafe(changed.set)

        unlisten = self._control.listen(notice)
        seen = 0
        try:
            while True:
                changed.clear()
                ended = self._control.ended  # asked first: rows that came before the end are then all there
                rows = self._control.rows(seen)
                seen += len(rows)
                for step, metrics in rows:
                    if step >= request.from_step:
                        yield trainer_pb2.WatchMetricsResponse(step=step, metrics=metrics)
                if ended:
                    return
                await changed.wait()
        finally:
            unlisten()

    async def Pause(self, request: trainer_pb2.PauseRequest, context: Context) -> trainer_pb2.PauseResponse:
        """Pauses before the next step."""
        self._control.pause()
        return trainer_pb2.PauseResponse()

    async def Resume(
        self, request: trainer_pb2.ResumeRequest, context: Context
    ) -> trainer_pb2.ResumeResponse:
        """Goes on after a pause."""
        self._control.resume()
        return trainer_pb2.ResumeResponse()

    async def Checkpoint(
        self, request: trainer_pb2.CheckpointRequest, context: Context
    ) -> trainer_pb2.CheckpointResponse:
        """Answers when the checkpoint is durable."""
        folder, step = await asyncio.wrap_future(self._control.request_checkpoint())
        return trainer_pb2.CheckpointResponse(checkpoint=folder, step=step)

    async def Stop(self, request: trainer_pb2.StopRequest, context: Context) -> trainer_pb2.StopResponse:
        """Answers when the run has ended and its last checkpoint is durable."""
        # Shielded: a caller that hangs up must not cancel what others wait for too.
        folder, _step = await asyncio.shield(asyncio.wrap_future(self._control.request_stop()))
        return trainer_pb2.StopResponse(checkpoint=folder)


@contextmanager
def serving(control: RunControl, config: ServerConfig) -> Iterator[Server]:
    """Serves ``control`` from a thread of its own while inside.

    Yields:
        The running server; its ports are known.

    Raises:
        ConfigError: The port is taken or the address is not this machine's.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="trainer-server", daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_start(control, config), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(control: RunControl, config: ServerConfig) -> Server:
    server = Server(config, "trainer")
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(TrainerServicer(control), server.grpc)
    server.services(SERVICE)
    await server.start()
    return server
