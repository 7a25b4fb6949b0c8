"""Who the operator is to the services inside the cluster, and clients that reach them from outside."""

import base64
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pilothouse.client.base import SyncClient
from pilothouse.client.channels import Security
from pilothouse.client.trainer import TrainerClient
from pilothouse.cluster.api import Api
from pilothouse.cluster.forwarding import forwarded
from pilothouse.cluster.kinds import DEPLOYMENT, SECRET, STATEFUL_SET, Object, at
from pilothouse.cluster.release import Release, component_of
from pilothouse.errors import ConfigError, NotFoundError, PermissionDeniedError
from pilothouse.tls import Tls, own

Client = TypeVar("Client", bound=SyncClient)

_FILES = {"cert_file": "tls.crt", "key_file": "tls.key", "ca_file": "ca.crt"}


@contextmanager
def operator(api: Api, release: Release) -> Iterator[Tls | None]:
    """Yields the identity with which the release's services are called; None where they speak plaintext.

    It is section ``tls`` of the caller's own configuration, else the release's Secret for clients, whose
    files exist only meanwhile.

    Raises:
        ConfigError: There is neither.
    """
    if "tls" not in release.config:
        yield None
    elif (mine := own()) is not None:
        yield mine
    else:
        contents = _contents(api, client_secret(api, release))
        with tempfile.TemporaryDirectory(prefix="pilothouse-") as folder:  # for this user's eyes only
            files = {key: Path(folder) / file for key, file in _FILES.items()}
            for key, file in files.items():
                file.write_bytes(contents[key])
            yield Tls.model_validate(files)


def client_secret(api: Api, release: Release) -> str:
    """Returns the name of the Secret for clients: the chart's, or that of ``tls.existingSecret``.

    The latter is what the release's pods have; a component may have another one.
    """
    found: Counter[str] = Counter()
    for kind in (DEPLOYMENT, STATEFUL_SET):
        with suppress(PermissionDeniedError):
            for workload in api.list(kind, release.selector()).items:
                charts_own = f"{release.fullname}-{component_of(workload)}-tls"
                found.update(name for name in _tls_secrets(workload) if name != charts_own)
    return found.most_common(1)[0][0] if found else f"{release.fullname}-client-tls"


@contextmanager
def calling(
    make: type[Client], api: Api, release: Release, pod: Object, port: str, *, service: str, tls: Tls | None
) -> Iterator[Client]:
    """Yields a client of one pod.

    Args:
        make: Its class.
        api: The cluster.
        release: The pod's release.
        pod: Whom to call.
        port: Name of its port.
        service: Which Service's name the pod's certificate must have, such as ``weights``.
        tls: From ``operator``.
    """
    security: Security = {}
    if tls is not None:
        security = {"tls": tls, "server_name": f"{release.fullname}-{service}.{release.namespace}.svc"}
    with forwarded(api, pod, port) as local, make(f"127.0.0.1:{local}", **security) as client:
        yield client


def calling_trainer(
    api: Api, release: Release, pod: Object, tls: Tls | None
) -> AbstractContextManager[TrainerClient]:
    """Returns a client of a trainer's pod; as ``calling``."""
    return calling(TrainerClient, api, release, pod, "grpc", service="trainer", tls=tls)


def _tls_secrets(workload: Object) -> Iterator[str]:
    """Yields the Secrets from which a workload's pods have their certificate."""
    for volume in at(workload, "spec", "template", "spec", "volumes") or ():
        for source in at(volume, "projected", "sources") or ():
            keys = {item.get("key") for item in at(source, "secret", "items") or ()}
            if keys >= set(_FILES.values()):
                yield str(source["secret"]["name"])


def _contents(api: Api, name: str) -> dict[str, bytes]:
    try:
        found = api.get(SECRET, name)
    except (NotFoundError, PermissionDeniedError) as error:
        raise ConfigError(
            f"the services ask for a client's certificate, and Secret {name} cannot be read: {error}; "
            "or give your own: cert_file, key_file and ca_file in section [tls] of --config"
        ) from None
    missing = [file for file in _FILES.values() if at(found, "data", file) is None]
    if missing:
        raise ConfigError(
            f"Secret {name} has no {', '.join(missing)}; make it anew, or give your own certificate in "
            "section [tls] of --config"
        )
    return {key: base64.b64decode(found["data"][file]) for key, file in _FILES.items()}
