"""The way to the Kubernetes API: from inside a pod, or as kubectl finds it."""

from typing import Any

from kubernetes import client, config
from kubernetes.config import ConfigException

from pilothouse.errors import ConfigError

REQUEST_SECONDS = 5.0
"""Longest time of one call that is not a watch."""


def plain(api: client.ApiClient, value: object) -> Any:
    """Returns an answer of the API as it was in JSON."""
    return api.sanitize_for_serialization(value)


def connect() -> client.ApiClient:
    """Returns a client with the pod's service account, or with ``KUBECONFIG`` outside of a cluster.

    Raises:
        ConfigError: There is neither.
    """
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException:
        try:
            config.load_kube_config(client_configuration=settings)
        except (ConfigException, OSError) as error:
            raise ConfigError(
                f"no Kubernetes API is known: this is no pod with a service account token, and {error}; "
                "set KUBECONFIG"
            ) from None
    return client.ApiClient(settings)
