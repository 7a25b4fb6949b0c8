"""``python -m pilothouse.feedback --config FILE --set feedback.key=value``."""

import sys

from pilothouse.feedback.build import build
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.server import serve_main

if __name__ == "__main__":
    sys.exit(serve_main("feedback", FeedbackConfig, build))
