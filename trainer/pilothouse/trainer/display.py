"""What long jobs show: a line per stage, with a bar on a terminal and plain lines elsewhere."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pilothouse.trainer.logs import log_to

_PLAIN_LINES = 10  # lines per stage where there is no terminal
_TITLE_WIDTH = 20


class Line:
    """One stage's line; a `pilothouse.trainer.progress.Progress`."""

    def __init__(self, bars: Progress, title: str, names: Sequence[str]) -> None:
        self._bars, self._title, self._names = bars, title, names
        self._task: TaskID = bars.add_task(f"{title:<{_TITLE_WIDTH}}", total=None, detail="")
        self._told = 0.0

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar and shows the chosen metrics."""
        chosen = self._names or tuple(metrics)
        known = {name: metrics[name] for name in chosen if name in metrics}
        self.show(done, total, "  ".join(f"{name} {value:.3g}" for name, value in known.items()))

    def show(self, done: float, total: float, detail: str = "") -> None:
        """Moves the bar and shows a text behind it."""
        self._bars.update(self._task, completed=done, total=total, detail=detail)
        if self._bars.disable and (done >= self._told + total / _PLAIN_LINES or done == total):
            self._told = done
            self._bars.console.print(f"  {done:.0f}/{total:.0f}  {detail}", highlight=False)

    def say(self, detail: str) -> None:
        """Shows a text behind the bar, or as a line of its own."""
        self._bars.update(self._task, detail=detail)
        if self._bars.disable and detail:
            self._bars.console.print(f"  {detail}", highlight=False)

    def finish(self) -> None:
        """Fills the bar."""
        total = self._bars.tasks[self._task].total or 1
        self._bars.update(self._task, completed=total, total=total)
        self._bars.stop_task(self._task)


class Display:
    """The lines of one job."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draws lines while the block runs."""
        with self._bars:
            yield

    @contextmanager
    def stage(self, title: str, names: Sequence[str] = ()) -> Iterator[Line]:
        """Shows a stage while the block runs.

        Args:
            title: Its name.
            names: Metrics to show; all where none is named.
        """
        if self._bars.disable:
            self.console.print(title)
        line = Line(self._bars, title, names)
        yield line
        line.finish()

    def note(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text)


@contextmanager
def one_line(title: str, names: Sequence[str] = ()) -> Iterator[Line]:
    """Shows a job of one stage, and its log, on standard error: standard output stays for results."""
    display = Display(Console(stderr=True))
    # sys.stderr is asked for inside: while bars are drawn it writes above them.
    with display.live(), display.stage(title, names) as line, log_to(sys.stderr):
        yield line
