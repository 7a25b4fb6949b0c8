"""The main job: from texts and labels to a policy that does better, and a report that shows it."""

from pathlib import Path

from rich.console import Console

from pilothouse.models.memory import keep_freed_memory
from pilothouse.trainer.demo.curves import charts
from pilothouse.trainer.demo.job import Job
from pilothouse.trainer.demo.recipe import REAL, TINY_DEMO
from pilothouse.trainer.demo.story import sample_pairs, summarise, tell
from pilothouse.trainer.display import Display
from pilothouse.trainer.logs import log_to
from pilothouse.trainer.report import write_report
from pilothouse.trainer.summary import write_summary


def run_demo(folder: Path, *, tiny: bool, seed: int, console: Console) -> bool:
    """Runs the demo, going on where an earlier call with the same seed was cut off.

    Args:
        folder: The run directory; gets ``summary.json`` and ``report.html``.
        tiny: The tiny demo instead of the real one.
        seed: Of everything.
        console: Where to show it.

    Returns:
        Whether every condition of `pilothouse.trainer.summary.Summary` held.

    Raises:
        PilothouseError: A stage failed; the message says why.
        KeyboardInterrupt: Ended by the user; what was done is kept.
    """
    keep_freed_memory()  # before the first tensor, which is not a trainer's here
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    display, recipe = Display(console), TINY_DEMO if tiny else REAL
    console.print(f"[bold]{recipe.title}[/bold], seed {seed}, in {folder}")
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log, log_to(log), display.live():
        results = Job(folder, recipe, seed, display).run()
    summary, pairs = summarise(recipe, seed, folder.name, results), sample_pairs(results)
    write_summary(summary, folder)
    report = write_report(summary, charts(recipe, results), pairs, folder)
    tell(console, summary, pairs, report)
    return summary.passed
