"""What every service's ``__main__`` does: read the configuration, build, serve, drain."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from pilothouse.config import Config, load
from pilothouse.errors import ConfigError, PilothouseError
from pilothouse.server.config import check_doors
from pilothouse.server.logs import configure_logging
from pilothouse.server.server import Server, run_until_signal
from pilothouse.tls import adopt

ConfigT = TypeVar("ConfigT", bound=Config)

Build = Callable[[ConfigT], AbstractAsyncContextManager[Sequence[Server]]]
"""Makes a service: yields its servers, servicers added, listening at most; frees the engine on exit."""

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130


def serve_main(
    name: str, schema: type[ConfigT], build: Build[ConfigT], arguments: Sequence[str] | None = None
) -> int:
    """Runs a service until SIGTERM or SIGINT and returns its exit status.

    Takes ``--config FILE`` and any number of ``--set section.key=value``. With a section ``tls`` its servers
    and clients use mutual TLS. What is wrong with the configuration or the model is told in one line on
    stderr.

    Args:
        name: The section of the configuration, for example ``policy``.
        schema: The section's model.
        build: Makes the servers; imports what is heavy, so that a wrong setting is told at once.
        arguments: Of the command line; None for the process's own.
    """
    options = _parser(name).parse_args(arguments)
    try:
        config = load(schema, name, file=options.config, overrides=options.overrides)
        identity = adopt(options.config, options.overrides)
        check_doors(name, config, secured=identity is not None)
    except PilothouseError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_CONFIG
    configure_logging(_log_level(config))
    try:
        asyncio.run(_serve(build, config))
    except PilothouseError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


async def _serve(build: Build[ConfigT], config: ConfigT) -> None:
    async with build(config) as servers:
        # What start-up has made stays to the end. A full collection would walk all of it between two tokens:
        # 170 ms where torch is loaded.
        gc.collect()
        gc.freeze()
        try:
            for server in servers:
                await server.start()
        except BaseException:
            await asyncio.gather(*(server.abort() for server in servers))
            raise
        await run_until_signal(list(servers))


def _log_level(config: Config) -> str:
    """Returns the level of the section's ``server``, which every service's section has."""
    level: str = getattr(getattr(config, "server", None), "log_level", "info")
    return level


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m pilothouse.{name}", description=f"Runs the {name} service."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with a section per service")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="overrides one setting",
    )
    return parser
