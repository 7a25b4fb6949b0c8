"""Spreads prompts over all replicas of the policy that serve the newest weights."""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy.typing as npt

from pilothouse.client import Cancellation, Completion, PolicyLogprobs, PolicyModel, Prompts, SamplingParams
from pilothouse.tensors import Tokens
from pilothouse.trainer.replicas import Replica, Replicas

Item = TypeVar("Item")
Result = TypeVar("Result")


class PolicyReplicas:
    """The policy, as one."""

    def __init__(self, replicas: Replicas, calls: int) -> None:
        """Spreads over ``replicas``; prompts go in ``calls`` calls, each to one of them."""
        self._replicas = replicas
        self._calls = calls

    def generate(
        self, prompts: Prompts, sampling: SamplingParams | None = None, *, n: int, seeds: Sequence[int]
    ) -> list[Completion]:
        """Returns ``n`` completions of every prompt, by prompt, then by sample.

        Which prompts go together follows from their number alone, and every replica computes one call at a
        time, so that results do not depend on how many replicas there are. A lost replica's prompts go to
        another one.

        Raises:
            UnavailableError: No replica is left.
            PilothouseError: See `pilothouse.client.PolicyClient.generate`.
        """
        cancellation = Cancellation()

        def call(part: range) -> list[Completion]:
            found = self._replicas.anywhere(
                lambda replica: replica.policy.generate(
                    prompts[part.start : part.stop],
                    sampling,
                    n=n,
                    seeds=seeds[part.start : part.stop],
                    cancellation=cancellation,
                ),
                alone=True,
            )
            return [replace(entry, prompt_index=entry.prompt_index + part.start) for entry in found]

        found = in_parallel(parts(len(prompts), self._calls), call, cancellation)
        return [entry for part in found for entry in part]

    def stream(
        self,
        prompts: Sequence[Tokens],
        sampling: SamplingParams,
        *,
        n: int,
        seeds: Sequence[int],
        cancellation: Cancellation | None = None,
    ) -> Iterator[Completion]:
        """Yields completions as they end. Closing the iterator ends what runs, and so does ``cancellation``.

        Raises:
            UnavailableError: A replica was lost; what it had still to say is for the caller to ask again.
            concurrent.futures.CancelledError: The calls were cancelled.
        """
        events: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        calls = Cancellation()

        def call(part: range, replica: Replica) -> None:
            stream = replica.policy.stream(
                prompts[part.start : part.stop],
                sampling,
                n=n,
                seeds=seeds[part.start : part.stop],
                cancellation=calls,
            )
            for event in stream:
                if isinstance(event, Completion):
                    events.put(replace(event, prompt_index=event.prompt_index + part.start))

        def told(part: range) -> None:
            try:
                self._replicas.once(partial(call, part))
            except BaseException as error:
                events.put(error)
            finally:
                events.put(None)

        found = parts(len(prompts), self._calls)
        with ThreadPoolExecutor(len(found), thread_name_prefix="generate") as threads:
            for part in found:
                threads.submit(told, part)
            try:
                with (cancellation or Cancellation()).over(calls):
                    yield from _until_all_end(events, len(found))
            finally:
                calls.cancel()

    def logprobs(
        self, sequences: Sequence[Tokens], prompt_lengths: npt.ArrayLike, temperature: float = 1.0
    ) -> PolicyLogprobs:
        """Returns one replica's log-probs of response tokens; see `pilothouse.client.PolicyClient`."""
        return self._replicas.anywhere(
            lambda replica: replica.policy.logprobs(sequences, prompt_lengths, temperature)
        )

    def model(self) -> PolicyModel:
        """Returns what one replica serves that has the newest weights.

        Raises:
            UnavailableError: None can be reached.
        """
        self._replicas.ask()
        return self._replicas.anywhere(lambda replica: replica.policy.model())

    def wait_ready(self, timeout_seconds: float) -> None:
        """As `Replicas.wait_ready`.

        Raises:
            UnavailableError: None does.
        """
        self._replicas.wait_ready(timeout_seconds)


def parts(count: int, calls: int) -> list[range]:
    """Returns ``range(count)`` in at most ``calls`` consecutive parts of about one length, none empty."""
    calls = min(calls, count)
    ends = [count * (index + 1) // calls for index in range(calls)]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def in_parallel(items: Sequence[Item], work: Callable[[Item], Result], calls: Cancellation) -> list[Result]:
    """Does the same with every item, at the same time where there are several; in their order.

    Args:
        items: At least one.
        work: Its calls are ``calls``' to end when one of them fails or this thread is interrupted.
        calls: Of all items.
    """
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(len(items)) as threads:
        futures = [threads.submit(work, item) for item in items]
        try:
            for ended in wait(futures, return_when=FIRST_EXCEPTION).done:
                ended.result()
            return [future.result() for future in futures]
        except BaseException:
            calls.cancel()
            raise


def _until_all_end(
    events: "queue.SimpleQueue[Completion | BaseException | None]", running: int
) -> Iterator[Completion]:
    while running:
        event = events.get()
        if event is None:
            running -= 1
        elif isinstance(event, BaseException):
            raise event
        else:
            yield event
