"""Finds the cluster as `kubectl` does: kubeconfig and context, or the service account of the pod."""

import os
import socket
from pathlib import Path

import urllib3
import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.config.kube_config import KubeConfigMerger

from pilothouse.cluster.api import Api
from pilothouse.errors import ConfigError

_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# A peer that has gone without a word, such as behind a VPN, is noticed within 35 s.
# A watch may be silent for longer.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), seconds)
    for name, seconds in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]


def connect(
    *, kubeconfig: Path | None = None, context: str | None = None, namespace: str | None = None
) -> Api:
    """Returns the API of a cluster; nothing is asked of it yet.

    Args:
        kubeconfig: File of clusters and credentials; None for ``KUBECONFIG``, then ``~/.kube/config``, then
            what a pod has.
        context: One of its contexts; None for the current one.
        namespace: Where the release is; None for the context's own.

    Raises:
        ConfigError: There is no such file or context, or its credentials cannot be used.
    """
    configuration = Configuration()
    configuration.socket_options = [*urllib3.connection.HTTPConnection.default_socket_options, *_KEEPALIVE]
    given = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or None
    default = Path.home() / ".kube" / "config"
    if given is None and context is None and not default.exists():
        if "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise ConfigError(
                f"no cluster is known here: there is no {default}; give --kubeconfig or set KUBECONFIG"
            )
        own = _from_account(configuration)
    else:
        own = _from_file(configuration, given or str(default), context)
    return Api(configuration, namespace or own)


def _from_account(configuration: Configuration) -> str:
    """Fills in what a pod's service account has; returns its namespace."""
    try:
        load_incluster_config(client_configuration=configuration)
        return _ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise ConfigError(
            f"this pod has no service account to use: {error}; set automountServiceAccountToken, "
            "or give --kubeconfig"
        ) from None


def _from_file(configuration: Configuration, file: str, context: str | None) -> str:
    """Fills in what a kubeconfig has; returns the context's namespace."""
    try:
        # The client's own list of contexts demands that the current one is there, which may not be meant.
        merged = KubeConfigMerger(file).config
        contexts = [] if merged is None else [each.value for each in merged.value["contexts"]]
        names = [str(each["name"]) for each in contexts]
        if context is not None and context not in names:
            raise ConfigError(f"{file} has no context '{context}'; it has: {', '.join(names) or 'none'}")
        load_kube_config(config_file=file, context=context, client_configuration=configuration)
        wanted = context or merged.value["current-context"]
    except (ConfigException, OSError, AttributeError, TypeError, KeyError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"cannot use kubeconfig {file}: {text}; give another --kubeconfig") from None
    chosen = next(each for each in contexts if each["name"] == wanted)
    return str(chosen["context"].get("namespace") or "default")
