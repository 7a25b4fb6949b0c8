"""The feedback service: how fast it accepts what people say, and how fast it gives all of it back."""

import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.compare import Row
from pilothouse.client import ExportFormat, FeedbackClient, FeedbackTask, FileFormat, QueueSettings, Ranking
from pilothouse.errors import NoTaskError
from pilothouse.local import LocalStack

RANKINGS, RATERS, ANSWERS = 20_000, 3, 4
CROWD, SUBMITS = 16, 1_600
_WORDS = ("the", "film", "was", "good", "and", "long", "but", "I", "liked", "its", "slow", "second", "half")


def measure(pairs: int, console: Console) -> Iterator[Row]:
    """Yields the rows of the feedback service, on SQLite."""
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [f"feedback.database=sqlite:///{scratch}/feedback.db", "feedback.page.port=-1"]
        folder = Path(scratch) / "services"
        folder.mkdir()
        with (
            LocalStack(overrides=overrides, services=("feedback",), folder=folder) as stack,
            FeedbackClient(stack.targets["feedback"], timeout_seconds=600) as feedback,
        ):
            console.print("[dim]feedback-submit[/dim]")
            yield submits(feedback, stack.targets["feedback"], Path(scratch))
            console.print("[dim]feedback-export[/dim]")
            fill(feedback)
            for format, file_format in (
                ("ranking", "parquet"),
                ("ranking", "jsonl"),
                ("preference", "parquet"),
            ):
                yield export(feedback, Path(scratch), format, file_format, pairs)  # type: ignore[arg-type]


def submits(feedback: FeedbackClient, target: str, scratch: Path) -> Row:
    """Claims and submissions of a crowd, each durable when answered, against bare synced appends."""
    feedback.put_queue(QueueSettings(name="crowd"))
    tasks = [FeedbackTask(id=f"crowd-{n}", prompt=f"prompt {n}", answers=["a", "b"]) for n in range(SUBMITS)]
    feedback.add_tasks("crowd", tasks)

    def work(number: int) -> None:
        with FeedbackClient(target) as client:
            rater = client.add_rater(f"crowd {number}")
            while True:
                try:
                    held = client.claim("crowd", rater)
                except NoTaskError:
                    return
                client.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=[1, 2]))

    started = time.perf_counter()
    with ThreadPoolExecutor(CROWD) as pool:
        list(pool.map(work, range(CROWD)))
    seconds = time.perf_counter() - started
    return Row(
        id="feedback-submit",
        unit="answers/s",
        ours=SUBMITS / seconds,
        peer=None,
        limit=1 / (2 * synced_append_seconds(scratch)),  # a claim and a submission are a commit each
        ratio=None,
        interval=None,
        parity=f"{feedback.progress('crowd').rankings} of {SUBMITS} answers are stored",
        goal=None,
    )


def synced_append_seconds(scratch: Path, count: int = 200) -> float:
    """Returns the time of writing a page to the end of a file and having it on disk."""
    with (scratch / "log").open("ab", buffering=0) as file:
        spent = []
        for _ in range(count):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def fill(feedback: FeedbackClient) -> None:
    """Puts many rankings of texts of 200 to 400 characters into a queue."""
    generator = np.random.Generator(np.random.Philox(0))
    feedback.put_queue(QueueSettings(name="many", overlap=RATERS))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rankings.jsonl"
        with file.open("w", encoding="utf-8") as stream:
            for number in range(RANKINGS):
                task = number // RATERS
                stream.write(_record(task, f"rater {number % RATERS}", generator) + "\n")
        feedback.import_file("many", file)


def export(
    feedback: FeedbackClient, scratch: Path, format: ExportFormat, file_format: FileFormat, pairs: int
) -> Row:
    """Everything in the queue, from the database to files on disk, measures included."""
    seconds, digests = [], set()
    for _ in range(pairs):
        folder = scratch / uuid.uuid4().hex
        started = time.perf_counter()
        manifest = feedback.export(folder, queue="many", format=format, file_format=file_format)
        seconds.append(time.perf_counter() - started)
        digests.add(manifest["digest"])
    return Row(
        id=f"feedback-export-{format}-{file_format}",
        unit=f"s for {RANKINGS:,}",
        ours=statistics.median(seconds),
        peer=None,
        limit=None,
        ratio=None,
        interval=(min(seconds), max(seconds)),
        parity=f"{len(digests)} different digest{'s' if len(digests) > 1 else ''} in {pairs} exports",
        goal=5.0,
    )


def _record(task: int, rater: str, generator: np.random.Generator) -> str:
    words = np.random.Generator(np.random.Philox(task))
    answers = [
        f"{number}: " + " ".join(words.choice(_WORDS, size=int(words.integers(45, 90))))
        for number in range(ANSWERS)
    ]
    ranks = (generator.permutation(ANSWERS) + 1).tolist()
    body = {"prompt": f"prompt {task}", "responses": answers, "ranks": ranks, "rater": rater}
    return json.dumps(body)
