"""A Kubernetes API server of our own, with its etcd, on loopback: RBAC is on, nothing runs pods."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import trustme
import yaml

NAMES = ("127.0.0.1", "localhost", "kubernetes.default.svc")


def tool(name: str) -> Path | None:
    """Returns a program from KUBEBUILDER_ASSETS, else from PATH; None where there is none."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    return Path(found) if found else None


class ControlPlane:
    """etcd and kube-apiserver, each of which may be stopped and started again."""

    def __init__(self, folder: Path, etcd: Path, apiserver: Path) -> None:
        self.folder = folder
        self._programs = {"etcd": etcd, "kube-apiserver": apiserver}
        self._etcd_port, self._peer_port, self.port = _free_ports(3)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._write_certificates()
        self.kubeconfig = write_kubeconfig(
            folder / "admin.kubeconfig",
            server=f"https://127.0.0.1:{self.port}",
            authority=folder / "ca.crt",
            user={
                "client-certificate": str(folder / "admin.crt"),
                "client-key": str(folder / "admin.key"),
            },
        )

    def start(self) -> None:
        """Starts both; returns when the API server is ready."""
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        self.start_apiserver()

    def start_apiserver(self) -> None:
        """Starts the API server; returns when it is ready."""
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--client-ca-file=ca.crt",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # no controller makes the accounts of pods
            "--allow-privileged=true",
        )
        self._wait_ready()

    def kill_apiserver(self) -> None:
        """Kills the API server: every connection breaks at once."""
        self._stop("kube-apiserver")

    def compact(self) -> None:
        """Forgets every version but the current one, as etcd does after five minutes."""
        base = f"http://127.0.0.1:{self._etcd_port}/v3/kv"
        with httpx.Client(timeout=10) as etcd:
            answer = etcd.post(f"{base}/range", json={"key": "AA==", "limit": "1"})
            revision = answer.raise_for_status().json()["header"]["revision"]
            etcd.post(f"{base}/compaction", json={"revision": revision, "physical": True}).raise_for_status()

    def stop(self) -> None:
        """Ends both."""
        for name in list(self._running)[::-1]:
            self._stop(name)

    def _start(self, name: str, *flags: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [self._programs[name], *flags], cwd=self.folder, stdout=log, stderr=log
            )

    def _stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def _wait_ready(self) -> None:
        process = self._running["kube-apiserver"]
        certificate = (str(self.folder / "admin.crt"), str(self.folder / "admin.key"))
        context = httpx.create_ssl_context(str(self.folder / "ca.crt"), cert=certificate)
        with httpx.Client(verify=context, timeout=5) as client:
            while process.poll() is None:
                try:
                    if client.get(f"https://127.0.0.1:{self.port}/readyz").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.2)
        raise AssertionError(f"the API server ended; see {self.folder / 'kube-apiserver.log'}")

    def _write_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.crt")
        issued = {
            "server": authority.issue_cert(*NAMES, common_name="kube-apiserver"),
            "admin": authority.issue_cert(
                "admin.test", common_name="admin", organization_name="system:masters"
            ),
            "accounts": authority.issue_cert("accounts.test"),
        }
        for name, certificate in issued.items():
            certificate.private_key_pem.write_to_path(self.folder / f"{name}.key")
            certificate.cert_chain_pems[0].write_to_path(self.folder / f"{name}.crt")


def write_kubeconfig(
    file: Path,
    *,
    server: str,
    authority: Path,
    user: dict[str, str],
    namespace: str = "default",
    server_name: str = "",
) -> Path:
    """Writes a kubeconfig with one context, ``test``."""
    cluster = {"server": server, "certificate-authority": str(authority)}
    if server_name:
        cluster["tls-server-name"] = server_name
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": user}],
                "contexts": [{"name": "test", "context": context}],
            }
        ),
        encoding="utf-8",
    )
    return file


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
