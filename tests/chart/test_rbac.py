"""templates/rbac.yaml."""

import pytest

from .rendering import FULL_NAME, NAMESPACE, OLDEST, RefusedError, Renderer


@pytest.mark.parametrize("version", [OLDEST, "1.21.0"])
def test_the_trainer_may_hold_its_lease_and_follow_endpoints_and_nothing_else(
    render: Renderer, version: str
) -> None:
    rights = set()
    for rule in render(version=version).one("Role", "trainer")["rules"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                rights.add((*rule["apiGroups"], resource, verb, *rule.get("resourceNames", ())))
    lease = ("coordination.k8s.io", "leases")
    endpoints = {("", "endpoints", verb) for verb in ("list", "watch")} if version == OLDEST else set()
    assert rights == endpoints | {
        (*lease, "create"),
        *((*lease, verb, f"{FULL_NAME}-trainer") for verb in ("get", "update")),
        *(("discovery.k8s.io", "endpointslices", verb) for verb in ("list", "watch")),
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


def test_rights_go_to_an_account_that_is_named(render: Renderer) -> None:
    """Else to that of every pod that names none."""
    nameless: dict[str, object] = {"defaults": {"serviceAccount": {"create": False}}}
    with pytest.raises(RefusedError, match=r"trainer.serviceAccount.create is false and its name is empty"):
        render(nameless)
    (subject,) = render(nameless, {"trainer": {"serviceAccount": {"name": "mine"}}}).all("RoleBinding")[0][
        "subjects"
    ]
    assert subject["name"] == "mine"
    assert not render(nameless, {"rbac": {"create": False}}).all("RoleBinding")
