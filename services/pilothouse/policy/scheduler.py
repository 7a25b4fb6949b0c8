"""Decides which completions run: a bounded first-come queue in front of a fixed number of slots."""

import time
from collections import deque
from collections.abc import Iterable

from pilothouse.errors import QueueFullError
from pilothouse.policy.requests import Prompt, Request, Sequence
from pilothouse.policy.sampling import WaitingTimes


class Scheduler:
    """Moves sequences from the queue to slots [0, running) and keeps those without holes.

    Knows nothing of tensors or threads; its owner serialises the calls.
    """

    def __init__(self, *, slots: int, max_waiting: int, prefill_tokens: int) -> None:
        """Starts empty.

        Args:
            slots: Most sequences that run at the same time.
            max_waiting: Most sequences in the queue.
            prefill_tokens: Most prompt tokens computed between two decode steps; a longer prompt goes alone.
        """
        self.slots = slots
        self.max_waiting = max_waiting
        self.running: list[Sequence] = []
        """By slot."""
        self._waiting: deque[Sequence] = deque()
        self._prefill_tokens = prefill_tokens

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Something runs or waits."""
        return bool(self.running or self._waiting)

    def submit(self, request: Request, retry_after_seconds: float = 1.0) -> None:
        """Queues all completions of a request, or none.

        Raises:
            QueueFullError: They do not fit into the queue.
        """
        if self.waiting + request.size > self.max_waiting:
            raise QueueFullError(
                f"{self.waiting} completions wait and {request.size} more exceed the limit of "
                f"{self.max_waiting}; retry later",
                retry_after_seconds,
            )
        request.submitted = time.monotonic()
        request.unfinished = request.size
        for index, (tokens, seed) in enumerate(zip(request.prompts, request.seeds, strict=True)):
            prompt = Prompt(tokens, waiting=request.n)
            for sample in range(request.n):
                sequence = Sequence(
                    request=request,
                    prompt=prompt,
                    prompt_index=index,
                    sample_index=sample,
                    sampling=request.sampling,
                    waiting_times=WaitingTimes(seed, sample),
                    stop=request.stop() if request.stop else None,
                )
                self._waiting.append(sequence)

    def admit(self) -> list[Sequence]:
        """Gives free slots to the sequences that have waited longest, within the prefill budget."""
        admitted: list[Sequence] = []
        fresh: set[int] = set()
        tokens = 0
        while self._waiting and len(self.running) < self.slots:
            prompt = self._waiting[0].prompt
            if prompt.kv is None and id(prompt) not in fresh:
                if fresh and tokens + len(prompt.tokens) > self._prefill_tokens:
                    break
                fresh.add(id(prompt))
                tokens += len(prompt.tokens)
            sequence = self._waiting.popleft()
            sequence.slot = len(self.running)
            prompt.waiting -= 1
            self.running.append(sequence)
            admitted.append(sequence)
        return admitted

    def release(self, sequence: Sequence) -> Sequence | None:
        """Frees a running sequence's slot.

        Returns:
            The sequence that now has the slot and whose keys and values must be moved there, or None.
        """
        slot, sequence.slot = sequence.slot, -1
        last = self.running.pop()
        if last is sequence:
            return None
        self.running[slot] = last
        last.slot = slot
        return last

    def drop_waiting(self, request: Request) -> None:
        """Takes a request's completions out of the queue."""
        self._waiting = deque(entry for entry in self._waiting if entry.request is not request)

    def forget_prompts(self) -> None:
        """Drops computed prompts of waiting completions: they start clean after a change of weights."""
        for sequence in self._waiting:
            sequence.prompt.kv = None

    def requests(self) -> Iterable[Request]:
        """Returns every request that runs or waits, once."""
        return dict.fromkeys(sequence.request for sequence in (*self.running, *self._waiting))
