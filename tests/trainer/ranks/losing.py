"""A process that sums with others until one of them is gone, in the way that the test names."""

import os
import signal
import sys

import torch

from pilothouse.cli.exits import exit_of
from pilothouse.errors import RankLostError
from pilothouse.trainer.ranks.config import RanksConfig
from pilothouse.trainer.ranks.group import Group
from pilothouse.trainer.ranks.place import Place


def main() -> int:
    place = Place.here()
    try:
        config = RanksConfig(timeout_seconds=float(os.environ["TIMEOUT"]), start_seconds=250)
        with Group.joined(place, config, "cpu") as group:
            group.sum(torch.ones(1))
            print("met", flush=True)
            if place.index == int(os.environ["LOST"]):
                os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
            group.sum(torch.ones(1000))
    except RankLostError as error:
        print(f"error: {error}")
        return exit_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
