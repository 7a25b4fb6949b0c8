"""``lineage``: what is behind a checkpoint, as a command."""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.options import Json
from pilothouse.cli.output import console, write_json

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT", help="Folder of a checkpoint, of a run, or of a model that a run has made."
    ),
]


def lineage(checkpoint: Folder, json: Json = False) -> None:
    """Names the reward models, data snapshots, label counts and policy versions behind a checkpoint.

    What was moved, deleted or changed since is named as such; that is no failure.
    """
    from pilothouse.trainer.lineage import trace
    from pilothouse.trainer.lineage_tree import tree

    found = trace(checkpoint)
    if json:
        write_json(found)
    else:
        console().print(tree(found))
