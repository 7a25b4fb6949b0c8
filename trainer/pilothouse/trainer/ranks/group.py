"""Processes that compute together: how they meet, sum and tell, and how they notice that one is lost.

Everything goes over torch.distributed: gloo for what lies on the CPU, NCCL for what lies on a GPU. Nothing is
pickled: what is told is JSON and tensors.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pilothouse.errors import RankLostError
from pilothouse.trainer.ranks.config import RanksConfig
from pilothouse.trainer.ranks.place import Place

Json = Mapping[str, Any]
"""What `json` reads and writes."""

BUCKET_BYTES = 2**25
"""Small tensors are summed together, in one message of about this size."""
_LOST = "lost"
"""Key under which rank 0 leaves what the roll call has found."""
_DTYPES = {
    str(dtype): dtype
    for dtype in (
        torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.int64, torch.bool,
    )
}  # fmt: skip


class Group:
    """This process and the others, as `pilothouse.trainer.ppo.ragged.Ranks`.

    All ranks must call in the same order. Any call raises `RankLostError` when a rank has died, or has not
    answered for the timeout; the group is of no use from then on.
    """

    def __init__(self, place: Place, store: Store, roll: dist.ProcessGroup, timeout: timedelta) -> None:
        self.size = place.size
        self.index = place.index
        self._store = store
        self._roll = roll
        self._timeout = timeout
        self._lost: RankLostError | None = None

    @classmethod
    @contextmanager
    def joined(cls, place: Place, config: RanksConfig, device: str) -> "Iterator[Group]":
        """Waits until all ranks have come, and leaves them on exit.

        Args:
            place: Of this process.
            config: How long to wait.
            device: Where the models live.

        Raises:
            RankLostError: Not all came in time.
        """
        timeout = timedelta(seconds=config.timeout_seconds)
        try:
            store = _meet(place, timedelta(seconds=config.start_seconds))
            dist.init_process_group(
                _backend(device), store=store, rank=place.index, world_size=place.size, timeout=timeout
            )
            # The roll is called when the group above is broken, so it has connections of its own.
            roll = dist.new_group(backend="gloo", timeout=timeout)
        except RuntimeError as error:
            raise RankLostError(
                f"rank {place.index} did not meet all {place.size} ranks ({_first_line(error)}); start every "
                "rank with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"
            ) from error
        try:
            yield cls(place, store, roll, timeout)
        finally:
            with suppress(RuntimeError):  # a broken group has nothing left to say
                dist.destroy_process_group()

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum of every rank's tensor, of equal shape."""
        return self._reduce(tensor.clone(), dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over ranks."""
        return self._reduce(tensor.clone(), dist.ReduceOp.MAX)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over ranks into each tensor's place; every rank gets the same bits."""
        for bucket in _buckets(tensors):
            total = self._reduce(torch.cat([tensor.flatten() for tensor in bucket]), dist.ReduceOp.SUM)
            parts = total.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def tell(self, what: Json, tensors: Sequence[Tensor]) -> None:
        """Sends JSON and tensors to all; rank 0's. The others `hear`."""
        shapes = [(str(tensor.dtype), list(tensor.shape)) for tensor in tensors]
        text = torch.frombuffer(bytearray(json.dumps([what, shapes]).encode()), dtype=torch.uint8)
        for tensor in (torch.tensor([len(text)]), text, *tensors):
            self._broadcast(tensor.detach().cpu().contiguous())

    def hear(self) -> tuple[Json, list[Tensor]]:
        """Returns what rank 0 tells; the tensors lie on the CPU."""
        length = self._broadcast(torch.zeros(1, dtype=torch.int64))
        text = self._broadcast(torch.empty(int(length), dtype=torch.uint8))
        what, shapes = json.loads(text.numpy().tobytes())
        return what, [self._broadcast(torch.empty(shape, dtype=_DTYPES[dtype])) for dtype, shape in shapes]

    def _reduce(self, tensor: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        with self._noticing():
            dist.all_reduce(tensor, how)
        return tensor

    def _broadcast(self, tensor: Tensor) -> Tensor:
        with self._noticing():
            dist.broadcast(tensor, src=0)
        return tensor

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        if self._lost:
            raise self._lost
        try:
            yield
        except RuntimeError as error:  # all that torch raises when a peer hangs up or is silent
            lost = " and ".join(f"rank {rank}" for rank in self._call_roll()) or "the connection"
            self._lost = RankLostError(
                f"{lost} of {self.size} ranks was lost ({_first_line(error)}); start all ranks again: the "
                "run goes on from its last checkpoint"
            )
            raise self._lost from error

    def _call_roll(self) -> list[int]:
        """Returns the ranks that do not answer. The living call this too, when they notice."""
        if self.index:
            try:
                dist.send(torch.ones(1), 0, group=self._roll)
                self._store.wait([_LOST], 2 * self._timeout)  # rank 0 waits for one timeout
                lost: list[int] = json.loads(self._store.get(_LOST))
            except RuntimeError:
                return [0]
            return lost
        seats = torch.zeros(self.size)
        answers: dict[int, Any] = {}
        for rank in range(1, self.size):
            with suppress(RuntimeError):  # it has hung up
                answers[rank] = dist.irecv(seats[rank : rank + 1], rank, group=self._roll)
        deadline = time.monotonic() + self._timeout.total_seconds()
        present = {rank for rank, answer in answers.items() if _came(answer, deadline)}
        lost = sorted({*range(1, self.size)} - present)
        self._store.set(_LOST, json.dumps(lost))
        return lost


def _meet(place: Place, longest: timedelta) -> Store:
    """Returns the store, at rank 0 or at torchrun, that all ranks have reached."""
    found, _, _ = next(rendezvous("env://", timeout=longest))
    # torchrun keeps its store when it starts all ranks again: addresses of the dead are in it.
    store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), found)
    if store.add(f"rank {place.index}", 1) > 1:
        raise RankLostError(
            f"rank {place.index} is back before the others have noticed that it was lost; start it again"
        )
    return store


def _backend(device: str) -> str:
    """Returns what carries tensors, and makes this process's GPU the current one."""
    if torch.device(device).type != "cuda":
        return "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return "cpu:gloo,cuda:nccl"


def _came(answer: dist.Work, deadline: float) -> bool:
    """Returns whether a message has come by a time of `time.monotonic`."""
    try:
        answer.wait(timedelta(seconds=max(deadline - time.monotonic(), 1)))
    except RuntimeError:
        return False
    return True


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields the tensors, in order, in lists of one dtype and at least one tensor each."""
    bucket: list[Tensor] = []
    size_bytes = 0
    for tensor in tensors:
        if bucket and (size_bytes + tensor.nbytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size_bytes = [], 0
        bucket.append(tensor)
        size_bytes += tensor.nbytes
    if bucket:
        yield bucket


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". This is typically")[0]
