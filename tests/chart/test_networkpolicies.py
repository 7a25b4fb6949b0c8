"""templates/networkpolicies.yaml: the graph that the policies make is the table of roles."""

import pytest

from .graph import ANY_PORT, Edge, edges, exits, pod_labels, ports_of
from .rendering import INDEXED_JOBS, NAMESPACE, VALUES, Renderer

GRPC, SECOND, HTTP, PAGE = 50051, 50052, 8080, 8000

SERVICES = {"policy", "reward", "reference", "feedback"}

TABLE = {
    Edge("trainer", "policy", GRPC),  # Generate, LogProbs
    Edge("trainer", "policy", SECOND),  # weights
    Edge("trainer", "reward", GRPC),  # Score
    Edge("trainer", "reference", GRPC),  # LogProbs
    Edge("policy", "policy", SECOND),  # catching up
    Edge("generate-client", "policy", GRPC),
    Edge("score-client", "reward", GRPC),
    Edge("operator", "policy", GRPC),
    Edge("operator", "policy", SECOND),  # Rollback
    Edge("operator", "reward", GRPC),
    Edge("operator", "reference", GRPC),
    Edge("operator", "feedback", GRPC),
    Edge("operator", "trainer", GRPC),
    *(Edge("test", service, port) for service in SERVICES for port in (GRPC, HTTP)),
}
"""Who may call what, by the ports on which it is served; reading metrics is told apart below."""

LOOP = {
    Edge("trainer", "feedback", GRPC),  # tasks, exports
    Edge("trainer", "reward", SECOND),  # reward models
    Edge("operator", "reward", SECOND),
}


def readers_of_metrics(found: set[Edge]) -> set[Edge]:
    """Returns the edges to the plain port, which only show numbers; anybody's unless narrowed."""
    return {edge for edge in found if edge.port == HTTP and edge.source != "test"}


def calls(found: set[Edge]) -> set[Edge]:
    """Returns all edges but those that read metrics."""
    return found - readers_of_metrics(found)


def test_the_graph_is_the_table(render: Renderer) -> None:
    assert calls(edges(render())) == TABLE


def test_a_loop_adds_its_edges_and_no_other(render: Renderer) -> None:
    assert calls(edges(render("loop"))) == TABLE | LOOP


def test_ranks_reach_each_other_on_any_port(render: Renderer) -> None:
    assert calls(edges(render("ranks"))) == TABLE | {Edge("trainer", "trainer", ANY_PORT)}


def test_triton_is_reached_by_the_reward_service_alone(render: Renderer) -> None:
    found = {edge for edge in edges(render("triton")) if edge.target == "triton" and edge.port != 8002}
    assert found == {Edge("reward", "triton", 8001)}


def test_switched_off_components_have_no_edges(render: Renderer) -> None:
    assert calls(edges(render("one-service"))) == {
        edge
        for edge in TABLE
        if {edge.source, edge.target} <= {"policy", "test", "operator", "generate-client"}
    }


def test_strangers_reach_nothing_but_numbers(render: Renderer) -> None:
    for values in ("default", "loop", "triton"):
        strangers = {
            edge for edge in calls(edges(render(values))) if edge.source in ("stranger", "foreigner")
        }
        assert {edge.port for edge in strangers} <= {8002}


def test_metrics_are_for_whom_the_values_say(render: Renderer) -> None:
    assert {edge.target for edge in readers_of_metrics(edges(render()))} == SERVICES | {"trainer"}
    assert not readers_of_metrics(edges(render("narrow-network")))
    rules = render("narrow-network").one("NetworkPolicy", "policy")["spec"]["ingress"]
    (to_metrics,) = [rule for rule in rules if rule["ports"] == [{"port": HTTP, "protocol": "TCP"}]]
    selector = {"matchExpressions": [{"key": "name", "operator": "In", "values": ["monitoring", "victoria"]}]}
    assert to_metrics["from"] == [{"namespaceSelector": selector}]


def test_clients_of_other_namespaces_are_let_in_by_both_labels(render: Renderer) -> None:
    rules = render("narrow-network").one("NetworkPolicy", "policy")["spec"]["ingress"]
    pods = {"matchLabels": {"pilothouse.io/generate-client": "true"}}
    team = {"matchLabels": {"team": "rlhf"}}
    assert [{"podSelector": pods}, {"podSelector": pods, "namespaceSelector": team}] in [
        rule["from"] for rule in rules
    ]


def test_only_the_trainer_gets_out_and_only_to_the_api_server(render: Renderer) -> None:
    rendered = render()
    assert {name: exits(rendered, name) for name in pod_labels(rendered)} == {
        "policy": {53},
        "reward": {53},
        "reference": {53},
        "feedback": {53},
        "test": {53},
        "trainer": {53, 443, 6443},
    }


def test_exits_can_be_narrowed(render: Renderer) -> None:
    rendered = render("narrow-network")
    rules = rendered.one("NetworkPolicy", "trainer")["spec"]["egress"]
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in ("10.96.0.1/32", "192.0.2.10/32")]
    assert {"to": blocks, "ports": [{"port": 6443, "protocol": "TCP"}]} in rules
    assert all("to" in rule for rule in rules)
    assert exits(rendered, "policy") == set()


def test_the_database_is_reached_by_feedback_and_its_migration(render: Renderer) -> None:
    rendered = render("postgresql-autoscaled")
    reaching = {name for name in pod_labels(rendered) if 6432 in exits(rendered, name)}
    assert reaching == {"feedback", "migration"}
    rules = render("postgresql").one("NetworkPolicy", "feedback")["spec"]["egress"]
    to, ports = [{"podSelector": {"matchLabels": {"app": "postgresql"}}}], [{"port": 5432, "protocol": "TCP"}]
    assert {"to": to, "ports": ports} in rules


def test_models_are_fetched_by_those_that_have_them(render: Renderer) -> None:
    rendered = render("fetched-models")
    fetching = {name for name in pod_labels(rendered) if 443 in exits(rendered, name)}
    assert fetching == {"policy", "reward", "reference", "trainer"}


@pytest.mark.parametrize("values", sorted(set(VALUES) - {"no-network-policies"}))
def test_every_pod_has_a_policy_of_its_own_and_the_one_that_denies_everything(
    render: Renderer, values: str
) -> None:
    rendered = render(values)
    policies = rendered.all("NetworkPolicy")
    (deny,) = [found for found in policies if found["metadata"]["name"].endswith("-default-deny")]
    assert not {"ingress", "egress"} & set(deny["spec"])
    for component, labels in pod_labels(rendered).items():
        selecting = [
            found
            for found in policies
            if found["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        ]
        assert len(selecting) == 2, component
        assert deny in selecting


@pytest.mark.parametrize("values", sorted(set(VALUES) - {"no-network-policies"} - INDEXED_JOBS))
def test_an_edge_leads_to_a_port_that_is_served(render: Renderer, values: str) -> None:
    rendered = render(values)
    served = ports_of(rendered)
    for edge in edges(rendered):
        assert edge.port in served[edge.target], edge


def test_they_can_be_left_to_somebody_else(render: Renderer) -> None:
    assert not render("no-network-policies").all("NetworkPolicy")
    assert NAMESPACE in {found["metadata"]["namespace"] for found in render().all("NetworkPolicy")}
