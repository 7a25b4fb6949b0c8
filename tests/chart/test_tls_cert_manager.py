"""templates/tls-cert-manager.yaml, and Secrets of one's own."""

import pytest

from .rendering import COMPONENTS, FULL_NAME, NAMESPACE, RefusedError, Rendered, Renderer


def mounted_secret(rendered: Rendered, component: str) -> str:
    (config,) = [volume for volume in rendered.pod(component)["volumes"] if volume["name"] == "config"]
    (secret,) = [source["secret"] for source in config["projected"]["sources"] if "secret" in source]
    return str(secret["name"])


def test_each_component_asks_for_a_certificate_and_mounts_it(render: Renderer) -> None:
    rendered = render("cert-manager")
    for component in COMPONENTS:
        spec = rendered.one("Certificate", component)["spec"]
        assert spec["secretName"] == mounted_secret(rendered, component)
        assert f"{FULL_NAME}-{component}.{NAMESPACE}.svc" in spec["dnsNames"]
        assert "pilothouse.example.org" in spec["dnsNames"]
        assert {"server auth", "client auth"} <= set(spec["usages"])


def test_without_an_issuer_the_release_has_an_authority_of_its_own(render: Renderer) -> None:
    rendered = render("cert-manager")
    authority = rendered.one("Certificate", "ca")["spec"]
    assert authority["isCA"] is True
    assert authority["issuerRef"]["name"] == rendered.one("Issuer", "root")["metadata"]["name"]
    assert rendered.one("Issuer", "root")["spec"] == {"selfSigned": {}}
    assert rendered.one("Issuer", "ca")["spec"]["ca"]["secretName"] == authority["secretName"]
    assert rendered.one("Certificate", "policy")["spec"]["issuerRef"]["name"] == f"{FULL_NAME}-ca"


def test_secrets_that_outlive_the_release_say_whose_they_were(render: Renderer) -> None:
    for values in ("cert-manager", "cert-manager-issuer"):
        for certificate in render(values).all("Certificate"):
            labels = certificate["spec"]["secretTemplate"]["labels"]
            assert labels["app.kubernetes.io/instance"] == "run"
            assert labels.items() <= certificate["metadata"]["labels"].items()


def test_an_issuer_that_is_there_is_asked(render: Renderer) -> None:
    rendered = render("cert-manager-issuer")
    assert not rendered.all("Issuer")
    spec = rendered.one("Certificate", "policy")["spec"]
    assert spec["issuerRef"] == {"kind": "ClusterIssuer", "name": "company", "group": "cert-manager.io"}
    assert (spec["duration"], spec["renewBefore"]) == ("720h", "240h")


def test_secrets_of_ones_own_are_mounted(render: Renderer) -> None:
    one, each = render("own-secret"), render("own-secret-each")
    for component in COMPONENTS:
        assert mounted_secret(one, component) == "pilothouse-certificate"
        assert mounted_secret(each, component) == f"{component}-certificate"
    assert not one.all("Certificate")


def test_a_component_without_a_secret_is_refused(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"tls.mode is existingSecret and reward has none"):
        render("own-secret-each", {"reward": {"tlsSecret": ""}, "tls": {"existingSecret": ""}})
