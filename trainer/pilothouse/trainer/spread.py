"""Spreads prompts over all replicas of the policy that serve the newest weights."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy.typing as npt

from pilothouse.client import Completion, PolicyLogprobs, PolicyModel, Prompts, SamplingParams
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

        def call(part: range) -> list[Completion]:
            found = self._replicas.anywhere(
                lambda replica: replica.policy.generate(
                    prompts[part.start : part.stop], sampling, n=n, seeds=seeds[part.start : part.stop]
                ),
                alone=True,
            )
            return [replace(entry, prompt_index=entry.prompt_index + part.start) for entry in found]

        return [entry for found in in_parallel(parts(len(prompts), self._calls), call) for entry in found]

    def stream(
        self, prompts: Sequence[Tokens], sampling: SamplingParams, *, n: int, seeds: Sequence[int]
    ) -> Iterator[Completion]:
        """Yields completions as they end. Closing the iterator cancels what is still running.

        Raises:
            UnavailableError: A replica was lost; what it had still to say is for the caller to ask again.
        """
        events: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        closed = threading.Event()

        def call(part: range, replica: Replica) -> None:
            stream = replica.policy.stream(
                prompts[part.start : part.stop], sampling, n=n, seeds=seeds[part.start : part.stop]
            )
            for event in stream:
                if closed.is_set():
                    return
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
                yield from _until_all_end(events, len(found))
            finally:
                closed.set()

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
        """Returns when a replica takes calls.

        Raises:
            UnavailableError: None does in time.
        """
        self._replicas.wait_ready(timeout_seconds)


def parts(count: int, calls: int) -> list[range]:
    """Returns ``range(count)`` in at most ``calls`` consecutive parts of about one length, none empty."""
    calls = min(calls, count)
    ends = [count * (index + 1) // calls for index in range(calls)]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def in_parallel(items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """Does the same with every item, at the same time where there are several; in their order."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(work, items))


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
