"""templates/serviceaccounts.yaml."""

from .rendering import COMPONENTS, Renderer


def test_every_component_has_one_that_mounts_no_token(render: Renderer) -> None:
    rendered = render()
    assert rendered.names("ServiceAccount") == set(COMPONENTS)
    assert all(found["automountServiceAccountToken"] is False for found in rendered.all("ServiceAccount"))
    for component in COMPONENTS:
        account = rendered.pod(component)["serviceAccountName"]
        assert account == rendered.one("ServiceAccount", component)["metadata"]["name"]


def test_names_may_be_given(render: Renderer) -> None:
    rendered = render("scheduling")
    assert rendered.pod("reward")["serviceAccountName"] == "shared"
    names = {found["metadata"]["name"]: found for found in rendered.all("ServiceAccount")}
    assert "shared" not in names
    assert names["trainer"]["metadata"]["annotations"] == {"iam": "role"}
    assert rendered.pod("trainer")["serviceAccountName"] == "trainer"
    (subject,) = rendered.one("RoleBinding", "trainer")["subjects"]
    assert subject["name"] == "trainer"


def test_one_name_for_all_is_one_account(render: Renderer) -> None:
    rendered = render({"defaults": {"serviceAccount": {"name": "shared", "annotations": {"iam": "role"}}}})
    (account,) = rendered.all("ServiceAccount")
    assert (account["metadata"]["name"], account["metadata"]["annotations"]) == ("shared", {"iam": "role"})
    assert {rendered.pod(component)["serviceAccountName"] for component in COMPONENTS} == {"shared"}
