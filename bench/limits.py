"""What this machine allows, measured in the same run as the sides."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence

import torch

from pilothouse.models.panels import PanelLinear
from pilothouse.models.weights import Linear

CHUNK_BYTES = 1 << 20


def loopback_seconds(size_bytes: int) -> float:
    """Returns the seconds that one raw loopback TCP stream takes for ``size_bytes``, in 1 MiB writes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        peer, _ = listener.accept()
        with peer:
            buffer = bytearray(CHUNK_BYTES)
            left = size_bytes
            while left:
                left -= peer.recv_into(buffer, min(left, CHUNK_BYTES))
            peer.sendall(b"!")

    thread = threading.Thread(target=receive)
    thread.start()
    data = memoryview(bytes(CHUNK_BYTES))
    with listener, socket.create_connection(listener.getsockname()) as sender:
        start = time.perf_counter()
        for offset in range(0, size_bytes, CHUNK_BYTES):
            sender.sendall(data[: min(CHUNK_BYTES, size_bytes - offset)])
        sender.recv(1)
        seconds = time.perf_counter() - start
    thread.join()
    return seconds


class GemmFloor:
    """The matrix products of a decoder alone: what torch allows an engine that has nothing else to do.

    Each product runs on weights of its own, so that caches help it no more than they help an engine. They are
    stored in both ways that an engine has, whole and in panels; the faster one counts for every batch size.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Takes the (in, out) shape of every Linear of the model, the head last."""
        plain = [Linear((torch.randn(inputs, outputs) * 0.02).t()) for inputs, outputs in shapes]
        self._layouts: list[list[Linear]] = [plain, [PanelLinear.of(linear) for linear in plain]]
        self._seconds: dict[int, float] = {}

    def decode_seconds(self, response_lengths: Sequence[int]) -> float:
        """Returns the floor for sampling all responses together, each leaving the batch at its own length."""
        lengths = sorted(response_lengths)
        rows_per_step = Counter(sum(length > step for length in lengths) for step in range(lengths[-1]))
        for rows in rows_per_step.keys() - self._seconds.keys():
            self._seconds[rows] = self._measure(rows)
        return sum(steps * self._seconds[rows] for rows, steps in rows_per_step.items())

    def _measure(self, rows: int) -> float:
        inputs = {
            width: torch.randn(rows, width) for width in {part.weight.shape[1] for part in self._layouts[0]}
        }
        best = float("inf")
        with torch.inference_mode():
            for layout in self._layouts * 4:
                start = time.perf_counter()
                for linear in layout:
                    linear(inputs[linear.weight.shape[1]])
                best = min(best, time.perf_counter() - start)
        return best


def linear_shapes(
    width: int, kv_width: int, inner: int, layers: int, vocabulary: int
) -> list[tuple[int, int]]:
    """Returns the (in, out) shapes of a Llama-like decoder's products, fused as an engine may fuse them."""
    layer = [(width, width + 2 * kv_width), (width, width), (width, 2 * inner), (inner, width)]
    return layer * layers + [(width, vocabulary)]
