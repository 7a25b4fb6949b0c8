"""Templates. Everything that is not written in one is escaped, whatever it is."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pilothouse.feedback.quality.intervals import Estimate
from pilothouse.feedback.tables import TaskState
from pilothouse.feedback.web.assets import Assets

_FOLDER = Path(__file__).parent / "templates"
NOTHING = "\u2013"
"""Stands for a number that is not known."""


def make_environment(assets: Assets) -> Environment:
    """Returns the templates, compiled on first use."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = assets.address
    environment.filters.update(
        percent=percent,
        decimal=decimal,
        moment=moment,
        duration=duration,
        known=known,
        ordinal=ordinal,
        task_state=task_state,
    )
    environment.filters["interval_bar"] = interval_bar
    return environment


def known(value: float | None) -> bool:
    """Returns whether a number is one."""
    return value is not None and not math.isnan(value)


def percent(value: float | None) -> str:
    """Returns ``0.714`` as ``71 %``."""
    return f"{100 * value:.0f}\u202f%" if value is not None and known(value) else NOTHING


def decimal(value: float | None) -> str:
    """Returns a number with two digits, and a minus sign of a figure's width."""
    return f"{value:.2f}".replace("-", "\u2212") if value is not None and known(value) else NOTHING


def moment(seconds: float) -> str:
    """Returns seconds since 1970 as a date and time, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Returns a length of time as people say it."""
    if not known(seconds) or seconds <= 0:
        return NOTHING
    return f"{seconds:.0f}\u202fs" if seconds < 120 else f"{seconds / 60:.0f}\u202fmin"


def ordinal(place: int) -> str:
    """Returns ``1`` as ``1st``."""
    return f"{place}{('st', 'nd', 'rd')[place - 1] if place <= 3 else 'th'}"


def task_state(state: str) -> str:
    """Returns a task's state as people say it."""
    return "being answered" if state == TaskState.FULL else state


def interval_bar(estimate: Estimate, low: float, high: float) -> dict[str, Any]:
    """Returns where an estimate and its interval lie on a scale from ``low`` to ``high``, in percent."""

    def place(value: float) -> float:
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    left, right = place(estimate.low), place(estimate.high)
    return {"left": left, "width": max(round(right - left, 2), 0.5), "at": place(estimate.value)}
