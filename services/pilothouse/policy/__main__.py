"""Runs the policy service: ``python -m pilothouse.policy --config FILE --set policy.key=value``."""

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from pilothouse.policy.config import PolicyConfig
from pilothouse.server import Server, serve_main


def _build(config: PolicyConfig) -> AbstractAsyncContextManager[Sequence[Server]]:
    from pilothouse.policy.service import build  # torch only after the configuration has been read

    return build(config)


if __name__ == "__main__":
    sys.exit(serve_main("policy", PolicyConfig, _build))
