"""templates/rbac.yaml."""

from .rendering import FULL_NAME, NAMESPACE, Renderer


def test_the_trainer_may_hold_its_lease_and_see_pods_and_nothing_else(render: Renderer) -> None:
    rights = set()
    for rule in render().one("Role", "trainer")["rules"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                rights.add((*rule["apiGroups"], resource, verb, *rule.get("resourceNames", ())))
    lease = ("coordination.k8s.io", "leases")
    assert rights == {
        (*lease, "create"),
        *((*lease, verb, f"{FULL_NAME}-trainer") for verb in ("get", "update", "patch")),
        *(("discovery.k8s.io", "endpointslices", verb) for verb in ("get", "list", "watch")),
        *(("", "endpoints", verb) for verb in ("get", "list", "watch")),
        *(("", "pods", verb) for verb in ("get", "list", "watch")),
    }


def test_the_lease_is_the_one_in_the_configuration(render: Renderer) -> None:
    rendered = render({"config": {"ppo": {"lease": {"name": "mine"}}}})
    names = [
        rule["resourceNames"] for rule in rendered.one("Role", "trainer")["rules"] if "resourceNames" in rule
    ]
    assert names == [["mine"]]
    rendered = render({"config": {"ppo": {"lease": "none"}}})
    assert "leases" not in str(rendered.one("Role", "trainer")["rules"])


def test_nobody_but_the_trainer_has_rights(render: Renderer) -> None:
    rendered = render()
    assert rendered.names("Role") == rendered.names("RoleBinding") == {"trainer"}
    (subject,) = rendered.one("RoleBinding", "trainer")["subjects"]
    expected = {"kind": "ServiceAccount", "name": f"{FULL_NAME}-trainer", "namespace": NAMESPACE}
    assert subject == expected
    assert not rendered.all("ClusterRole")


def test_they_may_be_left_to_somebody_else(render: Renderer) -> None:
    assert not render("no-network-policies").all("Role")
    assert not render("services-only").all("Role")
