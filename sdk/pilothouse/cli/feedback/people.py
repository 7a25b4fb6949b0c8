"""Raters: invited, measured, kept out, forgotten."""

import math
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.feedback.connect import connect
from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import console, notices, null_for_nan, table, write_json
from pilothouse.client import Estimate, RaterState

QueueName = Annotated[str, typer.Option("--queue", help="Only this queue.")]
Rater = Annotated[
    str, typer.Argument(metavar="RATER", help="Id or pseudonym, as `feedback raters` shows them, or name.")
]


def invite(
    admin: Annotated[bool, typer.Option("--admin", help="Lets the person see the admin pages.")] = False,
    valid_hours: Annotated[int, typer.Option(min=1, help="How long the link works.")] = 168,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Makes a link that lets one person register."""
    with connect(target, timeout, config, overrides) as client:
        made = client.invite(admin=admin, valid_seconds=valid_hours * 3600)
    if json:
        write_json(made)
        return
    console().print(Text(made.url or made.token))


def raters(
    queue: QueueName = "",
    target: Target = None,
    timeout: Timeout = 120.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Lists the raters under their pseudonyms, with what is known of their work."""
    with connect(target, timeout, config, overrides) as client:
        found = client.raters(queue)
    if json:
        write_json(null_for_nan(found))
        return
    rows = table(
        "rater", "pseudonym", "state", "rankings", "skips", "agreement", "gold", "reliability", "drift", ""
    )
    for report in found:
        rows.add_row(
            report.rater,
            report.pseudonym,
            report.state,
            str(report.rankings),
            str(report.skips),
            *(_share(value) for value in (report.agreement, report.gold_accuracy, report.reliability)),
            "" if math.isnan(report.drift) else f"{report.drift:+.0%}",
            Text(", ".join(report.suspicions), style="yellow"),
        )
    console().print(rows)


def rater(
    rater: Rater,
    state: Annotated[RaterState, typer.Argument(help="`excluded`: nothing of the work counts.")],
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Lets a rater in or keeps one out, and says whether the work counts."""
    with connect(target, timeout, config, overrides) as client:
        client.set_rater_state(rater, state)
    notices().print(Text(f"rater {rater}: {state}"))


def erase(
    rater: Rater,
    yes: Annotated[bool, typer.Option("--yes", help="Does not ask.")] = False,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Forgets a person. The rankings stay, under a pseudonym that nothing links to the old one."""
    if not yes:
        typer.confirm(f"Forget the person behind {rater}, for good?", abort=True)
    with connect(target, timeout, config, overrides) as client:
        kept = client.erase_rater(rater)
    notices().print(Text(f"forgotten; {kept} rankings stay, without a person"))


def quality(
    queue: QueueName = "",
    target: Target = None,
    timeout: Timeout = 120.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Measures agreement and bias. Typical agreement of people on pairs is 63 to 80 %."""
    with connect(target, timeout, config, overrides) as client:
        found = client.quality(queue)
    if json:
        write_json(null_for_nan(found))
        return
    rows = table("measure", "value", "95 % interval")
    rows.add_row("rankings", str(found.rankings), "")
    rows.add_row("tasks of two or more raters", str(found.overlapping_tasks), "")
    rows.add_row("Krippendorff's alpha, ordinal", *_told(found.alpha, ".3f"))
    rows.add_row("pairwise agreement", *_told(found.pair_agreement, ".1%"))
    rows.add_row("Kendall's tau-b", *_told(found.tau, ".3f"))
    rows.add_row("gold accuracy", *_told(found.gold_accuracy, ".1%"))
    rows.add_row("longer answer preferred", *_told(found.longer_preferred, ".1%"))
    tops = " ".join(f"{share:.0%}" for share in found.top_by_position)
    rows.add_row("top answer by shown position", tops, "")
    console().print(rows)


def _told(estimate: Estimate, form: str) -> tuple[str, str]:
    if math.isnan(estimate.value):
        return "unknown", ""
    return f"{estimate.value:{form}}", f"{estimate.low:{form}} to {estimate.high:{form}}"


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"
