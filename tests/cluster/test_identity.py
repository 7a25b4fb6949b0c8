import base64

import pytest
from tests.cluster.installed import CONFIG, install, labels, metadata, pod_spec

from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import operator
from pilothouse.cluster.kinds import DEPLOYMENT, SECRET
from pilothouse.cluster.release import find_release
from pilothouse.errors import ConfigError

FILES = ("tls.crt", "tls.key", "ca.crt")


def add_component(api: Api, component: str, secret: str) -> None:
    """A workload of the chart, whose pods have their certificate from a Secret."""
    items = [{"key": key, "path": f"tls/{key}"} for key in FILES]
    sources = [
        {"configMap": {"name": "demo"}},
        {"secret": {"name": secret, "items": items}},
    ]
    spec = pod_spec(component) | {"restartPolicy": "Always"}
    spec["volumes"] = [{"name": "config", "projected": {"sources": sources}}]
    template = {"metadata": {"labels": labels(component)}, "spec": spec}
    workload = {"selector": {"matchLabels": labels(component)}, "template": template}
    api.create(DEPLOYMENT, {"metadata": metadata(f"demo-{component}", component), "spec": workload})


def add_secret(api: Api, name: str) -> None:
    data = {key: base64.b64encode(f"{key} of {name}".encode()).decode() for key in FILES}
    api.create(SECRET, {"metadata": {"name": name}, "data": data})


@pytest.mark.parametrize(
    ("mounted", "meant"),
    [("demo-policy-tls", "demo-client-tls"), ("mine", "mine")],
)
def test_the_operator_is_who_the_releases_secret_for_clients_says(api: Api, mounted: str, meant: str) -> None:
    install(api, config=f"{CONFIG}[tls]\ncert_file = 'x'\nkey_file = 'x'\nca_file = 'x'\n")
    add_component(api, "policy", mounted)
    add_secret(api, mounted)
    release = find_release(api)
    if meant != mounted:
        with pytest.raises(ConfigError, match=f"Secret {meant} cannot be read"), operator(api, release):
            pass
        add_secret(api, meant)
    with operator(api, release) as tls:
        assert tls is not None
        assert tls.key_file is not None
        assert tls.key_file.read_text() == f"tls.key of {meant}"
