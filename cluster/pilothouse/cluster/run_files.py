"""A laptop's configuration in the cluster: its settings, other addresses, and the files that come along."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pilothouse.cluster.kinds import at
from pilothouse.cluster.release import CONFIG_KEY
from pilothouse.cluster.toml import dumps
from pilothouse.config import parse, section_values
from pilothouse.errors import ConfigError, InvalidRequestError
from pilothouse.sections import check_names, schema

CONFIG_FOLDER, VOLUMES = "/etc/pilothouse", "/var/lib/pilothouse"
_ON_VOLUMES = ("data", "models", "runs", "reward-models")
"""Folders below `VOLUMES`, where a trainer's pod works."""
MAX_BYTES = 900_000
"""Of configuration and files together; a ConfigMap holds a mebibyte."""

_ADDRESSES = ("policy", "weights", "reward", "reference")
_OF_THE_PLACE = ("server", "lease", "device")
_PATIENCE = "wait_seconds"


@dataclass(frozen=True, slots=True)
class Task:
    """What a trainer may be told to do."""

    words: tuple[str, ...]
    """Of the command, after ``pilothouse``."""
    section: str
    files: tuple[tuple[str, ...], ...]
    """Settings that name files."""
    folders: tuple[tuple[str, ...], ...]
    """Settings that name models' folders."""
    output: tuple[str, ...]
    """Setting that names where results go; empty for none."""
    has_ports: bool = True
    """Whether it answers probes."""


_FIT_FILES = (("data",), ("evaluation_data",))
TASKS = {
    "ppo": Task(
        ("train", "ppo"),
        "ppo",
        (("rollout", "prompts"), ("pretraining", "texts")),
        (("model",), ("value_model",)),
        ("run", "folder"),
    ),
    "sft": Task(("train", "sft"), "sft", _FIT_FILES, (("model",), ("reward_model",)), ("output",)),
    "reward-model": Task(
        ("train", "reward-model"),
        "reward_model",
        (*_FIT_FILES, ("normalise_with",)),
        (("model",), ("policy",)),
        ("output",),
    ),
    "eval": Task(("eval",), "evaluation", (("prompts",),), (("model",),), (), has_ports=False),
}


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run reads at `CONFIG_FOLDER`."""

    task: Task
    texts: Mapping[str, str]
    """Content by name, the configuration among them."""
    binaries: Mapping[str, str] = field(default_factory=dict)
    """Of files that are no UTF-8, in base64."""
    notices: Sequence[str] = ()
    """What the user should know."""


def run_files(
    file: Path, overrides: Sequence[str], release_config: Mapping[str, Any], task: str | None
) -> RunFiles:
    """Makes a run's files from the configuration of a laptop.

    Args:
        file: The configuration. Data it names is looked for from the current folder, as on the laptop.
        overrides: ``section.key=value`` settings.
        release_config: What the release's pods read: addresses, ports, TLS.
        task: What is to be done; None where the file says it by having one such section.

    Raises:
        ConfigError: A setting is wrong, or it is not clear what is to be done.
        InvalidRequestError: Data or models are where no pod could read them, or too large to come along.
    """
    mentioned = check_names(file, overrides, {})
    chosen = _task(mentioned, task)
    values = section_values(chosen.section, file, overrides, {}) or {}
    files = _Files()
    _check_places(chosen, values)
    for path in chosen.files:
        _replace(values, path, lambda value, path=path: files.take(chosen, path, value))
    values = _placed(values, release_config.get(chosen.section) or {})
    notices = _checked(chosen, values)
    others = sorted(mentioned & {"policy", "reward", "reference", "feedback", "local", "tls"})
    if others:
        told = ", ".join(f"[{name}]" for name in others)
        notices.append(f"of the release, and not changed by a job: {told}")
    files.texts[CONFIG_KEY] = dumps({**release_config, chosen.section: values})
    files.check_size()
    return RunFiles(chosen, files.texts, files.binaries, notices)


def _task(mentioned: set[str], task: str | None) -> Task:
    if task is not None:
        if task not in TASKS:
            raise ConfigError(f"--task {task} is unknown; choose one of {', '.join(TASKS)}")
        return TASKS[task]
    found = [name for name, each in TASKS.items() if each.section in mentioned]
    if len(found) == 1:
        return TASKS[found[0]]
    if not found:
        raise ConfigError("nothing to do in this file: no [ppo], [sft], [reward_model] or [evaluation]")
    raise ConfigError(f"the file has sections for {', '.join(found)}; say which with --task")


def _placed(values: Mapping[str, Any], release: Mapping[str, Any]) -> dict[str, Any]:
    """Puts what belongs to the cluster in the place of what belongs to a laptop."""
    found = dict(values)
    for key in _OF_THE_PLACE:
        found.pop(key, None)  # a laptop's own would not be there
        if key in release:
            found[key] = release[key]
    if "services" in release:
        theirs, own = release["services"], dict(values.get("services") or {})
        own.setdefault(_PATIENCE, theirs.get(_PATIENCE))
        found["services"] = own | {key: theirs[key] for key in _ADDRESSES if key in theirs}
    return found


def _checked(task: Task, values: Mapping[str, Any]) -> list[str]:
    """Validates the section; says so where that is not possible here."""
    try:
        model = schema(task.section)
    except ModuleNotFoundError as error:
        return [f"[{task.section}] is not checked here: {error.name} is not installed"]
    parse(model, _without_none(values), section=task.section)
    return []


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _check_places(task: Task, values: Mapping[str, Any]) -> None:
    for path in task.folders:
        value = at(values, *path)
        if isinstance(value, str) and value not in ("", "tiny") and not _is_on_volume(value):
            raise InvalidRequestError(
                f"{task.section}.{'.'.join(path)} = '{value}' is a folder of this machine; bring it to the "
                "models volume and write models/NAME, or give a folder of runs/"
            )
    value = at(values, *task.output) if task.output else None
    if isinstance(value, str) and not _is_on_volume(value, "runs"):
        raise InvalidRequestError(
            f"{task.section}.{'.'.join(task.output)} = '{value}' would be lost with the pod; write runs/NAME"
        )


def _is_on_volume(path: str, *folders: str) -> bool:
    parts = PurePosixPath(path).parts
    if parts[: len(PurePosixPath(VOLUMES).parts)] == PurePosixPath(VOLUMES).parts:
        parts = parts[len(PurePosixPath(VOLUMES).parts) :]
    return bool(parts) and parts[0] in (folders or _ON_VOLUMES) and ".." not in parts


def _replace(values: dict[str, Any], path: tuple[str, ...], change: Any) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        if not isinstance(inner, Mapping):
            return
        values[key] = values = dict(inner)
    if path[-1] in values:
        values[path[-1]] = change(values[path[-1]])


class _Files:
    """Files that come along in a ConfigMap."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.binaries: dict[str, str] = {}
        self._names: dict[Path, str] = {}

    def take(self, task: Task, path: tuple[str, ...], value: Any) -> Any:
        """Returns the setting with each file's place in the pod."""
        if isinstance(value, str):
            return self._one(f"{task.section}.{'.'.join(path)}", value)
        if isinstance(value, list):
            return [self.take(task, path, each) for each in value]
        return value  # the section's own check says what is wrong

    def check_size(self) -> None:
        """Refuses what no ConfigMap holds."""
        self._check(sum(len(each.encode()) for each in (*self.texts.values(), *self.binaries.values())))

    def _check(self, size: int) -> None:
        if size > MAX_BYTES:
            largest = max(self._names, key=lambda file: file.stat().st_size, default=None)
            hint = f"; bring {largest} to the data or runs volume and name its place there" if largest else ""
            raise InvalidRequestError(
                f"configuration and data are {size:,} bytes, and a ConfigMap takes {MAX_BYTES:,}{hint}"
            )

    def _one(self, setting: str, value: str) -> str:
        file = Path(value)
        if not file.is_file():
            if _is_on_volume(value):
                return value
            raise InvalidRequestError(
                f"{setting}: there is no file {value} here; name one of this machine, or one of the cluster "
                "below data/, models/ or runs/"
            )
        known = self._names.get(file.resolve())
        if known is None:
            known = self._name(file)
            self._names[file.resolve()] = known
            self._check(sum(each.stat().st_size for each in self._names))  # before memory is full of it
            content = file.read_bytes()
            try:
                self.texts[known] = content.decode("utf-8")
            except UnicodeDecodeError:
                self.binaries[known] = base64.b64encode(content).decode()
        return f"{CONFIG_FOLDER}/{known}"

    def _name(self, file: Path) -> str:
        wanted = re.sub(r"[^-._a-zA-Z0-9]", "-", file.name)
        taken = {CONFIG_KEY, *self._names.values()}
        found, number = wanted, 0
        while found in taken:
            number += 1
            found = f"{number}-{wanted}"
        return found
