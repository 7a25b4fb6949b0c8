"""Free loopback ports that stay free while a service is restarted."""

import random
import socket
from collections.abc import Collection

from pilothouse.errors import ServiceStartError

# Below the range from which Linux takes ports for outgoing connections (32768 and up): there, a client that
# reconnects to a service while it is down could be given the very port, and even connect to itself.
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Returns whether a server could listen on ``port`` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free, one with a listener is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """Returns a port on which nobody listens.

    Args:
        taken: Ports already promised to others.

    Raises:
        ServiceStartError: None was found.
    """
    for _ in range(_TRIES):
        port = random.randint(_FIRST, _LAST)
        if port not in taken and is_free(port):
            return port
    raise ServiceStartError(f"no free port between {_FIRST} and {_LAST}; set the services' ports yourself")
