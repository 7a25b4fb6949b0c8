import pytest
from tests.cluster.installed import add_pod, install

from pilothouse.cluster.api import Api
from pilothouse.cluster.following import follow
from pilothouse.cluster.kinds import CONFIG_MAP, LEASE, name_of
from pilothouse.cluster.looking import lease_of
from pilothouse.cluster.release import find_release, pods_of
from pilothouse.errors import ConfigError, CorruptDataError, NotFoundError


def test_the_only_release_is_found_with_its_configuration(api: Api) -> None:
    install(api)
    found = find_release(api)
    assert (found.name, found.fullname, found.namespace) == ("demo", "demo", api.namespace)
    assert found.version == "0.1.0"
    assert found.config["policy"]["model"] == "tiny"
    assert find_release(api, "demo") == found


def test_of_several_releases_one_must_be_named(api: Api) -> None:
    install(api, release="blue")
    install(api, release="green")
    with pytest.raises(ConfigError, match=r"choose one with --release: blue, green"):
        find_release(api)
    assert find_release(api, "green").name == "green"
    with pytest.raises(NotFoundError, match=r"no release 'red'.*there are: blue, green"):
        find_release(api, "red")


def test_a_namespace_without_a_release_is_told(api: Api) -> None:
    with pytest.raises(NotFoundError, match=rf"in namespace {api.namespace}; choose another --namespace"):
        find_release(api)


def test_a_configuration_that_is_no_toml_is_told(api: Api) -> None:
    install(api, config="[policy")
    with pytest.raises(CorruptDataError, match=r"ConfigMap demo is not TOML.*helm upgrade"):
        find_release(api)


def test_a_submitted_jobs_configuration_is_no_release(api: Api) -> None:
    install(api)
    made = api.get(CONFIG_MAP, "demo")
    own = {key: made["metadata"]["labels"][key] for key in made["metadata"]["labels"]}
    labels = own | {"app.kubernetes.io/component": "trainer"}
    api.create(CONFIG_MAP, {"metadata": {"name": "a-run", "labels": labels}, "data": made["data"]})
    assert find_release(api).fullname == "demo"


def test_the_lease_has_the_name_that_the_configuration_gives_it(api: Api) -> None:
    install(api, config='[ppo.lease]\nname = "mine"\n')
    api.create(LEASE, {"metadata": {"name": "mine"}, "spec": {"holderIdentity": "somebody"}})
    release = find_release(api)
    found = lease_of(api, release)
    assert found
    assert found["spec"]["holderIdentity"] == "somebody"
    with follow(api, release, None) as pictures:
        assert next(pictures).lease is not None


def test_pods_come_in_the_order_of_components(api: Api) -> None:
    install(api)
    for name in ("trainer-a", "policy-b", "policy-a", "triton-a", "reward-a"):
        add_pod(api, name.partition("-")[0], name)
    release = find_release(api)
    found = [name_of(pod) for pod in pods_of(api, release)]
    assert found == ["policy-a", "policy-b", "reward-a", "trainer-a", "triton-a"]
    assert [name_of(pod) for pod in pods_of(api, release, "reward")] == ["reward-a"]
