"""What commands write: tables and progress for people, JSON for scripts, nothing fancy into pipes."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 10_000


def console() -> Console:
    """Returns a console on stdout."""
    return _console(sys.stdout)


def notices() -> Console:
    """Returns a console on stderr, for what is not the result."""
    return _console(sys.stderr)


def write_json(value: object, *, lines: bool = False) -> None:
    """Writes a value as JSON to stdout; arrays become lists.

    Args:
        value: Dataclasses, arrays and paths may be anywhere in it.
        lines: On one line, for JSON Lines.
    """
    text = json.dumps(value, default=_plain, indent=None if lines else 2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def null_for_nan(value: object) -> Any:
    """Returns a value as JSON has it: dataclasses become objects, and what is not a number null."""
    if is_dataclass(value) and not isinstance(value, type):
        return null_for_nan(asdict(value))
    if isinstance(value, dict):
        return {key: null_for_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def table(*columns: str) -> Table:
    """Returns an empty table in the house's look."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def state_text(state: str) -> Text:
    """Returns a state in its colour."""
    good, bad = ("serving", "ok"), ("failed", "lost", "error", "stopped", "no answer")
    return Text(state, style="green" if state in good else "red" if state in bad else "yellow")


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being waited for: a spinner on a terminal, plain lines on stderr elsewhere.

    Yields:
        A function that replaces the text.
    """
    terminal = notices()
    if terminal.is_terminal:
        with terminal.status(Text(text)) as spinner:
            yield lambda news: spinner.update(Text(news))
        return
    last = ""

    def tell(news: str) -> None:
        nonlocal last
        if news != last:
            last = news
            terminal.print(Text(news))

    tell(text)
    yield tell


def _console(stream: TextIO) -> Console:
    # Into a pipe or a file a table is as wide as it needs to be: scripts cut columns, people see no folds.
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, highlight=False, soft_wrap=True, width=width)


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
