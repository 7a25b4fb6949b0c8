"""Data sets out of the feedback service, and files of other tools into it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.feedback.connect import connect
from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import notices, write_json
from pilothouse.client import ExportFormat, FileFormat, Split

Shape = Annotated[ExportFormat, typer.Option("--format", help="Shape of the records.")]
Files = Annotated[FileFormat, typer.Option("--file-format", help="How tables are written.")]


def export(
    folder: Annotated[Path, typer.Argument(help="New folder for data, manifest and card.")],
    queue: Annotated[str, typer.Option("--queue", help="Only this queue.")] = "",
    format: Shape = "ranking",
    file_format: Files = "jsonl",
    conversational: Annotated[bool, typer.Option(help="Writes texts as messages too.")] = False,
    split: Annotated[Split, typer.Option(help="Part of the prompts.")] = "all",
    held_out_percent: Annotated[int, typer.Option(min=0, max=90, help="Share held out.")] = 0,
    target: Target = None,
    timeout: Timeout = 300.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Writes a data set: data, `manifest.json` and a card. The same database gives the same bytes."""
    with connect(target, timeout, config, overrides) as client:
        manifest = client.export(
            folder,
            queue=queue,
            format=format,
            file_format=file_format,
            conversational=conversational,
            split=split,
            held_out_percent=held_out_percent,
        )
    if json:
        write_json(manifest)
        return
    notices().print(Text(f"{manifest['records']} records written to {folder}"))


def import_(
    queue: Annotated[str, typer.Argument(help="Queue to import into.")],
    file: Annotated[Path, typer.Argument(help="File of another tool, or of an export.")],
    format: Shape = "ranking",
    file_format: Files = "jsonl",
    target: Target = None,
    timeout: Timeout = 300.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Adds the records of a file, all or none; those that are there already are passed over."""
    with connect(target, timeout, config, overrides) as client:
        added = client.import_file(queue, file, format=format, file_format=file_format)
    if json:
        write_json(added)
        return
    notices().print(
        Text(f"{added.tasks} tasks and {added.rankings} rankings added, {added.known} were there already")
    )
