"""Runs the reference service: ``python -m pilothouse.reference --config FILE --set reference.key=value``."""

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from pilothouse.reference.config import ReferenceConfig
from pilothouse.server import Server, serve_main


def _build(config: ReferenceConfig) -> AbstractAsyncContextManager[Sequence[Server]]:
    from pilothouse.reference.build import build  # torch only after the configuration has been read

    return build(config)


if __name__ == "__main__":
    sys.exit(serve_main("reference", ReferenceConfig, _build))
