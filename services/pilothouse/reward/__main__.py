"""``python -m pilothouse.reward --config FILE --set reward.key=value``."""

import sys

from pilothouse.reward.build import build
from pilothouse.reward.config import RewardConfig
from pilothouse.server import serve_main

if __name__ == "__main__":
    sys.exit(serve_main("reward", RewardConfig, build))
