"""How findings are told."""

from collections.abc import Sequence

import typer
from rich.text import Text

from pilothouse.cli.doctor.findings import Finding
from pilothouse.cli.exits import Exit
from pilothouse.cli.output import console, state_text, table, write_json


def report(found: Sequence[Finding], *, json: bool) -> None:
    """Writes findings to stdout, as a table or as one JSON object.

    Raises:
        typer.Exit: With `Exit.FAILED`, if something is an error.
    """
    wrong = [finding for finding in found if finding.level == "error"]
    if json:
        write_json({"healthy": not wrong, "findings": found})
    else:
        _show(found)
    if wrong:
        raise typer.Exit(Exit.FAILED)


def _show(found: Sequence[Finding]) -> None:
    rows = table("check", "", "found")
    for finding in found:
        detail = Text(finding.detail)
        if finding.mend:
            detail.append(f"\nmend: {finding.mend}", style="bold")
        rows.add_row(Text(finding.check), state_text(finding.level), detail)
    console().print(rows)
    errors = sum(finding.level == "error" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    console().print(Text(f"{errors} errors, {warnings} warnings"))
