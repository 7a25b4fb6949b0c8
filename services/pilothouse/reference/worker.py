"""One thread that computes, so that the event loop never waits for the model."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from pilothouse.errors import DrainingError

ResultT = TypeVar("ResultT")


class Worker:
    """Runs one job after the other, in the order they came."""

    def __init__(self, threads: int | None = None) -> None:
        """Starts no thread before the first job.

        Args:
            threads: Of the operators that jobs call; None for torch's choice.
        """
        self._closing = threading.Event()
        # OpenMP keeps its number of threads per calling thread, so it must be set in this one.
        initializer = None if threads is None else lambda: torch.set_num_threads(threads)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reference", initializer=initializer)

    async def run(self, job: Callable[[Callable[[], bool]], ResultT]) -> ResultT:
        """Returns what ``job`` returns; it is given a question to ask now and then: has the caller gone?

        Raises:
            DrainingError: The worker was closed before the job had ended.
        """
        gone = threading.Event()

        def stop() -> bool:
            return gone.is_set() or self._closing.is_set()

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, job, stop)
        finally:
            gone.set()
        if self._closing.is_set():
            raise DrainingError("the server is shutting down; send the request to another one")
        return result

    def close(self) -> None:
        """Ends the running job at its next question and waits for it; jobs that wait are dropped."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
