"""Real certificates of a certificate authority of the tests' own."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from pilothouse.tls import Tls

LOOPBACK = ("127.0.0.1", "localhost")
EXPIRED = {
    "not_before": datetime.now(UTC) - timedelta(days=9),
    "not_after": datetime.now(UTC) - timedelta(days=2),
}


class Authority:
    """Issues certificates into folders that look like a mounted Secret of Kubernetes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca = trustme.CA()

    def issue(
        self,
        name: str,
        *hosts: str,
        trusts: "Authority | None" = None,
        ca: trustme.CA | None = None,
        **validity: Any,
    ) -> Tls:
        """Issues a certificate; a second one of the same name takes the place of the first in one step.

        Args:
            name: Of the folder.
            hosts: Subject alternative names; none for loopback.
            trusts: Whose certificate the process trusts; None for this authority's.
            ca: Issues in the authority's place, for example one of its children.
            validity: ``not_before`` and ``not_after``.
        """
        issued = (ca or self.ca).issue_cert(*(hosts or LOOPBACK), **validity)
        content = {
            "tls.crt": b"".join(part.bytes() for part in issued.cert_chain_pems),
            "tls.key": issued.private_key_pem.bytes(),
            "ca.crt": (trusts or self).ca.cert_pem.bytes(),
        }
        return mount(self._folder / name, content)


def mount(folder: Path, content: dict[str, bytes]) -> Tls:
    """Writes the files beside and moves one symbolic link, as the kubelet does."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..version-{len(list(folder.glob('..version-*')))}"
    version.mkdir()
    for name, text in content.items():
        (version / name).write_bytes(text)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version.name)
    os.replace(folder / "..new", folder / "..data")
    return Tls(cert_file=folder / "tls.crt", key_file=folder / "tls.key", ca_file=folder / "ca.crt")


def settings(tls: Tls) -> list[str]:
    """Returns the section as overrides."""
    return [f"tls.{line}" for line in section(tls).splitlines()[1:]]


def section(tls: Tls) -> str:
    """Returns the section as it stands in a configuration file."""
    keys = {"cert_file": tls.cert_file, "key_file": tls.key_file, "ca_file": tls.ca_file}
    return "[tls]\n" + "".join(f"{key} = '{file}'\n" for key, file in keys.items())
