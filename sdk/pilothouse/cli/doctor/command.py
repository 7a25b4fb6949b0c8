"""The command ``doctor``."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pilothouse.cli.configuration import effective
from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cli.doctor.machine import (
    check_disk,
    check_extras,
    check_memory,
    check_python,
    check_runtimes,
    check_versions,
)
from pilothouse.cli.doctor.models import check_models
from pilothouse.cli.doctor.ports import check_ports
from pilothouse.cli.doctor.providers import check_providers
from pilothouse.cli.doctor.report import report
from pilothouse.cli.doctor.services import check_services, running_stack
from pilothouse.cli.doctor.settings import walk
from pilothouse.cli.doctor.tls import check_tls
from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.config import Config
from pilothouse.errors import ConfigError
from pilothouse.local.config import LocalConfig
from pilothouse.local.events import ServiceStatus
from pilothouse.tls import Tls


def doctor(config: ConfigFile = None, overrides: Overrides = None, json: Json = False) -> None:
    """Finds what is wrong here, and what mends it.

    Looks at Python, libraries, configuration, certificates, models, ports, disk, memory and execution
    providers, and calls every running service. Exit status 1 if something is an error.
    """
    report(list(examine(config, overrides or [])), json=json)


def examine(file: Path | None, overrides: Sequence[str]) -> Iterator[Finding]:
    """Yields everything that was looked at.

    Args:
        file: Configuration file.
        overrides: ``section.key=value`` settings.
    """
    yield check_python()
    yield check_versions()
    yield check_runtimes()
    yield check_memory()
    values: dict[str, Config] = {}
    try:
        values, absent = effective(file, overrides)
    except ConfigError as error:
        mend = "correct it; `pilothouse config schema` lists every key"
        yield Finding("configuration", "error", str(error), mend)
    else:
        yield ok("configuration", f"{file or 'defaults'}: {', '.join(sorted(values))}")
        for name, why in absent.items():
            yield ok(f"section {name}", why)
    local = values.get("local", LocalConfig())
    assert isinstance(local, LocalConfig)
    used: set[str] = set(local.services)
    yield from check_extras(_extras(used, values))
    identity = values.get("tls")
    assert identity is None or isinstance(identity, Tls)
    if identity is not None:
        yield from check_tls(identity)
    yield from check_models(values, used)
    stack = running_stack(local.state_dir.resolve())
    own = {port for service in stack.services for port in _ports(service)} if stack else set()
    yield from check_ports(values, own)
    yield from check_disk([local.state_dir, *_run_folders(values)])
    yield check_providers(getattr(values.get("reward"), "require", ()))
    yield from check_services(local.state_dir.resolve(), identity)


def _extras(used: Collection[str], values: Mapping[str, Config]) -> set[str]:
    """Returns the extras that the services need; none where the configuration cannot be read."""
    if not values:
        return set()
    # What scores with torch needs no ONNX Runtime, and has an extra of its own.
    torch = getattr(values.get("reward"), "backend", "") == "torch"
    return {"reward-torch" if torch and name == "reward" else name for name in used}


def _run_folders(values: dict[str, Config]) -> list[Path]:
    """Returns where runs are written."""
    settings = [setting for name, section in values.items() for setting in walk(name, section)]
    return sorted(
        {setting.value for setting in settings if setting.key == "folder" and isinstance(setting.value, Path)}
    )


def _ports(service: ServiceStatus) -> list[int]:
    addresses = [*service.targets.values(), *([service.http] if service.http else [])]
    return [int(address.rpartition(":")[2]) for address in addresses]
