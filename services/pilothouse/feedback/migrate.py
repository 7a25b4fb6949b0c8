"""``python -m pilothouse.feedback.migrate``: brings the database's tables to this version, and ends.

The service does the same when it starts. Where several processes share one database this comes first, so that
a failing migration stops an upgrade before any process of the new version runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pilothouse.config import load
from pilothouse.errors import ConfigError, PilothouseError
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.server.main import EXIT_CONFIG, EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Migrates the configured database and returns the exit status; what is wrong is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m pilothouse.feedback.migrate")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="feedback.KEY=VALUE")
    options = parser.parse_args(arguments)
    try:
        config = load(FeedbackConfig, "feedback", file=options.config, overrides=options.overrides)
        database = Database(config.database)
        try:
            database.migrate()
        finally:
            database.close()
    except PilothouseError as error:
        sys.stderr.write(f"migrate: {error}\n")
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
