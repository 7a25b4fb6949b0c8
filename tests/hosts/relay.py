"""A long bad line between two interfaces: ``relay.py ONE OTHER DELAY_SECONDS LOSS``.

The kernel's own means for it (``tc netem``) is a module that many machines lack.
"""

import random
import select
import socket
import sys
import time
from collections import deque

ALL_PROTOCOLS = 3
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_VNET_HDR = 263, 15
MAX_FRAME_BYTES = 2**17


def listen(interface: str) -> socket.socket:
    """Returns what takes and gives whole frames there."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    # Frames keep the kernel's own header, which says that their checksum is still to be computed.
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.bind((interface, ALL_PROTOCOLS))
    return port


def relay(one: socket.socket, other: socket.socket, delay_seconds: float, loss: float) -> None:
    """Carries frames to and fro for ever."""
    chance = random.Random(0)
    towards = {one: other, other: one}
    on_the_way: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        pause = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        for port in select.select([one, other], [], [], pause)[0]:
            frame, (_, _, kind, *_) = port.recvfrom(MAX_FRAME_BYTES)
            if kind != PACKET_OUTGOING and chance.random() >= loss:
                on_the_way.append((time.monotonic() + delay_seconds, towards[port], frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, port, frame = on_the_way.popleft()
            port.send(frame)


if __name__ == "__main__":
    one, other, delay_seconds, loss = sys.argv[1:]
    relay(listen(one), listen(other), float(delay_seconds), float(loss))
