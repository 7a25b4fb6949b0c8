"""templates/gateway.yaml."""

import pytest

from .rendering import FULL_NAME, RefusedError, Renderer


def test_the_page_has_an_http_route(render: Renderer) -> None:
    rendered = render("gateway")
    spec = rendered.one("HTTPRoute", "page")["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    assert spec["hostnames"] == ["rank.example.org"]
    assert spec["rules"] == [{"backendRefs": [{"name": f"{FULL_NAME}-page", "port": 8000}]}]
    assert not rendered.all("GRPCRoute")


def test_services_have_grpc_routes_where_they_are_wanted(render: Renderer) -> None:
    rendered = render("gateway-grpc")
    assert not rendered.all("HTTPRoute")
    assert rendered.names("GRPCRoute") == {"policy", "reward", "feedback"}
    for name in ("policy", "reward", "feedback"):
        found = rendered.one("GRPCRoute", name)
        assert found["apiVersion"] == "gateway.networking.k8s.io/v1"
        assert found["spec"]["hostnames"] == [f"{name}.example.org"]
        assert found["spec"]["rules"] == [{"backendRefs": [{"name": f"{FULL_NAME}-{name}", "port": 50051}]}]
        assert found["metadata"]["annotations"] == {"team": "rlhf"}
        rules = rendered.one("NetworkPolicy", name)["spec"]["ingress"]
        assert {"namespaceSelector": {}} in [peer for rule in rules for peer in rule["from"]]


def test_it_needs_a_gateway_and_names(render: Renderer) -> None:
    with pytest.raises(RefusedError) as refused:
        render({"gateway": {"enabled": True, "policy": {"enabled": True}}})
    for line in (
        "gateway.parentRefs is empty",
        "gateway.page.hostname is empty",
        "gateway.policy.hostname is empty",
    ):
        assert line in str(refused.value)


def test_there_is_none_unasked(render: Renderer) -> None:
    assert not render().all("HTTPRoute")
