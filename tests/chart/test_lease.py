"""templates/lease.yaml."""

from .rendering import FULL_NAME, NAMESPACE, Renderer


def test_the_lease_is_there_for_any_trainer_and_nothing_in_it_is_helms(render: Renderer) -> None:
    """What Helm does not write, an upgrade does not take away: the holder and the fencing epoch."""
    for rendered in (render(), render("services-only"), render("loop")):
        lease = rendered.one("Lease", "trainer")
        assert lease["metadata"]["namespace"] == NAMESPACE
        assert lease.keys() == {"apiVersion", "kind", "metadata"}
        assert "annotations" not in lease["metadata"]


def test_it_has_the_name_in_the_configuration(render: Renderer) -> None:
    (lease,) = render({"config": {"ppo": {"lease": {"name": "mine"}}}}).all("Lease")
    assert lease["metadata"]["name"] == "mine" != f"{FULL_NAME}-trainer"
    assert not render({"config": {"ppo": {"lease": "none"}}}).all("Lease")
