"""Embedded mode: the services as supervised child processes on loopback ports."""

from pilothouse.local.config import LocalConfig
from pilothouse.local.events import ServiceStatus, StackEvent
from pilothouse.local.services import Endpoint, Service
from pilothouse.local.stack import LocalStack

__all__ = ["Endpoint", "LocalConfig", "LocalStack", "Service", "ServiceStatus", "StackEvent"]
