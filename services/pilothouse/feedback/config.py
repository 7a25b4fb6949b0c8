"""Settings of the feedback service."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.config import Config
from pilothouse.server.config import ServerConfig, is_loopback


class PageConfig(Config):
    """The page where people rank, and who may stay logged in."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback also needs ``allow_insecure`` or an ``https`` address."""
    port: int = Field(default=0, ge=-1, le=65535)
    """HTTP port of the page; 0 takes any free one, so that links of invitations end with the process, -1
    serves none."""
    address: str = ""
    """What people type, for example ``https://rank.example.org``; empty for ``http://HOST:PORT``. With
    ``https`` (a proxy ends TLS), cookies are sent over TLS only."""
    allow_insecure: bool = False
    """Listen beyond loopback although passwords would travel unencrypted."""
    session_hours: float = Field(default=12.0, gt=0)
    """Longest time a browser stays logged in."""
    idle_minutes: float = Field(default=120.0, gt=0)
    """A browser that asks nothing for so long is logged out."""
    request_seconds: float = Field(default=30.0, gt=0)
    """Longest time for a request to arrive, from its first byte to its last; a later one is cut off."""
    login_attempts_per_minute: int = Field(default=10, ge=1)
    """Tries to log in from one address or for one name; more are refused for a minute."""

    @model_validator(mode="after")
    def _refuse_an_open_door(self) -> Self:
        if not (self.allow_insecure or self.address.startswith("https://") or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host} is reachable from other machines, and passwords would travel unencrypted; "
                "listen on 127.0.0.1, put a proxy with TLS before it and set address to its https:// "
                "address, or set allow_insecure = true inside a trusted network"
            )
        return self


class FeedbackConfig(Config):
    """Settings of one feedback process."""

    database: str = "sqlite:///feedback.db"
    """Where everything is kept: ``sqlite:///PATH`` or ``postgresql+psycopg://USER@HOST/NAME``. Several
    processes may share one PostgreSQL."""
    server: ServerConfig = ServerConfig()
    """The gRPC server."""
    page: PageConfig = PageConfig()
    """The page."""
    lease_seconds: int = Field(default=900, ge=5)
    """How long a claimed task stays reserved, where its queue does not say otherwise."""
    undo_seconds: float = Field(default=120.0, ge=0)
    """How long a rater may take a submission back."""
    max_text_characters: int = Field(default=32_768, ge=1)
    """Longest prompt, answer or comment."""
    max_import_bytes: int = Field(default=256 * 2**20, ge=1024)
    """Largest imported file."""
