"""Gives the release's trainer a job: the chart's own Job with another configuration."""

import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, Object, at, labels_of, name_of
from pilothouse.cluster.objects import job_state
from pilothouse.cluster.release import Release
from pilothouse.cluster.run_files import RunFiles, Task
from pilothouse.errors import (
    AlreadyExistsError,
    ConfigError,
    NotFoundError,
    PilothouseError,
    PreconditionError,
)

TEMPLATE_KEY = "job.yaml"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MANAGED_BY = "app.kubernetes.io/managed-by"
PLACEHOLDER = "RUN_NAME"
"""In the template, where the name of the run stands: of the Job, and of the ConfigMap that its pods read."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is given to the API server."""

    job: Object
    settings: Object
    """The ConfigMap with configuration and data."""


def prepare(api: Api, release: Release, files: RunFiles, name: str | None) -> Submission:
    """Makes the objects of a run; nothing is created.

    Args:
        api: The cluster.
        release: Whose trainer.
        files: What the run reads.
        name: Of the Job; None for one that is made up.

    Raises:
        ConfigError: No Job can have this name.
        NotFoundError: The release has no template of a trainer's Job.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"--name '{name}': a Job's name has a to z, 0 to 9 and -, at most 63 of them")
    template = _template(api, release)
    chosen = name or f"{release.fullname}-{files.task.words[-1]}-{secrets.token_hex(3)}"
    # Replaced in what was parsed: in the text a name such as 007 would become a number.
    job: Object = _renamed(yaml.safe_load(template["data"][TEMPLATE_KEY]), chosen)
    _set_task(job, files.task)
    job["metadata"]["labels"][_MANAGED_BY] = "pilothouse-cluster"  # Helm does not know of it
    # Whatever removes the template, as `helm uninstall` does, removes its runs too.
    job["metadata"]["ownerReferences"] = [_owner(template, CONFIG_MAP.api_version, CONFIG_MAP.kind)]
    settings: Object = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {"name": chosen, "labels": labels_of(job)},
        "data": dict(files.texts),
    }
    if files.binaries:
        settings["binaryData"] = dict(files.binaries)
    return Submission(job, settings)


def submit(api: Api, submission: Submission) -> str:
    """Creates the objects of a run; returns the Job's name.

    Raises:
        AlreadyExistsError: There is a run of this name.
        InvalidRequestError: The API server refuses the Job.
    """
    name = name_of(submission.job)
    api.create(CONFIG_MAP, submission.settings)
    try:
        job = api.create(JOB, submission.job)
        owner = _owner(job, JOB.api_version, JOB.kind)
        api.patch(CONFIG_MAP, name, {"metadata": {"ownerReferences": [owner]}})
    except BaseException as error:  # Ctrl-C too
        with suppress(PilothouseError):
            # The Job may be there, where only the answer was lost.
            if isinstance(error, AlreadyExistsError) or not _is_there(api, name):
                api.delete(CONFIG_MAP, name)
        raise
    return name


def check_free(api: Api, release: Release) -> None:
    """Refuses while a trainer runs.

    Raises:
        PreconditionError: One does.
    """
    jobs = api.list(JOB, release.selector("trainer")).items
    busy = [name_of(job) for job in jobs if job_state(job) in ("running", "pending")]
    loops = api.list(DEPLOYMENT, release.selector("trainer")).items
    busy += [name_of(each) for each in loops if at(each, "spec", "replicas")]
    if busy:
        raise PreconditionError(
            f"{', '.join(busy)} trains; wait for it, `pilothouse cluster stop` it, or add --queue: a PPO "
            "run then waits until it can have the lease"
        )


def _renamed(found: Any, name: str) -> Any:
    if isinstance(found, dict):
        return {key: _renamed(value, name) for key, value in found.items()}
    if isinstance(found, list):
        return [_renamed(each, name) for each in found]
    return found.replace(PLACEHOLDER, name) if isinstance(found, str) else found


def _is_there(api: Api, job: str) -> bool:
    try:
        api.get(JOB, job)
    except NotFoundError:
        return False
    return True


def _template(api: Api, release: Release) -> Object:
    name = f"{release.fullname}-job-template"
    try:
        template = api.get(CONFIG_MAP, name)
    except NotFoundError:
        template = {}
    if PLACEHOLDER not in str(at(template, "data", TEMPLATE_KEY) or ""):
        raise NotFoundError(
            f"release {release.name} has no template of a trainer's job, ConfigMap {name}; `helm upgrade` "
            "it with trainer.enabled=true and this version's chart"
        )
    return template


def _set_task(job: Object, task: Task) -> None:
    """Puts the task's words between ``pilothouse`` and its options; drops unserved ports and probes."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        command: list[Any] = container.get("command") or []
        if "pilothouse" in command:
            start = command.index("pilothouse") + 1
            options = (place for place, word in enumerate(command) if str(word).startswith("-"))
            end = next((place for place in options if place > start), None)
            command[start:end] = task.words
            if not task.has_ports:
                for unserved in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
                    container.pop(unserved, None)


def _owner(found: Object, api_version: str, kind: str) -> Object:
    return {"apiVersion": api_version, "kind": kind, "name": name_of(found), "uid": found["metadata"]["uid"]}
