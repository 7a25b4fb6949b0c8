"""Commands around a release: ``install-check``, ``submit``, ``bundle``."""

import datetime
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.text import Text

from pilothouse.cli.doctor.report import report
from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.cli.output import console, notices, progress, write_json
from pilothouse.cluster.bundling import Bundle
from pilothouse.cluster.checks import examine
from pilothouse.cluster.options import Where, identified, located
from pilothouse.cluster.run_files import run_files
from pilothouse.cluster.submitting import check_free, prepare
from pilothouse.cluster.submitting import submit as create
from pilothouse.errors import ConfigError


@located
def install_check(where: Where, json: Json = False) -> None:
    """Finds what a cluster lacks for Pilothouse, and what mends it; before `helm install` and after.

    Exit status 1 if something is an error.
    """
    report(list(examine(where.connect(), where.release)), json=json)


SubmittedFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The configuration file, the same as on the laptop.")
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="ppo, sft, reward-model or eval, if the file has several.",
    ),
]
RunName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Of the Job; else one is made up.")
]
Queue = Annotated[
    bool, typer.Option("--queue", help="Also while another trains; a PPO run then waits for its lease.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the objects, for `kubectl create -f -`, instead.")
]


@located
def submit(
    where: Where,
    config: SubmittedFile,
    overrides: Overrides = None,
    task: TaskName = None,
    name: RunName = None,
    queue: Queue = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Trains in the cluster what a configuration file describes.

    The release's addresses, ports and certificates take the place of the laptop's. Data files of this machine
    come along, up to 900 kB; models must be on a volume. Submitting a run again goes on from its checkpoint.
    """
    api, release = where.find()
    files = run_files(config, overrides or [], release.config, task)
    for notice in files.notices:
        notices().print(Text(notice))
    submission = prepare(api, release, files, name)
    parts = [submission.settings, submission.job]
    if dry_run and json:
        write_json({"apiVersion": "v1", "kind": "List", "items": parts})
        return
    if dry_run:
        for part in parts:
            console().print("---")
            console().print(Text(yaml.safe_dump(part, sort_keys=False, allow_unicode=True)))
        return
    if not queue:
        check_free(api, release)
    job = create(api, submission)
    if json:
        names = sorted({*files.texts, *files.binaries})
        write_json({"job": job, "namespace": release.namespace, "files": names})
    else:
        console().print(Text(f"job {job} is created; `pilothouse cluster watch --job {job}` follows it"))


Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Else pilothouse-RELEASE-TIME.tar.gz.")
]


@located
def bundle(where: Where, config: ConfigFile = None, out: Out = None, json: Json = False) -> None:
    """Writes objects, events, logs, metrics, configuration and versions into one file, for support.

    Values of Secrets and of environment variables, passwords, tokens and private keys are taken out; data
    given to jobs is left out. Look through it before you hand it on: logs may hold what people wrote.
    """
    api, release = where.find()
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    file = out or Path(f"pilothouse-{release.name}-{time}.tar.gz")
    with identified(api, release) as identity, progress("gathering"):
        gathered = Bundle(api, release, identity)
        try:
            names = gathered.write(file)
        except FileExistsError:
            raise ConfigError(f"{file} is there already; choose another --out") from None
    if json:
        write_json({"file": str(file), "entries": names, "problems": gathered.problems})
        return
    for problem in gathered.problems:
        notices().print(Text(f"left out: {problem}", "yellow"))
    console().print(Text(f"{file}: {len(names)} files"))
