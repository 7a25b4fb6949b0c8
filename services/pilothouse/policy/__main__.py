"""Runs the policy service: ``python -m pilothouse.policy --config FILE --set policy.key=value``."""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from pilothouse.policy.config import PolicyConfig
from pilothouse.server import Server, serve_main

SPINS = 10_000
"""How often a thread of OpenMP looks for work before it sleeps: a few tenths of a millisecond.

Long enough to go from one operator of a decode step to the next. The default of libgomp, milliseconds, holds
a core against whoever needs it: while another process hashed weights, a step took three times as long.
"""


def _build(config: PolicyConfig) -> AbstractAsyncContextManager[Sequence[Server]]:
    if "OMP_WAIT_POLICY" not in os.environ:  # it would be overruled
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when torch loads libgomp
    from pilothouse.policy.service import build  # torch only after the configuration has been read

    return build(config)


if __name__ == "__main__":
    sys.exit(serve_main("policy", PolicyConfig, _build))
