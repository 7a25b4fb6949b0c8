"""The loop demo, from nothing to a report."""

from pathlib import Path

from rich.console import Console

from pilothouse.models.memory import keep_freed_memory
from pilothouse.trainer.demo.loop.job import LoopJob
from pilothouse.trainer.demo.loop.story import summarise, tell, write
from pilothouse.trainer.display import Display
from pilothouse.trainer.logs import log_to


def run_loop_demo(folder: Path, *, seed: int, browser: bool, console: Console) -> bool:
    """Runs the demo, going on where an earlier call with the same seed was cut off.

    Args:
        folder: The run directory; gets ``summary.json`` and ``report.html``.
        seed: Of everything.
        browser: One of the crowd ranks on the page, in Chromium.
        console: Where to show it.

    Returns:
        Whether every condition held.

    Raises:
        ConfigError: There is no browser.
        PilothouseError: A part failed; the message says why.
        KeyboardInterrupt: Ended by the user; what was done is kept.
    """
    keep_freed_memory()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    display = Display(console)
    console.print(
        f"[bold]The closed loop on a tiny model, with a simulated crowd[/bold], seed {seed}, in {folder}"
    )
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log, log_to(log), display.live():
        results = LoopJob(folder, seed, display, browser=browser).run()
    summary = summarise(results, seed)
    report = write(summary, results, folder)
    tell(console, summary, report)
    return summary.passed
