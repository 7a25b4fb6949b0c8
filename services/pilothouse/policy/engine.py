"""The engine's thread: continuous batching, and whatever else must happen between two decode steps.

Everything that touches weights or KV cache runs here, one thing at a time: decode steps, prompts, a change of
weights. Longer work (scoring, building the next weights) is cut into pieces that share the time between two
steps, so that it holds up no sequence for long. Callers on other threads submit, cancel and get futures.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from statistics import median
from typing import Any

import structlog
import torch

from pilothouse.errors import GenerationFailedError, PilothouseError, QueueFullError, UnavailableError
from pilothouse.models.weights import DecoderWeights
from pilothouse.policy.chores import Chores, Pieces, Result, raiser, settle
from pilothouse.policy.metrics import EngineMetrics
from pilothouse.policy.requests import Request, Sequence, Update, Version
from pilothouse.policy.runner import ModelRunner
from pilothouse.policy.sampling import Drawn
from pilothouse.policy.scheduler import Scheduler

PIECES_SHARE = 0.5
"""Time for pieces between two decode steps, as a share of a typical step."""
STEPS_REMEMBERED = 31
"""Whose median is the typical step."""
IDLE_SECONDS = 0.02
"""Time for pieces before an idle engine looks for requests again."""
_STOPPED = "the engine has stopped and the server is going down; retry"

_log = structlog.get_logger(__name__)


class PolicyEngine:
    """Runs requests on a model; knows nothing of gRPC or of text."""

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, *, metrics: EngineMetrics, threads: int | None = None
    ) -> None:
        """Prepares the engine; ``start`` starts it.

        Args:
            runner: The model.
            scheduler: Its queue and slots.
            metrics: Where figures go.
            threads: Threads of torch's operators; None leaves torch's choice.
        """
        self._runner = runner
        self._scheduler = scheduler
        self._metrics = metrics
        self._threads = threads
        self._wake = threading.Condition()
        self._commands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._chores = Chores()
        self._closing = False
        self._steps: deque[float] = deque([0.0], maxlen=STEPS_REMEMBERED)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.stopped: Future[None] = Future()
        """Done when the thread has ended; holds the exception if it crashed."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the step that runs; requests that have not ended fail."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: Request) -> None:
        """Queues a request; its listener hears the rest.

        Raises:
            QueueFullError: Too many completions wait.
            UnavailableError: The engine has stopped.
        """
        with self._wake:
            self._check_alive()
            try:
                self._scheduler.submit(request, retry_after_seconds=self._metrics.queue_seconds())
            except QueueFullError:
                self._metrics.shed()
                raise
            self._wake.notify()

    def cancel(self, request: Request) -> None:
        """Ends a request without another word; its slots are free before the next decode step."""
        with self._wake:
            self._metrics.cancelled(request)
            request.ended = True
            self._scheduler.drop_waiting(request)
            self._wake.notify()

    def swap(self, weights: DecoderWeights, version: Version, *, recompute: bool) -> "Future[float]":
        """Changes the weights between two decode steps.

        Args:
            weights: Of the same layout as those now serving.
            version: What they are called.
            recompute: Compute keys and values of running sequences again; else they keep what they have.

        Returns:
            How long generation was held up, in seconds.

        Raises:
            UnavailableError: The engine has stopped.
        """
        future: Future[float] = Future()
        with self._wake:
            self._check_alive()
            self._commands.append((lambda: self._swap(weights, version, recompute), future))
            self._wake.notify()
        return future

    def in_pieces(self, pieces: Pieces[Result]) -> "Future[Result]":
        """Runs work piece by piece, after work given earlier; cancelling the future ends it.

        Raises:
            UnavailableError: The engine has stopped.
        """
        with self._wake:
            self._check_alive()
            self._wake.notify()
            return self._chores.add(pieces)

    @property
    def runner(self) -> ModelRunner:
        """The model; other threads may read its ``weights`` and ``version`` only."""
        return self._runner

    def _check_alive(self) -> None:
        if self._closing or self.stopped.done():
            raise UnavailableError(_STOPPED)

    def _run(self) -> None:
        try:
            if self._threads is not None:
                torch.set_num_threads(self._threads)
            with torch.inference_mode():
                while self._next():
                    pass
        except BaseException as error:
            _log.exception("engine crashed")
            self._abandon()
            self.stopped.set_exception(error)
        else:
            self._abandon()
            self.stopped.set_result(None)

    def _next(self) -> bool:
        """Does one round: commands, cancellations, admissions, one decode step, pieces of chores."""
        with self._wake:
            while not (self._closing or self._commands or self._chores or self._scheduler.busy):
                self._wake.wait()
            if self._closing:
                return False
            commands = list(self._commands)
            self._commands.clear()
        for action, future in commands:
            settle(future, action)
        self._release_ended()
        self._admit()
        self._decode()
        busy = self._scheduler.busy
        self._chores.work(PIECES_SHARE * median(self._steps) if busy else IDLE_SECONDS)
        self._metrics.occupancy(len(self._scheduler.running), self._scheduler.waiting)
        return True

    def _swap(self, weights: DecoderWeights, version: Version, recompute: bool) -> float:
        started = time.perf_counter()
        self._release_ended()
        with self._wake:
            self._scheduler.forget_prompts()
        self._runner.weights, self._runner.version = weights, version
        try:
            if recompute:
                self._runner.recompute(self._scheduler.running)
        except Exception as error:
            _log.exception("keys and values could not be computed again", error=repr(error))
            for request in {entry.request for entry in self._scheduler.running}:
                self._fail(request, "its keys and values could not be computed again with new weights; retry")
        return time.perf_counter() - started

    def _admit(self) -> None:
        with self._wake:
            admitted = self._scheduler.admit()
        if not admitted:
            return
        self._metrics.admitted(admitted)
        try:
            self._deliver(admitted, self._runner.start(admitted))
        except Exception as error:
            by_request: dict[Request, list[Sequence]] = {}
            for sequence in admitted:
                by_request.setdefault(sequence.request, []).append(sequence)
            for request, sequences in by_request.items():
                self._start_alone(request, sequences, error if len(by_request) == 1 else None)
        self._release_ended()

    def _start_alone(self, request: Request, sequences: list[Sequence], error: Exception | None) -> None:
        """Starts one request of a batch that failed, so that only the guilty one fails."""
        try:
            if error is not None:
                raise error
            self._deliver(sequences, self._runner.start(sequences))
        except Exception as failure:
            _log.warning("request failed", error=repr(failure))
            self._fail(request, "the prompts could not be computed; try fewer or shorter ones")

    def _decode(self) -> None:
        running = self._scheduler.running
        if running:
            started = time.perf_counter()
            drawn = self._runner.decode(running)
            self._steps.append(time.perf_counter() - started)
            self._metrics.step(self._steps[-1], len(running))
            self._deliver(running, drawn)
            self._release_ended()

    def _deliver(self, sequences: list[Sequence], drawn: Drawn) -> None:
        """Takes one token per sequence and tells the listeners."""
        updates: dict[Request, Update] = {}
        version = self._runner.version
        for index, sequence in enumerate(sequences):
            request = sequence.request
            if not drawn.finite[index]:
                self._runner.clear(sequence)  # also where its request has ended: the slot has a next user
                if not request.ended:
                    updates.pop(request, None)
                    self._fail(request, "the model's logits are not finite; roll the weights back")
            if request.ended:
                continue
            sequence.append(drawn.token_ids[index], drawn.logprobs[index], version)
            if sequence.produced == 1:
                self._metrics.first_token(sequence)
            if request.stream:
                update = updates.setdefault(request, Update())
                update.tokens.append(sequence.newest)
            self._finish(sequence, updates)
        for request, update in updates.items():
            self._tell(request, update)

    def _finish(self, sequence: Sequence, updates: dict[Request, Update]) -> None:
        request = sequence.request
        try:
            reason = sequence.finish_reason(self._runner.positions)
        except Exception as error:
            _log.warning("request failed", error=repr(error))
            updates.pop(request, None)
            self._fail(request, "its stop strings could not be checked")
            return
        if reason is not None:
            updates.setdefault(request, Update()).completed.append(sequence.completed(reason))
            sequence.ended = True
            request.unfinished -= 1
            request.ended = request.unfinished == 0
            self._metrics.completed(sequence, reason)

    def _fail(
        self, request: Request, message: str, kind: type[PilothouseError] = GenerationFailedError
    ) -> None:
        self._metrics.failed(request, kind.reason)
        request.ended = True  # by itself: no caller has cancelled it
        self.cancel(request)
        self._tell(request, Update(error=kind(message)))

    def _tell(self, request: Request, update: Update) -> None:
        try:
            request.listener(update)
        except Exception as error:  # nobody listens any more
            _log.warning("listener failed", error=repr(error))
            self.cancel(request)

    def _release_ended(self) -> None:
        """Frees the slots of sequences that have ended, last slot first, so that few others move."""
        for sequence in reversed(list(self._scheduler.running)):
            if not (sequence.ended or sequence.request.ended):
                continue
            moved = self._scheduler.release(sequence)
            if moved is not None:
                self._runner.move(moved, source=len(self._scheduler.running))

    def _abandon(self) -> None:
        """Ends everything that still waits for the engine."""
        with self._wake:
            self._closing = True
            requests = list(self._scheduler.requests())
            commands = list(self._commands)
        for request in requests:
            self._fail(request, _STOPPED, UnavailableError)
        error = UnavailableError(_STOPPED)
        for _, future in commands:
            settle(future, raiser(error))
        self._chores.fail(error)
