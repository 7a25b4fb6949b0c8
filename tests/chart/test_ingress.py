"""templates/ingress.yaml."""

import pytest

from .rendering import FULL_NAME, RefusedError, Renderer


def test_it_leads_people_to_the_page(render: Renderer) -> None:
    found = render("ingress").one("Ingress", "page")
    spec = found["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["rank.example.org"], "secretName": "rank-tls"}]
    (rule,) = spec["rules"]
    (path,) = rule["http"]["paths"]
    assert rule["host"] == "rank.example.org"
    assert path["backend"]["service"] == {"name": f"{FULL_NAME}-page", "port": {"number": 8000}}
    assert found["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}


def test_without_tls_it_says_so_by_leaving_it_out(render: Renderer) -> None:
    assert "tls" not in render("ingress-plain").one("Ingress", "page")["spec"]


def test_only_its_controllers_reach_the_page(render: Renderer) -> None:
    rules = render("ingress").one("NetworkPolicy", "feedback")["spec"]["ingress"]
    (to_page,) = [rule for rule in rules if {"port": 8000, "protocol": "TCP"} in rule["ports"]]
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}
    assert to_page["from"] == [{"namespaceSelector": namespace}]
    rules = render().one("NetworkPolicy", "feedback")["spec"]["ingress"]
    assert not [rule for rule in rules if {"port": 8000, "protocol": "TCP"} in rule["ports"]]


def test_it_needs_a_name_and_a_page(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"ingress.host is empty"):
        render({"ingress": {"enabled": True}})
    with pytest.raises(RefusedError, match=r"ingress leads to the page of feedback, which is not enabled"):
        render("services-only", {"ingress": {"enabled": True, "host": "a.example.org"}})
