"""What every Pilothouse server has around its servicers."""

from pilothouse.server.config import ServerConfig
from pilothouse.server.logs import configure_logging
from pilothouse.server.main import serve_main
from pilothouse.server.server import Server, listening, run_until_signal

__all__ = ["Server", "ServerConfig", "configure_logging", "listening", "run_until_signal", "serve_main"]
