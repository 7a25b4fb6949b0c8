"""Rollouts that run ahead of training (``async``), by at most ``max_staleness`` versions.

One Generate call per batch of prompts runs on a thread of its own, at most ``max_staleness`` of them ahead of
the step that trains. Samples are used in draw order, so that short answers get no advantage over long ones.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait

from pilothouse.client import Cancellation, Completion
from pilothouse.errors import VersionMixError
from pilothouse.trainer.prompts import Draw
from pilothouse.trainer.rollout import Rollout, Workshop, rollout_metrics
from pilothouse.trainer.samples import Answer, Sample

_JUDGES = 4
"""Score and Logprobs calls at the same time, per batch."""
_LOOK_SECONDS = 0.05


class AsyncRollouts:
    """Keeps rollouts running while the trainer trains."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._ahead = workshop.config.max_staleness
        self._threads = ThreadPoolExecutor(self._ahead, thread_name_prefix="rollout")
        self._judges = ThreadPoolExecutor(_JUDGES, thread_name_prefix="judge")
        self._batches: deque[tuple[int, Future[list[Sample]]]] = deque()  # (draw after it, its samples)
        self._policy_is_behind = threading.Event()
        self._closing = threading.Event()
        self._calls = Cancellation()

    def collect(self) -> Rollout:
        """Returns samples of whole batches until enough are fresh; stale ones are dropped and counted.

        Batches are fetched whole, so after drops a step may get a few samples more than asked for.
        """
        shop, started = self._workshop, time.perf_counter()
        wanted = shop.config.rollout.prompts_per_step * shop.config.rollout.samples_per_prompt
        kept: list[Sample] = []
        dropped, next_draw = 0, shop.cursor.next_draw
        while len(kept) < wanted:
            self._run_ahead()
            next_draw, batch = self._batches.popleft()
            fresh, stale = self._split(self._result(batch))
            kept += fresh
            dropped += len(stale)
        self._run_ahead()
        metrics = rollout_metrics(kept, dropped) | {"time/rollout_seconds": time.perf_counter() - started}
        return Rollout(kept, next_draw, metrics)

    def close(self) -> None:
        """Cancels what runs ahead; its samples are never used. The ledger hears no more of it."""
        self._closing.set()
        self._calls.cancel()
        self._judges.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._batches.clear()

    def _run_ahead(self) -> None:
        """Starts batches until as many run as staleness allows."""
        shop = self._workshop
        while len(self._batches) < self._ahead:
            draws = shop.cursor.draw(shop.config.rollout.prompts_per_step)
            shop.ledger.drawn(draws)
            self._batches.append((shop.cursor.next_draw, self._threads.submit(self._make, draws)))

    def _result(self, batch: "Future[list[Sample]]") -> list[Sample]:
        """Waits for a batch; a policy that came back without weights gets them, from this thread alone."""
        while not wait([batch], timeout=_LOOK_SECONDS).done:
            if self._policy_is_behind.is_set():
                self._workshop.patience.call("policy", self._workshop.publisher.ensure)
                self._policy_is_behind.clear()
        return batch.result()

    def _split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Returns fresh and stale samples, the latter noted as dropped."""
        shop = self._workshop
        published = shop.publisher.published
        if published is None:
            raise VersionMixError("samples came before the first push; publish the weights first")
        epoch, version = published
        oldest = (epoch, version - shop.config.max_staleness)
        fresh = [sample for sample in samples if oldest <= sample.answer.oldest]
        stale = [sample for sample in samples if sample.answer.oldest < oldest]
        if stale:
            shop.ledger.dropped([sample.answer.id for sample in stale], "stale")
        return fresh, stale

    def _make(self, draws: Sequence[Draw]) -> list[Sample]:
        """Runs on a thread: generates and judges one batch; a completion goes to the judges as it arrives."""
        shop = self._workshop
        count = shop.config.rollout.samples_per_prompt
        names = {draw.number: draw.sample_ids(count) for draw in draws}
        judged: dict[str, Future[Sample]] = {}

        def arrived(draw: Draw, completion: Completion) -> None:
            name = names[draw.number][completion.sample_index]
            if name not in judged:
                answer = Answer(name, draw, completion)
                shop.ledger.generated({name: answer.spans})
                judged[name] = self._submit(answer)

        def attempt() -> None:
            missing = [draw for draw in draws if not judged.keys() >= set(names[draw.number])]
            if not missing:
                return
            self._wait_for_weights()
            stream = shop.policy.stream(
                [draw.tokens for draw in missing],
                shop.sampling,
                n=count,
                seeds=[draw.seed for draw in missing],
                cancellation=self._calls,
            )
            for completion in stream:
                if self._closing.is_set():
                    raise CancelledError
                arrived(missing[completion.prompt_index], completion)

        shop.patience.call("policy", attempt)
        return [judged[name].result() for draw in draws for name in names[draw.number]]

    def _submit(self, answer: Answer) -> "Future[Sample]":
        return self._judges.submit(lambda: self._workshop.judge([answer])[0])

    def _wait_for_weights(self) -> None:
        """Returns when the policy serves weights of this run; else the training thread pushes them."""
        publisher = self._workshop.publisher
        while not publisher.serving_epoch():
            self._policy_is_behind.set()
            if self._closing.wait(_LOOK_SECONDS):
                raise CancelledError
